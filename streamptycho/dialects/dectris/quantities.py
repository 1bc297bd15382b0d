"""Quantities as a detector announces them: in SI units if they can be right, else left out with a doubt that says why.

Zero, NaN, and what is no number, stand for not said: many detectors send them for what nobody has set.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamptycho.dialects.values import epoch_ns
from streamptycho.messages.checks import Scalar
from streamptycho.messages.geometry import electron_wavelength_from_ev, wavelength_from_ev
from streamptycho.messages.stream import MAX_FRAME_PIXELS

ANGSTROM_M = 1e-10
_AGREE = 0.01
"""Relative difference up to which two statements are the same, rounded."""
_ABSOLUTE_NS = 10**18
"""Times from here on, in September 2001, count from the Unix epoch."""
_ZONE = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
_MAX_DATE = 40
_MAX_ENTRIES, _MAX_TEXT = 200, 200
"""Metadata kept of one table; longer texts are cut."""
_LEAST_CUTOFF = 16
MAX_COUNT = 1 << 53
FLAT_FIELD = "the detector does not apply its flat field, so pixels count differently; let it do so"
_MASK_BITS = {0: "gap", 1: "dead", 2: "under-responding", 3: "over-responding", 4: "noisy", 8: "by the user", 31: "virtual"}
_ELECTRON_DETECTORS = ("arina", "quadro", "singla", "ela")


class Range(NamedTuple):
    """Where a quantity of a ptychography experiment lies; outside it is one in another unit."""

    low: float
    high: float
    unit: str
    setting: str
    """What answers in its place."""


DISTANCE = Range(1e-3, 35.0, "m", "scan.distance_m")
PITCH = Range(5e-7, 5e-3, "m", "scan.pitch_m")
WAVELENGTH = Range(1e-3, 1e3, "Å", "scan.wavelength_m")
ENERGY = Range(10.0, 2e6, "eV", "scan.energy_ev")


class Announced:
    """What a detector announces, key by key, and the doubts that arise."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        self.doubts: list[str] = []

    def number(self, key: str) -> float | None:
        """A finite number other than zero, None if there is none."""
        return _number(self._table.get(key))

    def count(self, key: str) -> int | None:
        """A positive integer, None if there is none."""
        value = self.number(key)
        return int(value) if value is not None and 0 < value < MAX_COUNT and value == int(value) else None

    def cutoff(self, key: str) -> int | None:
        """Counts from which a pixel has saturated, if that can be."""
        value = self.count(key)
        if value is not None and value < _LEAST_CUTOFF:
            self.doubts.append(f"{key} = {value} is too low for counts of saturation; if it is right, give scan.saturation")
            return None
        return value

    def is_off(self, key: str) -> bool:
        """Whether the detector says that it has not done this."""
        value = self._table.get(key)
        return isinstance(value, bool | int) and not value

    def within(self, key: str, limits: Range, value: float | None = None) -> float | None:
        """The number of `key`, or `value` in its stead, if it lies within `limits`."""
        value = self.number(key) if value is None else value
        if value is None or limits.low <= value <= limits.high:
            return value
        self.doubts.append(
            f"{key} = {value:g} is no plausible number of {limits.unit}; correct it at the detector or give {limits.setting}"
        )
        return None

    def wavelength_m(self, angstrom: str, *energies: str, detector: str = "") -> float | None:
        """Wavelength, from the key of one in Å and those of energies in eV, if they agree as photons or as electrons.

        `detector` is the key of its description: an energy alone is that of photons, and of nothing known for a detector of
        electrons.
        """
        said = {key: value for key in energies if (value := self.within(key, ENERGY)) is not None}
        direct = self.within(angstrom, WAVELENGTH)
        if direct is not None:
            for relation in (wavelength_from_ev, electron_wavelength_from_ev):
                if all(math.isclose(relation(ev), direct * ANGSTROM_M, rel_tol=_AGREE) for ev in said.values()):
                    return direct * ANGSTROM_M
            said[angstrom] = direct
        elif said and max(said.values()) <= (1 + _AGREE) * min(said.values()):
            words = str(self._table.get(detector, "")).lower().split()
            if any(word.startswith(_ELECTRON_DETECTORS) for word in words):
                self._doubt(said, "without a wavelength, may be of photons or electrons")
                return None
            return wavelength_from_ev(next(iter(said.values())))
        if said:
            self._doubt(said, "contradict each other")
        return None

    def pitch_m(self, x: str, y: str) -> tuple[float, float] | None:
        """(y, x) size of a pixel, if both are said."""
        pitch = self.within(y, PITCH), self.within(x, PITCH)
        return None if pitch[0] is None or pitch[1] is None else (pitch[0], pitch[1])

    def shape(self, x: str, y: str) -> tuple[int, int] | None:
        """(ny, nx) of a frame, if both are said."""
        ny, nx = self.count(y), self.count(x)
        if ny is None or nx is None:
            return None
        if ny * nx > MAX_FRAME_PIXELS:
            self.doubts.append(
                f"{x}, {y} = {nx}, {ny} are more than {MAX_FRAME_PIXELS} pixels; the first frame will show the size"
            )
            return None
        return ny, nx

    def beam_center_px(self, x: str, y: str, shape: tuple[int, int] | None) -> tuple[float, float] | None:
        """(y, x) of the direct beam, if both are said and it is on the detector."""
        down, across = self.number(y), self.number(x)
        if down is None or across is None:
            return None
        if min(down, across) < 0 or (shape is not None and (down > shape[0] or across > shape[1])):
            size = "" if shape is None else f" of {shape[1]} x {shape[0]} pixels"
            text = f"{x}, {y} = {across:g}, {down:g} is off the detector{size}"
            self.doubts.append(f"{text}; correct it there or give scan.beam_center_px")
            return None
        return down, across

    def _doubt(self, said: dict[str, float], what: str) -> None:
        values = ", ".join(f"{key} = {value:g}" for key, value in said.items())
        self.doubts.append(f"{values} {what}; correct them at the detector or give scan.energy_ev or scan.wavelength_m")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number else None


