"""A growing set of frame indices."""

import numpy as np
from numpy.typing import NDArray


class Taken:
    """A set of small numbers from 0, one byte for each up to the largest: whoever adds to it bounds that."""

    def __init__(self) -> None:
        self._flags = np.zeros(1024, np.bool_)

    def __contains__(self, number: int) -> bool:
        return number < len(self._flags) and bool(self._flags[number])

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

    def _reach(self, number: int) -> None:
        if number >= len(self._flags):
            flags = np.zeros(max(number + 1, 2 * len(self._flags)), np.bool_)
            flags[: len(self._flags)] = self._flags
            self._flags = flags
