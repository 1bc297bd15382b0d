"""Earlier states of a scan: pictures to look back at, the curve of the error."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.results import Snapshot

MOMENTS = 48
_CURVE = 20_000
"""Passes of one scan that are kept."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot as it was shown."""

    sequence: int
    time_ns: int
    frames_used: int
    error: float
    final: bool
    images: dict[str, bytes]

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(map(len, self.images.values()))


class History:
    """Moments spread evenly over the scan: when it is full, every other one goes and new ones come half as often."""

    def __init__(self, limit: int = MOMENTS) -> None:
        self.moments: list[Moment] = []
        self.version = 0
        self._limit = limit
        self._interval_ns = 0

    def wants(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot is due to be kept."""
        if snapshot.final or not self.moments:
            return True
        return snapshot.time_ns - self.moments[-1].time_ns >= self._interval_ns

    def add(self, moment: Moment) -> None:
        """Keep a moment."""
        self.moments.append(moment)
        self.version += 1
        if len(self.moments) > self._limit:
            self.thin()

    def thin(self) -> None:
        """Let every other moment go; the first and the last stay."""
        kept = [*self.moments[:-1:2], self.moments[-1]]
        if len(kept) < len(self.moments):
            self.moments = kept
            self._interval_ns = (kept[-1].time_ns - kept[0].time_ns) // max(len(kept) - 1, 1)
            self.version += 1

    def only_last(self) -> None:
        """Let all go but the last: what a scan long past keeps."""
        if len(self.moments) > 1:
            self.moments = self.moments[-1:]
            self.version += 1

    def at(self, sequence: int) -> Moment | None:
        """The moment of a snapshot, while it is kept."""
        return next((moment for moment in self.moments if moment.sequence == sequence), None)

    @property
    def nbytes(self) -> int:
        """Memory of all moments."""
        return sum(moment.nbytes for moment in self.moments)


@dataclass(slots=True)
class Curve:
    """Fourier error after each pass; goes on where the reconstruction begins again."""

    earlier: list[float] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    present: list[float] = field(default_factory=list)

    updates: int = 0
    """Updates that had shaped the picture when the curve was taken last."""

    def take(self, history: NDArray[np.float32], updates: int) -> None:
        """The whole history as of now, (k,); with fewer `updates` than before the reconstruction began again."""
        if len(history) < len(self.present):  # with a history of its own
            self.earlier = self.earlier + self.present
            self.restarts.append(len(self.earlier))
        elif updates < self.updates:
            self.restarts.append(len(self.earlier) + len(self.present))
        self.updates = updates
        self.present = history[-_CURVE:].tolist()
        surplus = len(self.earlier) + len(self.present) - _CURVE
        if surplus > 0:
            self.earlier = self.earlier[surplus:]
            self.restarts = [restart - surplus for restart in self.restarts if restart > surplus]

    def shown(self, most: int = 600) -> tuple[list[int], list[float]]:
        """Pass numbers from 1 and errors, at most about `most` of them, the last one always among them."""
        values = self.earlier + self.present
        step = max(1, -(-len(values) // most))
        passes = list(range(len(values), 0, -step))[::-1]
        return passes, [values[number - 1] for number in passes]
