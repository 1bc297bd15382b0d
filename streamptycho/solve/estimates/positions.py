"""Position refinement: where each frame's window really stands, while frames arrive and after the last one.

Each refinement of a frame combines the derivative of its misfit with the recorded position plus a slow drift, within the
usual spread of jitter. The drift is a low-pass of the offsets in order of arrival; new frames start from it, so that a drift
is followed and not, as by shifts alone, diffused away. Frames from before the drift was detected are moved, with the object,
to where it came from. After the last frame, frames that fit badly try other places, and offsets that whole neighbourhoods
share and no drift explains are taken back together with the object: only the object's boundaries would ever oppose them.

Offsets are floats; windows stand on whole pixels and move when their rounded position does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from streamptycho.solve.estimates.positions_field import level, local_mean, path_before, shortened
from streamptycho.solve.estimates.positions_steps import beam_width, better_places, centres, ready, tangent_step
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import PositionRefinement
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore

BATCH = 16
"""Frames refined together."""
RECENT = 100
"""Frames that count as the newest."""
SETTLED_UPDATES = 2000
"""Updates before which a shift cannot be told from errors of object and probe."""
SETTLED_FRAMES = 250
"""Frames, while more arrive, before which the picture is mostly edge, which pulls frames inwards or outwards."""
QUIET_LOOKS, BUSY_LOOKS = 1.6, 4.0
"""Refinements per new frame, at most, while frames arrive, on any computer: only the frames themselves hold an offset that
many share, and errors of the model increase it with each refinement."""
GAIN = 0.7
LEAST_SPREAD_PX = 0.3
"""Spread assumed at least: what rounding to whole pixels leaves."""
JITTER_PX = 0.35
"""Spread per axis from which positions are refined thoroughly; below it whole pixels cannot show it."""
DRIFT_PX = 0.15
"""The same for the drift of frames since refinement began: of those before it is mostly errors of the model."""
LARGEST_JITTER = 3.0
"""Bound of an offset from the drift, in units of the spread."""
SMOOTH_EVERY = 100
"""Refined frames between two estimates of drift and spread."""
TRIED = 0.12
"""Part of the frames, those that fit worst, that try other places after each pass."""
LOOK_BACK = 200
"""Frames followed along a drift before its origin is estimated; after the last frame, half as many."""
LOOK_AGAIN = 1.5
"""Factor by which they must have grown for the next estimate."""
LEVEL_PASSES = 20
"""Passes after the last frame during which common offsets are taken back and the object is kept easy to change."""
FRESH_VISITS = 2
"""Visits of a frame that are counted meanwhile, at most."""


@dataclass(frozen=True, slots=True)
class PositionSummary:
    """Size of the offsets found."""

    shift_px: float
    """Offsets about their mean, rms over frames, both axes together; 0 before any was refined."""
    drift_px: float
    """The part of it that varies slowly with the arrival."""


class PositionRefiner:
    """Offsets of the frames of one engine, in order of arrival."""

    def __init__(self, options: PositionRefinement, seed: int) -> None:
        self.options = options
        self.recorded = np.zeros((0, 2))
        """(capacity, 2) absolute object pixel under the centre of the probe, as recorded."""
        self.offsets = np.zeros((0, 2))
        self.drift = np.zeros((0, 2))
        self.seen = np.zeros(0, np.int64)
        """Times each frame was refined."""
        self.spread_px = 1.0
        """Jitter about the drift, per axis."""
        self._n = 0
        self._next_drift = np.zeros(2)
        self._schedule = Schedule(seed + 1)
        self._random = np.random.default_rng(seed + 1)
        self._due = 0.0
        self._allowed = 0.0
        """Refinements granted by new frames and not done yet."""
        self._counted = 0
        """Frames that have granted theirs."""
        self._begun: int | None = None
        """Frames there were when refinement began; later ones started with the drift."""
        self._since = 0
        self._passes = 0
        self._followed: int | None = None
        """Frames there were when positions were first found to be wrong."""
        self._looked_back = 0
        """Frames followed at the latest estimate of where the drift came from."""

    # frames

    def expected(self, yx_px: tuple[float, float]) -> tuple[float, float]:
        """Where a new frame probably stands: as recorded, plus the present drift."""
        return yx_px[0] + float(self._next_drift[0]), yx_px[1] + float(self._next_drift[1])

    def add(self, row: int, yx_px: tuple[float, float]) -> None:
        """Note a frame's recorded position."""
        if row >= len(self.seen):
            more = max(64, row)
            tables = (self.recorded, self.offsets, self.drift)
            self.recorded, self.offsets, self.drift = (np.pad(table, ((0, more), (0, 0))) for table in tables)
            self.seen = np.pad(self.seen, (0, more))
        self.recorded[row] = yx_px
        self.offsets[row] = self.drift[row] = self._next_drift
        self._n = row + 1

    # findings

    @property
    def offsets_px(self) -> NDArray[np.float64]:
        """(n, 2) refined less recorded positions (y, x), in the order of the rows; 0 where not refined."""
        return self.offsets[: self._n].copy()

    @property
    def summary(self) -> PositionSummary:
        """Rms of the offsets and of their slow part."""
        known = self.seen[: self._n] > 0
        if not known.any():
            return PositionSummary(0.0, 0.0)
        parts = (a[: self._n][known] for a in (self.offsets, self.drift))
        shift, drift = (float(np.sqrt(((a - a.mean(0)) ** 2).sum(1).mean())) for a in parts)
        return PositionSummary(shift, drift)

    @property
    def busy(self) -> bool:
        """True if positions are refined thoroughly."""
        return self.options.refine == "on" or self._wrong()

    def _wrong(self) -> bool:
        known = self.seen[: self._n] > 0
        if known.sum() < SMOOTH_EVERY:
            return False
        followed = self.drift[self._begun : self._n]
        drift_px = np.sqrt(followed.var(0).mean()) if len(followed) else 0.0
        return bool(self.spread_px > JITTER_PX or drift_px > DRIFT_PX)

    # refinement

    def after(self, solver: Solver, updates: int, *, live: bool) -> None:
        """Refine what is due after `updates` more of `solver`."""
        settled = solver.updates >= SETTLED_UPDATES and (self._n >= SETTLED_FRAMES or not live)
        if self.options.refine == "off" or not settled:
            return
        if self._begun is None:
            self._begun = self._n
            self._counted = max(0, self._n - RECENT)
        due = updates * ((self.options.busy_share if live else 1.0) if self.busy else self.options.share)
        if live:
            looks = BUSY_LOOKS if self.busy else QUIET_LOOKS
            self._allowed = min(self._allowed + looks * (self._n - self._counted), looks * RECENT)  # a pause grants none
            self._counted = self._n
            due = min(due, self._allowed)
            self._allowed -= due
        if live or self.busy or self.seen[: self._n].sum() < QUIET_LOOKS * self._n:
            self._due += due
        while self._due >= BATCH:
            self._due -= BATCH
            self.refine(solver, self._next_rows(solver, live=live))
        if live and self.busy:
            self._look_back(solver, LOOK_BACK)

    def _next_rows(self, solver: Solver, *, live: bool) -> NDArray[np.int64]:
        """The newest frames while more arrive, since the next ones take over their drift; all in passes afterwards, and for
        half of a batch if positions are wrong.
        """
        newest = 0 if not live else BATCH // 2 if self.busy else BATCH
        recent = self._n - 1 - self._random.integers(0, min(RECENT, self._n), newest)
        visits, corners = solver.visits[: self._n], solver.store.corners[: self._n]
        return np.unique(np.concatenate([recent, self._schedule.draw(visits, corners, BATCH - newest, live=False)]))

    def refine(self, solver: Solver, rows: NDArray[np.int64]) -> None:
        """One step of the offsets of those of `rows` whose surroundings are known."""
        rows = rows[ready(solver, rows)]
        if not len(rows):
            return
        at, recorded = centres(solver, rows), self.recorded[rows]
        step = tangent_step(solver, rows, recorded + self.drift[rows], self.spread_px)
        self.offsets[rows] += GAIN * (at + step - recorded - self.offsets[rows])
        self._bound(solver, rows)
        self.seen[rows] += 1
        self._move(solver, rows)
        self._since += len(rows)
        if self._since >= SMOOTH_EVERY:
            self._smooth()

    def forget(self, store: FrameStore) -> None:
        """Back to the recorded positions, for a reconstruction that begins again."""
        for known in (self.offsets, self.drift, self.seen, self._next_drift):
            known[...] = 0
        self.spread_px, self._due, self._allowed, self._since, self._passes = 1.0, 0.0, 0.0, 0, 0
        self._begun, self._followed, self._looked_back = None, None, 0
        store.corners[: self._n] = np.rint(self.recorded[: self._n]).astype(np.int64) - np.array(store.shape) // 2

    def end_of_pass(self, solver: Solver) -> bool:
        """After a pass over all frames without new ones: other places for the worst, and common offsets taken back.

        Returns True if windows may have moved.
        """
        if self.options.refine == "off" or solver.updates < SETTLED_UPDATES or not self.busy:
            return False
        self._passes += 1
        self._look_back(solver, LOOK_BACK // 2)
        self._try_elsewhere(solver)
        if self.spread_px > JITTER_PX and self._passes <= LEVEL_PASSES:
            # settled frames no longer change the smooth phase, part of which was learnt from windows in wrong places
            visits = solver.visits[: self._n]
            np.minimum(visits, FRESH_VISITS, out=visits)
        if self._passes % 2 and self._passes <= LEVEL_PASSES:
            residual = np.clip((self.offsets - self.drift)[: self._n], -2 * self.spread_px, 2 * self.spread_px)
            self.offsets[: self._n] -= self._leveled(solver, residual)
            self._move(solver, self._all)
        return True

    def _look_back(self, solver: Solver, enough: int) -> None:
        """Once a drift has been followed over `enough` frames: move those before to where it came from, with the object.

        They were used where they were recorded, the object is sheared to match, and later frames would hardly reveal it.
        """
        if self._followed is None:
            self._followed = self._n
        first, last = self._followed, min(self._followed + 2 * LOOK_BACK, self._n)
        if not first or last - first < max(enough, LOOK_AGAIN * self._looked_back):
            return
        self._looked_back = last - first
        path = path_before(self.offsets[first:last], self.seen[first:last] > 0, first)
        if path is None or np.sqrt(((path - self.drift[:first]) ** 2).mean()) < DRIFT_PX:
            return
        begun = min(self._begun or 0, first - 1)
        if ((path[-1] - path[begun]) * (self.drift[first - 1] - self.drift[begun])).sum() < 0:
            return  # it has turned: the drift before, as far as it was estimated, is not on the line
        old = self.offsets[: self._n].copy()
        self.offsets[:first] += path - self.drift[:first]
        self.drift[:first] = path
        self._bound(solver, self._all)
        self._leveled(solver, old - self.offsets[: self._n])
        self._move(solver, self._all)
        np.minimum(solver.visits[:first], FRESH_VISITS, out=solver.visits[:first])

    @property
    def _all(self) -> NDArray[np.int64]:
        return np.arange(self._n)

    def _leveled(self, solver: Solver, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Move the object by the local mean of `offsets` (n, 2), negative; returns that mean at the frames, (n, 2)."""
        canvas, backend, at = solver.canvas, solver.backend, centres(solver, self._all)
        return level(canvas, backend, at, local_mean(canvas, backend, at, offsets, beam_width(solver) / 2))

    def _try_elsewhere(self, solver: Solver) -> None:
        rows = solver.worst(max(1, int(TRIED * self._n)))
        rows = rows[ready(solver, rows)]
        if not len(rows):
            return
        old = solver.store.corners[rows].copy()
        expected = self.recorded[rows] + self.drift[rows] - np.array(solver.store.shape) // 2
        best = better_places(solver, rows, expected, self.spread_px, self._random)
        moved = (best != old).any(1)
        self.offsets[rows[moved]] += (best - old)[moved]
        self._bound(solver, rows[moved])
        self._move(solver, rows[moved])

    def _bound(self, solver: Solver, rows: NDArray[np.int64]) -> None:
        jitter = shortened(self.offsets[rows] - self.drift[rows], LARGEST_JITTER * self.spread_px)
        longest = self.options.max_shift_px or beam_width(solver) / 5
        self.offsets[rows] = shortened(self.drift[rows] + jitter, longest)

    def _move(self, solver: Solver, rows: NDArray[np.int64]) -> None:
        half = np.array(solver.store.shape) // 2
        solver.move(rows, np.rint(self.recorded[rows] + self.offsets[rows]).astype(np.int64) - half)

    def _smooth(self) -> None:
        """Drift and spread from the offsets; of a long scan only the recent part, the rest no longer changes quickly."""
        self._since = 0
        # jitter leaves spread / sqrt(3.5 width) in the mean, from which new frames start: a random walk over the scan
        width = float(np.clip(100 * (self.spread_px - 0.2), 10, 150))
        first = max(0, self._n - 4096) if self._passes == 0 else 0
        here = slice(first, self._n)
        weight = (self.seen[here] > 0) + 1e-3
        total = gaussian_filter1d(weight, width)
        smooth = gaussian_filter1d(self.offsets[here] * weight[:, None], width, axis=0) / total[:, None]
        self.drift[here] = smooth
        self._next_drift = smooth[-1].copy()
        jitter = (self.offsets[here] - smooth)[self.seen[here] > 0]
        if len(jitter) >= SMOOTH_EVERY // 2:
            self.spread_px = max(LEAST_SPREAD_PX, float(1.4826 * np.median(np.abs(jitter))))
