"""Position refinement: where each frame's window really stands, while frames arrive and after the last one.

Each refinement of a frame takes its shift from the derivative of the misfit (:mod:`positions_kernels`), together with
what is expected of it: the recorded position plus a slow drift, within the usual spread of jitter. The drift is
a low-pass of the offsets in order of arrival; new frames start from it, so that a drift is followed and not, as by shifts
alone, diffused away. Frames from before it was seen are moved, with the object, to where it came from. After the last
frame, frames that fit badly try other places, and offsets that whole neighbourhoods share and no drift explains are taken
back together with the object: nothing but boundaries would ever pull on them.

Offsets are floats; windows stand on whole pixels and move when their rounded position does.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from streamptycho.solve.backend import Array
from streamptycho.solve.gradient import footprint, overlap
from streamptycho.solve.positions_field import inside, level, local_mean, path_before, shortened
from streamptycho.solve.positions_options import PositionRefinement
from streamptycho.solve.schedule import Schedule

if TYPE_CHECKING:
    from streamptycho.solve.solver import Solver
    from streamptycho.solve.store import FrameStore

BATCH = 16
"""Frames refined together."""
RECENT = 100
"""Frames that count as the newest."""
SETTLED_UPDATES = 2000
"""Updates before which neither object nor probe can tell a shift from their own faults."""
SETTLED_FRAMES = 250
"""Frames, while more arrive, before which the picture is little but its own edge, which pulls frames inwards or outwards."""
QUIET_LOOKS, BUSY_LOOKS = 1.6, 4.0
"""Refinements per new frame at most while frames arrive, however fast the computer: nothing but the frames themselves holds
what many share, and faults of the model drive it on with each further look."""
ENOUGH_VISITS = 1
ENOUGH_OVERLAP = 1.5
"""Dose under a window, in units of what its own frame brings, from which others say where it stands."""
GAIN = 0.7
STRETCH = 1.3
"""The step is so much longer than the tangent says: the object has partly adapted to the wrong place, and detail finer than
the shift flattens the misfit."""
LONGEST_STEP_PX = 1.0
CAUTION = 2.0
"""Standard errors are taken so much larger than the misfit of independent pixels suggests."""
LEAST_SPREAD_PX = 0.3
"""Spread assumed at least: what rounding to whole pixels leaves."""
JITTER_PX = 0.35
"""Spread per axis from which it is worth while to look closer; below it whole pixels cannot show it."""
DRIFT_PX = 0.15
"""The same for the slow part of frames that came since it is followed: of those before it is mostly faults of the model."""
LARGEST_JITTER = 3.0
"""Bound of an offset from the drift, in units of the spread."""
SMOOTH_EVERY = 100
"""Refined frames between two looks at drift and spread."""
TRIED = 0.12
"""Part of the frames, those that fit worst, that try other places after each pass."""
TRIES = 8
BETTER = 0.97
"""A trial must lower the misfit to this fraction."""
LOOK_BACK = 200
"""Frames followed along a drift until it is looked where it came from; after the last frame, half of them do."""
LOOK_AGAIN = 1.5
"""So many times as many, and it is looked again."""
LEVEL_PASSES = 20
"""Passes after the last frame during which common offsets are taken back and the object is kept easy to change."""
FRESH_VISITS = 2
"""Visits counted at most of a frame meanwhile."""


@dataclass(frozen=True, slots=True)
class PositionSummary:
    """How far positions were found to be off."""

    shift_px: float
    """Offsets about their mean, rms over frames, both axes together; 0 before any was refined."""
    drift_px: float
    """The part of it that varies slowly with the arrival."""


class PositionRefiner:
    """Offsets of the frames of one engine, in order of arrival."""

    def __init__(self, options: PositionRefinement, seed: int) -> None:
        self.options = options
        self.recorded = np.zeros((0, 2))
        """(capacity, 2) absolute object pixel under the centre of the probe, as it came."""
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
        """Refinements that new frames have brought and that were not done yet."""
        self._counted = 0
        """Frames that have brought theirs."""
        self._begun: int | None = None
        """Frames that were there when refinement began; those after it began with the drift."""
        self._since = 0
        self._passes = 0
        self._followed: int | None = None
        """Frames that were there when positions were first seen to be wrong."""
        self._looked_back = 0
        """Frames followed when it was last looked where the drift came from."""

    # frames

    def expected(self, yx_px: tuple[float, float]) -> tuple[float, float]:
        """Where a new frame probably stands: as recorded, plus the present drift."""
        return yx_px[0] + float(self._next_drift[0]), yx_px[1] + float(self._next_drift[1])

    def add(self, row: int, yx_px: tuple[float, float]) -> None:
        """Note a frame's recorded position."""
        if row >= len(self.seen):
            more = max(64, row)
            self.recorded, self.offsets, self.drift = (
                np.concatenate([a, np.zeros((more, 2))]) for a in (self.recorded, self.offsets, self.drift)
            )
            self.seen = np.concatenate([self.seen, np.zeros(more, np.int64)])
        self.recorded[row] = yx_px
        self.offsets[row] = self.drift[row] = self._next_drift
        self._n = row + 1

    # what is known

    @property
    def offsets_px(self) -> NDArray[np.float64]:
        """(n, 2) refined less recorded positions (y, x); 0 for frames of which nothing is known."""
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
        """True if jitter or drift is larger than right positions ever seem to have."""
        known = self.seen[: self._n] > 0
        if known.sum() < SMOOTH_EVERY:
            return False
        followed = self.drift[self._begun : self._n]
        drift_px = np.sqrt(followed.var(0).mean()) if len(followed) else 0.0
        return bool(self.spread_px > JITTER_PX or drift_px > DRIFT_PX)

    # work

    def after(self, solver: "Solver", updates: int, *, live: bool) -> None:
        """Refine what is due after so many updates of `solver`."""
        settled = solver.updates >= SETTLED_UPDATES and (self._n >= SETTLED_FRAMES or not live)
        if self.options.refine == "off" or not settled:
            return
        if self._begun is None:
            self._begun = self._n
            self._counted = max(0, self._n - RECENT)
        due = updates * ((self.options.busy_share if live else 1.0) if self.busy else self.options.share)
        if live:
            looks = BUSY_LOOKS if self.busy else QUIET_LOOKS
            self._allowed = min(self._allowed + looks * (self._n - self._counted), looks * RECENT)  # a pause saves none up
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

    def _next_rows(self, solver: "Solver", *, live: bool) -> NDArray[np.int64]:
        """Live, from the newest frames, whose drift the next ones take over; in passes over all of them otherwise, as for
        half of a batch if positions are wrong.
        """
        newest = 0 if not live else BATCH // 2 if self.busy else BATCH
        recent = self._n - 1 - self._random.integers(0, min(RECENT, self._n), newest)
        visits, corners = solver.visits[: self._n], solver.store.corners[: self._n]
        return np.unique(np.concatenate([recent, self._schedule.draw(visits, corners, BATCH - newest, live=False)]))

    def refine(self, solver: "Solver", rows: NDArray[np.int64]) -> None:
        """One step of the offsets of those of `rows` whose surroundings are known."""
        rows = rows[self._ready(solver, rows)]
        if not len(rows):
            return
        sums = solver.shift_sums(rows)
        store, at = solver.store, self._centres(solver, rows)
        variance = CAUTION**2 * np.maximum(sums[:, 5], 1e-30) / (store.shape[0] * store.shape[1])
        force = sums[:, :2] / variance[:, None]
        stiffness = sums[:, [2, 3, 3, 4]].reshape(-1, 2, 2) / variance[:, None, None]
        anchor = 1 / self.spread_px**2
        force = force + anchor * (self.recorded[rows] + self.drift[rows] - at)
        step = np.asarray(np.linalg.solve(stiffness + anchor * np.eye(2), force[..., None])[..., 0], np.float64)
        step = shortened(STRETCH * step, LONGEST_STEP_PX)
        found = at + step - self.recorded[rows]
        self.offsets[rows] += GAIN * (found - self.offsets[rows])
        self._bound(solver, rows)
        self.seen[rows] += 1
        self._move(solver, rows)
        self._since += len(rows)
        if self._since >= SMOOTH_EVERY:
            self._smooth()

    def forget(self, store: "FrameStore") -> None:
        """Back to the recorded positions: the reconstruction that knew better begins again."""
        for known in (self.offsets, self.drift, self.seen, self._next_drift):
            known[...] = 0
        self.spread_px, self._due, self._allowed, self._since, self._passes = 1.0, 0.0, 0.0, 0, 0
        self._begun, self._followed, self._looked_back = None, None, 0
        store.corners[: self._n] = np.rint(self.recorded[: self._n]).astype(np.int64) - np.array(store.shape) // 2

    def end_of_pass(self, solver: "Solver") -> bool:
        """After a pass over all frames without new ones: other places for the worst, and common offsets taken back.

        Returns True if windows are still on the move.
        """
        if self.options.refine == "off" or solver.updates < SETTLED_UPDATES or not self.busy:
            return False
        self._passes += 1
        self._look_back(solver, LOOK_BACK // 2)
        self._try_elsewhere(solver)
        if self.spread_px > JITTER_PX and self._passes <= LEVEL_PASSES:
            # the smooth phase learnt from windows in wrong places would stay: settled frames no longer change it
            visits = solver.visits[: self._n]
            np.minimum(visits, FRESH_VISITS, out=visits)
        if self._passes % 2 and self._passes <= LEVEL_PASSES:
            residual = np.clip((self.offsets - self.drift)[: self._n], -2 * self.spread_px, 2 * self.spread_px)
            mean = self._mean_about(solver, residual)
            self.offsets[: self._n] -= level(solver.canvas, solver.backend, self._centres(solver), mean)
            self._move(solver, np.arange(self._n))
        return True

    def _look_back(self, solver: "Solver", enough: int) -> None:
        """Once a drift has been followed over `enough` frames: put those before where it came from, with the object.

        They were used where they were recorded, the object is sheared to match, and little in it will ever tell.
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
            return  # it has turned: where it went before was seen, a little, and is not where the line comes from
        old = self.offsets[: self._n].copy()
        self.offsets[:first] += path - self.drift[:first]
        self.drift[:first] = path
        self._bound(solver, np.arange(self._n))
        level(solver.canvas, solver.backend, self._centres(solver), self._mean_about(solver, old - self.offsets[: self._n]))
        self._move(solver, np.arange(self._n))
        np.minimum(solver.visits[:first], FRESH_VISITS, out=solver.visits[:first])

    def _mean_about(self, solver: "Solver", values: NDArray[np.float64]) -> Array:
        return local_mean(solver.canvas, solver.backend, self._centres(solver), values, self._width(solver) / 2)

    def _ready(self, solver: "Solver", rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        visited = solver.visits[rows] >= ENOUGH_VISITS
        covered = overlap(solver.backend, solver.canvas, footprint(solver.probe), solver.store.corners[rows])
        ready: NDArray[np.bool_] = visited & (solver.backend.to_host(covered) >= ENOUGH_OVERLAP)
        return ready

    def _try_elsewhere(self, solver: "Solver") -> None:
        """Frames of the largest misfits take the best of a few random places, if it is clearly better.

        Half of the tries are near where the frame stands, half where it was recorded: far from the right place the
        derivative points nowhere in particular.
        """
        rows = solver.worst(max(1, int(TRIED * self._n)))
        rows = rows[self._ready(solver, rows)]
        if not len(rows):
            return
        old = solver.store.corners[rows].copy()
        best, least = old.copy(), solver.misfits_at(rows, old)
        expected = self.recorded[rows] + self.drift[rows] - np.array(solver.store.shape) // 2
        for turn in range(TRIES):
            centre, width = (expected, self.spread_px) if turn % 2 else (best, 2.0)
            place = np.rint(centre + self._random.normal(0, width, best.shape)).astype(np.int64)
            place = inside(solver.canvas, place, solver.store.shape)
            misfit = solver.misfits_at(rows, place)
            better = misfit < BETTER * least
            best[better], least[better] = place[better], misfit[better]
        moved = (best != old).any(1)
        self.offsets[rows[moved]] += (best - old)[moved]
        self._bound(solver, rows[moved])
        self._move(solver, rows[moved])

    def _centres(self, solver: "Solver", rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """(k, 2) pixel under the centre of each window as it stands."""
        corners = solver.store.corners[: self._n] if rows is None else solver.store.corners[rows]
        return corners + np.array(solver.store.shape) // 2.0

    def _bound(self, solver: "Solver", rows: NDArray[np.int64]) -> None:
        """No offset far from the drift, none far from the record."""
        jitter = shortened(self.offsets[rows] - self.drift[rows], LARGEST_JITTER * self.spread_px)
        self.offsets[rows] = shortened(self.drift[rows] + jitter, self._limit(solver))

    def _limit(self, solver: "Solver") -> float:
        return self.options.max_shift_px or self._width(solver) / 5

    def _width(self, solver: "Solver") -> float:
        """Diameter of a round beam with the footprint of this one, px."""
        share = footprint(solver.probe)
        cells = float(1 / (share * share).sum())
        return float(np.sqrt(4 / np.pi * cells) * 8)

    def _move(self, solver: "Solver", rows: NDArray[np.int64]) -> None:
        half = np.array(solver.store.shape) // 2
        solver.move(rows, np.rint(self.recorded[rows] + self.offsets[rows]).astype(np.int64) - half)

    def _smooth(self) -> None:
        """Drift and spread from the offsets; of a long scan only the recent part, the rest no longer changes quickly."""
        self._since = 0
        # jitter leaves spread / sqrt(3.5 width) in the mean, which new frames build on: a random walk over the scan
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
