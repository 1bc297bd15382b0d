"""Everything about a recorded scan but its frames and positions: geometry, mask, dark, probe, metadata.

Each function returns its value with the sentence that says where it came from.
"""

import json
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files import masks
from streamptycho.files.dialect import APS, DETECTOR, LIVE, Places, find, is_own, reading, text
from streamptycho.files.options import MaskMeaning, ReadOptions
from streamptycho.files.positions import BASIS, basis_axes, basis_vectors, check_pitch
from streamptycho.files.quantities import WAVELENGTH_TOLERANCE, length_m, photon_energy_ev
from streamptycho.messages.checks import Scalar
from streamptycho.messages.geometry import Geometry, wavelength_from_ev
from streamptycho.messages.units import ENERGY_UNITS

Notes: TypeAlias = dict[str, str]
_MACHINE_EV = 50e6
"""An energy above this is that of the storage ring, which some files keep beside the photon energy."""


def read_geometry(
    file: h5py.File, places: Places, options: ReadOptions, shape: tuple[int, int]
) -> tuple[Geometry, str | None, Notes]:
    """Geometry, the unit in which the file has the energy (None if it does not say), and how each was understood."""
    notes: Notes = {}
    energy, unit, notes["energy"] = _energy(file, places, options)
    distance, notes["distance"] = _distance(file, places, options)
    pitch, notes["pixel_size"] = _pitch(file, places, options)
    geometry = Geometry(wavelength_m=wavelength_from_ev(energy), distance_m=distance, pitch_m=pitch, frame_shape=shape)
    return geometry, unit, notes


def _energy(file: h5py.File, places: Places, options: ReadOptions) -> tuple[float, str | None, str]:
    if options.energy_ev is not None:
        return options.energy_ev, None, f"{options.energy_ev:.6g} eV, as set"
    wavelength, why = None, ""
    if is_own(file) and (dataset := find(file, places.wavelength)) is not None:
        energy = wavelength_from_ev(1.0) / reading(dataset).value
        return energy, "eV", f"{energy:.6g} eV, as this program writes it"
    if (dataset := find(file, places.wavelength)) is not None:
        wavelength, why = length_m(reading(dataset), 4e-12, 5e-8, "energy_ev")
    found: list[tuple[float, str, str]] = []
    for path in places.energy:
        if (dataset := find(file, (path,))) is None:
            continue
        value = reading(dataset)
        if value.value * ENERGY_UNITS.get((value.unit or "").lower(), 0.0) >= _MACHINE_EV:
            continue
        units = places.energy_units if "beam_1" not in path else ("J", "eV")
        found.append(photon_energy_ev(value, units, wavelength))
        if abs(found[-1][0] / found[0][0] - 1) > WAVELENGTH_TOLERANCE:
            raise FormatError(f"{path}: {found[-1][2]}, but elsewhere {found[0][2]}; set read.energy_ev")
    if found:
        return found[0]
    if wavelength is None:
        raise FormatError(f"{file.filename}: no photon energy at {' or '.join(places.energy)}; set read.energy_ev")
    energy = wavelength_from_ev(1.0) / wavelength
    return energy, None, f"{energy:.6g} eV, from the wavelength {why}"


def _distance(file: h5py.File, places: Places, options: ReadOptions) -> tuple[float, str]:
    if options.distance_m is not None:
        return options.distance_m, f"{options.distance_m:.6g} m, as set"
    if (dataset := find(file, places.distance)) is not None:
        if is_own(file):
            return reading(dataset).value, f"{reading(dataset).value:.6g} m, as this program writes it"
        return length_m(reading(dataset), 1e-3, 200.0, "distance_m")
    corner = _corner(file)
    if places is APS or corner is None or not 1e-3 <= corner[2] <= 200.0:
        raise FormatError(f"{file.filename}: no detector distance at {places.distance[0]}; set read.distance_m")
    return float(corner[2]), f"{corner[2]:.6g} m, from the z of corner_position"


def _pitch(file: h5py.File, places: Places, options: ReadOptions) -> tuple[tuple[float, float], str]:
    vectors = None if places is APS or options.basis_vectors == "ignore" else basis_vectors(file)
    if options.pixel_size_m is not None:
        return options.pixel_size_m, f"{options.pixel_size_m[0]:.6g} x {options.pixel_size_m[1]:.6g} m, as set"
    y, x = find(file, places.pixel_y), find(file, places.pixel_x)
    if y is not None and x is not None and is_own(file):
        return (reading(y).value, reading(x).value), f"{y[()]:.6g} x {x[()]:.6g} m, as this program writes them"
    if y is not None and x is not None:
        pixel_y, why = length_m(reading(y, 0), 1e-7, 2e-3, "pixel_size_m")
        pixel_x, _ = length_m(reading(x, 1), 1e-7, 2e-3, "pixel_size_m")
        if vectors is not None:
            check_pitch(vectors, (pixel_y, pixel_x))
        return (pixel_y, pixel_x), f"y {why}; x {pixel_x:.6g} m"
    lengths = None if vectors is None else np.linalg.norm(vectors, axis=1)
    if lengths is None or lengths.min() < 1e-7 or lengths.max() > 2e-3:
        raise FormatError(
            f"{file.filename}: no pixel size at {places.pixel_y[0]}, {places.pixel_x[0]}; set read.pixel_size_m"
        )
    return (float(lengths[0]), float(lengths[1])), f"{lengths[0]:.6g} x {lengths[1]:.6g} m, from {BASIS}"


