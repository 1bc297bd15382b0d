"""What a NeXus file says beside its frames, as quantities of a scan: units believed, what cannot be right left out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamptycho.dialects.dectris.quantities import ANGSTROM_M, DISTANCE, Announced, valid_pixels
from streamptycho.files.growing.nexus import Found
from streamptycho.files.recorded.quantities import Reading
from streamptycho.messages.checks import Scalar
from streamptycho.messages.facts import StartParts
from streamptycho.messages.units import electronvolts, metres


def _pixels(unit: str) -> float | None:
    return 1.0 if unit.lower() in ("pixel", "pixels", "px") else None


def _angstroms(unit: str) -> float | None:
    worth = metres(unit)
    return None if worth is None else worth / ANGSTROM_M


@dataclass(frozen=True)
class _Kind:
    """In what a quantity is told, and by which units."""

    standard: str
    """Unit of the standard, for numbers without one."""
    worth: Callable[[str], float | None]
    """What a unit is worth in the standard one; None if it is not known."""
    setting: str
    """What answers in its place."""


_WAVELENGTH = _Kind("angstrom", _angstroms, "scan.wavelength_m")
_ENERGY = _Kind("eV", electronvolts, "scan.energy_ev")
_KINDS = {
    "wavelength": _WAVELENGTH,
    "mono_wavelength": _WAVELENGTH,
    "incident_energy": _ENERGY,
    "mono_energy": _ENERGY,
    "photon_energy": _ENERGY,
    "distance": _Kind("m", metres, "scan.distance_m"),
    "pixel_y": _Kind("m", metres, "scan.pitch_m"),
    "pixel_x": _Kind("m", metres, "scan.pitch_m"),
    "beam_y": _Kind("pixel", _pixels, "scan.beam_center_px"),
    "beam_x": _Kind("pixel", _pixels, "scan.beam_center_px"),
}


def parts_of(found: Found, shape: tuple[int, int] | None) -> StartParts:
    """Wavelength, distance, pixel, beam centre, mask and number of frames, where they can be right.

    `shape` is that of a frame, (ny, nx). Where each comes from is in the metadata, under ``read.`` and its name.
    """
    table: dict[str, float | str] = {"description": found.description}
    keys: dict[str, str] = {}
    doubts = [f"{text}; give {_KINDS[name].setting}" if name in _KINDS else text for name, text in found.doubts.items()]
    for name, reading in found.numbers.items():
        kind = _KINDS.get(name)
        unit = (reading.unit or "").strip() or (kind.standard if kind else "")
        worth = kind.worth(unit) if kind else 1.0
        if kind is not None and worth is None:
            doubts.append(f"{reading.path}: its unit {unit[:40]!r} is not known; correct it there or give {kind.setting}")
            continue
        keys[name] = _said(reading, kind)
        table[keys[name]] = reading.value * (worth or 1.0)

    def key(name: str) -> str:
        return keys.get(name, name)

    said = Announced(table)
    energies = [key(name) for name in ("incident_energy", "mono_energy", "photon_energy")]
    direct = key("wavelength" if "wavelength" in keys else "mono_wavelength")
    values: dict[str, Any] = {
        "wavelength_m": said.wavelength_m(direct, *energies, detector="description"),
        "distance_m": said.within(key("distance"), DISTANCE),
        "pitch_m": said.pitch_m(key("pixel_x"), key("pixel_y")),
        "beam_center_px": said.beam_center_px(key("beam_x"), key("beam_y"), shape),
        "expected": _expected(said, key),
    }
    valid, bits, more = (None, "", ()) if found.mask is None else valid_pixels(found.mask, shape)
    doubts += [*said.doubts, *more]
    return StartParts(valid=valid, metadata=_metadata(found, values, bits), doubts=tuple(doubts), **values)


def _said(reading: Reading, kind: _Kind | None) -> str:
    """The key of a number in what is told of it: where it is and, where it was converted, from what."""
    unit = reading.unit
    converted = kind is not None and unit is not None and kind.worth(unit) != 1.0
    return f"{reading.path} ({reading.value:g} {unit})" if converted else reading.path


def _expected(said: Announced, key: Callable[[str], str]) -> int | None:
    images, triggers = said.count(key("images")), said.count(key("triggers"))
    return None if images is None else images * (triggers or 1)


def _metadata(found: Found, values: dict[str, object], bits: str) -> dict[str, Scalar]:
    sources = {
        "wavelength_m": ("wavelength", "mono_wavelength", "incident_energy", "mono_energy", "photon_energy"),
        "distance_m": ("distance",),
        "pitch_m": ("pixel_y", "pixel_x"),
        "beam_center_px": ("beam_y", "beam_x"),
        "expected": ("images", "triggers"),
    }
    told: dict[str, Scalar] = {"pixel_mask": bits} if bits else {}
    for name, value in values.items():
        there = [found.numbers[source] for source in sources[name] if source in found.numbers]
        if value is not None:
            told[f"read.{name}"] = ", ".join(
                f"{reading.path} = {reading.value:g} {reading.unit or ''}".strip() for reading in there
            )
    return told
