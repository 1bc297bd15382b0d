"""From raw counts to amplitudes, frame by frame as they arrive.

Steps, each with its switch: orientation; saturated and reserved values masked; dark subtracted; bad pixels masked; centred
and cropped; binned; background subtracted; square root. Masked pixels become -1, which the engine leaves free.

Bad pixels, centre and background are learnt from the first `learn_frames` frames. Nothing waits for them: the first frames
are prepared at once and again at 2, 4, 8... frames, as more is known. After that they are fixed, so that the result depends
on the frames and not on their timing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import ConfigError, ScanError
from streamptycho.messages.stream import ScanStart
from streamptycho.preprocess.detector import Marks, RunningStatistics, background_outside, centre_of_mass, good_pixels
from streamptycho.preprocess.options import FrameOptions

_T = TypeVar("_T", bound=np.generic)

MASKED = np.float32(-1)
MAX_COUNTS = 1e9
"""Above what any detector counts in one exposure: larger values are not measurements, and their squares would spoil sums."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Amplitudes of one frame."""

    key: int
    """As given to :meth:`FramePreprocessor.add`."""
    amplitude: NDArray[np.float32]
    """(ny, nx), square root of counts, zero frequency at [0, 0], -1 where masked."""
    saturated: int
    """Detector pixels masked in this frame that are good in others."""


