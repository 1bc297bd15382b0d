"""What the pixels of stored frames mean, as far as a look at the first of them tells: see :func:`look`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.options import ReadOptions
from streamptycho.messages.payload import NEAREST_DTYPES, PIXEL_DTYPES, RESERVED_COUNTS

LOOK = 16
"""Frames that are looked at."""
_ENOUGH = 3
"""Frames from which a pixel that never changes is none by chance."""
_CORNER, _CENTRE, _EACH = 0.8, 0.1, 0.03
"""Share of the light in the four corners, at the centre, and in each corner, of a pattern that is fftshifted."""
_CLEARLY = 2.0
_NOT_HOT = 0.995
"""Quantile of the light above which pixels may be hot."""
_WHOLE = 1e-3
"""Distance from a whole number that rounding leaves."""
_FEW_LEVELS, _LEVELS = 3, 8

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Pixels:
    """How stored pixels become counts."""

    dtype: np.dtype
    """Pixel type, little-endian, that frames have afterwards."""
    shifted: bool = False
    amplitudes: bool = False
    measured: NDArray[np.bool_] | None = None
    """(ny, nx) False where a pixel never measures, as stored; None if all do."""
    light: NDArray[np.float64] | None = None
    """(ny, nx) mean counts of the frames that were looked at, 0 where nothing is measured, as stored; None without any."""
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def as_stored(self) -> bool:
        """Whether frames are passed on without a change."""
        return not (self.shifted or self.amplitudes)

    def counts(self, stored: NDArray[np.generic], name: str) -> NDArray[np.generic]:
        """A frame (ny, nx) in counts. Raises FormatError where a measured pixel does not fit the type."""
        if self.amplitudes:
            stored = np.square(stored.astype(np.float32))
        if stored.dtype != self.dtype:
            stored = self._cast(stored, name)
        return self.placed(stored)

    def placed(self, stored: NDArray[_T]) -> NDArray[_T]:
        """A picture of the detector (ny, nx), such as a mask, with the zero frequency at its centre."""
        return np.fft.fftshift(stored, axes=(-2, -1)) if self.shifted else stored

    def _cast(self, stored: NDArray[Any], name: str) -> NDArray[np.generic]:
        if self.dtype.kind == "f" or stored.dtype.kind == "b" or stored.dtype.newbyteorder("<") == self.dtype:
            return stored.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        outside = np.asarray((stored < limits.min) | (stored > limits.max))
        if self.measured is not None:
            outside &= self.measured
        if outside.any():
            worst = stored[outside].max()
            raise FormatError(
                f"{name}: counts of {stored.dtype.name} up to {worst} do not fit {self.dtype.name}; convert the file"
            )
        clipped: NDArray[np.generic] = np.clip(stored, limits.min, limits.max).astype(self.dtype)
        return clipped


def look(
    sample: Sequence[NDArray[np.generic]], dtype: np.dtype, options: ReadOptions, *, amplitudes: bool = False
) -> Pixels:
    """What the first frames tell.

    sample : some (ny, nx) frames as stored; may be empty, and then nothing but the settings counts.
    amplitudes : whether the layout stores square roots of counts.
    """
    wire = _wire_type(sample, dtype)
    notes: dict[str, str] = {}
    if not sample:
        return Pixels(
            wire, bool(options.shifted), amplitudes if options.amplitudes is None else options.amplitudes, notes=notes
        )
    stack = np.stack(sample)
    measured = _measured(stack, notes)
    counts = np.where(measured, stack, 0).astype(np.float64)
    roots = _amplitudes(counts[:, measured], options, notes, layout=amplitudes)
    light = np.maximum(np.square(counts) if roots else counts, 0).mean(0)
    shifted = _shifted(light, options, notes)
    return Pixels(np.dtype("<f4") if roots else wire, shifted, roots, None if measured.all() else measured, light, notes)


def _wire_type(sample: Sequence[NDArray[Any]], dtype: np.dtype) -> np.dtype:
    name = NEAREST_DTYPES.get(dtype.name, dtype.name)
    if name not in PIXEL_DTYPES:
        known = ", ".join((*PIXEL_DTYPES, *NEAREST_DTYPES))
        raise FormatError(f"frames of type {dtype.name} are not counts of one of {known}; convert them")
    if dtype.name == "int64" and any(
        ((frame > np.iinfo("int32").max) & (frame < np.iinfo("uint32").max - 1)).any() for frame in sample
    ):
        name = "uint32"
    return np.dtype(name).newbyteorder("<")


def _measured(stack: NDArray[Any], notes: dict[str, str]) -> NDArray[np.bool_]:
    """(ny, nx) False where a pixel has the same reserved or negative value, or none, in every frame."""
    measured = np.ones(stack.shape[1:], np.bool_)
    if len(stack) < _ENOUGH or stack.dtype.kind == "b":
        return measured
    first = stack[0]
    if stack.dtype.kind == "f":
        measured &= np.isfinite(stack).any(0)
        if not measured.all():
            notes["nan"] = f"{int((~measured).sum())} pixels are never finite: nothing is measured there"
    reserved = np.isin(first.astype(np.float64), RESERVED_COUNTS)
    if stack.dtype.kind != "u":
        reserved |= first < 0
    if stack.dtype.kind in "iu":
        reserved |= first >= np.iinfo(stack.dtype).max - 1
    stuck = reserved & (stack == first).all(0)
    if stuck.any():
        values = ", ".join(f"{value:.10g}" for value in np.unique(first[stuck])[:4])
        notes["reserved"] = f"{int(stuck.sum())} pixels always hold {values}: nothing is measured there"
    measured &= ~stuck
    return measured


def _amplitudes(values: NDArray[np.float64], options: ReadOptions, notes: dict[str, str], *, layout: bool) -> bool:
    if options.amplitudes is not None:
        if options.amplitudes:
            notes["amplitudes"] = "frames are squared, as set"
        return options.amplitudes
    if layout:
        notes["amplitudes"] = "frames are squared: this layout stores square roots of counts (read.amplitudes)"
        return True
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive) or _whole(positive):
        return False
    levels = _levels(positive)
    if levels is None:
        return False
    if _whole(levels / levels[0]):
        return False
    if _whole(np.square(levels / levels[0])):
        notes["amplitudes"] = (
            "frames are squared: their squares, and not they, are multiples of one number (read.amplitudes)"
        )
        return True
    return False


def _levels(positive: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The smallest values that occur, if counts of single photons show as separate levels; None if they do not."""
    ordered = np.sort(positive)
    steps = np.flatnonzero(np.diff(ordered) > _WHOLE * ordered[:-1])
    starts = np.concatenate([[0], steps + 1])
    if len(starts) < _FEW_LEVELS or len(starts) > len(ordered) / 4:
        return None
    levels: NDArray[np.float64] = ordered[starts[:_LEVELS]]
    return levels


