"""Numbers of a file whose unit is in doubt: which value they mean, and why.

Order of trust: what the user says; the ``units`` attribute; two quantities that agree; the standard unit of the path. A
reading that contradicts the standard unit is never taken: the error lists the readings and names the setting that decides.
Pure: arrays and text in, a value and its reason out; knows nothing of HDF5.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.messages.geometry import Radiation, in_unit
from streamptycho.messages.units import electronvolts, metres

ENERGY_EV = (30.0, 400e3)
"""Energies that are believed without a wavelength beside them: below lie ultraviolet and light, above no microscope."""
DISTANCE_M, LONG_DISTANCE_M = (1e-3, 100.0), 1e4
"""From sample to detector, metres; the camera length of an electron microscope may be longer."""
PIXEL_M = (1e-7, 2e-3)
WAVELENGTH_M = (5e-13, 2e-6)
_SLOWEST_EV = {Radiation.PHOTONS: 0.02, Radiation.ELECTRONS: 1e3}
HARD_EV = 50e3
"""From this energy on a file must say whether it is of photons or electrons."""
WAVELENGTH_TOLERANCE = 0.02
"""Relative disagreement of wavelength and energy that rounding may cause."""
MIN_STEP, MAX_STEP = 1 / 500, 0.5
"""Median step of a scan as a fraction of the field of view lambda z / pixel. A beam must fit into half of that field to be
sampled, so beams that are further apart than that do not overlap: it is no geometry of far-field ptychography."""
LENGTHS = ("m", "mm", "um", "nm")
_BURST = 0.05
"""Exposures closer than this part of the mean distance in the plane are taken at one place."""
_ROUNDING = 1e-6
_FEW = 4
"""Distinct positions below which the step test says nothing."""
_SAMPLE, _CROWD = 256, 20_000


@dataclass(frozen=True, slots=True)
class Reading:
    """A number as the file has it."""

    path: str
    value: float
    unit: str | None = None

    @property
    def said(self) -> str:
        """The number as it stands there."""
        return f"{self.value:.12g} {self.unit or 'without units'}"


def parse_number(text: str) -> tuple[float, str | None] | None:
    """Number and unit of a text such as ``8.8 keV``; None if it is none."""
    match = re.fullmatch(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*", text)
    return None if match is None else (float(match[1]), match[2])


def length_m(
    reading: Reading, limits: tuple[float, float], option: str, standard: str = "m", others: Iterable[str] = LENGTHS
) -> tuple[float, str]:
    """Metres and the reason: by the units attribute, else in the `standard` unit of the path; within `limits`, metres.

    `option` names the setting that overrides the file, for the error message.
    """
    low, high = limits
    factor = metres(reading.unit or standard)
    if factor is None:
        raise FormatError(f"{reading.path}: units {reading.unit!r} are not understood as a length; set read.{option}")
    value = reading.value * factor
    if low <= value <= high:
        why = f"units {reading.unit!r}" if reading.unit else f"{standard}, the standard unit of the path"
        return value, f"{value:.6g} m, from {why} ({reading.path})"
    readings = [
        f"{unit} would be {reading.value * scale:.4g} m"
        for unit in others
        if low <= reading.value * (scale := metres(unit) or 0) <= high
    ]
    maybe = f" ({', '.join(readings)})" if readings and not reading.unit else ""
    raise FormatError(
        f"{reading.path}: {reading.said} is {value:.4g} m, outside {low:g} to {high:g} m{maybe}; set read.{option}"
    )


@dataclass(frozen=True, slots=True)
class Energy:
    """An energy as understood."""

    ev: float
    unit: str
    """Unit in which the file has it."""
    radiation: Radiation | None
    """What the wavelength beside it says; None without one."""
    why: str


def energy_ev(
    reading: Reading, units: tuple[str, ...], wavelength_m: float | None, radiation: Iterable[Radiation] = Radiation
) -> Energy:
    """The energy of photons, or the kinetic energy of electrons: whichever `radiation` are possible.

    `units` are the standards of the path: more than one only where their readings never overlap (J and eV). Raises
    FormatError if nothing fits, or if the units attribute, the plausible range and the wavelength contradict each other.
    """
    low, high = ENERGY_EV
    said = f"the file says {reading.said}"
    if reading.unit:
        factor = electronvolts(reading.unit)
        if factor is None:
            raise FormatError(f"{reading.path}: units {reading.unit!r} are not understood as an energy; set read.energy_ev")
        candidates, why = {reading.unit: reading.value * factor}, "units attribute"
        low = _SLOWEST_EV[Radiation.PHOTONS]
    else:
        candidates = {unit: reading.value * (electronvolts(unit) or 0) for unit in units}
        why = "the standard unit of the path"
    if wavelength_m is not None:
        return _agreeing(reading, candidates, wavelength_m, list(radiation), why)
    for unit, ev in candidates.items():
        if low <= ev <= high:
            return Energy(ev, unit, None, f"{ev:.6g} eV, from {why} ({said})")
    readings = [
        f"{unit} would be {ev:.6g} eV"
        for unit in ("eV", "keV", "J")
        if low <= (ev := reading.value * (electronvolts(unit) or 0)) <= high
    ]
    maybe = f" ({', '.join(readings)})" if readings and not reading.unit else ""
    raise FormatError(
        f"{reading.path}: {said}, which is no energy of {low:g} to {high:g} eV in {' or '.join(candidates)}{maybe}; "
        "set read.energy_ev"
    )


def _agreeing(
    reading: Reading, candidates: dict[str, float], wavelength_m: float, radiation: list[Radiation], why: str
) -> Energy:
    """Of the candidates, by unit, the one that belongs to the wavelength."""
    if not reading.unit:
        why = "wavelength agreement"
        candidates |= {unit: reading.value * (electronvolts(unit) or 0) for unit in ("eV", "keV", "J")}
    for kind in radiation:
        for unit, ev in candidates.items():
            if agree(ev, wavelength_m, kind):
                return Energy(ev, unit, kind, f"{ev:.6g} eV, from {why} (the file says {reading.said})")
    means = " or ".join(f"{kind.energy_ev(wavelength_m):.6g} eV for {kind}" for kind in radiation)
    raise FormatError(
        f"{reading.path}: the file says {reading.said}, but the wavelength {wavelength_m:.6g} m means {means}; "
        "set read.energy_ev"
    )


def agree(ev: float, wavelength_m: float, radiation: Radiation) -> bool:
    """Whether energy and wavelength are those of one radiation."""
    if ev < _SLOWEST_EV[radiation]:
        return False
    return abs(radiation.wavelength_m(ev) / wavelength_m - 1) <= WAVELENGTH_TOLERANCE


def position_scale(xy: NDArray[np.float64], unit: str | None, standard: str, field_m: float, path: str) -> tuple[float, str]:
    """Metres per stored unit of the positions, and the reason.

    xy : (N, 2) as stored, finite or NaN.
    field_m : field of view lambda z / pixel, metres: neighbouring positions must lie within it, and not absurdly close.

    Raises FormatError, which lists the readings, if the steps cannot be those of far-field ptychography.
    """
    scale = metres(unit or standard)
    if scale is None:
        raise FormatError(f"{path}: units {unit!r} are not understood as a length; set read.position_unit")
    step = median_step(xy)
    share = step * scale / field_m
    if not np.isfinite(share):
        return scale, f"{_named(unit, standard)} ({path}): too few positions to check"
    if MIN_STEP <= share <= MAX_STEP:
        return scale, f"{_named(unit, standard)} ({path}); {_length(step * scale)} from place to place"
    likely = [name for name in LENGTHS if MIN_STEP <= step * (metres(name) or 0) / field_m <= MAX_STEP]
    if unit and share < MIN_STEP:
        doubt = f"; as {likely[0]} they would fit better" if likely else ""
        return scale, f"units {unit!r} ({path}), believed although steps of {_length(step * scale)} are small{doubt}"
    steps = f"{path}: in {unit or standard} the places are {_length(step * scale)} apart"
    maybe = f"; in {' or '.join(likely)} they would fit" if likely else ""
    if share > MAX_STEP:
        raise FormatError(
            f"{steps}, more than half of the field of view of {_length(field_m)} that energy, distance and pixel give: "
            f"near field (which is not reconstructed here), or another unit or geometry{maybe}; "
            "set read.position_unit, read.distance_m, read.energy_ev or read.pixel_size_m"
        )
    raise FormatError(
        f"{steps}, which is next to nothing in a field of view of {_length(field_m)}{maybe}; set read.position_unit, or "
        "read.distance_m, read.energy_ev, read.pixel_size_m if it is the field that is wrong"
    )


def _named(unit: str | None, standard: str) -> str:
    return f"units {unit!r}" if unit else f"{standard}, the standard unit of the path"


def _length(value_m: float) -> str:
    return "{:.4g} {}".format(*in_unit(value_m))


def median_step(xy: NDArray[np.float64]) -> float:
    """Median distance to the nearest other place, over a sample; NaN for fewer than four distinct positions.

    Several exposures at one place, which encoders say are some nanometres apart, count as one.
    """
    distinct = np.unique(xy[np.isfinite(xy).all(axis=1)][:_CROWD], axis=0)
    if len(distinct) < _FEW:
        return float("nan")
    sides = np.ptp(distinct, axis=0)
    mean = max(float(np.sqrt(sides.prod() / len(distinct))), float(sides.max()) / len(distinct))
    sample = distinct[np.linspace(0, len(distinct) - 1, min(_SAMPLE, len(distinct))).astype(np.intp)]
    nearest = []
    for point in sample:
        square = ((distinct - point) ** 2).sum(axis=1)
        other = square[square > (_BURST * mean) ** 2]
        nearest.append(other.min() if len(other) else np.nan)
    return float(np.sqrt(np.nanmedian(nearest)))


def same(values: NDArray[np.float64]) -> bool:
    """Whether numbers are equal up to rounding."""
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())
