"""The points of a scan measured so far, from blocks of them as they are told."""

import copy

import numpy as np

from streamptycho.feed import Survey

MAX_POINTS = 400_000
"""Points of one scan that are kept for coverage and maps."""


class Points:
    """All points of a scan that have been told, by frame index."""

    def __init__(self) -> None:
        self.version = 0
        self.known = 0
        self.index = np.zeros(0, np.int64)
        self.yx_m = np.zeros((0, 2), np.float64)
        self.counts = np.zeros(0, np.float32)
        self.dark_field = np.zeros(0, np.float32)
        self.centre_px = np.zeros((0, 2), np.float32)

    def __len__(self) -> int:
        return len(self.index)

    def frozen(self) -> "Points":
        """As of now; what comes later does not change it (arrays are replaced, never written to)."""
        return copy.copy(self)

    def take(self, block: Survey) -> None:
        """Add a block; points that are known already are replaced."""
        self.known = max(self.known, block.known)
        new = ~np.isin(block.index, self.index, assume_unique=True)
        room = MAX_POINTS - len(self.index)
        if new.sum() > room:
            return
        if not new.any() and self._same(block):
            return
        index = np.concatenate([self.index, block.index])
        order = len(index) - 1 - np.unique(index[::-1], return_index=True)[1]  # the last of each
        for name in ("index", "yx_m", "counts", "dark_field", "centre_px"):
            setattr(self, name, np.concatenate([getattr(self, name), getattr(block, name)])[order])
        self.version += 1

    def _same(self, block: Survey) -> bool:
        rows = np.searchsorted(self.index, block.index)
        return bool(np.array_equal(self.yx_m[rows], block.yx_m) and np.array_equal(self.counts[rows], block.counts))