class FramePreprocessor:
    """Prepares the frames of one scan.

    Raises :class:`ConfigError` or :class:`ScanError` at the start if options and scan do not fit together.
    """

    def __init__(self, options: FrameOptions, start: ScanStart) -> None:
        self.options = options
        self._orient = options.orientation
        self.frame_shape = self._orient.shape(start.geometry.frame_shape)
        self.crop_shape = self._crop_shape()
        self.shape = (self.crop_shape[0] // options.binning, self.crop_shape[1] // options.binning)
        pixel_m = start.geometry.object_pixel_m(self._orient.pair(self.crop_shape))
        self.pixel_m: tuple[float, float] = self._orient.pair(pixel_m)
        self._limit = self._value_limit(start)
        # a view of one element: a shape that is only announced takes no memory
        self._static: NDArray[np.bool_] = np.broadcast_to(np.True_, self.frame_shape)
        if start.valid is not None:
            self._static = self._static & self._orient.apply(start.valid)
        if options.mask_file is not None:
            self._static = self._static & self._load(options.mask_file, "mask_file", start).astype(np.bool_)
        self._dark = _bounded(self._orient.apply(start.dark)) if start.dark is not None and options.dark else None
        self._dark_exposures = 0
        self._pattern = self._given_background(start)
        self._announced: tuple[float, float] | None = None
        if start.beam_center_px is not None:
            self._announced = self._orient.point(start.beam_center_px, start.geometry.frame_shape)
        center = options.center
        if isinstance(center, tuple) and not all(0 <= c <= n - 1 for c, n in zip(center, self.frame_shape, strict=True)):
            raise ConfigError(f"preprocess.center: {center} is not on the oriented frame of {self.frame_shape} pixels")
        self._statistics = RunningStatistics(self.frame_shape)
        self._marks = Marks()
        self._early: list[tuple[int, NDArray[np.generic]]] = []
        self._good = self._static
        self._level = 0.0
        self.corner = self._corner((self.frame_shape[0] // 2, self.frame_shape[1] // 2))
        """Detector pixel (y, x) that becomes the first of the crop; may lie off the detector, see ``center``."""

    # fixed by start message and options

    def _crop_shape(self) -> tuple[int, int]:
        crop = self.options.crop
        side = min(self.frame_shape)
        binning = self.options.binning
        if crop is None:
            side -= side % (2 * binning)
            crop = side
        shape = (crop, crop) if isinstance(crop, int) else crop
        for n, available in zip(shape, self.frame_shape, strict=True):
            if not 8 * binning <= n <= available or n % binning:
                raise ConfigError(
                    f"preprocess.crop: {shape} does not fit frames of {self.frame_shape} with binning {binning}; "
                    f"use multiples of {binning} between {8 * binning} and the frame"
                )
        return shape

    def _value_limit(self, start: ScanStart) -> float:
        """Smallest saturated or reserved value; it and all above are masked."""
        saturation = self.options.saturation if self.options.saturation is not None else start.saturation
        limit = float("inf") if saturation is None else float(saturation)
        reserved = self.options.reserved_values and start.dtype.kind == "u"
        return min(limit, float(np.iinfo(start.dtype).max - 1)) if reserved else limit

    def _load(self, path: Path, option: str, start: ScanStart) -> NDArray[np.generic]:
        try:
            with path.open("rb") as file:
                array: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"preprocess.{option}: {path} cannot be read as a NumPy array ({error})") from error
        if array.shape != start.geometry.frame_shape:
            raise ScanError(
                f"preprocess.{option}: shape {array.shape} differs from the frame's {start.geometry.frame_shape}"
            )
        return self._orient.apply(array)

    def _given_background(self, start: ScanStart) -> NDArray[np.float32] | None:
        if self.options.background != "pattern":
            return None
        if self.options.background_file is None:
            raise ConfigError("preprocess.background_file: must be given with background = 'pattern'")
        pattern = self._load(self.options.background_file, "background_file", start).astype(np.float32)
        if not np.isfinite(pattern).all():
            raise ConfigError("preprocess.background_file: has values that are not finite; put 0 there and mask them")
        return pattern

    def _corner(self, center: tuple[float, float], *, inside: bool = True) -> tuple[int, int]:
        """First pixel of the crop with `center` at its [ny//2, nx//2], moved if the crop must lie `inside` the frame."""
        corner = []
        for c, n, available in zip(center, self.crop_shape, self.frame_shape, strict=True):
            first = np.floor(c + 0.5) - n // 2
            corner.append(int(np.clip(first, 0, available - n) if inside else first))
        return corner[0], corner[1]

    # frames

    def add_dark(self, raw: NDArray[np.generic]) -> None:
        """Add an exposure without beam; the mean of all is subtracted from the frames that follow."""
        if not self.options.dark:
            return
        counts = _bounded(self._orient.apply(raw))
        self._dark_exposures += 1
        if self._dark is None or self._dark_exposures == 1:
            self._dark = counts
        else:
            self._dark += (counts - self._dark) / self._dark_exposures

    def add(self, key: int, raw: NDArray[np.generic]) -> list[Prepared]:
        """Prepare a frame, (ny, nx) counts as received, and again earlier ones after learning from more frames."""
        if self._statistics.count >= self.options.learn_frames:
            return [self._prepare(key, raw)]
        oriented = self._orient.apply(raw)
        if self.options.reserved_values:
            self._marks.look(oriented)
        valid = self._valid(oriented, self._static)
        self._statistics.add(self._counts(oriented), valid)
        self._early.append((key, raw))
        count = self._statistics.count
        learned = count & (count - 1) == 0 or count == self.options.learn_frames
        if learned:
            self._learn()
        prepared = [self._prepare(*entry) for entry in (self._early if learned else self._early[-1:])]
        if count >= self.options.learn_frames:
            self._early.clear()
        return prepared

    def _learn(self) -> None:
        mean = self._statistics.mean
        self._good = self._static
        if self.options.detect_bad_pixels:
            self._good = good_pixels(self._statistics, self._static)
        if self.options.reserved_values:
            self._good = self._marks.measured(self._good)
        center = self._center(mean)
        self.corner = self._corner(center, inside=self.options.center in ("auto", "frame"))
        if self.options.background == "outside":
            self._level = background_outside(mean, self._good, center)
        elif self.options.background == "constant":
            self._level = self.options.background_counts

    def _center(self, mean: NDArray[np.float64]) -> tuple[float, float]:
        middle = (self.frame_shape[0] // 2, self.frame_shape[1] // 2)
        option = self.options.center
        if isinstance(option, tuple):
            return option
        if option == "frame":
            return middle
        if option == "auto" and self._announced is not None:
            return self._announced
        return centre_of_mass(mean, self._good) or middle

    # one frame

    def _valid(self, oriented: NDArray[np.generic], static: NDArray[np.bool_]) -> NDArray[np.bool_]:
        valid = static if self._limit == float("inf") else static & np.less(oriented, self._limit)
        if oriented.dtype.kind == "f":
            valid = valid & np.less_equal(np.abs(oriented), MAX_COUNTS)  # false for NaN as well
        elif oriented.dtype.kind == "i" and self.options.reserved_values and not self._marks.negative_is_noise:
            valid = valid & np.greater_equal(oriented, 0)
        return valid

    def _counts(self, oriented: NDArray[np.generic]) -> NDArray[np.float32]:
        counts = oriented.astype(np.float32)
        if self._dark is not None:
            counts -= self._dark
        return counts

    def _prepare(self, key: int, raw: NDArray[np.generic]) -> Prepared:
        oriented = self._orient.apply(raw)
        corner = self.corner
        if self.options.center_each_frame:
            center = centre_of_mass(self._counts(oriented), self._valid(oriented, self._good))
            corner = self._corner(center, inside=False) if center is not None else corner
        box, place = self._overlap(corner)
        counts = oriented[box].astype(np.float32)
        with np.errstate(invalid="ignore"):  # what is no number is masked
            for level in (self._dark, self._pattern):
                if level is not None:
                    counts -= level[box]
            counts -= np.float32(self._level)
        valid = self._valid(oriented[box], self._good[box])
        saturated = int(np.count_nonzero(self._good[box]) - np.count_nonzero(valid))
        if counts.shape != self.crop_shape:
            counts, valid = _placed(counts, place, self.crop_shape), _placed(valid, place, self.crop_shape)
        counts, valid = self._bin(counts, valid)
        amplitude = np.where(valid, np.sqrt(np.maximum(counts, 0)), MASKED)
        return Prepared(key, np.fft.ifftshift(amplitude).astype(np.float32, copy=False), saturated)

    def oriented(self, raw: NDArray[np.generic]) -> tuple[NDArray[np.generic], NDArray[np.bool_], NDArray[np.bool_]]:
        """For display only: a frame as received, but oriented; where pixels are good; where good ones are unusable now."""
        counts = self._orient.apply(raw)
        return counts, self._good, self._good & ~self._valid(counts, self._good)

    def _overlap(self, corner: tuple[int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where crop and frame overlap, on the frame and on the crop."""
        sides = zip(corner, self.crop_shape, self.frame_shape, strict=True)
        box = tuple(slice(max(c, 0), min(c + n, available)) for c, n, available in sides)
        return box, tuple(slice(b.start - c, b.stop - c) for b, c in zip(box, corner, strict=True))

    def _bin(self, counts: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Sum blocks; a block is valid if all its pixels are."""
        k = self.options.binning
        if k == 1:
            return counts, valid
        blocks = (self.shape[0], k, self.shape[1], k)
        summed: NDArray[np.float32] = np.where(valid, counts, 0).reshape(blocks).sum((1, 3))
        return summed, np.all(valid.reshape(blocks), axis=(1, 3))

    def fit_probe(self, probe: NDArray[np.complex64]) -> NDArray[np.complex64] | None:
        """A recorded probe (modes, ny, nx) on the engine's grid, or None if no unique way leads there.

        A probe on the uncropped frame is cropped like the frames: in Fourier space for the crop, on the sample for the
        binning.
        """
        if probe.shape[1:] == self.shape:
            return probe
        if probe.shape[1:] != self.frame_shape:
            return None
        near = np.fft.ifftshift(probe, axes=(1, 2))
        far = np.fft.fftshift(np.fft.fft2(near, norm="ortho"), axes=(1, 2))
        power: NDArray[np.floating] = (abs(far) ** 2).sum(0)
        center = centre_of_mass(power, np.ones(power.shape, np.bool_))
        corner = self._corner(center) if center is not None else self.corner
        far = far[:, *(slice(c, c + n) for c, n in zip(corner, self.crop_shape, strict=True))]
        near = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(far, axes=(1, 2)), norm="ortho"), axes=(1, 2))
        y, x = (n // 2 - m // 2 for n, m in zip(self.crop_shape, self.shape, strict=True))
        cropped: NDArray[np.complex64] = near[:, y : y + self.shape[0], x : x + self.shape[1]].astype(np.complex64)
        return cropped


def _bounded(dark: NDArray[np.generic]) -> NDArray[np.float32]:
    """A copy as counts, 0 where they are beyond `MAX_COUNTS` or not finite."""
    counts = dark.astype(np.float32)
    counts[~np.less_equal(np.abs(counts), MAX_COUNTS)] = 0
    return counts


def _placed(part: NDArray[_T], place: tuple[slice, ...], shape: tuple[int, int]) -> NDArray[_T]:
    """`part` in a frame of zeros, which stand for masked pixels."""
    whole = np.zeros(shape, part.dtype)
    whole[place] = part
    return whole
