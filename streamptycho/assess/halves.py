"""Two small objects from two halves of the frames, made from time to time, in slices: what they agree on is resolved.

Around the place with the largest dose up to `FRAMES` frames are split like the fields of a chessboard. Each half makes an
object of its own from an empty one, for a few passes with the present probe held fixed, so that nothing but the data, the
probe and the positions is common to both. The probe fixes their phase ramps and places: they need no alignment.
"""

from collections.abc import Iterator

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from streamptycho.assess.rings import RingCorrelation, largest_square, ring_correlation
from streamptycho.solve.canvas import BLOCK
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.solver import Solver

FRAMES = 150
FEWEST_FRAMES = 40
PASSES = 3
STEP = 25
"""Updates of one slice."""
SHARE = 0.03
"""Updates for it, per update of the reconstruction."""
ADVANCE = 0.5
"""Part of the first estimate that may be ahead of this share."""
MOST_PIXELS = 1 << 20
MOST_WINDOWS = 16
"""Pixels around all frames of an estimate at most, or so many windows if that is more: there are two objects of them."""
OUTDATED = 0.5
"""Part of the frames or updates of a scan at its end that an estimate must have known to stand for it."""
ENOUGH_DOSE = 0.15
"""Dose that each half must have brought to a pixel that is compared."""
MOST_DOSE = 20.0
"""Dose beyond which more makes a place no better."""


class HalfData:
    """Repeated estimates of the resolution of one scan, within a share of the computing."""

    def __init__(self, seed: int = 0) -> None:
        self.latest: RingCorrelation | None = None
        self.updates = self.tried = 0
        """Updates spent; estimates carried through since the reconstruction began."""
        self._random = np.random.default_rng(seed)
        self._steps: Iterator[int] | None = None
        self._made_by: Solver | None = None
        self._made_with = self._made_at = 0
        """Frames that the latest estimate could choose from, and updates of the reconstruction when it began."""

    def step(self, engine: RollingEngine) -> int:
        """Go on by one slice if it is due; returns the number of updates done."""
        ahead = ADVANCE * PASSES * min(len(engine.store), FRAMES) if self._is_first(engine) else 0
        due = _possible(engine) and self.updates + STEP <= SHARE * engine.updates + ahead
        return self.pay(engine) if due else 0

    def owed(self, engine: RollingEngine) -> bool:
        """True if there is no estimate of the picture as it stands and could be one: a scan should not end without."""
        few = self._made_with < OUTDATED * min(len(engine.store), FRAMES)
        old = self._made_at < OUTDATED * engine.updates
        return _possible(engine) and (self._is_first(engine) or few or old)

    def pay(self, engine: RollingEngine) -> int:
        """Go on by one slice whatever the share; returns the number of updates done, 0 at the end of an estimate."""
        if engine.solver is not self._made_by:  # the reconstruction began again: what was known of it is void
            self._made_by, self._steps, self.latest, self.tried = engine.solver, None, None, 0
        if self._steps is None:
            if engine.solver is None or not _possible(engine):
                return 0
            self._steps = self._run(engine, engine.solver, central(engine.solver))
        some = next(self._steps, 0)
        self.updates += some
        if not some:
            self._steps = None
        return some

    def _is_first(self, engine: RollingEngine) -> bool:
        return not self.tried or engine.solver is not self._made_by

    def _run(self, engine: RollingEngine, solver: Solver, rows: NDArray[np.int64]) -> Iterator[int]:
        # of the frames that there were, not of those that lay near enough: more would not be found by trying again
        frames, updates = min(len(engine.store), FRAMES), engine.updates
        halves = [_empty(solver, rows, rows[first::2]) for first in (0, 1)]
        for _ in range(PASSES):
            for half, own in zip(halves, (rows[0::2], rows[1::2]), strict=True):
                order = self._random.permutation(own)
                for part in (order[i : i + STEP] for i in range(0, len(order), STEP)):
                    _make_room(halves, part)
                    half.sweep(part)
                    yield len(part)
        self.latest = compared(*halves) or self.latest
        self.tried += 1
        self._made_with, self._made_at = frames, updates


def _possible(engine: RollingEngine) -> bool:
    """True if there are frames enough and a place that they have covered."""
    return engine.solver is not None and bool(engine.solver.updates) and len(engine.store) >= FEWEST_FRAMES


def central(solver: Solver) -> NDArray[np.int64]:
    """Up to `FRAMES` frames around the place with the largest dose, row by row."""
    store, canvas = solver.store, solver.canvas
    dose = np.minimum(solver.backend.to_host(canvas.cell_dose), MOST_DOSE)
    smooth = scipy.ndimage.uniform_filter(dose, max(store.shape) // BLOCK, mode="constant")
    cell = np.array(np.unravel_index(int(np.argmax(smooth)), smooth.shape))
    corner = (cell + 0.5) * BLOCK + canvas.origin - np.array(store.shape) / 2
    distance = np.abs(store.corners[: len(store)] - corner).max(1)
    rows = np.argsort(distance, kind="stable")[:FRAMES]
    near = store.corners[rows]
    window = np.array(store.shape)
    extents = np.maximum.accumulate(near) - np.minimum.accumulate(near) + window
    rows = rows[extents.prod(1) <= max(MOST_PIXELS, MOST_WINDOWS * int(window.prod()))]
    ordered: NDArray[np.int64] = rows[_row_by_row(store.corners[rows])]
    return ordered


def _row_by_row(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order of corners (k, 2) in rows, to and fro: neighbours in and across rows then fall in different halves."""
    low, high = corners.min(0), corners.max(0)
    step = np.sqrt(max(float(np.prod(high - low + 1)), 1.0) / len(corners))
    row = np.rint((corners[:, 0] - low[0]) / step).astype(np.int64)
    along = np.where(row % 2, -corners[:, 1], corners[:, 1])
    order: NDArray[np.int64] = np.lexsort((along, row))
    return order


def _empty(solver: Solver, rows: NDArray[np.int64], own: NDArray[np.int64]) -> Solver:
    """An empty object for `own` frames, with room for all `rows`, and the probe of `solver` held fixed."""
    store, probe = solver.store, solver.backend.to_host(solver.probe)
    fixed = {"probe_step": 0.0, "given_probe_step": 0.0, "settled_probe_step": 0.0}
    half = Solver(solver.backend, store, probe, solver.chosen_rule.model_copy(update=fixed), poor_probe=False)
    _make_room([half], rows)
    for row in own.tolist():
        half.admit(row)
    return half


def _make_room(halves: list[Solver], rows: NDArray[np.int64]) -> None:
    """Room for `rows` on each canvas, alike: their windows may have moved since."""
    for half in halves:
        for y, x in half.store.corners[rows].tolist():
            half.canvas.ensure((y, x), half.store.shape)


def compared(one: Solver, two: Solver) -> RingCorrelation | None:
    """The ring correlation over the largest square that both have covered; None if there is none."""
    host = one.backend.to_host
    square = largest_square(np.minimum(host(one.canvas.dose), host(two.canvas.dose)) > ENOUGH_DOSE)
    if square is None:
        return None
    return ring_correlation(host(one.canvas.object[square]), host(two.canvas.object[square]))
