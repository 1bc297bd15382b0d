"""The passes after the last frame, by a refiner that never leaves a worse picture.

After each pass of a refiner the Fourier error of a fixed sample of frames is measured. A refiner under which it grows far
beyond the best is given up: the best picture is restored and the live rule goes on. At the end the best picture stays. A
refiner with closing passes is judged after these.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from streamptycho.errors import MemoryBoundError
from streamptycho.solve.devices.backend import Array
from streamptycho.solve.estimates.modes import ModeGrowth
from streamptycho.solve.estimates.positions import PositionRefiner
from streamptycho.solve.polish.options import METHODS, PolishOptions
from streamptycho.solve.polish.pie import PieRefiner
from streamptycho.solve.polish.refiner import Refiner, begin
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import Solver

WINDOW = 5
"""Passes over which progress is judged."""
SAMPLE = (32, 256)
"""Frames measured after each pass, at least and at most; between them a sixteenth of all, some 3 % of the time."""
GIVEN_UP = 2.0
"""Fourier error, in units of the best so far, at which a refiner is given up; the difference map passes through 1.2."""
AS_GOOD = 1.05
"""Fourier error, in units of the best so far, up to which the last picture is kept rather than the best: it varies by a few
per cent with the order of the last updates, while the smooth part of the picture still gets better."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture that can be restored."""

    error: float
    passes: int
    object: Array
    origin: tuple[int, int]
    probe: Array


