"""The rolling engine: frames may be added at any time, and the object gets better in every gap between them.

It owns the frames, the reconstruction and the schedule, and knows no wire, no file and no clock but the one passed to it.
With a fixed seed, the same frames and the same number of updates give the same result in one thread of a CPU.
"""

import time
from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import Backend
from streamptycho.solve.earlier import Earlier
from streamptycho.solve.equations.constraints import centred
from streamptycho.solve.estimates.background import BackgroundEstimate
from streamptycho.solve.estimates.flux import FluxEstimate
from streamptycho.solve.estimates.modes import ModeGrowth, mode_powers
from streamptycho.solve.estimates.positions import PositionRefiner
from streamptycho.solve.extent import Extent
from streamptycho.solve.live import LivePasses
from streamptycho.solve.picture import Picture, picture_of
from streamptycho.solve.polish.polish import Polish
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.start.start import ProbeStart
from streamptycho.solve.start.trust import Trust
from streamptycho.solve.store import FrameStore

FARTHEST_PX = 1e12
"""Largest coordinate of a position; beyond it pixel numbers would overflow."""


class EngineState(StrEnum):
    """What the engine would do with more time."""

    EMPTY = "empty"
    """Nothing, before more frames come."""
    SEARCHING = "searching"
    LIVE = "live"
    POLISHING = "polishing"
    DONE = "done"


