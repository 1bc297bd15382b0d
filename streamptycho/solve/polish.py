"""Passes: while frames arrive, and after the last one, when a refiner goes on without ever leaving a worse picture.

After each pass of a refiner the Fourier error of a fixed sample of frames is measured. A refiner under which it grows far
beyond the best is given up: the best picture is restored and the live rule goes on. At the end the best picture stays. The
difference map hovers above the data's floor by design: its pictures are judged after a few closing passes of the rule.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from streamptycho.errors import MemoryBoundError
from streamptycho.solve.backend import Array
from streamptycho.solve.kernels import refining
from streamptycho.solve.modes import ModeGrowth
from streamptycho.solve.positions import PositionRefiner
from streamptycho.solve.refiner_options import DifferenceMapOptions, LsqmlOptions, Method
from streamptycho.solve.refiners import NAMES, DifferenceMapRefiner, LsqmlRefiner, PieRefiner, Refiner
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import Solver

WINDOW = 5
"""Passes over which progress is judged."""
WATCHED = (32, 256)
"""Frames of the sample, at least and at most; between them a sixteenth of all, which costs some 3 % of the time."""
GIVEN_UP = 2.0
"""Fourier error, in units of the best so far, at which a refiner is given up; the difference map passes through 1.2."""
FEWEST_UPDATES = 50
"""Updates that count as a live pass at least: of a few frames there would be thousands of passes."""
CLOSING = 5
"""Passes of the live rule that end a difference map."""
AS_GOOD = 1.05
"""Fourier error, in units of the best so far, up to which the last picture is kept rather than the best: it varies by a few
per cent with the order of the last updates, while the smooth part of the picture still gets better."""


class LivePasses:
    """Slices while frames arrive; a pass is over when as many updates are done as there are frames."""

    def __init__(self, history: list[float]) -> None:
        self._history = history
        self._updates = 0

    def step(self, solver: Solver, schedule: Schedule, modes: ModeGrowth, count: int) -> int:
        """Sweep over `count` frames, or as many as are left of the pass; returns the updates done."""
        frames = len(solver.store)
        count = min(count, max(max(frames, FEWEST_UPDATES) - self._updates, 1))
        solver.sweep(schedule.draw(*solver.coverage(), count, live=True))
        modes.grow(solver)
        self._updates += count
        if self._updates >= max(frames, FEWEST_UPDATES):
            self._updates = 0
            solver.settle()
            self._history.append(solver.error())
        return count


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture to come back to."""

    error: float
    passes: int
    """Passes of the polish after which it was taken."""
    object: Array
    origin: tuple[int, int]
    """Of the canvas at that time."""
    probe: Array


