"""What refines the picture after the last frame: passes over all frames, each method in slices of bounded length."""

from typing import Protocol

import numpy as np

from streamptycho.errors import MemoryBoundError
from streamptycho.solve import difference_map, kernels
from streamptycho.solve.backend import Array
from streamptycho.solve.lsqml import BatchStep, LsqmlWorkspace
from streamptycho.solve.refiner_options import DifferenceMapOptions, LsqmlOptions, Method
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import Solver

NAMES = {"rule": "", "epie": "ePIE", "rpie": "rPIE", "lsqml": "LSQ-ML", "dm": "DM"}
"""What the metrics call each method; the live rule going on has no name of its own."""
MOMENTUM_UPDATES = 48
"""Updates between two steps of momentum; more over a large area, where a step costs more."""
PROBE_SPEED = 3
"""Frames whose exit waves are summed for the probe in the time of one projection."""


class Refiner(Protocol):
    """Improves a solver's object and probe after the last frame."""

    def step(self, count: int) -> int:
        """Do about `count` updates' work, never beyond the end of a pass; returns the updates done."""

    @property
    def passes(self) -> int:
        """Times that all frames have been used."""

    @property
    def lead(self) -> int:
        """Passes before which no verdict on progress is fair."""

    @property
    def own_error(self) -> bool:
        """True if it leaves each frame's Fourier error in the solver as it goes."""

    @property
    def movable(self) -> bool:
        """True if windows may move, and the canvas grow, between its steps."""

    @property
    def turns(self) -> bool:
        """True if the modes may be rotated among themselves between its passes."""


class PieRefiner:
    """ePIE, rPIE, or the live rule going on, in random passes."""

    lead = 10
    own_error = turns = movable = True

    def __init__(self, solver: Solver, schedule: Schedule, method: Method) -> None:
        self._solver = solver
        self._schedule = schedule
        self._done = 0
        self.passes = 0
        chosen = solver.chosen_rule
        solver.follow(chosen if method == "rule" else chosen.model_copy(update={"algorithm": method}))

    def step(self, count: int) -> int:
        """Sweep over the next frames of the pass."""
        frames = len(self._solver.store)
        count = min(count, frames - self._done)
        self._solver.sweep(self._schedule.draw(*self._solver.coverage(), count, live=False))
        self._done += count
        if self._done >= frames:
            self._done = 0
            self.passes += 1
        return count