class RollingEngine:
    """Adds frames with patterns of `shape` (ny, nx), refines in slices, shows the picture at any time.

    It starts from `probe` (modes, ny, nx) complex64, which `origin` describes, or searches for one; memory is reserved for
    `expected` frames.
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
        self._start = ProbeStart(self.store, options, probe, origin)
        self._modes = ModeGrowth(options.modes, options.seed)
        self._extent = Extent(shape, options.max_object_pixels)
        self._earlier: Earlier | None = None
        self._solver: Solver | None = None
        self._schedule = Schedule(options.seed)
        self._turn = 0
        self._live = LivePasses(self._schedule, self.error_history)
        self._polish: Polish | None = None

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

    # frames

    def add(self, amplitude: NDArray[np.float32], yx_px: tuple[float, float]) -> int | None:
        """Add a frame at the absolute object pixel `yx_px` under the centre of the probe.

        `amplitude` (ny, nx) float32, square root of counts, zero frequency at [0, 0], negative where masked. Returns the row
        for :meth:`replace`, or None if the position exceeds the largest canvas, or after :meth:`finish`.
        """
        if self.finished or not np.abs(yx_px).max() < FARTHEST_PX:
            return None
        shape = self.store.shape
        y, x = self.positions.expected(yx_px)
        corner = (round(y) - shape[0] // 2, round(x) - shape[1] // 2)
        if not self._extent.take(corner):
            return None
        row = self.store.append(amplitude, corner)
        self.positions.add(row, yx_px)
        if self._solver is None and self._earlier is not None:
            self._earlier.begin(self._begin(self._earlier.picture.probe, poor=False))
        elif self._solver is not None:
            self._solver.admit(row)
        elif self._start.given is not None:
            self._begin(self._start.scaled(self._start.given), poor=False)
        if self._solver is not None and self._earlier is not None:
            self._earlier.admitted(self._solver, row)
        return row

    def replace(self, row: int, amplitude: NDArray[np.float32]) -> None:
        """Exchange the amplitudes of an earlier frame."""
        self.store.replace(row, amplitude)

    def resume(self, earlier: Earlier) -> None:
        """Before the first frame: go on from a picture whose frames come again."""
        self._earlier = earlier
        self._start = ProbeStart.settled(self.store, self.options, "from the picture before the restart")

    def finish(self) -> None:
        """No more frames will come: polish from now on, in whole passes over all of them."""
        self.finished = True
        self._schedule.restart()

    # runtime controls

    def stop(self) -> None:
        """Take no more frames; end after the present pass, or after one over all of them."""
        if not self.finished:
            self.finish()
        self.set_passes(self._polish.passes if self._polish else min(1, self.options.polish_passes))

    def set_passes(self, passes: int) -> None:
        """Exactly `passes` after the last frame; if there have been as many, end after the present one."""
        self.options = self.options.model_copy(update={"polish_passes": passes, "polish_tolerance": 0.0})
        if self._polish is not None:
            self._polish.limit_to(passes)

    def set_modes(self, modes: int) -> None:
        """Go on with this number of probe modes: the strongest stay, or more are added."""
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
        """Begin again from a probe that is searched for in the data."""
        self.options = self.options.model_copy(update={"probe": "auto"})
        self._start = ProbeStart(self.store, self.options)
        self._solver = self._polish = self._earlier = None

    # computing

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
        # a picture that may be right goes on improving while its probe is checked
        refine = self._turn < self._start.share and self._solver is not None and not self._polish_ended
        return self._refine_slice() if refine else self._probe_slice()

    @property
    def _polish_ended(self) -> bool:
        enough = self.options.polish_passes == 0 or (self._polish is not None and self._polish.done)
        return self.finished and enough and self.rows_used == len(self.store)

    def _probe_is_due(self) -> bool:
        return self._start.due(self._solver, finished=self.finished, polished=self._polish_ended)

    def _probe_slice(self) -> int:
        """A slice of a check of the probe, or of a search; begins again if that finds a better one."""
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
            done = self._live.step(solver, self._modes, options.slice_updates)
            self.positions.after(solver, done, live=True)
            return done
        if self._polish is None:
            self._polish = Polish(solver, self._schedule, self._modes, self.positions, options, self.error_history)
        return self._polish.step(options.slice_updates)

    def _begin(self, probe: NDArray[np.complex64], *, poor: bool) -> Solver:
        self._solver = solver = Solver(
            self.backend,
            self.store,
            probe[: self.options.modes],
            self.options.rule,
            poor_probe=poor,
            max_pixels=self.options.max_object_pixels,
        )
        self._polish = None
        self._modes.begin(solver)
        self.positions.forget(self.store)
        self.store.flux[:] = 1
        solver.constrained = self.options.constraints
        if self.options.flux:
            solver.estimates.append(FluxEstimate(solver))
        if self.options.background:
            solver.estimates.append(BackgroundEstimate(solver))
        for row in range(len(self.store)):
            solver.admit(row)
        return solver

    # results

    @property
    def solver(self) -> Solver | None:
        """The present reconstruction, to be read only; None before there is one."""
        return self._solver

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

    @property
    def error(self) -> float:
        """Fourier error over the latest visit of each frame; NaN before the first."""
        polished = self._polish.error if self._polish else float("nan")
        return self._solver.error() if self._solver and np.isnan(polished) else polished

    @property
    def flux(self) -> NDArray[np.float32] | None:
        """(n,) intensity of each frame relative to the usual one, in the order of the rows; None where not estimated."""
        if not self.options.flux:
            return None
        intensity: NDArray[np.float32] = self.backend.to_host(self.store.flux[: len(self.store)]) ** 2
        return intensity

    @property
    def background(self) -> NDArray[np.float32] | None:
        """(ny, nx) incoherent counts per pixel, zero frequency at [ny // 2, nx // 2]; None where not estimated yet."""
        if self._solver is None or not self._solver.background.size:
            return None
        return np.fft.fftshift(self.backend.to_host(self._solver.background))

    @property
    def mode_powers(self) -> NDArray[np.float64]:
        """(modes,) share of the probe's power in each of the orthogonalised modes, strongest first."""
        return mode_powers(self.backend.to_host(self._solver.probe)) if self._solver else np.ones(1)

    @property
    def probe_origin(self) -> str:
        """Where the present probe comes from; empty before there is one."""
        return self._start.origin

    @property
    def probe_note(self) -> str:
        """Where the probe comes from and how far it is trusted, in words."""
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
    def algorithm(self) -> str:
        """The methods used, for the result."""
        words = self._polish.words if self._polish else ""
        count = len(self._solver.probe) if self._solver else self.options.modes
        modes = f"{count} mode{'s' if count > 1 else ''}"
        return f"{self.options.rule.name}, rolling, {modes}{'; ' if words else ''}{words}"

    def picture(self) -> Picture | None:
        """Host copy of the reconstruction, or of the first search's leading candidate; None before there is either."""
        solver, search = self._solver, self._start.search
        if (solver is None or not solver.updates) and search is not None and search.best is not None:
            solver = search.best.halves[0]
        return picture_of(solver) if solver is not None else None