class Polish:
    """The passes after the last frame; the Fourier error after each is appended to `history`."""

    def __init__(
        self,
        solver: Solver,
        schedule: Schedule,
        modes: ModeGrowth,
        positions: PositionRefiner,
        options: PolishOptions,
        history: list[float],
    ) -> None:
        self.solver = solver
        self.passes = 0
        self._schedule = schedule
        self._modes = modes
        self._positions = positions
        self._options = options
        self._history = history
        self._limit = options.polish_passes
        self._tolerance = options.polish_tolerance
        self._converged = False
        self._own: list[float] = []
        self._words: list[str] = []
        solver.prepare()
        self._rows = _sample(len(solver.store))
        self._best = self._keep(self._measure())
        if not modes.complete:
            modes.grow(solver)  # which may find that there are as many as asked for
        self._refiner = self._chosen() if modes.complete else self._live_rule()

    def _chosen(self) -> Refiner:
        """The refiner of the chosen method, or the live rule where that needs too much memory."""
        self._label = METHODS[self._options.polish].label
        try:
            return begin(self.solver, self._schedule, self._options)
        except MemoryBoundError as error:
            self._words.append(f"{self._label} refused ({error})")
            return self._live_rule()

    def _live_rule(self) -> Refiner:
        """The rule of the live passes: until all modes are there, and when a method ends or is given up."""
        self._label = ""
        return PieRefiner(self.solver, self._schedule, PolishOptions(polish="rule"))

    @property
    def done(self) -> bool:
        """True if more passes would not help, or are not wanted."""
        return self._converged or self.passes >= self._limit

    def limit_to(self, passes: int) -> None:
        """Exactly `passes`: more where polishing has ended already, and at least the present one where it has not."""
        if not self.done:
            self._limit, self._tolerance = max(passes, self.passes + 1), 0.0
        elif passes > self.passes:
            self._limit, self._tolerance, self._converged = passes, 0.0, False

    @property
    def error(self) -> float:
        """Fourier error after the latest pass, NaN before the first."""
        return self._history[-1] if self._own else float("nan")

    @property
    def words(self) -> str:
        """What has been done, for the result; empty while the live rule simply goes on."""
        used = [f"polished by {self._label}"] if self._own and self._label else []
        return "; ".join(self._words + used)

    def step(self, count: int) -> int:
        """A slice of about `count` updates; returns the updates done (sums over exit waves count none)."""
        before = self._refiner.passes
        done = self._refiner.step(count)
        if self._refiner.movable:
            self._positions.after(self.solver, done, live=False)
        if not self._modes.complete and (self._modes.grow(self.solver) or self._modes.complete):
            self._start_over()
        elif self._refiner.passes > before:
            self._end_of_pass()
        return done

    def _start_over(self) -> None:
        """With another set of modes: the best picture so far had other ones and cannot be restored."""
        self._own.clear()
        self._best = self._keep(self._measure())
        if self._modes.complete and METHODS[self._options.polish].label:
            self._refiner = self._chosen()

    def _end_of_pass(self) -> None:
        self.passes += 1
        if self._refiner.turns:
            self.solver.settle()
        if self._refiner.movable and self._positions.end_of_pass(self.solver):
            self._best = self._keep(self._measure())  # an earlier object does not fit windows that have moved
        watched = self._measure()
        error = self.solver.error() if self._refiner.own_error else watched
        self._history.append(error)
        self._own.append(error)
        if not math.isfinite(watched) or watched > GIVEN_UP * self._best.error:
            self._give_up()
        elif watched <= self._best.error and not self._refiner.closing_passes:
            self._best = self._keep(watched)
        self._converged = self._no_progress()
        closing = self._refiner.closing_passes
        if closing and (self._converged or self.passes >= self._limit - closing):
            self._close(closing)
        elif self.done:
            self._settle(watched)
        elif self._refiner.turns and self._modes.settle(self.solver):
            self._own.clear()
            self._best = replace(self._best, error=math.inf)  # the next one is better, whatever its error

    def _close(self, passes: int) -> None:
        self._words.append(f"polished by {self._label} ({len(self._own)} passes, then {passes} of the rule)")
        self._limit, self._tolerance, self._converged = self.passes + passes, 0.0, False
        self.solver.orthogonalise()
        self._refiner = self._live_rule()

    def _no_progress(self) -> bool:
        past = self._own[-WINDOW - 1 :]
        enough = self._modes.complete and len(self._own) > self._refiner.lead
        return enough and self._tolerance > 0 and past[0] - past[-1] < WINDOW * self._tolerance * past[-1]

    def _give_up(self) -> None:
        self._restore()
        self._words.append(f"{self._label or 'the rule'} given up after {len(self._own)} passes")
        self._own.clear()
        if not self._label:
            self._limit = self.passes  # the rule fails as well: there is nothing else to try
        self._refiner = self._live_rule()

    def _settle(self, watched: float) -> None:
        """Leave the best picture there has been, its modes orthogonal."""
        if not watched <= AS_GOOD * self._best.error:
            self._restore()
            self._words.append(f"the picture after {self._best.passes} of {self.passes} passes kept")
        wanted = METHODS[self._options.polish].label
        if not self._modes.complete and wanted:
            self._words.append(f"{wanted} not begun: modes were still being added")
        self._modes.end(self.solver)
        self.solver.orthogonalise()

    def _measure(self) -> float:
        """Fourier error of the sample; NaN if nothing was measured on it."""
        misfit = self.solver.measure(self._rows).sum()
        power = self.solver.store.power[self._rows].sum()
        return float(misfit / power) if power > 0 else 0.0

    def _keep(self, error: float) -> Kept:
        canvas = self.solver.canvas
        return Kept(error, self.passes, canvas.object.copy(), canvas.origin, self.solver.probe.copy())

    def _restore(self) -> None:
        canvas = self.solver.canvas
        at = canvas.window(self._best.origin, self._best.object.shape)  # it may have grown since
        canvas.object[at] = self._best.object
        canvas.rebase()
        canvas.velocity[...] = 0
        self.solver.probe[...] = self._best.probe
        self._measure()


def _sample(frames: int) -> Array:
    count = min(frames, max(SAMPLE[0], min(frames // 16, SAMPLE[1])))
    return np.unique(np.linspace(0, frames - 1, count).round().astype(np.int64))