def saturation(dtype: np.dtype | None, cutoff: int | None) -> int | None:
    """Counts at and above which a pixel tells nothing.

    Those are the ones from `cutoff` on, and the two highest values of an unsigned type, which stand for gaps and defects.
    """
    if dtype is None or dtype.kind != "u":
        return cutoff
    highest = (1 << (8 * dtype.itemsize)) - 2
    return highest if cutoff is None else min(cutoff, highest)


def valid_pixels(
    mask: NDArray[np.unsignedinteger[Any]], shape: tuple[int, int] | None
) -> tuple[NDArray[np.bool_] | None, str, tuple[str, ...]]:
    """What a pixel mask of NeXus bits (0 for a good pixel) says.

    Returns where pixels can be used, None if that cannot be; how many have each bit, as text; and doubts.
    """
    if shape is not None and mask.shape != shape:
        text = f"the pixel mask has {mask.shape[1]} x {mask.shape[0]} pixels, frames {shape[1]} x {shape[0]}; it is not used"
        return None, "", (f"{text}: correct it at the detector, or give a mask file",)
    valid = mask == 0
    if not valid.any():
        return None, "", ("the pixel mask leaves no pixel; it is not used: correct it at the detector, or give a mask file",)
    bits = {bit: int(np.count_nonzero(mask & mask.dtype.type(1 << bit))) for bit in range(8 * mask.dtype.itemsize)}
    return valid, ", ".join(f"{_MASK_BITS.get(bit, f'bit {bit}')} {n}" for bit, n in bits.items() if n), ()


def scalars(table: Any, skip: frozenset[str] = frozenset()) -> dict[str, Scalar]:
    """Entries of a map that can be kept as metadata."""
    kept: dict[str, Scalar] = {}
    for key, value in table.items() if isinstance(table, dict) else ():
        if len(kept) == _MAX_ENTRIES:
            break
        if not isinstance(key, str) or key in skip or len(key) > _MAX_TEXT or not key.isprintable():
            continue
        if isinstance(value, str):
            kept[key] = plain_text(value, _MAX_TEXT)
        elif isinstance(value, int | float) and (abs(value) < 1 << 63 if isinstance(value, int) else math.isfinite(value)):
            kept[key] = value
    return kept


def plain_text(text: str, length: int) -> str:
    """The beginning of a text, without what neither UTF-8 nor HDF5 can hold."""
    return text[:length].encode(errors="replace").decode().replace("\0", "")


def since_epoch_ns(text: Any) -> int | None:
    """A date and time in ISO 8601 as ns since the Unix epoch; None if it is none, or has no time zone."""
    return _since_epoch_ns(text) if isinstance(text, str) and len(text) <= _MAX_DATE else None


@lru_cache(maxsize=16)
def _since_epoch_ns(text: str) -> int | None:
    ns = epoch_ns(text) if _ZONE.search(text) else None
    return ns if ns is not None and is_absolute(ns) else None


def is_absolute(time_ns: int) -> bool:
    """Whether a time counts from the Unix epoch, and not from the beginning of a series."""
    return _ABSOLUTE_NS <= time_ns < 1 << 63
