"""What a few patterns tell by themselves: the size of the beam on the sample, the noise, and pixels that should be masked."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from streamptycho.preprocess.detector import HOT_COUNTS, HOT_RATIO
from streamptycho.solve.noise import root_count_variance
from streamptycho.solve.store import FrameStore

PATTERNS = 64
"""Patterns looked at, evenly over the scan."""
LIT = 0.1
"""Patterns with less than this fraction of the usual counts are left out."""
EXTENT = 0.95
"""Part of the correlation whose radius stands for the size of the beam."""
DIAMETERS = 1.4
"""Diameter of a round beam in units of that radius; found for discs, good to a third."""
FLAT_TOP = 3
"""Pixels of a pattern at the largest value of all patterns if that is a ceiling."""
LOWEST_CEILING = 50.0


@dataclass(frozen=True, slots=True)
class Patterns:
    """Figures of some patterns of a scan."""

    beam_px: float
    """Diameter of the beam on the sample, object pixels; NaN where the patterns hardly differ."""
    noise_share: float
    """Fourier error that counting noise alone makes, 0 to about 1."""
    difference: float
    """Spread of the patterns about their mean in units of counting noise: 1 is nothing but noise."""
    hot: int
    """Pixels that are ten times brighter than all but two around them."""
    ceiling: float
    """Part of the patterns cut off at one and the same value."""


def look(store: FrameStore) -> Patterns:
    """Look at up to `PATTERNS` patterns of a store."""
    rows = np.unique(np.linspace(0, len(store) - 1, PATTERNS).astype(np.int64))
    amplitude = np.stack([store.backend.to_host(store.amplitudes[row]) for row in rows]).astype(np.float64)
    valid = (amplitude >= 0).all(0)
    counts = np.square(np.where(valid, amplitude, 0))
    power = counts.sum((1, 2))
    lit = power > LIT * np.median(power)
    counts, power = counts[lit], power[lit]
    if not len(counts):
        return Patterns(float("nan"), float("nan"), float("nan"), 0, 0.0)
    mean = (counts / power[:, None, None]).mean(0)
    usual = float(np.median(power))
    noise = float(root_count_variance(mean * usual).sum() / usual)
    spread = np.square(np.sqrt(counts) - np.sqrt(mean * power[:, None, None])).sum((1, 2))
    expected = np.array([root_count_variance(mean * p).sum() for p in power])
    return Patterns(
        beam_px=beam_size(counts, power, mean),
        noise_share=min(noise, 1.0),
        difference=float(np.median(spread / np.maximum(expected, 1e-12))),
        hot=hot_pixels(mean * usual, valid),
        ceiling=_at_ceiling(counts),
    )


def beam_size(counts: NDArray[np.float64], power: NDArray[np.float64], mean: NDArray[np.float64]) -> float:
    """Diameter of the beam, px: how far exit waves reach in the correlation of the patterns about their mean.

    The transform of a pattern is the correlation of its exit wave with itself, which ends where the beam does.

    Parameters
    ----------
    counts : (k, ny, nx), zero frequency at [0, 0]; power : (k,) their sums; mean : (ny, nx) mean of counts / power.
    """
    ny, nx = mean.shape
    total = np.zeros(mean.shape)
    for pattern, sum_ in zip(counts, power, strict=True):
        total += np.abs(np.fft.fft2(pattern / sum_ - mean)) ** 2 - 1 / sum_  # less the counting noise, which is white
    y, x = np.fft.fftfreq(ny) * ny, np.fft.fftfreq(nx) * nx
    ring = np.rint(np.hypot(y[:, None], x[None])).astype(np.int64).ravel()
    profile = np.bincount(ring, total.ravel())[: min(ny, nx) // 2]
    cumulative = np.cumsum(np.maximum(profile, 0))
    if cumulative[-1] <= 0:
        return float("nan")
    return DIAMETERS * float(np.searchsorted(cumulative, EXTENT * cumulative[-1]))


def hot_pixels(mean: NDArray[np.float64], valid: NDArray[np.bool_]) -> int:
    """Isolated bright pixels of a mean pattern (ny, nx) in counts: no true feature is one pixel wide."""
    third = scipy.ndimage.rank_filter(np.where(valid, mean, mean.max()), rank=-3, size=3, mode="wrap")
    return int((valid & (mean > HOT_RATIO * third + HOT_COUNTS)).sum())


def _at_ceiling(counts: NDArray[np.float64]) -> float:
    """Part of the patterns (k, ny, nx) with several pixels at the largest value of all; stuck pixels do not count."""
    flat = counts.reshape(len(counts), -1)
    at_top = flat >= (1 - 1e-4) * flat.max()
    at_top &= ~at_top.all(0)
    return float((at_top.sum(1) >= FLAT_TOP).mean()) if flat.max() > LOWEST_CEILING else 0.0