def _whole(values: NDArray[np.float64]) -> bool:
    """Whether all but a few are whole numbers."""
    return bool(np.quantile(np.abs(values - np.rint(values)) / np.maximum(values, 1), 0.99) < _WHOLE)


def _shifted(light: NDArray[np.float64], options: ReadOptions, notes: dict[str, str]) -> bool:
    if options.shifted is not None:
        if options.shifted:
            notes["shifted"] = "the zero frequency is moved to the centre, as set"
        return options.shifted
    ny, nx = light.shape
    if min(ny, nx) < 8 or not light.any():
        return False
    light = np.minimum(light, max(float(np.quantile(light, _NOT_HOT)), float(light[light > 0].min())))
    light = light / light.sum()
    y, x = ny // 4, nx // 4
    corners = [float(part.sum()) for part in (light[:y, :x], light[:y, -x:], light[-y:, :x], light[-y:, -x:])]
    centre = float(light[y : ny - y, x : nx - x].sum())
    if sum(corners) < _CLEARLY * centre or min(corners) < _EACH:
        return False
    share = f"{sum(corners):.0%} of the light is in the four corners and {centre:.0%} in the middle"
    if sum(corners) > _CORNER and centre < _CENTRE:
        notes["shifted"] = f"the zero frequency is moved to the centre: {share} (read.shifted)"
        return True
    raise FormatError(f"frames: {share}, so the zero frequency may be at pixel [0, 0]; set read.shifted to true or false")
