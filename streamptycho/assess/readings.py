"""Whether the frames fit their positions better if these are read otherwise: mirrored, swapped, turned, at another scale.

Each reading starts small reconstructions of its own, from a probe found in the data; the right one predicts frames that it
has not seen, wrong ones cannot (ADR 13). Frames that are mirrored, transposed or turned need no trial of their own: the same
change of the positions undoes it, up to a half-turn, which only makes the conjugate of the object.
"""

import copy
from collections.abc import Iterator

import numpy as np

from streamptycho.assess.curl import AS_IS, MIRRORED, TRANSPOSED, TURNED
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.start.search import ProbeSearch
from streamptycho.solve.start.trust import Trust, unexplained
from streamptycho.solve.store import FrameStore

SCALES = {4: 0.5, 5: 0.7, 6: 1.4, 7: 2.0}
MATRICES: dict[int, tuple[tuple[float, float], tuple[float, float]]] = {
    AS_IS: ((1, 0), (0, 1)),
    MIRRORED: ((1, 0), (0, -1)),
    TRANSPOSED: ((0, 1), (1, 0)),
    TURNED: ((0, 1), (-1, 0)),
} | {reading: ((scale, 0), (0, scale)) for reading, scale in SCALES.items()}
"""Reading to what it makes of positions (y, x)."""
NOT_TRIED = np.full(len(MATRICES), np.nan)
FRAMES = 32
"""Frames that each reading is tried with, the most central ones of the scan as it is read."""
FEWEST_FRAMES = 24
STEP = 25
"""Updates of one slice."""
SHARE = 0.25
"""Updates for it while frames still come, per update of a picture that is most likely wrong."""
AGAIN = 3.0
"""Factor by which the frames must have grown before the readings are tried again."""
CLEARLY_LESS = 0.6
"""What a reading leaves unexplained, relative to the positions as they are, from which the others need no trial."""


class Readings:
    """Trials of all readings of one scan, in slices, where prediction does not confirm its picture."""

    def __init__(self, pixel_m: tuple[float, float] = (1.0, 1.0), seed: int = 0) -> None:
        self.unexplained = NOT_TRIED
        """(readings,) see :func:`trust.unexplained`; inf where one was not tried, NaN before any was."""
        self.updates = 0
        self._pixel_m = np.array(pixel_m)
        self._seed = seed
        self._frames = 0
        """Frames that the latest trials could choose from."""
        self._steps: Iterator[int] | None = None

    def due(self, engine: RollingEngine) -> bool:
        """True if a slice may be computed while frames still come: the probe has failed, and the share allows it."""
        return engine.trust is Trust.FAILED and self.owed(engine) and self.updates + STEP <= SHARE * engine.updates

    def owed(self, engine: RollingEngine) -> bool:
        """True if the picture is not confirmed, and trials with these frames might say why."""
        doubtful = engine.trust is not Trust.CONFIDENT and not np.isnan(engine.unexplained)
        frames = len(engine.store)
        return doubtful and frames >= FEWEST_FRAMES and (self._steps is not None or frames >= AGAIN * self._frames)

    def pay(self, engine: RollingEngine) -> int:
        """One slice, whatever the share; returns the number of updates done, 0 at the end of all trials."""
        if self._steps is None:
            self._frames, self._steps = len(engine.store), self._run(engine)
        done = 0
        for some in self._steps:
            done += some
            if done >= STEP:
                break
        else:
            self._steps = None
        self.updates += done
        return done

    def _run(self, engine: RollingEngine) -> Iterator[int]:
        """Try the orientations and, if none of them explains the frames, the scales."""
        found = np.full(len(MATRICES), np.inf)
        for readings in ((AS_IS, MIRRORED, TRANSPOSED, TURNED), SCALES):
            for reading in readings:
                store = self._read(engine, reading)
                search = ProbeSearch(store, engine.options.rule, self._seed, FRAMES)
                yield from search.run()
                found[reading] = unexplained(search.best) if search.best is not None else np.inf
            if found.min() < CLEARLY_LESS * found[AS_IS]:
                break
        self.unexplained = found

    def _read(self, engine: RollingEngine, reading: int) -> FrameStore:
        """The engine's frames at other positions; their pixels are shared."""
        store = engine.store
        other, yx_px = copy.copy(store), engine.positions.recorded[: len(store)]
        matrix = np.array(MATRICES[reading]) * self._pixel_m / self._pixel_m[:, None]
        corners = np.rint((yx_px - np.median(yx_px, axis=0)) @ matrix.T) - np.array(store.shape) // 2
        other.corners = corners.astype(np.int64)
        other.flux = store.backend.xp.ones_like(store.flux)
        return other