def read_mask(
    file: h5py.File, places: Places, options: ReadOptions, shape: tuple[int, int]
) -> tuple[NDArray[np.bool_] | None, str]:
    """(ny, nx) bool, True = valid, None if nothing is masked."""
    dataset = find(file, places.mask)
    if dataset is None:
        return None, "none in the file"
    if options.mask is not MaskMeaning.IGNORE and dataset.shape != shape:
        raise FormatError(
            f"{dataset.name}: shape {dataset.shape} differs from the frame's {shape}; set read.mask = 'ignore'"
        )
    if is_own(file) and options.mask is MaskMeaning.AUTO:
        valid = dataset[()] != 0
        masked = int((~valid).sum())
        return (valid if masked else None), f"{masked} pixels masked, as this program writes it ({dataset.name})"
    polarity = text(dataset.attrs["polarity"]) if "polarity" in dataset.attrs else None
    return masks.valid_pixels(dataset[()], options.mask, polarity, str(dataset.name))


def read_dark(file: h5py.File, places: Places, shape: tuple[int, int]) -> tuple[NDArray[np.float32] | None, str]:
    """(ny, nx) float32 mean of the dark exposures, counts; None if there are none."""
    for path in places.dark:
        dataset = find(file, (path,))
        if dataset is None or dataset.ndim not in (2, 3) or dataset.shape[-2:] != shape or not dataset.size:
            continue
        if dataset.ndim == 2:
            return np.asarray(dataset[()], np.float32), f"one frame ({path})"
        key = find(file, (f"{LIVE}/dark_key",))
        rows = np.arange(len(dataset)) if key is None else np.flatnonzero(key[: len(dataset)] > 0)
        if len(rows):
            # one exposure at a time: hundreds of them need not fit into memory
            total = np.zeros(shape, np.float64)
            for row in rows:
                total += dataset[row]
            return (total / len(rows)).astype(np.float32), f"mean of {len(rows)} exposures ({path})"
    return None, "none in the file"


def read_probe(file: h5py.File, places: Places, options: ReadOptions) -> tuple[NDArray[np.complex64] | None, str]:
    """(modes, n, n) complex64; None if none is recorded or wanted."""
    dataset = find(file, places.probe) if options.probe else None
    if dataset is None:
        return None, "none in the file" if options.probe else "ignored as set"
    if dataset.ndim not in (2, 3) or dataset.dtype.kind not in "cf" or not dataset.size:
        raise FormatError(f"{dataset.name}: shape {dataset.shape} {dataset.dtype} is no probe; set read.probe = false")
    probe = np.asarray(dataset[()], np.complex64)
    probe = probe[None] if probe.ndim == 2 else probe
    if not np.isfinite(probe).all():
        raise FormatError(f"{dataset.name}: has values that are not finite; set read.probe = false")
    return probe, f"{probe.shape[0]} modes of {probe.shape[1]} x {probe.shape[2]} ({dataset.name})"


def read_beam_center(
    file: h5py.File, places: Places, options: ReadOptions, geometry: Geometry
) -> tuple[tuple[float, float] | None, str]:
    """(y, x) of the direct beam on the detector in pixels, where ``corner_position`` puts it onto the detector."""
    own = find(file, (f"{LIVE}/beam_center_px",))
    if own is not None:
        y, x = (float(v) for v in own[()])
        return ((y, x), str(own.name)) if np.isfinite([y, x]).all() else (None, "not recorded")
    corner = None if places is APS else _corner(file)
    if corner is None or options.basis_vectors == "ignore" or basis_axes(file) != ((1, 1.0), (0, 1.0)):
        return None, "not recorded for these axes"
    center = (float(corner[1] / geometry.pitch_m[0]), float(corner[0] / geometry.pitch_m[1]))
    if not (0 < center[0] < geometry.frame_shape[0] and 0 < center[1] < geometry.frame_shape[1]):
        return None, f"unknown: corner_position puts it at {center}, not on the detector"
    return center, "from corner_position"


def read_saturation(file: h5py.File) -> int | None:
    """Counts at which a pixel saturates, where recorded."""
    dataset = find(file, (f"{DETECTOR}/saturation_value",))
    return None if dataset is None else int(reading(dataset).value)


def read_metadata(file: h5py.File) -> dict[str, Scalar]:
    """What the scan's own start message carried, else the file's plain root attributes and the rotation angle."""
    own = find(file, (f"{LIVE}/metadata",))
    if own is not None:
        recorded: dict[str, Scalar] = json.loads(text(own[()]))
        return recorded
    found = {str(name): plain for name, value in file.attrs.items() if (plain := _plain(value)) is not None}
    theta = find(file, ("/exchange/theta",))
    if theta is not None and theta.size == 1 and theta.dtype.kind in "fiu":
        found["theta"] = reading(theta).value
    return found


def _plain(value: Any) -> Scalar | None:
    if np.size(value) != 1:
        return None
    item = np.asarray(value).reshape(-1)[0]
    if isinstance(item, str | bytes):
        return text(item)
    python = item.item() if isinstance(item, np.generic) else item
    return python if isinstance(python, bool | int | float) else None


def _corner(file: h5py.File) -> NDArray[np.float64] | None:
    dataset = find(file, (f"{DETECTOR}/corner_position",))
    if dataset is None or dataset.shape != (3,) or dataset.dtype.kind not in "fiu":
        return None
    return np.asarray(dataset[()], np.float64)
