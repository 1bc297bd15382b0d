"""From complex objects to pictures, for display only: files keep what was reconstructed."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.geometry import in_unit

_NICE = (1, 2, 5)
RAMP_PIXELS = 1 << 19
"""Of a larger picture, the ramp is taken from rows and columns with about so many pixels each."""
STRIP_PIXELS = 1 << 15


def covered_part(covered: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest part that holds all that is covered; all of it if nothing is."""
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    if not rows.size:
        return slice(0, covered.shape[0]), slice(0, covered.shape[1])
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def displayed_phase(obj: NDArray[np.complex64], covered: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Phase without its ramp and constant, which ptychography cannot know; radians, NaN where not covered.

    The ramp is taken from the mean phase difference of neighbours, which wrapping does not disturb; in large pictures from
    those of some rows and columns, which under strong noise leaves a few times more of the tilt.
    """
    part = covered_part(covered)
    phase, valid = phase_of(obj[part], covered[part])
    along_y, along_x = ramp(phase, valid)
    shown = np.full(obj.shape, np.nan, np.float32)
    target = shown[part]
    for strip in strips(phase.shape):
        np.copyto(target[strip], unramped(phase[strip], along_y[strip], along_x), where=valid[strip])
    return shown


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of a picture of `shape` (ny, nx) in parts that stay in the cache."""
    step = max(1, STRIP_PIXELS // max(shape[1], 1))
    return (slice(top, top + step) for top in range(0, shape[0], step))


def phase_of(obj: NDArray[np.complex64], covered: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Phase of (ny, nx) `obj` in radians, 0 where it is not valid, and where it is: covered, finite and not 0."""
    phase: NDArray[np.float32] = np.angle(obj)
    magnitude = abs(obj)
    valid = covered & (magnitude > 0) & (magnitude < np.inf)
    if not valid.all():
        np.copyto(phase, 0, where=~valid)
    return phase, valid


def ramp(phase: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Phase of each row (ny,) and each column (nx,) that together make the ramp and constant of (ny, nx) `phase`."""
    ny, nx = phase.shape
    every = max(1, phase.size // RAMP_PIXELS) | 1  # odd: lines in the object have even periods more often
    # along whole lines, where the differences add up to those of the ends
    columns, inside = phase[:, ::every], valid[:, ::every]
    along_y = _wrapped(_mean_turn(columns[1:] - columns[:-1], inside[1:] & inside[:-1]) * np.arange(ny))
    rows, inside = phase[::every], valid[::every]
    along_x = _wrapped(_mean_turn(rows[:, 1:] - rows[:, :-1], inside[:, 1:] & inside[:, :-1]) * np.arange(nx))
    flat = rows - along_y[::every, None]
    flat -= along_x
    return _wrapped(along_y + _mean_turn(flat, inside)), along_x


def unramped(phase: NDArray[np.float32], along_y: NDArray[np.float32], along_x: NDArray[np.float32]) -> NDArray[np.float32]:
    """(ny, nx) `phase` without that of its rows and columns, between -pi and pi."""
    flat = phase - along_y[:, None]
    flat -= along_x
    flat -= np.float32(2 * np.pi) * np.rint(flat * np.float32(0.5 / np.pi))
    return flat


def _mean_turn(turns: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """Direction of the mean of the unit vectors at angles `turns`, radians; 0 if none is valid."""
    ahead, aside = np.cos(turns), np.sin(turns)
    if not valid.all():
        ahead *= valid
        aside *= valid
    # no matrix product: the threads of a BLAS go on spinning for a while, which takes a core from the reconstruction
    return math.atan2(*(float(part.sum(axis=1).sum(dtype=np.float64)) for part in (aside, ahead)))


def _wrapped(phase: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Between -pi and pi, so that little is lost to single precision."""
    return np.asarray(phase - 2 * np.pi * np.rint(phase / (2 * np.pi)), np.float32)


def contrast(values: NDArray[np.float32]) -> tuple[float, float]:
    """The range to show: all but the outermost half per cent."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.5))
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return float(low), float(high)


def to_gray(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """8-bit gray with contrast from the finite values, half a per cent cut off at either end; black elsewhere."""
    low, high = contrast(values)
    scaled = (values - low) / max(high - low, 1e-6)
    return np.where(np.isfinite(values), 1 + np.clip(np.nan_to_num(scaled), 0, 1) * 254, 0).astype(np.uint8)


def scale_bar(pixel_m: float, width_px: int) -> tuple[float, int]:
    """A round length of about a quarter of the width, and its pixels."""
    target = width_px * pixel_m / 4
    decade = 10.0 ** math.floor(math.log10(target))
    length = max((n * decade for n in _NICE if n * decade <= target), default=decade)
    return length, round(length / pixel_m)


def length_words(metres: float) -> str:
    """A length without decimals, in the unit that fits."""
    number, unit = in_unit(metres)
    return f"{metres:.1e} m" if unit == "pm" else f"{number:.0f} {unit}"
