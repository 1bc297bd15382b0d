"""Which frames to use next: half of each slice from the newest frames, half from all in turn."""

import numpy as np
from numpy.typing import NDArray

RECENT = 100


class Schedule:
    """Splits computing between new frames and old ones; deterministic from its seed.

    While frames arrive, half of a slice is drawn from the newest `RECENT` frames and half walks through all frames in random
    passes. When no more will come, whole random passes remain.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._pass: NDArray[np.int64] = np.zeros(0, np.int64)

    def restart(self) -> None:
        """Begin a new pass over all frames with the next draw."""
        self._pass = np.zeros(0, np.int64)

    def draw(self, rows: NDArray[np.int64], count: int, *, live: bool) -> NDArray[np.int64]:
        """The next `count` rows out of `rows` (in order of arrival)."""
        if not live or len(rows) <= RECENT:
            return self._walk(rows, count)
        recent = self._random.choice(rows[-RECENT:], count // 2, replace=count // 2 > RECENT)
        order = np.concatenate([recent, self._walk(rows, count - count // 2)])
        return self._random.permutation(order)

    def _walk(self, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        taken = []
        while count > 0:
            if not len(self._pass):
                self._pass = self._random.permutation(rows)
            part, self._pass = self._pass[:count], self._pass[count:]
            taken.append(part)
            count -= len(part)
        return np.concatenate(taken) if taken else np.zeros(0, np.int64)
