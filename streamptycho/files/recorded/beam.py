"""Wavelength, radiation and detector geometry of a recorded scan, each with the sentence that says where it came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.options import ReadOptions
from streamptycho.files.paths import DETECTOR, find, is_own
from streamptycho.files.recorded.basis import basis_vectors, check_pitch
from streamptycho.files.recorded.found import Found, reading
from streamptycho.files.recorded.layouts import Place
from streamptycho.files.recorded.quantities import (
    DISTANCE_M,
    HARD_EV,
    LONG_DISTANCE_M,
    PIXEL_M,
    WAVELENGTH_M,
    WAVELENGTH_TOLERANCE,
    Energy,
    energy_ev,
    length_m,
)
from streamptycho.messages.geometry import Geometry, Radiation
from streamptycho.messages.units import electronvolts

Notes: TypeAlias = dict[str, str]
_MACHINE_EV = 50e6
"""An energy above this is that of the storage ring, which some files keep beside the photon energy."""
_ASSUMED_PITCH_M = 75e-6
_ELECTRON = ("electron",)


@dataclass(frozen=True, slots=True)
class Beam:
    """Wavelength and radiation."""

    wavelength_m: float
    radiation: Radiation
    unit: str | None
    """Unit in which the file has the energy; None where it does not say it."""
    sure: bool
    """Whether the file or the user says which radiation it is: else photons are taken for granted."""


def read_geometry(found: Found, options: ReadOptions, shape: tuple[int, int]) -> tuple[Geometry, Beam, Notes]:
    """Geometry and beam, and how each was understood."""
    notes: Notes = {}
    beam, notes["energy"] = _beam(found, options)
    pitch, notes["pixel_size"] = _pitch(found, options)
    distance, notes["distance"] = _distance(found, options, beam, pitch, shape)
    geometry = Geometry(
        wavelength_m=beam.wavelength_m, distance_m=distance, pitch_m=pitch, frame_shape=shape, radiation=beam.radiation
    )
    return geometry, beam, notes


def _beam(found: Found, options: ReadOptions) -> tuple[Beam, str]:
    said = options.radiation or _said_radiation(found)
    if options.energy_ev is not None:
        radiation = _decided(said, options.energy_ev, "read.energy_ev")
        beam = Beam(radiation.wavelength_m(options.energy_ev), radiation, None, said is not None)
        return beam, f"{options.energy_ev:.6g} eV, as set; {radiation}"
    wavelength, why = None, ""
    for place, dataset in found.readings(found.layout.wavelength):
        value = reading(place, dataset, "energy_ev")
        if is_own(found.file):
            radiation = said or Radiation.PHOTONS
            ev = radiation.energy_ev(value.value)
            return Beam(value.value, radiation, "eV", sure=True), f"{ev:.6g} eV, as this program writes it"
        wavelength, why = length_m(value, WAVELENGTH_M, "energy_ev", place.units[0])
        break
    energy = _energy(found, wavelength, [said] if said else list(Radiation))
    if energy is not None:
        radiation = energy.radiation or _decided(said, energy.ev, energy.why)
        found_m = radiation.wavelength_m(energy.ev)
        return Beam(found_m, radiation, energy.unit, bool(said or energy.radiation)), _and(energy.why, radiation, said)
    if wavelength is None:
        places = " or ".join(
            place.path.replace("{entry}", found.entry) for place in (*found.layout.energy, *found.layout.wavelength)
        )
        raise FormatError(f"{found.file.filename}: no energy" + (f" at {places}" if places else "") + "; set read.energy_ev")
    radiation = _decided(said, Radiation.PHOTONS.energy_ev(wavelength), f"wavelength {why}")
    ev = radiation.energy_ev(wavelength)
    return Beam(wavelength, radiation, None, said is not None), _and(
        f"{ev:.6g} eV, from the wavelength {why}", radiation, said
    )


def _and(why: str, radiation: Radiation, said: Radiation | None) -> str:
    return why if radiation is Radiation.PHOTONS and said is None else f"{why}; {radiation}"


def _said_radiation(found: Found) -> Radiation | None:
    said = found.text(*found.layout.radiation)
    if any(word in said for word in _ELECTRON):
        return Radiation.ELECTRONS
    return Radiation.PHOTONS if any(word in said for word in ("x-ray", "xray", "photon", "light", "visible")) else None


def _decided(said: Radiation | None, ev: float, what: str) -> Radiation:
    """Photons, unless their energy would be one that electron microscopes have too: then it must be said."""
    if said is None and ev >= HARD_EV:
        raise FormatError(
            f"{what}: {ev:.6g} eV may be the energy of photons (wavelength {Radiation.PHOTONS.wavelength_m(ev):.4g} m) or "
            f"of electrons ({Radiation.ELECTRONS.wavelength_m(ev):.4g} m if it is their kinetic energy); set "
            "read.radiation to photons or electrons"
        )
    return said or Radiation.PHOTONS


def _energy(found: Found, wavelength_m: float | None, radiation: Iterable[Radiation]) -> Energy | None:
    """The energy on which all places agree; that of the storage ring is passed over."""
    energies: list[Energy] = []
    refused: list[FormatError] = []
    for place, dataset in found.readings(found.layout.energy):
        value = reading(place, dataset, "energy_ev")
        if value.value * ((electronvolts(value.unit) if value.unit else None) or 0.0) >= _MACHINE_EV:
            continue
        try:
            energies.append(energy_ev(value, place.units, wavelength_m, radiation))
        except FormatError as error:
            if value.unit or not _may_be_machine(place, value.value):
                raise
            refused.append(error)  # some gigaelectronvolts without a unit, if a beam has an energy elsewhere
            continue
        if abs(energies[-1].ev / energies[0].ev - 1) > WAVELENGTH_TOLERANCE:
            raise FormatError(f"{value.path}: {energies[-1].why}, but elsewhere {energies[0].why}; set read.energy_ev")
    if not energies and refused and wavelength_m is None:
        raise refused[0]
    return energies[0] if energies else None


def _may_be_machine(place: Place, value: float) -> bool:
    return "source" in place.path and 0.4 <= value <= 10.0


def _distance(
    found: Found, options: ReadOptions, beam: Beam, pitch_m: tuple[float, float], shape: tuple[int, int]
) -> tuple[float, str]:
    if options.distance_m is not None:
        return options.distance_m, f"{options.distance_m:.6g} m, as set"
    for place, dataset in found.readings(found.layout.distance):
        if is_own(found.file):
            own_m = reading(place, dataset, "distance_m").value
            return own_m, f"{own_m:.6g} m, as this program writes it"
        limits = DISTANCE_M if beam.radiation is Radiation.PHOTONS else (DISTANCE_M[0], LONG_DISTANCE_M)
        value = reading(place, dataset, "distance_m")
        return length_m(value, limits, "distance_m", place.units[0])
    for place, dataset in found.readings(found.layout.object_pixel):
        pixel, why = length_m(reading(place, dataset, "distance_m"), (1e-12, 1e-5), "distance_m", place.units[0])
        return pixel * shape[1] * pitch_m[1] / beam.wavelength_m, f"such that the object pixel is {why}"
    corner = corner_position(found)
    if corner is None or not DISTANCE_M[0] <= corner[2] <= DISTANCE_M[1]:
        places = " or ".join(place.path.replace("{entry}", found.entry) for place in found.layout.distance)
        raise FormatError(
            f"{found.file.filename}: no detector distance" + (f" at {places}" if places else "") + "; set read.distance_m"
        )
    return float(corner[2]), f"{corner[2]:.6g} m, from the z of corner_position"


def _pitch(found: Found, options: ReadOptions) -> tuple[tuple[float, float], str]:
    vectors = None if options.basis_vectors == "ignore" else basis_vectors(found)
    if options.pixel_size_m is not None:
        return options.pixel_size_m, f"{options.pixel_size_m[0]:.6g} x {options.pixel_size_m[1]:.6g} m, as set"
    y, x = (next(found.readings(places), None) for places in (found.layout.pixel_y, found.layout.pixel_x))
    if y is not None and x is not None:
        values = reading(*y, "pixel_size_m", 0), reading(*x, "pixel_size_m", 1)
        if is_own(found.file):
            return (
                values[0].value,
                values[1].value,
            ), f"{values[0].value:.6g} x {values[1].value:.6g} m, as this program writes them"
        pixel_y, why = length_m(values[0], PIXEL_M, "pixel_size_m", y[0].units[0])
        pixel_x, _ = length_m(values[1], PIXEL_M, "pixel_size_m", x[0].units[0])
        if vectors is not None:
            check_pitch(vectors, (pixel_y, pixel_x))
        return (pixel_y, pixel_x), f"y {why}; x {pixel_x:.6g} m"
    lengths = None if vectors is None else np.linalg.norm(vectors, axis=1)
    if lengths is not None and PIXEL_M[0] <= lengths.min() and lengths.max() <= PIXEL_M[1]:
        return (float(lengths[0]), float(lengths[1])), f"{lengths[0]:.6g} x {lengths[1]:.6g} m, from basis_vectors"
    if next(found.readings(found.layout.object_pixel), None) is not None:
        why = f"{_ASSUMED_PITCH_M:.6g} m, which does not matter: the file has the pixel of the object"
        return (_ASSUMED_PITCH_M, _ASSUMED_PITCH_M), why
    spacing = _grid_spacing(found)
    if spacing is not None:
        return (spacing, spacing), f"{spacing:.6g} m, between the coordinates of neighbouring pixels (/xd)"
    places = ", ".join(
        layout[0].path.replace("{entry}", found.entry) for layout in (found.layout.pixel_y, found.layout.pixel_x) if layout
    )
    raise FormatError(
        f"{found.file.filename}: no pixel size" + (f" at {places}" if places else "") + "; set read.pixel_size_m"
    )


def _grid_spacing(found: Found) -> float | None:
    """Distance of neighbouring pixels where a file (of PtyLab) has their coordinates."""
    grid = find(found.file, ("/xd",))
    if grid is None or grid.size < 2 or grid.dtype.kind != "f":
        return None
    steps = np.abs(np.diff(np.asarray(grid[()], np.float64).reshape(-1)[:2]))
    return float(steps[0]) if PIXEL_M[0] <= steps[0] <= PIXEL_M[1] else None


def corner_position(found: Found) -> NDArray[np.float64] | None:
    """(3,) x, y, z of the corner of a CXI detector, metres."""
    dataset = find(found.file, (DETECTOR.replace("entry_1", found.entry) + "/corner_position",))
    if dataset is None or dataset.dtype.kind not in "fiu" or dataset.size % 3 or dataset.shape[-1:] != (3,):
        return None
    corner: NDArray[np.float64] = np.asarray(dataset[()], np.float64).reshape(-1, 3)[0]
    return corner


def unit_is_joule(unit: str | None) -> bool:
    """Whether an energy is in joules, as CXI 1.6 has it."""
    return unit is not None and unit.strip().lower().startswith("j")
