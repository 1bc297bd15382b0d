"""LSQ-ML as a refiner."""

import numpy as np

from streamptycho.solve.devices.backend import Array
from streamptycho.solve.equations import lsqml
from streamptycho.solve.equations.lsqml import BatchStep
from streamptycho.solve.polish.options import PolishOptions
from streamptycho.solve.polish.refiner import Refiner
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import Solver

MOMENTUM_UPDATES = 48
"""Updates between two steps of momentum; more over a large area, where a step costs more."""


class LsqmlRefiner(Refiner):
    """LSQ-ML (:mod:`equations.lsqml`) with momentum of the smooth part, both gentler from pass to pass."""

    movable = False

    def __init__(self, solver: Solver, schedule: Schedule, options: PolishOptions) -> None:
        super().__init__(solver, schedule, options)
        self._rest()
        self._moved: list[Array] = []
        """Rows since the last momentum."""
        self._work = lsqml.Workspace(solver.backend, solver.probe.shape, solver.canvas.shape, options.lsqml.batch)

    def _strengths(self) -> tuple[BatchStep, float]:
        options = self._options.lsqml
        age = (self.passes + self._done / max(len(self._solver.store), 1)) / options.memory
        damping = max(options.settled_damping, options.damping / (1 + age))
        moves = self._solver.rule.probe_step > 0
        step = BatchStep(options.batch, options.object_floor, options.probe_floor, damping, damping if moves else 0.0)
        return step, options.momentum / (1 + age)

    def step(self, count: int) -> int:
        """Whole batches, at least one."""
        solver, store, canvas, batch = self._solver, self._solver.store, self._solver.canvas, self._options.lsqml.batch
        count = min(max(count // batch, 1) * batch, len(store) - self._done)
        chosen = self._schedule.draw(*solver.coverage(), count, live=False)
        step, momentum = self._strengths()
        solver.kernels.lsqml(solver.model, solver.frames(chosen), step, solver.misfit, self._work)
        solver.visited(chosen)
        self._moved.append(chosen)
        if momentum > 0 and sum(map(len, self._moved)) >= max(MOMENTUM_UPDATES, 4 * canvas.area // solver.probe[0].size):
            corners = store.corners[np.concatenate(self._moved)]
            solver.kernels.advance(canvas, canvas.box(corners, store.shape), None, momentum)
            self._moved.clear()
        return self._used(count)
