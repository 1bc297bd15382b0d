"""The rolling engine: frames may be added at any time, and the object gets better in every gap between them.

It owns the frames, the reconstruction and the schedule; it knows no wire, no file and no clock but the one it is given.
With a fixed seed, the same frames and the same number of updates give the same result in one thread of a CPU.
"""

import time
from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Backend
from streamptycho.solve.background import BackgroundEstimate
from streamptycho.solve.canvas import BLOCK, surroundings
from streamptycho.solve.constraints import centred
from streamptycho.solve.flux import FluxEstimate
from streamptycho.solve.modes import ModeGrowth, mode_powers
from streamptycho.solve.picture import Picture, picture_of
from streamptycho.solve.polish import LivePasses, Polish
from streamptycho.solve.positions import PositionRefiner, PositionSummary
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.start import ProbeStart
from streamptycho.solve.store import FrameStore
from streamptycho.solve.trust import Trust

FARTHEST_PX = 1e12
"""Positions beyond it are nonsense, and would overflow."""


class EngineState(StrEnum):
    """What the engine would do with more time."""

    EMPTY = "empty"
    """Nothing, before more frames come."""
    SEARCHING = "searching"
    LIVE = "live"
    POLISHING = "polishing"
    DONE = "done"


class RollingEngine:
    """Adds frames, refines in slices, shows the picture at any time.

    Parameters
    ----------
    shape : (ny, nx) of the diffraction patterns.
    probe : (modes, ny, nx) complex64 to start from, or None to search.
    expected : planned number of frames, to reserve memory for.
    origin : where the probe comes from, for people.
    """

    def __init__(
        self,
        options: EngineOptions,
        backend: Backend,
        shape: tuple[int, int],
        probe: NDArray[np.complex64] | None = None,
        expected: int | None = None,
        origin: str = "recorded with the scan",
    ) -> None:
        self.options = options
        self.backend = backend
        self.store = FrameStore(backend, shape, expected)
        self.positions = PositionRefiner(options.positions, options.seed)
        self.error_history: list[float] = []
        self.finished = False
        if probe is not None and probe.any() and options.constraints:
            probe = centred(probe)
        self._start = ProbeStart(backend, self.store, options.rule, options.seed, options.search_frames, probe, origin)
        self._modes = ModeGrowth(options.modes, options.seed)
        self._solver: Solver | None = None
        self._schedule = Schedule(options.seed)
        self._turn = 0
        self._live = LivePasses(self.error_history)
        self._polish: Polish | None = None
        self._bounds: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def state(self) -> EngineState:
        """What comes next."""
        if not len(self.store):
            return EngineState.DONE if self.finished else EngineState.EMPTY
        if self._start.search_due(self.finished):
            return EngineState.SEARCHING
        if not self.finished:
            return EngineState.LIVE if self._solver is not None else EngineState.EMPTY
        return EngineState.POLISHING if not self._polish_ended or self._probe_is_due() else EngineState.DONE

    @property
    def _polish_ended(self) -> bool:
        enough = self.options.polish_passes == 0 or (self._polish is not None and self._polish.done)
        return self.finished and enough and self.rows_used == len(self.store)

    def _probe_is_due(self) -> bool:
        return self._start.due(self._solver, finished=self.finished, polished=self._polish_ended)

    @property
    def updates(self) -> int:
        """Frame updates that shaped the present object."""
        return self._solver.updates if self._solver else 0

    @property
    def rows_used(self) -> int:
        """Frames that shaped the present object."""
        return int(self._solver.rows_used) if self._solver else 0

    @property
    def used(self) -> NDArray[np.bool_]:
        """(n,) True for frames, in the order of their rows, that shaped the present object."""
        visits = self._solver.visits if self._solver else np.zeros(0, np.int64)
        used = np.zeros(len(self.store), np.bool_)
        used[: len(visits)] = visits[: len(used)] > 0
        return used

    def add(self, amplitude: NDArray[np.float32], yx_px: tuple[float, float]) -> int | None:
        """Take a frame on.

        Parameters
        ----------
        amplitude : (ny, nx) float32, square root of counts, zero frequency at [0, 0], negative where masked.
        yx_px : absolute object pixel under the centre of the probe.

        Returns
        -------
        The frame's row for :meth:`replace`, or None if its position exceeds the largest canvas, or after :meth:`finish`.
        """
        if self.finished or not np.abs(yx_px).max() < FARTHEST_PX:
            return None
        shape = self.store.shape
        y, x = self.positions.expected(yx_px)
        corner = (round(y) - shape[0] // 2, round(x) - shape[1] // 2)
        if not self._fits(corner):
            return None
        row = self.store.append(amplitude, corner)
        self.positions.add(row, yx_px)
        if self._solver is not None:
            self._solver.admit(row)
        elif self._start.given is not None:
            self._begin(self._start.scaled(self._start.given), poor=False)
        return row

    def _fits(self, corner: tuple[int, int]) -> bool:
        """True if a canvas that holds this window as well stays within the limit, growth margins included.

        Margins of a quarter on either side, each of an extent that may hold the other, come to two thirds of the rest.
        """
        here = np.array(corner)
        low, high = (here, here) if self._bounds is None else self._bounds
        low, high = np.minimum(low, here), np.maximum(high, here)
        window = np.array(self.store.shape, np.float64)
        extent = 5 / 3 * (high - low + window + 2 * surroundings(self.store.shape)) + 2 * window + 4 * BLOCK
        if extent[0] * extent[1] > self.options.max_object_pixels:
            return False
        self._bounds = (low, high)
        return True

    def replace(self, row: int, amplitude: NDArray[np.float32]) -> None:
        """Exchange the amplitudes of an earlier frame."""
        self.store.replace(row, amplitude)

    def finish(self) -> None:
        """No more frames will come: polish from now on, in whole passes over all of them."""
        self.finished = True
        self._schedule.restart()

    # what people may ask for while it runs

    def stop(self) -> None:
        """Take no more frames; end after the pass in work, or after one over all of them."""
        if not self.finished:
            self.finish()
        if self._polish is not None:
            self.set_passes(self._polish.passes)
        else:
            self.set_passes(min(1, self.options.polish_passes))

    def set_passes(self, passes: int) -> None:
        """Exactly so many passes after the last frame; if there have been as many, end after the one in work."""
        self.options = self.options.model_copy(update={"polish_passes": passes, "polish_tolerance": 0.0})
        if self._polish is not None:
            self._polish.limit_to(passes)

    def set_modes(self, modes: int) -> None:
        """So many probe modes from now on: the strongest stay, or more are added."""
        self.options = self.options.model_copy(update={"modes": modes})
        self._modes = ModeGrowth(modes, self.options.seed)
        self._polish = None
        if self._solver is not None:
            self._solver.orthogonalise()
            self._solver.take_probe(self._solver.probe[:modes])
            self._modes.begin(self._solver)

    def reset_object(self) -> None:
        """Begin again from the present probe."""
        if self._solver is not None:
            self._begin(self.backend.to_host(self._solver.probe), poor=True)

    def reset_probe(self) -> None:
        """Begin again from a probe that is searched for in the data, as does an engine that is made with these options."""
        self.options = options = self.options.model_copy(update={"probe": "auto"})
        self._start = ProbeStart(self.backend, self.store, options.rule, options.seed, options.search_frames, None, "")
        self._solver = self._polish = None

    def step(self, budget_s: float, clock: Callable[[], float] = time.perf_counter) -> int:
        """Compute for about `budget_s` seconds; returns the number of updates done, 0 when there is nothing to do."""
        done = 0
        end = clock() + budget_s
        while self.state not in (EngineState.EMPTY, EngineState.DONE):
            done += self.step_slice()
            if clock() >= end:
                break
        return done

    def step_slice(self) -> int:
        """One slice of computing; returns the number of updates done."""
        if self.state in (EngineState.EMPTY, EngineState.DONE):
            return 0
        if not self._probe_is_due():
            return self._refine_slice()
        self._turn = (self._turn + 1) % 4
        # a picture that may be right goes on getting better while its probe is looked at
        refine = self._turn < self._start.share and self._solver is not None and not self._polish_ended
        return self._refine_slice() if refine else self._probe_slice()

    def _probe_slice(self) -> int:
        """A slice of a check of the probe, or of a search; begin again if there is a better one."""
        done, better = self._start.step(
            self._solver, self.options.slice_updates, finished=self.finished, polished=self._polish_ended
        )
        if better is not None:
            self._begin(better, poor=True)
        return done

    def _refine_slice(self) -> int:
        rescaled = self._start.rescale(self._solver) if self._solver else None
        if rescaled is not None:
            self._begin(rescaled, poor=False)
        solver, options = self._solver, self.options
        if solver is None:
            return 0
        if not self.finished:
            done = self._live.step(solver, self._schedule, self._modes, options.slice_updates)
            self.positions.after(solver, done, live=True)
            return done
        if self._polish is None:
            self._polish = Polish(
                solver, self._schedule, self._modes, self.positions, options.polish, options.lsqml, options.dm,
                self.error_history, options.polish_passes, options.polish_tolerance,
            )  # fmt: skip
        return self._polish.step(options.slice_updates)

    def _begin(self, probe: NDArray[np.complex64], *, poor: bool) -> None:
        """Begin the reconstruction, or begin again, from `probe` with all frames so far."""
        self._solver = Solver(
            self.backend,
            self.store,
            probe[: self.options.modes],
            self.options.rule,
            poor_probe=poor,
            max_pixels=self.options.max_object_pixels,
        )
        self._polish = None
        self._modes.begin(self._solver)
        self.positions.forget(self.store)
        self.store.flux[:] = 1
        self._solver.constrained = self.options.constraints
        if self.options.flux:
            self._solver.flux = FluxEstimate(self._solver)
        if self.options.background:
            self._solver.background_estimate = BackgroundEstimate(self._solver)
        for row in range(len(self.store)):
            self._solver.admit(row)

    # what can be seen

    @property
    def solver(self) -> Solver | None:
        """The reconstruction in work, to look at; None before there is one."""
        return self._solver

    @property
    def position_offsets_px(self) -> NDArray[np.float64]:
        """(n, 2) where the frames were found to stand, less where they were recorded (y, x); 0 where not refined."""
        return self.positions.offsets_px

    @property
    def position_summary(self) -> PositionSummary:
        """How far positions were found to be off."""
        return self.positions.summary

    @property
    def error(self) -> float:
        """Fourier error over the latest visit of each frame; NaN before the first."""
        polished = self._polish.error if self._polish else float("nan")
        return self._solver.error() if self._solver and np.isnan(polished) else polished

    @property
    def probe_note(self) -> str:
        """Where the probe comes from, and how far it is trusted."""
        return self._start.note

    @property
    def trust(self) -> Trust:
        """What prediction says about the probe, and with it about the picture."""
        return self._start.trust

    @property
    def unexplained(self) -> float:
        """The figure behind the trust, see :func:`trust.unexplained`."""
        return self._start.unexplained

    @property
    def mode_powers(self) -> NDArray[np.float64]:
        """(modes,) share of the probe's power in each of the orthogonalised modes, strongest first."""
        return mode_powers(self.backend.to_host(self._solver.probe)) if self._solver else np.ones(1)

    @property
    def algorithm(self) -> str:
        """What was done, truthfully, for the metrics of the result."""
        words = self._polish.words if self._polish else ""
        count = len(self._solver.probe) if self._solver else self.options.modes
        modes = f"{count} mode{'s' if count > 1 else ''}"
        return f"{self.options.rule.name}, rolling, {modes}{'; ' if words else ''}{words}"

    def picture(self) -> Picture | None:
        """The present reconstruction, copied to the host; None before there is one.

        While the first search for a probe runs, this is its leading candidate.
        """
        solver, search = self._solver, self._start.search
        if (solver is None or not solver.updates) and search is not None and search.best is not None:
            solver = search.best.halves[0]
        return picture_of(solver) if solver is not None else None
