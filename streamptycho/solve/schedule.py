"""The order of updates: new frames at once, the newest again if they lie together, and all in turn."""

import numpy as np
from numpy.typing import NDArray

RECENT = 150
RECENT_SHARE = 0.4
"""Part of a live slice from the recent frames where the path is continuous."""
NEW_SHARE = 0.5
"""Part of a live slice that frames never used before may take as they arrive."""
CONTINUOUS, SCATTERED = 0.4, 1.2
"""Step of the path, in units of the spread of the recent frames, up to which recent frames are preferred, and from which
they are not. About 0.1 for a raster, 1.9 for a spiral of single points, 1.2 and more for random order."""


class Schedule:
    """Splits computing between new frames and old ones; deterministic from its seed.

    While frames arrive, each slice begins with those that have come since the last one, evenly sampled where they are
    more than `NEW_SHARE` of the slice. `RECENT_SHARE` of it is drawn from the newest `RECENT` frames on a path of small
    steps, less or none where consecutive frames lie far apart. The rest walks through all frames in random passes that
    begin with the frames not used yet; after the last frame there are only such passes. Except for one permutation per pass,
    the cost of a draw does not depend on the number of frames.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._pass: NDArray[np.int64] = np.zeros(0, np.int64)
        self._known = 0
        self._share = RECENT_SHARE

    def restart(self) -> None:
        """Begin a new pass over all frames with the next draw."""
        self._pass = np.zeros(0, np.int64)

    def draw(self, visits: NDArray[np.int64], corners: NDArray[np.int64], count: int, *, live: bool) -> NDArray[np.int64]:
        """The next `count` rows, by (k,) visits and (k, 2) corners of all frames as they arrived; `live`: more may come."""
        if not live:
            return self._walk(visits, count)
        frames = len(visits)
        if frames > self._known:
            self._share = RECENT_SHARE * continuity(corners[-RECENT:])
        fresh = self._fresh(frames, count)
        again = min(round(count * self._share), count - len(fresh)) if frames > RECENT else 0
        recent = frames - 1 - self._random.choice(RECENT, again, replace=again > RECENT) if again else np.zeros(0, np.int64)
        walked = self._walk(visits, count - len(fresh) - again)
        return self._random.permutation(np.concatenate([fresh, recent, walked]))

    def _fresh(self, frames: int, count: int) -> NDArray[np.int64]:
        new = frames - self._known
        taken = min(new, max(round(count * NEW_SHARE), 1))
        rows: NDArray[np.int64] = frames - 1 - np.arange(taken) * new // max(taken, 1)
        self._known = frames
        return rows

    def _walk(self, visits: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        taken = []
        while count > 0:
            if not len(self._pass):
                order = self._random.permutation(len(visits))
                unused = visits[order] == 0
                self._pass = np.concatenate([order[unused], order[~unused]])
            part, self._pass = self._pass[:count], self._pass[count:]
            taken.append(part)
            count -= len(part)
        return np.concatenate(taken) if taken else np.zeros(0, np.int64)


def continuity(corners: NDArray[np.int64]) -> float:
    """1 for frames (k, 2) that follow one another closely, 0 where each lies as far from the last as from any other."""
    if len(corners) < 3:
        return 1.0
    step = float(np.median(np.hypot(*np.diff(corners, axis=0).T)))
    spread = float(np.sqrt(corners.var(axis=0).sum()))
    ratio = step / spread if spread > 0 else 0.0
    return min(max((SCATTERED - ratio) / (SCATTERED - CONTINUOUS), 0.0), 1.0)
