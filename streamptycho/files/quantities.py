"""Numbers of a file whose unit is in doubt: which value they mean, and why.

Order of trust: what the user says, then the ``units`` attribute, then agreement with the wavelength, then
what is physically plausible, then the standard of the path. Two sources that contradict each other are an error, never a
guess. Pure: arrays and text in, a value and its reason out; knows nothing of HDF5.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.messages.geometry import HC_EV_M
from streamptycho.messages.units import ENERGY_UNITS, LENGTH_UNITS

PHOTON_EV = (30.0, 300e3)
WAVELENGTH_TOLERANCE = 0.02
"""Relative disagreement of wavelength and energy that rounding may cause."""
MIN_STEP = 1 / 500
"""Smallest median step of a scan as a fraction of the field of view lambda z / pixel; the largest is 1."""
_DOUBT = 5.0
"""Factor by which the step must miss that range before a units attribute is doubted: sparse scans exist."""
_FEW = 4
"""Distinct positions below which the step test says nothing."""
_SAMPLE, _CROWD = 256, 20_000


@dataclass(frozen=True, slots=True)
class Reading:
    """A number as the file has it."""

    path: str
    value: float
    unit: str | None = None


def length_m(reading: Reading, low: float, high: float, option: str) -> tuple[float, str]:
    """Metres and the reason: the unit attribute, else metres; must lie in `low`..`high` metres.

    `option` names the setting that overrides the file, for the error message.
    """
    factor = _factor(reading, LENGTH_UNITS, option)
    value = reading.value * factor
    if not low <= value <= high:
        raise FormatError(
            f"{reading.path}: {reading.value!r} {reading.unit or 'without units'} is {value:.4g} m, "
            f"outside {low:g} to {high:g} m; set read.{option}"
        )
    why = f"units {reading.unit!r}" if reading.unit else "the standard unit of the path"
    return value, f"{value:.6g} m, from {why} ({reading.path})"


def photon_energy_ev(reading: Reading, units: tuple[str, ...], wavelength_m: float | None) -> tuple[float, str, str]:
    """Electronvolts, the unit that was found, and the reason.

    `units` are those in use at this path, the standard one first. Raises FormatError if nothing fits, or if the units
    attribute, the plausible range and the wavelength contradict each other.
    """
    low, high = PHOTON_EV
    said = f"the file says {reading.value!r} {reading.unit or 'without units'}"
    if reading.unit:
        candidates = {reading.unit: reading.value * _factor(reading, ENERGY_UNITS, "energy_ev")}
        why = "units attribute"
    else:
        candidates = {unit: reading.value * ENERGY_UNITS[unit.lower()] for unit in units}
        why = "plausibility"
    plausible = {unit: ev for unit, ev in candidates.items() if low <= ev <= high}
    if not plausible:
        raise FormatError(
            f"{reading.path}: {said}, which is no photon energy of {low:g} to {high:g} eV in {' or '.join(candidates)}; "
            "set read.energy_ev"
        )
    if wavelength_m is not None:
        agreeing = {
            unit: ev for unit, ev in plausible.items() if abs(ev * wavelength_m / HC_EV_M - 1) <= WAVELENGTH_TOLERANCE
        }
        if not agreeing:
            found = " or ".join(f"{ev:.6g} eV" for ev in plausible.values())
            raise FormatError(
                f"{reading.path}: {said}, read as {found}, but the wavelength {wavelength_m:.6g} m means "
                f"{HC_EV_M / wavelength_m:.6g} eV; set read.energy_ev"
            )
        plausible = agreeing
        why = why if reading.unit else "wavelength agreement"
    unit = next(name for name in candidates if name in plausible)
    if len(plausible) > 1:
        why = "the standard unit of the path"
    ev = plausible[unit]
    return ev, unit, f"{ev:.6g} eV, from {why} ({said})"


def position_scale(xy: NDArray[np.float64], unit: str | None, standard: str, field_m: float, path: str) -> tuple[float, str]:
    """Metres per stored unit of the positions, and the reason.

    xy : (N, 2) as stored, finite or NaN.
    field_m : field of view lambda z / pixel, metres: neighbouring positions must lie within it, and not absurdly close.
    """
    step = median_step(xy)
    fits = {name: _step_fits(step * LENGTH_UNITS[name], field_m) for name in ("m", "mm", "um", "nm")}
    likely = [name for name, fit in fits.items() if fit]
    if unit:
        scale = _factor(Reading(path, step, unit), LENGTH_UNITS, "position_unit")
        if np.isfinite(step) and not _step_fits(step * scale, field_m, _DOUBT) and likely:
            raise FormatError(
                f"{path}: units {unit!r} make the median step {step * scale:.3g} m, but the field of view is "
                f"{field_m:.3g} m and {likely[0]!r} would fit; set read.position_unit"
            )
        return scale, f"units {unit!r} ({path})"
    if not np.isfinite(step):
        return LENGTH_UNITS[standard], f"{standard}, the standard unit of {path}: too few positions to check"
    if not likely:
        raise FormatError(
            f"{path}: the median step of {step:.3g} fits a field of view of {field_m:.3g} m in none of m, mm, um, nm; "
            "set read.position_unit"
        )
    # the window is narrower than a factor of 1000, so no two of the units fit
    return LENGTH_UNITS[likely[0]], f"{likely[0]}, from the step between neighbours ({path} has no units)"


def median_step(xy: NDArray[np.float64]) -> float:
    """Median distance to the nearest other position, over a sample; NaN for fewer than four distinct positions."""
    distinct = np.unique(xy[np.isfinite(xy).all(axis=1)][:_CROWD], axis=0)
    if len(distinct) < _FEW:
        return float("nan")
    sample = distinct[np.linspace(0, len(distinct) - 1, min(_SAMPLE, len(distinct))).astype(np.intp)]
    nearest = []
    for point in sample:
        square = ((distinct - point) ** 2).sum(axis=1)
        nearest.append(np.partition(square, 1)[1])
    return float(np.sqrt(np.median(nearest)))


def _step_fits(step_m: float, field_m: float, slack: float = 1.0) -> bool:
    return MIN_STEP * field_m / slack <= step_m <= field_m * slack


def _factor(reading: Reading, units: dict[str, float], option: str) -> float:
    factor = units.get((reading.unit or "m").strip().lower())
    if factor is None:
        raise FormatError(f"{reading.path}: units {reading.unit!r} are not understood; set read.{option}")
    return factor
