"""The rolling engine: frames may be added at any time, and the object gets better in every gap between them.

It owns the frames, the reconstruction and the schedule; it knows no wire, no file and no clock but the one it is given.
With a fixed seed, the same frames and the same number of updates give the same result in one thread of a CPU.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamptycho.options import Options
from streamptycho.solve.backend import Backend, choose_backend
from streamptycho.solve.canvas import BLOCK, surroundings
from streamptycho.solve.cores import MOST_THREADS
from streamptycho.solve.cuda.options import CudaOptions
from streamptycho.solve.positions import PositionRefinement, PositionRefiner, PositionSummary
from streamptycho.solve.probe import ProbeSearch, add_modes
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import RuleOptions, Solver
from streamptycho.solve.store import FrameStore

FIRST_LOOK = 6
"""Frames from which a probe is searched for the first time."""
LAST_LOOK = 192
"""A search with so many frames settles the matter even if it is not certain."""
COVERED_DOSE = 0.05
"""Dose, in units of the probe's maximum, from which a pixel is shown as part of the picture."""
FARTHEST_PX = 1e12
"""Positions beyond it are nonsense, and would overflow."""


class EngineOptions(Options):
    """How the object is reconstructed."""

    backend: Literal["auto", "cpu", "numpy", "cupy"] = "auto"
    """What computes; auto takes a GPU where one works, else compiled CPU code."""
    cuda: CudaOptions = CudaOptions()
    """How a GPU is used."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_THREADS)] = "auto"
    """Threads of the compiled updates; auto: one for each core, four at most. 1 makes the same picture from the same
    frames and number of updates every time, more only up to the order of the updates."""
    fft: Literal["rocket", "fftw", "mkl"] = "rocket"
    """Library of the compiled transforms. FFTW (GPL) and MKL (proprietary) are faster; each needs the extra of its name."""
    probe: Literal["file", "auto"] = "file"
    """Start from the probe that came with the scan where there is one (file), or always find one from the data (auto)."""
    modes: int = Field(1, ge=1, le=8)
    """Mutually incoherent probe modes, for partial coherence and motion during the exposure."""
    rule: RuleOptions = RuleOptions()
    positions: PositionRefinement = PositionRefinement()
    slice_updates: int = Field(50, ge=1)
    """Updates between two looks at the clock and at the stream."""
    search_frames: int = Field(24, ge=8)
    """Frames with which a search for a probe can be certain; again with twice as many while it is not. A first look is
    taken with six, so that a slow scan shows something."""
    polish_passes: int = Field(40, ge=0)
    """Passes over all frames after the last one, at most. Every frame is used once in any case."""
    polish_tolerance: float = Field(0.003, ge=0)
    """Polishing ends when the Fourier error falls by less than this fraction per pass, over five passes; 0: only after
    `polish_passes`."""
    max_object_pixels: int = Field(1 << 26, ge=1 << 16)
    """Largest canvas; frames whose position lies beyond it are not used."""
    seed: int = 0
    """Fixes the order of the updates."""

    def make_backend(self) -> Backend:
        """What computes, as chosen here; raises :class:`BackendError` if it cannot be had."""
        return choose_backend(self.backend, self.threads, self.fft, self.cuda)


class EngineState(StrEnum):
    """What the engine would do with more time."""

    EMPTY = "empty"
    """Nothing, before more frames come."""
    SEARCHING = "searching"
    LIVE = "live"
    POLISHING = "polishing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Picture:
    """Host copies of the reconstruction at one moment."""

    object: NDArray[np.complex64]
    """(ny, nx), cropped to what has been covered; 0 where never illuminated."""
    covered: NDArray[np.bool_]
    probe: NDArray[np.complex64]
    """(modes, ny, nx), strongest first."""
    origin_px: tuple[int, int]
    """Absolute (y, x) object pixel of [0, 0]."""


class RollingEngine:
    """Adds frames, refines in slices, shows the picture at any time.

    Parameters
    ----------
    shape : (ny, nx) of the diffraction patterns.
    probe : (modes, ny, nx) complex64 to start from, or None to search.
    expected : planned number of frames, to reserve memory for.
    """

    def __init__(
        self,
        options: EngineOptions,
        backend: Backend,
        shape: tuple[int, int],
        probe: NDArray[np.complex64] | None = None,
        expected: int | None = None,
    ) -> None:
        self.options = options
        self.backend = backend
        self.store = FrameStore(backend, shape, expected)
        self.positions = PositionRefiner(options.positions, options.seed)
        self.error_history: list[float] = []
        self.finished = False
        if probe is not None and not probe.any():
            probe = None  # a dark beam explains nothing
        self.probe_note = "recorded with the scan" if probe is not None else "not found yet"
        self._given = probe
        self._solver: Solver | None = None
        self._schedule = Schedule(options.seed)
        self._search: ProbeSearch | None = None
        self._search_steps: Iterator[int] = iter(())
        self._turn = 0
        self._promising = False
        self._defocus_px2: float | None = None
        self._look = FIRST_LOOK
        """Frames that the next search uses."""
        self._certain = probe is not None
        self._pass_updates = 0
        self._polished = 0
        self._converged = False
        self._bounds: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def state(self) -> EngineState:
        """What comes next."""
        if not len(self.store):
            return EngineState.DONE if self.finished else EngineState.EMPTY
        if self._search is not None or self._search_is_due():
            return EngineState.SEARCHING
        if not self.finished:
            return EngineState.LIVE if self._solver is not None else EngineState.EMPTY
        enough = self._converged or self._polished >= self.options.polish_passes
        return EngineState.DONE if enough and self.rows_used == len(self.store) else EngineState.POLISHING

    @property
    def updates(self) -> int:
        """Frame updates that shaped the present object."""
        return self._solver.updates if self._solver else 0

    @property
    def rows_used(self) -> int:
        """Frames that shaped the present object."""
        return int(self._solver.rows_used) if self._solver else 0

    def add(self, amplitude: NDArray[np.float32], yx_px: tuple[float, float]) -> int | None:
        """Take a frame on.

        Parameters
        ----------
        amplitude : (ny, nx) float32, square root of counts, zero frequency at [0, 0], negative where masked.
        yx_px : absolute object pixel under the centre of the probe.

        Returns
        -------
        The frame's row for :meth:`replace`, or None if its position exceeds the largest canvas.
        """
        if not np.abs(yx_px).max() < FARTHEST_PX:
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
        elif self._given is not None:
            self._start(self._scaled(self._given), poor=False)
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
        self._pass_updates = 0
        self._schedule.restart()

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
        if self.state is EngineState.SEARCHING:
            # a picture that may be right goes on getting better while its probe is looked at again
            self._turn = (self._turn + 1) % 4
            return self._refine_slice() if self._turn == 0 and self._promising else self._search_slice()
        if self.state is EngineState.LIVE or self.state is EngineState.POLISHING:
            return self._refine_slice()
        return 0

    def _refine_slice(self) -> int:
        if self._solver is None:
            return 0
        frames = len(self.store)
        count = min(self.options.slice_updates, max(frames - self._pass_updates, 1))
        visits, corners = self._solver.visits[:frames], self.store.corners[:frames]
        self._solver.sweep(self._schedule.draw(visits, corners, count, live=not self.finished))
        self.positions.after(self._solver, count, live=not self.finished)
        self._pass_updates += count
        if self._pass_updates >= frames:
            self._pass_updates = 0
            self._end_of_pass()
        return count

    def _end_of_pass(self) -> None:
        if self._solver is None:
            return
        self._solver.orthogonalise()
        self.error_history.append(self._solver.error())
        if self.finished:
            self._polished += 1
            self.positions.end_of_pass(self._solver)
            past = self.error_history[-6:]
            tolerance = self.options.polish_tolerance
            if tolerance > 0 and self._polished > 10 and past[0] - past[-1] < 5 * tolerance * past[-1]:
                self._converged = True

    # probe start

    def _search_is_due(self) -> bool:
        return not self._certain and (len(self.store) >= self._look or self.finished)

    def _search_slice(self) -> int:
        """Advance the search by a slice; adopt its winner at the end."""
        if self._search is None:
            self._search = ProbeSearch(self.backend, self.store, self.options.rule, self.options.seed, self._look)
            self._search_steps = self._search.run()
        done = 0
        for updates in self._search_steps:
            done += updates
            if done >= self.options.slice_updates:
                return done
        self._adopt(self._search)
        self._search = None
        return done

    def _adopt(self, search: ProbeSearch) -> None:
        best = search.best
        enough = search.limit >= self.options.search_frames
        nothing_to_add = search.limit >= LAST_LOOK or (self.finished and search.frames == len(self.store))
        self._certain = nothing_to_add or (enough and search.confident)
        self._promising = search.confident
        self._look = 2 * self._look if enough else self.options.search_frames
        if best is None:
            return
        word = "" if enough and search.confident else ", not certain"
        self.probe_note = f"from the data, defocus {best.defocus_px2:.0f} px^2{word}"
        confirmed = self._defocus_px2 is not None and 0.6 < best.defocus_px2 / self._defocus_px2 < 1.7
        if not confirmed:  # else what has been reconstructed from it so far goes on
            self._defocus_px2 = best.defocus_px2
            self._start(self.backend.to_host(best.halves[0].probe), poor=True)

    def _start(self, probe: NDArray[np.complex64], *, poor: bool) -> None:
        """Begin the reconstruction, or begin again, from `probe` with all frames so far."""
        if probe.shape[0] != self.options.modes:
            probe = add_modes(probe, self.options.modes)
        self._solver = Solver(
            self.backend,
            self.store,
            probe,
            self.options.rule,
            poor_probe=poor,
            max_pixels=self.options.max_object_pixels,
        )
        for row in range(len(self.store)):
            self._solver.admit(row)

    def _scaled(self, probe: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """A given probe brought to the power of the first frame: programs differ in their Fourier convention."""
        power = float((abs(probe.astype(np.complex128)) ** 2).sum())
        counts = float(self.store.power[0])
        if power <= 0 or counts <= 0:
            return probe
        scaled: NDArray[np.complex64] = (probe * np.sqrt(counts / power)).astype(np.complex64)
        return scaled

    # what can be seen

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
        return self._solver.error() if self._solver else float("nan")

    @property
    def algorithm(self) -> str:
        """What was done, truthfully, for the metrics of the result."""
        return f"{self.options.rule.name}, rolling, {self.options.modes} mode{'s' if self.options.modes > 1 else ''}"

    def picture(self) -> Picture | None:
        """The present reconstruction, copied to the host; None before there is one.

        While the first search for a probe runs, this is its leading candidate.
        """
        solver = self._solver
        if (solver is None or not solver.updates) and self._search is not None and self._search.best is not None:
            solver = self._search.best.halves[0]
        if solver is None or not solver.updates:
            return None
        canvas = solver.canvas
        box = canvas.reached(COVERED_DOSE)
        if box is None:
            return None
        covered = self.backend.to_host(canvas.dose[box] > COVERED_DOSE)
        ys, xs = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        if not len(ys):
            return None
        top, left = int(ys[0]), int(xs[0])
        covered = covered[top : ys[-1] + 1, left : xs[-1] + 1]
        top, left = top + box[0].start, left + box[1].start
        obj = self.backend.to_host(canvas.object[top : top + covered.shape[0], left : left + covered.shape[1]])
        obj[~covered] = 0
        return Picture(
            object=obj,
            covered=covered,
            probe=self.backend.to_host(solver.probe),
            origin_px=(top + canvas.origin[0], left + canvas.origin[1]),
        )
