"""Fourier ring correlation of two objects, and the resolution it stands for (van Heel and Schatz 2005)."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

CRITERION = "half-bit"
"""Name of the threshold: half a bit of information per sample."""
TAPER = 0.5
"""Part of each side over which the window falls to zero."""
LEAST_SIDE = 24
SMOOTHING = 1.0
"""Width of the Gaussian over rings with which the crossing is looked for, rings."""
LEAST_PEAK = 0.5
"""Correlation that some ring must reach before there is a resolution at all."""
SKIPPED = 2
"""Innermost rings, which hold the mean and the slow differences of two young objects."""


@dataclass(frozen=True, slots=True, eq=False)
class RingCorrelation:
    """A curve and its crossing."""

    frequency: NDArray[np.float64]
    """(k,) cycles per pixel."""
    correlation: NDArray[np.float64]
    """(k,) -1 to 1."""
    threshold: NDArray[np.float64]
    """(k,) half a bit of information."""
    resolution_px: float
    """Period where the curve falls below the threshold, 2 or more; NaN if the objects do not agree anywhere."""


def ring_correlation(one: NDArray[np.complexfloating], two: NDArray[np.complexfloating]) -> RingCorrelation:
    """Of two objects (n, n) on the same pixels, which differ by a constant factor and what the data did not settle."""
    n = one.shape[0]
    window = np.outer(_taper(n), _taper(n))
    one, two = ((z - (z * window).sum() / window.sum()) * window for z in (one, two))
    a, b = np.fft.fft2(one), np.fft.fft2(two)
    k = np.fft.fftfreq(n)
    ring = np.rint(np.hypot(k[:, None], k[None]) * n).astype(np.int64).ravel()
    rings = n // 2 + 1
    turn = np.vdot(b, a)
    cross = (a * b.conj()).ravel() * np.exp(-1j * np.angle(turn))
    parts = (cross.real, np.abs(a.ravel()) ** 2, np.abs(b.ravel()) ** 2)
    shared, power_a, power_b = (np.bincount(ring, part)[:rings] for part in parts)
    correlation = shared / np.sqrt(np.maximum(power_a * power_b, 1e-300))
    # a window leaves fewer independent samples
    independent = np.bincount(ring)[:rings] * (window**2).sum() ** 2 / (window**4).sum() / window.size
    threshold = half_bit(independent)
    frequency = np.arange(rings) / n
    return RingCorrelation(frequency, correlation, threshold, 1 / crossing(frequency, correlation, threshold))


def half_bit(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Correlation of two halves at which all data hold half a bit per sample, for rings of so many samples."""
    root = 1 / np.sqrt(np.maximum(samples, 1))
    bound: NDArray[np.float64] = (0.2071 + 1.9102 * root) / (1.2071 + 0.9102 * root)
    return bound


def crossing(frequency: NDArray[np.floating], correlation: NDArray[np.floating], threshold: NDArray[np.floating]) -> float:
    """Where the curve falls below the threshold for the first time beyond its highest place; NaN if that is not high.

    Two objects that are not settled yet disagree in what is slowest; what is finer than their best ring counts.
    """
    smooth = scipy.ndimage.gaussian_filter1d(correlation, SMOOTHING, mode="nearest")
    peak = SKIPPED + int(np.argmax(smooth[SKIPPED:])) if len(smooth) > SKIPPED else 0
    if not smooth[peak] >= max(LEAST_PEAK, threshold[peak]):
        return float("nan")
    below = np.flatnonzero(smooth[peak:] < threshold[peak:])
    if not len(below):
        return float(frequency[-1])
    at = peak + int(below[0])
    above, under = smooth[at - 1] - threshold[at - 1], threshold[at] - smooth[at]
    return float(frequency[at - 1] + (frequency[at] - frequency[at - 1]) * above / max(above + under, 1e-12))


def largest_square(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """The largest square inside `mask` (ny, nx), the first of several; None if it is smaller than `LEAST_SIDE`.

    A bit for each place stands for the squares of one side that have their first pixel there. The side doubles while any are
    left, and then grows by half of it, by a quarter...
    """
    words = mask.shape[1] // 64 + 1  # at least one bit that is not set ends each row, so that no square goes on in the next
    rows = np.zeros((mask.shape[0], 8 * words), np.uint8)
    rows[:, : -(-mask.shape[1] // 8)] = np.packbits(mask, axis=1, bitorder="little")
    squares, side = rows.view("<u8").ravel(), 1
    while (larger := _grown(squares, side, words)).any():
        squares, side = larger, 2 * side
    growth = side
    while growth > 1:
        growth //= 2
        if (larger := _grown(squares, growth, words)).any():
            squares, side = larger, side + growth
    if side < LEAST_SIDE:
        return None
    word = int(np.flatnonzero(squares)[0])
    y, x = word // words, 64 * (word % words) + (int(squares[word]) & -int(squares[word])).bit_length() - 1
    return slice(y, y + side), slice(x, x + side)


def _grown(squares: NDArray[np.uint64], by: int, words: int) -> NDArray[np.uint64]:
    """Places of squares whose side is larger `by` at most itself: four of the smaller ones, side by side, make one up.

    `squares` has the bits of the rows one after the other, `words` a row; there are none for the last `by` rows.
    """
    count = len(squares) - by * words
    if count <= 0:
        return squares[:0]
    wide = squares.copy()
    skipped, bits = divmod(by, 64)
    beside = np.zeros_like(wide)
    beside[: len(wide) - skipped] = wide[skipped:] >> np.uint64(bits)
    if bits:
        beside[: len(wide) - skipped - 1] |= wide[skipped + 1 :] << np.uint64(64 - bits)
    wide &= beside
    return wide[:count] & wide[by * words :]


def _taper(n: int) -> NDArray[np.float64]:
    """Tukey window of n samples."""
    edge = np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / (TAPER / 2 * n)
    window: NDArray[np.float64] = np.sin(np.pi / 2 * np.clip(edge, 0, 1)) ** 2
    return window
