"""Bad pixels, beam centre and background from the first frames of a scan."""

from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from streamptycho.messages.payload import RESERVED_COUNTS

HOT_RATIO = 10
HOT_COUNTS = 5
HOT_DEVIATIONS = 3
"""A pixel is hot if its mean exceeds ten times the third brightest of its 3 x 3 neighbourhood by five counts and by three
standard errors. Diffraction patterns that can be reconstructed are oversampled at least twice, so no true feature is a pixel
wide."""
SURELY_LIT = 25
"""Counts expected over all frames from which a zero is no coincidence (probability e^-25)."""
LIT_SHARE = 0.75
"""Part of the pixels around a silent region that must be lit: at the edge of the beam it is about half."""
ENOUGH_FRAMES = 4
MARKS = 2
"""Negative values by which one detector marks pixels, at most."""
VARIED = 1e-3
"""Part of the pixels whose negative value changes from which that is noise."""


class Marks:
    """Pixels that say by their value that they measure nothing: one that is reserved, or negative, in every frame.

    Negative counts that vary are noise about zero.
    """

    def __init__(self) -> None:
        self.negative_is_noise = False
        self._count = 0

    def look(self, raw: NDArray[Any]) -> None:
        """Learn from a frame (ny, nx) as received."""
        negative = raw < 0
        if not self._count:
            self._first, self._negative = raw, negative
            self._marked = np.asarray(negative | np.isin(raw.astype(np.float64), RESERVED_COUNTS))
        self._count += 1
        changed = raw != self._first
        self._marked &= ~changed
        varied = np.count_nonzero(changed & (negative | self._negative))
        # detectors have one such value or two
        noise = varied > VARIED * raw.size or len(np.unique(raw[negative])) > MARKS
        self.negative_is_noise = self.negative_is_noise or bool(noise)

    def measured(self, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """`valid` without the pixels that are marked, once there are enough frames to say so."""
        return valid & ~self._marked if self._count >= ENOUGH_FRAMES else valid


class RunningStatistics:
    """Mean counts per pixel over the first frames, masked pixels left out.

    Memory is allocated with the first frame: a shape that is only announced costs nothing.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.count = 0
        self._shape = shape

    def add(self, counts: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Add a frame; `counts` (ny, nx), `valid` (ny, nx) True where they are measured."""
        counts = np.where(valid, counts, 0)
        if not self.count:
            self._first: NDArray[np.float32] = counts
            self._total, self._squares = np.zeros(self._shape), np.zeros(self._shape)
            self._seen, self._changed = np.zeros(self._shape, np.int64), np.zeros(self._shape, np.bool_)
        self.count += 1
        self._total += counts
        self._squares += np.square(counts, dtype=np.float64)
        self._seen += valid
        self._changed |= counts != self._first

    @property
    def mean(self) -> NDArray[np.float64]:
        """(ny, nx) mean counts; 0 where never valid."""
        return self._total / np.maximum(self._seen, 1)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """(ny, nx) standard error of the mean."""
        n = np.maximum(self._seen, 1)
        error: NDArray[np.float64] = np.sqrt(np.maximum(self._squares / n - self.mean**2, 0) / np.maximum(n - 1, 1))
        return error

    @property
    def silent(self) -> NDArray[np.bool_]:
        """(ny, nx) True where no frame had a count: always the same value, zero or less."""
        return ~self._changed & (self._first <= 0)


def good_pixels(statistics: RunningStatistics, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`valid` without the pixels that are hot (isolated and bright) or dead (always silent amid light).

    Silent regions of any shape count as dead if the pixels around them are lit: single pixels, gaps, beamstops.
    """
    frames, mean = statistics.count, statistics.mean
    if frames < ENOUGH_FRAMES:
        return valid
    third = scipy.ndimage.rank_filter(np.where(valid, mean, 0), rank=-3, size=3, mode="constant")
    hot = mean > HOT_RATIO * np.maximum(third, 0) + HOT_COUNTS + HOT_DEVIATIONS * statistics.deviation
    silent, regions = scipy.ndimage.label(statistics.silent & valid)
    ring = np.where((silent == 0) & valid & ~hot, scipy.ndimage.maximum_filter(silent, 3), 0).ravel()
    around = np.bincount(ring, minlength=regions + 1)
    lit = np.bincount(ring, weights=mean.ravel() * frames > SURELY_LIT, minlength=regions + 1)
    dead = (lit > LIT_SHARE * around) & ~_is_outside(silent, regions)
    dead[0] = False  # the label of pixels that are not silent
    good: NDArray[np.bool_] = valid & ~hot & ~dead[silent]
    return good


def _is_outside(regions: NDArray[np.int32], count: int) -> NDArray[np.bool_]:
    """(count + 1,) True for a region along more than half of the frame's edge: the darkness around a small beam."""
    edge = np.concatenate([regions[0], regions[-1], regions[1:-1, 0], regions[1:-1, -1]])
    outside: NDArray[np.bool_] = np.bincount(edge, minlength=count + 1) > len(edge) / 2
    return outside


def centre_of_mass(counts: NDArray[np.floating], valid: NDArray[np.bool_]) -> tuple[float, float] | None:
    """(y, x) of the bright part of a pattern, above a hundredth of its maximum; None if it is empty."""
    bright = np.where(valid, counts, 0)
    bright = np.where(bright > 0.01 * bright.max(), bright, 0)
    total = bright.sum()
    if total <= 0:
        return None
    y, x = np.ogrid[: bright.shape[0], : bright.shape[1]]
    return float((bright * y).sum() / total), float((bright * x).sum() / total)


def background_outside(mean: NDArray[np.float64], valid: NDArray[np.bool_], center: tuple[float, float]) -> float:
    """Counts per pixel outside the bright disc: the median beyond the radius that holds 99 % of the light above it.

    The light is measured above the median of the outermost tenth of the pixels, where a well sampled pattern has faded.
    """
    y, x = np.ogrid[: mean.shape[0], : mean.shape[1]]
    radius = np.hypot(y - center[0], x - center[1])
    far = radius >= np.quantile(radius, 0.9)
    if not (far & valid).any():
        return 0.0
    floor = float(np.median(mean[far & valid]))
    order = np.argsort(radius, axis=None)
    light = np.cumsum(np.clip(np.where(valid, mean - floor, 0), 0, None).ravel()[order])
    if light[-1] <= 0:
        return floor
    edge = radius.ravel()[order][np.searchsorted(light, 0.99 * light[-1])]
    outside = (radius > edge) & valid
    return float(np.median(mean[outside])) if outside.any() else floor
