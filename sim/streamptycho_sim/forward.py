"""From truth to counts: diffraction of the probe at each position, and an imperfect detector.

Frame i is a pure function of the options, the seed and i: frames can be simulated in any order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft

from streamptycho.errors import ConfigError
from streamptycho.options import Options


class DetectorOptions(Options):
    """Counting statistics and defects of the detector."""

    photons: float = Field(default=1e6, gt=0)
    """Photons per frame where the specimen is transparent."""
    dtype: Literal["uint16", "uint32"] = "uint16"
    """Pixel type; counts beyond its range stay at its largest value."""
    noise: bool = True
    """Poisson statistics; without them counts are the rounded expectation."""
    dark_counts: float = Field(default=0.0, ge=0)
    """Mean counts per pixel and frame without beam."""
    dark_frames: int = Field(default=10, ge=0)
    """Exposures without beam before a scan with dark counts; with 0 the start message carries their mean instead."""
    hot_pixels: int = Field(default=0, ge=0)
    """Pixels that always show `hot_value`."""
    hot_value: int = Field(default=60000, ge=0)
    """Counts of a hot pixel."""
    dead_pixels: int = Field(default=0, ge=0)
    """Pixels that always show zero."""
    beamstop_px: float = Field(default=0.0, ge=0)
    """Radius of an opaque disc in the middle, pixels."""
    saturation: int | None = Field(default=None, ge=1)
    """Counts at which a pixel saturates: larger counts are clipped, and the limit is announced."""
    mask_defects: bool = True
    """Announce hot and dead pixels in the mask."""
    mask_beamstop: bool = True
    """Announce the beamstop in the mask."""


@dataclass(frozen=True, slots=True)
class Detector:
    """The detector of one scan; the seed fixes which pixels are hot or dead."""

    options: DetectorOptions
    seed: int
    hot: NDArray[np.bool_]
    """(n, n) True where a pixel is stuck high."""
    dead: NDArray[np.bool_]
    """(n, n) True where a pixel counts nothing."""
    shadow: NDArray[np.bool_]
    """(n, n) True behind the beamstop."""

    @classmethod
    def make(cls, options: DetectorOptions, n: int, seed: int) -> "Detector":
        """A detector of (n, n) pixels with its defects drawn from `seed`."""
        if options.hot_pixels + options.dead_pixels > n * n:
            raise ConfigError(f"hot_pixels + dead_pixels: more than the {n * n} pixels of the detector; ask for fewer")
        broken = np.random.default_rng((seed, 3)).permutation(n * n)[: options.hot_pixels + options.dead_pixels]
        hot, dead = np.zeros(n * n, bool), np.zeros(n * n, bool)
        hot[broken[: options.hot_pixels]] = True
        dead[broken[options.hot_pixels :]] = True
        axis = np.arange(n) - n // 2
        shadow = np.hypot(axis[:, None], axis[None, :]) < options.beamstop_px
        return cls(options, seed, hot.reshape(n, n), dead.reshape(n, n), shadow)

    @property
    def dtype(self) -> np.dtype:
        """Pixel type of the frames."""
        return np.dtype(self.options.dtype)

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        """Announced mask, (n, n) True = valid; None if no defect is announced."""
        bad = np.zeros(self.hot.shape, bool)
        if self.options.mask_defects:
            bad |= self.hot | self.dead
        if self.options.mask_beamstop:
            bad |= self.shadow
        return ~bad if bad.any() else None

    @property
    def mean_dark(self) -> NDArray[np.float32]:
        """Expectation of a frame without beam, (n, n) counts."""
        mean = np.full(self.hot.shape, self.options.dark_counts, np.float32)
        mean[self.hot], mean[self.dead] = self.options.hot_value, 0
        return np.minimum(mean, self._ceiling)

    def record(self, intensity: NDArray[np.float32], index: int) -> NDArray[np.generic]:
        """Counts (n, n) of exposure `index` from the expected photons (n, n)."""
        return self._counts(np.where(self.shadow, 0, intensity), (self.seed, 4, index))

    def dark(self, index: int) -> NDArray[np.generic]:
        """Counts (n, n) of dark exposure `index`."""
        return self._counts(np.zeros(self.hot.shape, np.float32), (self.seed, 5, index))

    def _counts(self, photons: NDArray[np.float32], seed: tuple[int, ...]) -> NDArray[np.generic]:
        mean = photons + self.options.dark_counts if self.options.dark_counts else photons
        counts = np.random.default_rng(seed).poisson(mean) if self.options.noise else np.rint(mean)
        counts[self.hot] = self.options.hot_value
        counts[self.dead] = 0
        return np.minimum(counts, self._ceiling).astype(self.dtype)

    @property
    def _ceiling(self) -> int:
        limit = int(np.iinfo(self.dtype).max)
        return min(self.options.saturation or limit, limit)


def diffract(
    obj: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    corners: NDArray[np.int64],
    shifts: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Expected photons on the detector, (k, n, n) float32, zero frequency at [n//2, n//2].

    Parameters
    ----------
    obj : (ny, nx) transmission.
    probe : (modes, n, n), centred on [n//2, n//2]; the modes add up in intensity.
    corners : (k, 2) object pixel (y, x) under pixel [0, 0] of the probe.
    shifts : (k, 2) subpixel displacement of the probe (y, x), pixels; None for none.
    """
    n = probe.shape[-1]
    windows = np.stack([obj[y : y + n, x : x + n] for y, x in corners])
    beams = probe[None] if shifts is None else np.stack([shifted(probe, shift) for shift in shifts])
    waves = fft.fft2(beams * windows[:, None], norm="ortho", overwrite_x=True)
    intensity = (waves.real**2 + waves.imag**2).sum(axis=1)
    return np.asarray(fft.fftshift(intensity, axes=(1, 2)), np.float32)


def shifted(probe: NDArray[np.complex64], shift: NDArray[np.float64]) -> NDArray[np.complex64]:
    """The probe (modes, n, n) moved by `shift` (y, x) pixels, by a phase ramp in Fourier space."""
    k = fft.fftfreq(probe.shape[-1])
    ramp = np.exp(-2j * np.pi * (shift[0] * k[:, None] + shift[1] * k[None, :])).astype(np.complex64)
    moved: NDArray[np.complex64] = fft.ifft2(fft.fft2(probe) * ramp)
    return moved


def dose(probe: NDArray[np.complex64], corners: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Photons on each object pixel in the whole scan, `shape` (ny, nx) float32."""
    n, total = probe.shape[-1], np.zeros(shape, np.float32)
    footprint = (abs(probe) ** 2).sum(axis=0)
    for y, x in corners:
        total[y : y + n, x : x + n] += footprint
    return total