class Polish:
    """The passes after the last frame.

    Parameters
    ----------
    history : Fourier error after each pass, appended to.
    limit : passes at most.
    tolerance : ends when the error falls by less than this fraction per pass, over five passes; 0: only at the limit.
    """

    def __init__(
        self,
        solver: Solver,
        schedule: Schedule,
        modes: ModeGrowth,
        positions: PositionRefiner,
        method: Method,
        lsqml: LsqmlOptions,
        dm: DifferenceMapOptions,
        history: list[float],
        limit: int,
        tolerance: float,
    ) -> None:
        self.solver = solver
        self.passes = 0
        self._schedule = schedule
        self._modes = modes
        self._positions = positions
        self._history = history
        self.limit = limit
        self.tolerance = tolerance
        self._converged = False
        self._closing = False
        self._own: list[float] = []
        """Errors of the present refiner."""
        self._words: list[str] = []
        solver.prepare()
        self._rows = _watched(len(solver.store))
        self._best = self._keep(self._measure())
        self._method: Method = "rule"
        self._wanted = (method, lsqml, dm)
        """What comes when all modes are there; until then the rule goes on."""
        if not modes.complete:
            modes.grow(solver)  # which may find that there are as many as asked for
        self._refiner = self._begin(*self._wanted) if modes.complete else self._begin("rule", lsqml, dm)

    def _begin(self, method: Method, lsqml: LsqmlOptions, dm: DifferenceMapOptions) -> Refiner:
        self._method = method
        if method == "lsqml":
            return LsqmlRefiner(self.solver, self._schedule, lsqml)
        if method == "dm":
            try:
                return DifferenceMapRefiner(self.solver, dm)
            except MemoryBoundError as error:
                self._words.append(f"DM refused ({error})")
                self._method = "rule"
        return PieRefiner(self.solver, self._schedule, self._method)

    @property
    def done(self) -> bool:
        """True if more passes would be of no use, or are not wanted."""
        return self._converged or self.passes >= self.limit

    def limit_to(self, passes: int) -> None:
        """Exactly so many passes: more where it has ended already, and at least the one in work where it has not."""
        if not self.done:
            self.limit, self.tolerance = max(passes, self.passes + 1), 0.0
        elif passes > self.passes:
            self.limit, self.tolerance, self._converged = passes, 0.0, False

    @property
    def error(self) -> float:
        """Fourier error after the latest pass, NaN before the first."""
        return self._history[-1] if self._own else float("nan")

    @property
    def words(self) -> str:
        """What the polish has been, for the metrics; empty while the live rule simply goes on."""
        used = [f"polished by {NAMES[self._method]}"] if self._own and NAMES[self._method] and not self._closing else []
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
        """Another set of modes: what was the best before cannot be come back to."""
        self._own.clear()
        self._best = self._keep(self._measure())
        if self._modes.complete and self._wanted[0] != self._method:
            self._refiner = self._begin(*self._wanted)

    def _end_of_pass(self) -> None:
        self.passes += 1
        if self._refiner.turns:
            self.solver.settle()
        if self._refiner.movable and self._positions.end_of_pass(self.solver):
            self._best = self._keep(self._measure())  # of an object under windows that have moved since there is no use
        watched = self._measure()
        error = self.solver.error() if self._refiner.own_error else watched
        self._history.append(error)
        self._own.append(error)
        if not math.isfinite(watched) or watched > GIVEN_UP * self._best.error:
            self._give_up()
        elif watched <= self._best.error and self._method != "dm":
            self._best = self._keep(watched)
        self._converged = self._no_progress()
        if self._method == "dm" and (self._converged or self.passes >= self.limit - CLOSING):
            self._close()
        elif self.done:
            self._settle(watched)
        elif self._refiner.turns and self._modes.settle(self.solver):
            self._own.clear()
            self._best = replace(self._best, error=math.inf)  # the next one is better, whatever its error

    def _close(self) -> None:
        """The closing passes after a difference map."""
        self._words.append(f"polished by DM ({len(self._own)} passes, then {CLOSING} of the rule)")
        self.limit, self.tolerance, self._converged = self.passes + CLOSING, 0.0, False
        self._closing = True
        self._method = "rule"
        self.solver.orthogonalise()
        self._refiner = PieRefiner(self.solver, self._schedule, self._method)

    def _no_progress(self) -> bool:
        past = self._own[-WINDOW - 1 :]
        enough = self._modes.complete and len(self._own) > self._refiner.lead
        return enough and self.tolerance > 0 and past[0] - past[-1] < WINDOW * self.tolerance * past[-1]

    def _give_up(self) -> None:
        """Back to the best picture, and on with the live rule."""
        self._restore()
        self._words.append(f"{NAMES[self._method] or 'the rule'} given up after {len(self._own)} passes")
        self._own.clear()
        if self._method == "rule":
            self.limit = self.passes  # what nothing mends
        self._method = "rule"
        self._refiner = PieRefiner(self.solver, self._schedule, self._method)

    def _settle(self, watched: float) -> None:
        """Leave the best picture there has been, its modes orthogonal."""
        if not watched <= AS_GOOD * self._best.error:
            self._restore()
            self._words.append(f"the picture after {self._best.passes} of {self.passes} passes kept")
        if not self._modes.complete and NAMES[self._wanted[0]]:
            self._words.append(f"{NAMES[self._wanted[0]]} not begun: modes were still being added")
        self._modes.end(self.solver)
        self.solver.orthogonalise()

    def _measure(self) -> float:
        """Fourier error of the sample; NaN if nothing was measured on it."""
        solver, store = self.solver, self.solver.store
        corners = store.corners[self._rows] - np.array(solver.canvas.origin)
        refining(solver.backend).measure(
            solver.canvas.object, solver.probe, store.amplitudes, corners, self._rows, store.flux, solver.background,
            solver.misfit,
        )  # fmt: skip
        misfit = solver.backend.to_host(solver.misfit[self._rows]).sum(dtype=np.float64)
        power = store.power[self._rows].sum()
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


def _watched(frames: int) -> Array:
    """Rows of the sample, spread evenly over the scan."""
    count = min(frames, max(WATCHED[0], min(frames // 16, WATCHED[1])))
    return np.unique(np.linspace(0, frames - 1, count).round().astype(np.int64))
