"""Where single frames stand: a step from the derivative of the misfit, and trials of other places.

Windows stand on whole pixels; places are (y, x) in absolute object pixels, of a window's centre or of its first pixel.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.equations.gradient import footprint, overlap
from streamptycho.solve.estimates.positions_field import inside, shortened
from streamptycho.solve.solver import Solver

ENOUGH_VISITS = 1
ENOUGH_OVERLAP = 1.5
"""Dose under a window, in units of its own frame's, from which other frames determine where it stands."""
STRETCH = 1.3
"""Factor by which the step exceeds the tangent's: the object has partly adapted to the wrong place, and detail finer than
the shift flattens the misfit."""
LONGEST_STEP_PX = 1.0
CAUTION = 2.0
"""Factor by which standard errors exceed those of a misfit of independent pixels."""
TRIES = 8
BETTER = 0.97
"""A trial must lower the misfit to this fraction."""


def centres(solver: Solver, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(k, 2) pixel under the centre of each window as it stands."""
    return solver.store.corners[rows] + np.array(solver.store.shape) // 2.0


def beam_width(solver: Solver) -> float:
    """Diameter of a round beam with the footprint of this one, px."""
    share = footprint(solver.probe)
    cells = float(1 / (share * share).sum())
    return float(np.sqrt(4 / np.pi * cells) * 8)


def ready(solver: Solver, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(k,) True for frames whose surroundings are known."""
    visited = solver.visits[rows] >= ENOUGH_VISITS
    covered = overlap(solver.backend, solver.canvas, footprint(solver.probe), solver.store.corners[rows])
    known: NDArray[np.bool_] = visited & (solver.backend.to_host(covered) >= ENOUGH_OVERLAP)
    return known


def tangent_step(
    solver: Solver, rows: NDArray[np.int64], expected: NDArray[np.float64], spread_px: float
) -> NDArray[np.float64]:
    """(k, 2) step of the windows of `rows`, px, drawn towards `expected` centres (k, 2) of this spread per axis."""
    sums = solver.shift_sums(rows)
    shape = solver.store.shape
    variance = CAUTION**2 * np.maximum(sums[:, 5], 1e-30) / (shape[0] * shape[1])
    stiffness = sums[:, [2, 3, 3, 4]].reshape(-1, 2, 2) / variance[:, None, None]
    anchor = 1 / spread_px**2
    force = sums[:, :2] / variance[:, None] + anchor * (expected - centres(solver, rows))
    step = np.asarray(np.linalg.solve(stiffness + anchor * np.eye(2), force[..., None])[..., 0], np.float64)
    return shortened(STRETCH * step, LONGEST_STEP_PX)


def better_places(
    solver: Solver, rows: NDArray[np.int64], expected: NDArray[np.float64], spread_px: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """(k, 2) first pixels: the best of a few random places where it is clearly better, else where the window stands.

    Half of the tries are near where the window stands, half within `spread_px` of the `expected` first pixels (k, 2): far
    from the right place the derivative points nowhere in particular.
    """
    best = solver.store.corners[rows].copy()
    least = solver.misfits(rows, best)
    for turn in range(TRIES):
        centre, width = (expected, spread_px) if turn % 2 else (best, 2.0)
        place = np.rint(centre + random.normal(0, width, best.shape)).astype(np.int64)
        place = inside(solver.canvas, place, solver.store.shape)
        misfit = solver.misfits(rows, place)
        better = misfit < BETTER * least
        best[better], least[better] = place[better], misfit[better]
    return best
