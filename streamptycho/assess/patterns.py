"""What a few patterns show by themselves: size of the beam on the sample, noise, and pixels that should be masked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from streamptycho.preprocess.detector import HOT_COUNTS, HOT_RATIO
from streamptycho.solve.equations.noise import root_count_variance
from streamptycho.solve.store import FrameStore

PATTERNS = 32
"""Patterns examined, evenly over the scan."""
LIT = 0.1
"""Patterns with less than this fraction of the usual counts are left out."""
EXTENT = 0.95
"""Part of the correlation whose radius stands for the size of the beam."""
DIAMETERS = 1.4
"""Diameter of a round beam in units of that radius; found for discs, good to a third."""
FLAT_TOP = 3
"""Pixels of a pattern at the largest value of all patterns if that is a ceiling."""
LOWEST_CEILING = 50.0
STUCK = 0.9
"""A hot pixel with such a part of the largest value in the mean shows it all the time."""
NO_COUNTS = 2.0
"""Largest value of all patterns below which they are no counts, if they have values between 0 and 1: somebody has divided
them by their maximum, or by their sum."""
WHOLE = 0.01
FRACTIONS = 0.5
"""Part of the lit pixels that are no whole numbers from which that is so."""
AT_TOP = 1e-4
"""Relative difference from the largest value up to which a pixel is at it."""


@dataclass(frozen=True, slots=True)
class Patterns:
    """Figures of some patterns of a scan."""

    beam_px: float
    """Diameter of the beam on the sample, object pixels; NaN where the patterns hardly differ."""
    noise_share: float
    """Fourier error that counting noise alone makes, 0 to about 1; NaN where the patterns are not in counts."""
    difference: float
    """Variance of the patterns about their mean in units of counting noise: 1 is nothing but noise; NaN likewise."""
    hot: int
    """Pixels that are ten times brighter than all but two around them."""
    ceiling: float
    """Part of the patterns cut off at one and the same value."""
    counted: bool = True
    """Whether the patterns are in counts; False where somebody has divided them by their maximum, or by their sum."""


class PatternSums:
    """Sums over patterns, one added at a time."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._valid = np.ones(shape, np.bool_)
        self._total = np.zeros(shape)
        self._squares = np.zeros(shape)
        self._correlation = np.zeros((shape[0], shape[1] // 2 + 1))
        """Sum of the squared transforms of normalised patterns."""
        self._power: list[float] = []
        self._fractions: list[float] = []
        """Part of the lit pixels of each pattern that are no whole numbers."""
        self._tops: list[tuple[float, int]] = []
        """Largest value of each pattern, and the number of pixels at it."""

    def add(self, amplitude: NDArray[np.float32]) -> None:
        """Take a pattern in, (ny, nx) as the engine has it."""
        self._valid &= amplitude >= 0
        counts = np.square(np.maximum(amplitude, 0))
        power, top = float(counts.sum(dtype=np.float64)), float(counts.max())
        if power <= 0:
            return
        part = counts / np.float32(power)
        field = scipy.fft.rfft2(part)
        self._correlation += field.real**2 + field.imag**2
        self._total += part
        self._squares += np.square(part, dtype=np.float64)
        self._power.append(power)
        lit = counts[counts > 0]
        self._fractions.append(float((np.abs(lit - np.rint(lit)) > WHOLE * np.minimum(lit, 1)).mean()))
        self._tops.append((top, int((counts >= (1 - AT_TOP) * top).sum())))

    def figures(self) -> Patterns | None:
        """What the sums say; None if they are empty."""
        count = len(self._power)
        if count < 2:
            return None
        mean = self._total / count
        usual = float(np.median(self._power))
        counted = self._counted()
        weight = float(np.mean(1 / np.array(self._power)))
        varied = float((self._squares - count * mean**2)[self._valid].sum()) / (count - 1)
        noisy = weight * float(mean[self._valid].sum())
        hot = hot_pixels(mean * usual, self._valid)
        return Patterns(
            beam_px=self._beam_px(mean, count * weight if counted else None),
            noise_share=min(float(root_count_variance(mean * usual).sum() / usual), 1.0) if counted else float("nan"),
            difference=varied / max(noisy, 1e-30) if counted else float("nan"),
            hot=int(hot.sum()),
            ceiling=self._ceiling(mean[hot] * usual),
            counted=counted,
        )

    def _counted(self) -> bool:
        top = max(value for value, _ in self._tops)
        return top >= NO_COUNTS or float(np.median(self._fractions)) <= FRACTIONS

    def _beam_px(self, mean: NDArray[np.float64], noise: float | None) -> float:
        """How far exit waves reach in the correlation of the patterns about their mean.

        The transform of a pattern is the correlation of its exit wave with itself, which ends where the beam does; counting
        noise adds the same everywhere. Where it is not known from the counts, it is what lies beyond any beam.
        """
        ny, nx = mean.shape
        field = scipy.fft.rfft2(mean)
        varied = self._correlation - len(self._power) * (field.real**2 + field.imag**2)
        y, x = scipy.fft.fftfreq(ny) * ny, scipy.fft.rfftfreq(nx) * nx
        ring = np.rint(np.hypot(y[:, None], x[None])).astype(np.int64).ravel()
        varied -= float(np.median(varied.ravel()[ring >= min(ny, nx) // 2])) if noise is None else noise
        profile = np.bincount(ring, varied.ravel())[: min(ny, nx) // 2]
        cumulative = np.cumsum(np.maximum(profile, 0))
        if cumulative[-1] <= 0:
            return float("nan")
        return DIAMETERS * float(np.searchsorted(cumulative, EXTENT * cumulative[-1]))

    def _ceiling(self, hot: NDArray[np.float64]) -> float:
        """Part of the patterns with several pixels at the largest value of all, without `hot` ones, (h,) means."""
        top = max(value for value, _ in self._tops)
        if top < LOWEST_CEILING:
            return 0.0
        stuck = int((hot >= STUCK * top).sum())
        flat = [count - stuck >= FLAT_TOP for value, count in self._tops if value >= (1 - AT_TOP) * top]
        return sum(flat) / len(self._tops)


def looking(store: FrameStore) -> Iterator[Patterns | None]:
    """Examine up to `PATTERNS` patterns of a store, one at each step; only the last step gives the figures."""
    usual = float(np.median(store.power[: len(store)]))
    lit = np.flatnonzero(store.power[: len(store)] > LIT * usual)
    sums = PatternSums(store.shape)
    for row in np.unique(lit[np.linspace(0, len(lit) - 1, PATTERNS).astype(np.int64)]) if len(lit) else ():
        sums.add(store.backend.to_host(store.amplitudes[row]))
        yield None
    yield sums.figures()


def hot_pixels(mean: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Isolated bright pixels of a mean pattern (ny, nx) in counts: no true feature is one pixel wide."""
    third = scipy.ndimage.rank_filter(np.where(valid, mean, mean.max()), rank=-3, size=3, mode="wrap")
    return np.asarray(valid & (mean > HOT_RATIO * third + HOT_COUNTS))
