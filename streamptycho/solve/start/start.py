"""The probe that a reconstruction starts from, and its continual validation.

A probe comes with the scan, from the previous scan, or from a search in the data. In each case it is checked by prediction
when enough frames are there, again at bounded intervals, at the end of the scan, and once more after polishing if it is not
trusted by then. A failed check calls for a search, and a winner that predicts clearly better replaces the probe.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import block_mean
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.start.search import ProbeSearch
from streamptycho.solve.start.trust import CHECK_FRAMES, CONFIDENT, HOPELESS, Check, Trust, trust_in, unexplained
from streamptycho.solve.store import FrameStore

FIRST_LOOK = 6
LAST_LOOK = 192
"""Frames of a search that is final even if it is not certain."""
CLEARLY_BETTER = 0.75
"""Fraction of what the present probe leaves unexplained, below which a rival replaces it."""
SCALING_FRAMES = 32
"""Frames whose median power sets the scale of a given probe."""
SCALE_TOLERANCE = 0.15
"""Relative error of that scale that is left alone: the object takes it up."""
LARGEST_DRIFT = 1.3
"""Factor by which the amplitude of a probe may differ from that of its frames."""
KNOWN_DOSE = 0.05
"""Dose from which a pixel of the object takes up all of a change of scale."""
DOUBT_FRAMES = 32
"""Frames, at most, of a search that a check has called for: about 1600 updates."""
FORMED_VISITS = 5
"""Updates per frame before the check at the end of a scan: a young picture predicts badly whatever its probe."""
NEVER = 1 << 62
DOUBTFUL = 0.75
"""Part left unexplained that calls for no search while there are few frames: a picture that is still forming."""


class ProbeStart:
    """Decides what to compute about the probe; hands probes (modes, ny, nx) to start from to the engine.

    `origin` says where the present one comes from, empty before there is one; `trust` what prediction says about it, from
    `unexplained`, inf while there is none (see :func:`trust.unexplained`).
    """

    def __init__(
        self, store: FrameStore, options: EngineOptions, given: NDArray[np.complex64] | None = None, origin: str = ""
    ) -> None:
        self.given = given if given is not None and given.any() else None  # a dark beam explains nothing
        self.origin = origin if self.given is not None else ""
        self.trust = Trust.UNCERTAIN
        self.unexplained = float("inf")
        self.search: ProbeSearch | None = None
        self._backend, self._store = store.backend, store
        self._rule, self._seed, self._search_frames = options.rule, options.seed, options.search_frames
        self._steps: Iterator[int] = iter(())
        self._check: Check | None = None
        self._settled = self.given is not None
        """True if no search is called for before the next check."""
        self._look = FIRST_LOOK
        """Frames that the next search uses."""
        self._next_check = 2 * self._search_frames
        self._defocus_px2: float | None = None
        self._doubted = False
        """True if a check has called for the search."""
        self._last_frames = 0
        """Frames at the latest check."""
        self._hopeless = False
        """True if the latest search found overlap enough, and no probe that explains the frames."""
        self._was_wrong = False
        """True if a check has found the probe wrong that the object was begun with."""
        self._closed = False
        self._scaled_by = 0
        """Frames whose median power has set the scale."""
        self._power = 0.0
        """Counts per frame that the given probe has been scaled to."""

    @classmethod
    def settled(cls, store: FrameStore, options: EngineOptions, origin: str) -> "ProbeStart":
        """For a reconstruction that has its probe: it is checked, and searched for only if that fails."""
        start = cls(store, options)
        start.origin, start._settled = origin, True
        return start

    @property
    def note(self) -> str:
        """Where the present probe comes from and how far it is trusted, in words."""
        if not self.origin:
            return "not found yet"
        if self.trust is Trust.FAILED:
            return f"{self.origin}, FAILED: it explains the frames no better than their mean does"
        if self.trust is Trust.CONFIDENT or (self.given is not None and not self._last_frames):
            return self.origin
        return f"{self.origin}, not certain"

    # what is due

    def search_due(self, finished: bool) -> bool:
        """True if a search should begin or go on."""
        return self.search is not None or (not self._settled and (len(self._store) >= self._look or finished))

    def due(self, solver: Solver | None, *, finished: bool, polished: bool) -> bool:
        """True if there is something to compute about the probe; `polished`: nothing is left to refine."""
        if self._check is not None or self.search_due(finished):
            return True
        if solver is None or not solver.updates or self._closed:
            return False
        if not finished:
            return len(self._store) >= self._next_check
        # at the end, unless it was settled with nearly as many frames; and after polishing unless it is trusted by then
        if not polished and solver.updates < FORMED_VISITS * len(self._store):
            return False
        again = self._last_frames < 0.75 * min(len(self._store), 4 * CHECK_FRAMES)
        return again or (polished and self.trust is not Trust.CONFIDENT)

    @property
    def share(self) -> int:
        """Slices of four that go on refining meanwhile: a picture that may be right should go on improving."""
        if self.search is None:
            return 2
        return 1 if self._defocus_px2 is not None or self.unexplained > HOPELESS else 2

    def step(
        self, solver: Solver | None, updates: int, *, finished: bool, polished: bool
    ) -> tuple[int, NDArray[np.complex64] | None]:
        """Advance by about `updates`; returns those done, and a probe to begin again from if there is a better one."""
        if self._check is None and self.search is None:
            self._begin(solver)
        done = 0
        for some in self._steps:
            done += some
            if done >= updates:
                return done, None
        if self._check is not None:
            check, self._check = self._check, None
            return done, self._judge(check, solver, finished, polished)
        return done, self._adopt(finished, solver is not None)

    def _begin(self, solver: Solver | None) -> None:
        if not self._settled or solver is None:
            present = None
            if self._doubted and solver is not None:  # as it was given: long fitted to few frames, it predicts worse
                present = self.scaled(self.given) if self.given is not None else self._backend.to_host(solver.probe)
            self.search = ProbeSearch(self._store, self._rule, self._seed, self._look, present)
            self._steps = self.search.run()
            return
        self._check = Check(self._store, self._backend.to_host(solver.probe), self._rule, self._seed)
        self._steps = self._check.run()

    # verdicts

    def _judge(self, check: Check, solver: Solver | None, finished: bool, polished: bool) -> NDArray[np.complex64] | None:
        """Conclude from a check when to check again, or to search.

        A probe that was wrong and has converged while the frames were fitted leaves behind an object that has not: the
        reconstruction begins again from the probe that is returned.
        """
        first, frames = not self._last_frames, len(self._store)
        self._last_frames = frames
        self.unexplained = check.unexplained
        self.trust = trust_in(check.unexplained)
        if np.isinf(check.unexplained) and self._hopeless:
            self.trust = Trust.FAILED  # by the latest search, and nothing has contradicted it since
        self._closed = polished
        settled = self.trust is Trust.CONFIDENT and frames >= LAST_LOOK
        factor = 4 if self.trust is Trust.CONFIDENT else 2
        self._next_check = NEVER if settled else factor * max(frames, self._search_frames)
        # NaN: the patterns hardly differ, and a search would learn nothing either
        enough = frames >= self._search_frames and not np.isnan(check.unexplained)
        limit = HOPELESS if first else DOUBTFUL  # a start that is a little off often converges until the next check
        if finished:
            limit = CONFIDENT if frames >= LAST_LOOK else DOUBTFUL
        bad = not check.unexplained < limit
        if enough and bad and not polished:
            self._doubted, self._settled = True, False
            self._look = max(self._search_frames, min(frames, DOUBT_FRAMES))
        if solver is not None and self.trust is not Trust.CONFIDENT:
            solver.poor_probe = True  # which may change faster
        recovered = self.trust is Trust.CONFIDENT and self._was_wrong
        self._was_wrong = (self._was_wrong or not check.unexplained < DOUBTFUL) and not recovered
        return self._backend.to_host(solver.probe) if recovered and solver is not None else None

    def _adopt(self, finished: bool, present: bool) -> NDArray[np.complex64] | None:
        """End a search; returns its winner if it is better than the probe in use, where one is `present`."""
        search, self.search = self.search, None
        doubted, self._doubted = self._doubted, False
        if search is None or search.best is None:
            return None
        best, rate = search.best, unexplained(search.best)
        certain = search.limit >= self._search_frames and search.confident
        self._hopeless = search.limit >= self._search_frames and bool(HOPELESS < rate < np.inf)
        self._plan(search, settled=doubted or certain, finished=finished)
        there = self.unexplained
        if search.present is not None:
            there = float(np.fmin(there, unexplained(search.present)))
        if doubted and present and not (rate < min(CLEARLY_BETTER * there, HOPELESS)):
            if np.isfinite(rate) and not np.isfinite(self.unexplained):
                self.trust = Trust.FAILED  # the frames overlap, but neither this probe nor any other explains them
            return None
        self.unexplained = rate
        self.trust = Trust.UNCERTAIN  # after a first search in any case
        if certain and rate < DOUBTFUL:  # the clear contest counts as well
            self.trust = Trust.CONFIDENT
        elif search.limit >= self._search_frames and trust_in(rate) is Trust.FAILED:
            self.trust = Trust.FAILED
        # a reconstruction whose probe is only confirmed goes on
        confirmed = self._defocus_px2 is not None and 0.6 < best.defocus_px2 / self._defocus_px2 < 1.7
        self.origin = f"from the data, defocus {best.defocus_px2:.0f} px^2"
        if confirmed and present and not doubted:
            return None
        self._defocus_px2 = best.defocus_px2
        self._was_wrong = False
        self.given = None
        winner: NDArray[np.complex64] = self._backend.to_host(best.halves[0].probe)
        return winner

    def _plan(self, search: ProbeSearch, *, settled: bool, finished: bool) -> None:
        enough = search.limit >= self._search_frames
        nothing_to_add = search.limit >= LAST_LOOK or (finished and search.frames == len(self._store))
        self._settled = settled or nothing_to_add
        self._look = 2 * self._look if enough else self._search_frames
        self._next_check = 2 * max(len(self._store), self._search_frames)

    # scale

    def scaled(self, probe: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """`probe` with the power of the frames so far: programs differ in their Fourier convention."""
        power = float((abs(probe.astype(np.complex128)) ** 2).sum())
        self._power = float(np.median(self._store.power[: min(len(self._store), SCALING_FRAMES)]))
        if power <= 0 or self._power <= 0:
            return probe
        scaled: NDArray[np.complex64] = (probe * np.sqrt(self._power / power)).astype(np.complex64)
        return scaled

    def rescale(self, solver: Solver) -> NDArray[np.complex64] | None:
        """Follow the median power of the early frames; at the first the shutter may still have been opening.

        Returns the probe to begin again from if the scale was far off, which loses little after few frames. Their power
        still drifts between object and probe; that is undone once there are enough of them.
        """
        frames = min(len(self._store), SCALING_FRAMES)
        if self.given is None or self._scaled_by >= frames:
            return None
        self._scaled_by = frames if solver.updates else 0
        power = float(np.median(self._store.power[:frames]))
        off = float(np.sqrt(power / self._power)) if self._power > 0 else 1.0
        if power > 0 and abs(off - 1) > SCALE_TOLERANCE:
            return self.scaled(self.given)
        if frames == SCALING_FRAMES:
            balance(solver, power)
        return None


def balance(solver: Solver, power: float) -> None:
    """Move scale between object and probe if the probe is far from `power`; the exit waves stay the same."""
    factor = float(np.sqrt(power / max(float((abs(solver.probe) ** 2).sum()), 1e-30)))
    if power <= 0 or 1 / LARGEST_DRIFT < factor < LARGEST_DRIFT:
        return
    solver.probe *= np.float32(factor)
    known = solver.backend.xp.clip(solver.canvas.dose / KNOWN_DOSE, 0, 1)
    gain = 1 + known * np.float32(1 / factor - 1)
    solver.canvas.object *= gain
    solver.canvas.cell_object *= block_mean(gain)
