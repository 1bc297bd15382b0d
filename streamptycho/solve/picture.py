"""The reconstruction at one moment, copied to the host."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.solver import Solver

COVERED_DOSE = 0.05
"""Dose, in units of the probe's maximum, from which a pixel belongs to the picture."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Host copies of the reconstruction at one moment."""

    object: NDArray[np.complex64]
    """(ny, nx), cropped to the covered area; 0 where never illuminated."""
    covered: NDArray[np.bool_]
    probe: NDArray[np.complex64]
    """(modes, ny, nx), strongest first."""
    origin_px: tuple[int, int]
    """Absolute (y, x) object pixel of [0, 0]."""


def picture_of(solver: Solver) -> Picture | None:
    """The present reconstruction, cropped to the covered area; None before the first update."""
    if not solver.updates:
        return None
    backend, canvas = solver.backend, solver.canvas
    box = canvas.reached(COVERED_DOSE)
    if box is None:
        return None
    covered = backend.to_host(canvas.dose[box] > COVERED_DOSE)
    ys, xs = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    if not len(ys):
        return None
    top, left = int(ys[0]), int(xs[0])
    covered = covered[top : ys[-1] + 1, left : xs[-1] + 1]
    top, left = top + box[0].start, left + box[1].start
    obj = backend.to_host(canvas.object[top : top + covered.shape[0], left : left + covered.shape[1]])
    obj[~covered] = 0
    return Picture(
        object=obj,
        covered=covered,
        probe=backend.to_host(solver.probe),
        origin_px=(top + canvas.origin[0], left + canvas.origin[1]),
    )