class LsqmlRefiner:
    """LSQ-ML (:mod:`lsqml`) with momentum of the smooth part, both gentler from pass to pass."""

    lead = 10
    own_error = turns = True
    movable = False

    def __init__(self, solver: Solver, schedule: Schedule, options: LsqmlOptions) -> None:
        self._solver = solver
        self._schedule = schedule
        self._options = options
        self._done = 0
        self.passes = 0
        solver.prepare()
        solver.canvas.rebase()
        solver.canvas.velocity[...] = 0
        self._moved: list[Array] = []
        """Rows since the last momentum."""
        self._sweep = kernels.refining(solver.backend).lsqml
        self._advance = kernels.kernels_for(solver.backend).advance
        self._work = LsqmlWorkspace(solver.backend, solver.probe.shape, solver.canvas.shape, options.batch)

    def _strengths(self) -> tuple[BatchStep, float]:
        options = self._options
        age = (self.passes + self._done / max(len(self._solver.store), 1)) / options.memory
        damping = max(options.settled_damping, options.damping / (1 + age))
        moves = self._solver.rule.probe_step > 0
        step = BatchStep(options.batch, options.object_floor, options.probe_floor, damping, damping if moves else 0.0)
        return step, options.momentum / (1 + age)

    def step(self, count: int) -> int:
        """Whole batches, at least one."""
        solver, store, canvas = self._solver, self._solver.store, self._solver.canvas
        frames = len(store)
        batch = self._options.batch
        count = min(max(count // batch, 1) * batch, frames - self._done)
        chosen = self._schedule.draw(*solver.coverage(), count, live=False)
        corners = store.corners[chosen] - np.array(canvas.origin)
        lengths = solver.backend.xp.empty((count, 2), np.float32)
        step, momentum = self._strengths()
        self._sweep(
            canvas.object, solver.probe, store.amplitudes, corners, chosen, step,
            store.flux, solver.background, solver.misfit, lengths, self._work,
        )  # fmt: skip
        solver.visited(chosen)
        self._moved.append(chosen)
        if momentum > 0 and sum(map(len, self._moved)) >= max(MOMENTUM_UPDATES, 4 * canvas.area // solver.probe[0].size):
            corners = store.corners[np.concatenate(self._moved)]
            self._advance(canvas, solver.backend, canvas.box(corners, store.shape), None, momentum)
            self._moved.clear()
        self._done += count
        if self._done >= frames:
            self._done = 0
            self.passes += 1
        return count


class DifferenceMapRefiner:
    """The difference map, an iteration over all frames in slices.

    Raises :class:`MemoryBoundError` before anything is allocated if the exit waves exceed the bound.
    """

    lead = 20
    own_error = turns = movable = False  # it looks at reflected waves, and keeps waves of each mode

    def __init__(self, solver: Solver, options: DifferenceMapOptions) -> None:
        self._solver = solver
        self._options = options
        self.passes = 0
        self._done = 0
        self._summed = 0
        """Frames that have had their say on the probe in this iteration."""
        backend, frames, shape = solver.backend, len(solver.store), solver.probe.shape
        needed = 8 * frames * int(np.prod(shape))
        if needed > options.memory_gib * 2**30:
            raise MemoryBoundError(
                f"engine.dm.memory_gib: the difference map keeps all exit waves, {needed} bytes for {frames} frames of"
                f" {shape[1]} x {shape[2]} and {shape[0]} mode(s), and may take {options.memory_gib:g} GiB; allow"
                f" {needed / 2**30:.1f}, or polish by lsqml, which needs none of this"
            )
        solver.prepare()
        xp, canvas = backend.xp, solver.canvas
        canvas.rebase()
        canvas.velocity[...] = 0
        self._waves: Array = xp.empty((frames, *shape), np.complex64)
        self._ratio: Array = xp.ones(canvas.shape, np.complex64)
        self._gain: Array = xp.zeros(canvas.shape, np.complex64)
        self._weight: Array = xp.zeros(canvas.shape, np.float32)
        self._probe_gain: Array = xp.zeros(shape, np.complex64)
        self._probe_weight: Array = xp.zeros(shape[1:], np.float32)

    def step(self, count: int) -> int:
        """The next frames' exit waves; once all have moved, object and then probe follow."""
        frames = len(self._waves)
        if self._done < frames:
            count = min(count, frames - self._done)
            self._project(np.arange(self._done, self._done + count))
            self._done += count
            if self._done == frames:
                difference_map.divide(self._solver.canvas.object, self._gain, self._weight, self._options.inertia)
                if not self._options.probe_moves or self._solver.rule.probe_step == 0:
                    self._end_of_iteration()
            return count
        last = min(self._summed + PROBE_SPEED * count, frames)
        rows = np.arange(self._summed, last)
        kernels.refining(self._solver.backend).dm_probe(
            self._solver.canvas.object, self._corners(rows), rows, self._waves, self._probe_gain, self._probe_weight
        )
        self._summed = last
        if last == frames:
            difference_map.divide(self._solver.probe, self._probe_gain, self._probe_weight, self._options.inertia)
            self._end_of_iteration()
        return 0

    def _corners(self, rows: Array) -> Array:
        return self._solver.store.corners[rows] - np.array(self._solver.canvas.origin)

    def _project(self, rows: Array) -> None:
        solver = self._solver
        kernels.refining(solver.backend).dm_project(
            solver.canvas.object, solver.probe, solver.store.amplitudes, self._corners(rows), rows,
            self._options.relaxation, solver.store.flux, solver.background, self._waves, self._ratio,
            self._gain, self._weight, fresh=self.passes == 0,
        )  # fmt: skip
        solver.visited(rows)

    def _end_of_iteration(self) -> None:
        solver = self._solver
        box = solver.canvas.box(solver.store.corners[: len(self._waves)], solver.store.shape)
        difference_map.carry_on(solver.canvas, solver.backend, box, self._ratio)
        for array in (self._gain, self._weight, self._probe_gain, self._probe_weight):
            array[...] = 0
        self._done = self._summed = 0
        self.passes += 1
