"""The area that a scan covers, and whether a canvas may be as large."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import BLOCK, surroundings


def canvas_pixels(shape: tuple[int, int], span: NDArray[np.int64] | int = 0) -> float:
    """Pixels of the largest canvas of windows of `shape` (ny, nx) whose corners lie within `span` (2,) of each other.

    Margins of a quarter on either side, each of an extent that may hold the other, come to two thirds of the rest.
    """
    window = np.array(shape, np.float64)
    extent = 5 / 3 * (span + window + 2 * surroundings(shape)) + 2 * window + 4 * BLOCK
    return float(extent.prod())


class Extent:
    """Bounds of the windows of a scan, (ny, nx) = `shape` each, within a canvas of at most `max_pixels`."""

    def __init__(self, shape: tuple[int, int], max_pixels: int) -> None:
        self._shape = shape
        self._max_pixels = max_pixels
        self._bounds: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def take(self, corner: tuple[int, int]) -> bool:
        """Extend the bounds to a window; False, and nothing changes, if the canvas would be too large with its margins."""
        here = np.array(corner)
        low, high = (here, here) if self._bounds is None else self._bounds
        low, high = np.minimum(low, here), np.maximum(high, here)
        if canvas_pixels(self._shape, high - low) > self._max_pixels:
            return False
        self._bounds = (low, high)
        return True
