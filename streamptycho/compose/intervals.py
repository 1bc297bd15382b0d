"""A set of whole numbers that come mostly in order: its size is that of its gaps, not of its numbers."""

from bisect import bisect_left, bisect_right

import numpy as np
from numpy.typing import NDArray


class Intervals:
    """Which numbers have come."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.count = 0
        """How many numbers are in the set."""

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]

    @property
    def stop(self) -> int:
        """One more than the largest; 0 of an empty set."""
        return self._stops[-1] if self._stops else 0

    def add(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Add the numbers from `start` to before `stop`; the parts of them that are new."""
        if start >= stop:
            return []
        first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        fresh, at = [], start
        for begins, ends in zip(self._starts[first:last], self._stops[first:last], strict=True):
            if at < begins:
                fresh.append((at, begins))
            at = max(at, ends)
        if at < stop:
            fresh.append((at, stop))
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last], self._stops[first:last] = [start], [stop]
        self.count += sum(ends - begins for begins, ends in fresh)
        return fresh

    def add_all(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Add strictly rising `numbers` (n,); (n,) True for each that is new."""
        new = np.zeros(len(numbers), np.bool_)
        edges = np.flatnonzero(np.diff(numbers) != 1) + 1
        for at, end in zip([0, *edges.tolist()], [*edges.tolist(), len(numbers)], strict=True):
            if at < end:
                offset = int(numbers[at]) - at
                for start, stop in self.add(int(numbers[at]), int(numbers[end - 1]) + 1):
                    new[start - offset : stop - offset] = True
        return new
