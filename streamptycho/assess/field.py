"""How much of the field the beam has covered."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from streamptycho.solve.canvas import BLOCK
from streamptycho.solve.solver import Solver

ENOUGH_DOSE = 0.5
"""Dose from which a place counts as covered: half of what the middle of one exposure brings."""
MOST_CELLS = 5000
"""Cells of the canvas that are examined, evenly."""


def coverage(solver: Solver, yx_px: NDArray[np.float64]) -> tuple[float, float]:
    """Covered part of the convex hull of the positions (k, 2) in object pixels, and all that is covered, square pixels.

    The first is NaN where the positions lie along a line.
    """
    canvas = solver.canvas
    covered = solver.backend.to_host(canvas.cell_dose) >= ENOUGH_DOSE
    area = float(covered.sum()) * BLOCK * BLOCK
    try:
        sides = ConvexHull(yx_px).equations
    except QhullError:
        return float("nan"), area
    stride = int(np.ceil(np.sqrt(covered.size / MOST_CELLS))) or 1
    y, x = (np.arange(0, n, stride) for n in covered.shape)
    centres = (np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2) + 0.5) * BLOCK + canvas.origin
    inside = (centres @ sides[:, :2].T + sides[:, 2] <= 0).all(1)
    if not inside.any():
        return float("nan"), area
    return float(covered[::stride, ::stride].ravel()[inside].mean()), area
