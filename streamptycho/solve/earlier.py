"""A picture that an earlier process made of the same scan, as the start of a reconstruction that goes on from it."""

from dataclasses import dataclass, field

import numpy as np

from streamptycho.solve.canvas import KNOWN_DOSE, block_mean
from streamptycho.solve.picture import Picture
from streamptycho.solve.solver import Solver

SEEN = 0.8
"""Share of the probe's power that must fall on the picture for a frame to count as one that it was made of."""


@dataclass(eq=False, slots=True)
class Earlier:
    """Puts a picture back, and credits the frames it was made of with their visits as they come again."""

    picture: Picture
    visits: int
    """Mean updates per frame."""
    error: float
    """Fourier error; NaN where not known."""
    _solver: Solver | None = field(default=None, init=False)

    def begin(self, solver: Solver) -> None:
        """The picture becomes the object of `solver`, which has its probe and no updates yet."""
        self._solver = solver
        canvas, backend = solver.canvas, solver.backend
        (top, left), shape = self.picture.origin_px, self.picture.object.shape
        window = solver.store.shape
        far = top + shape[0] - window[0], left + shape[1] - window[1]
        if not (canvas.ensure((top, left), window) and canvas.ensure(far, window)):
            return
        at = canvas.window((top, left), shape)
        known = backend.to_device(self.picture.covered)
        canvas.object[at] = backend.xp.where(known, backend.to_device(self.picture.object), canvas.object[at])
        # known, so that no new window is filled over it; the frames bring the rest of their dose as they come
        canvas.dose[at] = backend.xp.maximum(canvas.dose[at], KNOWN_DOSE * known.astype(np.float32))
        canvas.cell_dose[...] = block_mean(canvas.dose)
        canvas.rebase()

    def admitted(self, solver: Solver, row: int) -> None:
        """Credit `row` if the picture covers its window, and `solver` still goes on from that picture."""
        if solver is not self._solver or not self._covers(solver, row):
            return
        solver.visits[row] = self.visits
        solver.updates += self.visits
        solver.rows_used += 1
        if np.isfinite(self.error):
            solver.misfit[row] = np.float32(self.error * solver.store.power[row])

    def _covers(self, solver: Solver, row: int) -> bool:
        corner = solver.store.corners[row] - self.picture.origin_px
        power = (np.abs(self.picture.probe) ** 2).sum(axis=0)
        covered, inside = self.picture.covered, np.zeros(power.shape, np.bool_)
        low = np.maximum(corner, 0)
        high = np.minimum(corner + power.shape, covered.shape)
        if (low < high).all():
            inside[low[0] - corner[0] : high[0] - corner[0], low[1] - corner[1] : high[1] - corner[1]] = covered[
                low[0] : high[0], low[1] : high[1]
            ]
        return bool(power[inside].sum() > SEEN * power.sum())
