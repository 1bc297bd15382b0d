"""A growing set of frame indices."""

import numpy as np
from numpy.typing import NDArray


class IndexSet:
    """A set of small numbers from 0, one byte for each up to the largest; the caller bounds that."""

    def __init__(self) -> None:
        self._flags = np.zeros(1024, np.bool_)

    def __contains__(self, number: int) -> bool:
        return number < len(self._flags) and bool(self._flags[number])

    @property
    def flags(self) -> NDArray[np.bool_]:
        """(k,) bool, True for each number from 0 that is in the set; those beyond are not."""
        return np.trim_zeros(self._flags, "b").copy()

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(n,) those in the set, rising."""
        return np.flatnonzero(self._flags)

    def add(self, number: int) -> bool:
        """Add one number; False if it was there already."""
        if number in self:
            return False
        self._reach(number)
        self._flags[number] = True
        return True

    def update(self, numbers: NDArray[np.int64]) -> None:
        """Add several numbers."""
        if numbers.size:
            self._reach(int(numbers.max()))
            self._flags[numbers] = True

    def among(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True for each of `numbers` that is in the set."""
        known = numbers < len(self._flags)
        known[known] = self._flags[numbers[known]]
        return known

    def without(self, other: "IndexSet") -> int:
        """How many numbers are in this set and not in `other`."""
        numbers = self.numbers
        return len(numbers) - int(other.among(numbers).sum())

    def _reach(self, number: int) -> None:
        if number >= len(self._flags):
            flags = np.zeros(max(number + 1, 2 * len(self._flags)), np.bool_)
            flags[: len(self._flags)] = self._flags
            self._flags = flags
