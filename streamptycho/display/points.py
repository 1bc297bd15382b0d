"""The points of a scan so far, gathered from surveys."""

import copy

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.live import PointState, Survey

MAX_POINTS = 400_000
"""Points of one scan that are kept for coverage and maps."""
_ARRAYS = ("index", "yx_m", "counts", "dark_field", "centre_px", "state")


class Points:
    """All points of a scan that surveys have reported, by frame index."""

    def __init__(self) -> None:
        self.version = 0
        self.known = 0
        self.index = np.zeros(0, np.int64)
        self.yx_m = np.zeros((0, 2), np.float64)
        self.counts = np.zeros(0, np.float32)
        self.dark_field = np.zeros(0, np.float32)
        self.centre_px = np.zeros((0, 2), np.float32)
        self.state = np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def measured(self) -> NDArray[np.int64]:
        """Rows of the points whose frames are in the reconstruction."""
        return np.flatnonzero(self.state <= PointState.USED)

    @property
    def any_measured(self) -> bool:
        """True if the frame of any point is in the reconstruction."""
        return bool((self.state <= PointState.USED).any())

    def frozen(self) -> "Points":
        """As of now; what comes later does not change it (arrays are replaced, never written to)."""
        return copy.copy(self)

    def take(self, block: Survey) -> None:
        """Add a block; points that are there already are replaced. Those of a log that was given up are forgotten."""
        if block.known < self.known:  # see Survey
            self._keep(self.state > PointState.USED)
        self.known = block.known
        new = ~np.isin(block.index, self.index, assume_unique=True)
        if len(self.index) + new.sum() > MAX_POINTS or (not new.any() and self._same(block)):
            return
        index = np.concatenate([self.index, block.index])
        order = len(index) - 1 - np.unique(index[::-1], return_index=True)[1]  # the last of each
        for name in _ARRAYS:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(block, name)])[order])
        if len(self.measured) > self.known:
            self._keep((self.state > PointState.USED) | np.isin(self.index, block.index))
        self.version += 1

    def _keep(self, rows: NDArray[np.bool_]) -> None:
        self.version += not rows.all()
        for name in _ARRAYS:
            setattr(self, name, getattr(self, name)[rows])

    def _same(self, block: Survey) -> bool:
        rows = np.searchsorted(self.index, block.index)
        return all(
            np.array_equal(getattr(self, name)[rows], getattr(block, name))
            for name in ("yx_m", "counts", "dark_field", "state")
        )
