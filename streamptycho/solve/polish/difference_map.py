"""The difference map as a refiner."""

import numpy as np

from streamptycho.errors import MemoryBoundError
from streamptycho.solve.equations import difference_map
from streamptycho.solve.polish.options import PolishOptions
from streamptycho.solve.polish.refiner import Refiner
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import Solver

CLOSING = 5
"""Passes of the live rule that end it: it hovers above the data's floor by design."""
PROBE_SPEED = 3
"""Frames whose exit waves are summed for the probe in the time of one projection."""


class DifferenceMapRefiner(Refiner):
    """An iteration over all frames, in their order, in slices."""

    lead = 20
    own_error = turns = movable = False  # it measures reflected waves, and keeps waves of each mode
    closing_passes = CLOSING

    def __init__(self, solver: Solver, schedule: Schedule, options: PolishOptions) -> None:
        super().__init__(solver, schedule, options)
        self._summed = 0
        """Frames added to the probe's sums in this iteration."""
        frames, shape = len(solver.store), solver.probe.shape
        needed, allowed = 8 * frames * int(np.prod(shape)), options.dm.memory_gib
        if needed > allowed * 2**30:
            raise MemoryBoundError(
                f"engine.dm.memory_gib: the difference map keeps all exit waves, {needed} bytes for {frames} frames of"
                f" {shape[1]} x {shape[2]} and {shape[0]} mode(s), and may take {allowed:g} GiB; allow"
                f" {needed / 2**30:.1f}, or polish by lsqml, which needs none of this"
            )
        self._rest()
        self._work = difference_map.Workspace(solver.backend, shape, solver.canvas.shape, frames)

    def step(self, count: int) -> int:
        """The next frames' exit waves; once all have moved, object and then probe follow."""
        solver, work, frames = self._solver, self._work, len(self._work.waves)
        if self._done < frames:
            count = min(count, frames - self._done)
            rows = np.arange(self._done, self._done + count)
            relaxation, fresh = self._options.dm.relaxation, self.passes == 0
            solver.kernels.project(solver.model, solver.frames(rows), relaxation, work, fresh=fresh)
            solver.visited(rows)
            self._done += count
            if self._done == frames:
                difference_map.divide(solver.canvas.object, work.gain, work.weight, self._options.dm.inertia)
                if not self._options.dm.probe_moves or solver.rule.probe_step == 0:
                    self._end_of_iteration()
            return count
        last = min(self._summed + PROBE_SPEED * count, frames)
        solver.kernels.add_probe(solver.canvas.object, solver.frames(np.arange(self._summed, last)), work)
        self._summed = last
        if last == frames:
            difference_map.divide(solver.probe, work.probe_gain, work.probe_weight, self._options.dm.inertia)
            self._end_of_iteration()
        return 0

    def _end_of_iteration(self) -> None:
        solver = self._solver
        box = solver.canvas.box(solver.store.corners[: len(self._work.waves)], solver.store.shape)
        difference_map.carry_on(solver.canvas, box, self._work.ratio)
        self._work.clear()
        self._done = self._summed = 0
        self.passes += 1
