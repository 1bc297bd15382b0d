"""Which dialect a file speaks and where that dialect keeps things; small helpers to fetch them.

Owns the paths of all dialects. Says nothing about what the numbers mean: see :mod:`~streamptycho.files.quantities`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamptycho.errors import FormatError
from streamptycho.files.quantities import Reading

LIVE = "/entry_1/streamptycho"
"""Group that only this project's own files have."""
DETECTOR = "/entry_1/instrument_1/detector_1"
TRANSLATION = "/entry_1/sample_1/geometry_1/translation"
LIVE_KEY = "/entry_1/data_1/live_key"
"""1 where a row holds a frame, in own files."""


class Dialect(StrEnum):
    """Layouts that are distinguished."""

    SEED_CXI = "cxi-ev"
    """CXI paths, energy in electronvolts, mask 1 = valid."""
    STANDARD_CXI = "cxi-1.6"
    """CXI 1.6: energy in joules, mask a bit field with 0 = good."""
    APS = "aps-hdf5"
    """``/exchange`` and ``/instrument``: positions in micrometres, energy in kiloelectronvolts."""
    STREAMPTYCHO = "streamptycho"
    """Written by this project, finished or still growing."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a family of dialects keeps things; the first path that exists counts."""

    frames: tuple[str, ...]
    energy: tuple[str, ...]
    energy_units: tuple[str, ...]
    """Units in use where there is no attribute, the standard one first."""
    wavelength: tuple[str, ...]
    distance: tuple[str, ...]
    pixel_y: tuple[str, ...]
    pixel_x: tuple[str, ...]
    mask: tuple[str, ...]
    dark: tuple[str, ...]
    probe: tuple[str, ...]
    position_unit: str


CXI = Places(
    frames=("/entry_1/data_1/data", f"{DETECTOR}/data"),
    energy=(
        "/entry_1/instrument_1/source_1/energy",
        "/entry_1/instrument_1/beam_1/incident_energy",
        "/entry_1/instrument_1/beam_1/incident_beam_energy",
        "/entry_1/instrument_1/beam_1/energy",
    ),
    energy_units=("J", "eV"),
    wavelength=(
        "/entry_1/instrument_1/source_1/wavelength",
        "/entry_1/instrument_1/beam_1/incident_wavelength",
        "/entry_1/instrument_1/beam_1/wavelength",
    ),
    distance=(f"{DETECTOR}/distance",),
    pixel_y=(f"{DETECTOR}/y_pixel_size",),
    pixel_x=(f"{DETECTOR}/x_pixel_size",),
    mask=(f"{DETECTOR}/mask",),
    dark=(f"{DETECTOR}/data_dark", f"{DETECTOR}/dark"),
    probe=("/entry_1/instrument_1/illumination_1/probe", "/entry_1/instrument_1/source_1/illumination", f"{DETECTOR}/probe"),
    position_unit="m",
)
APS = Places(
    frames=("/exchange/data",),
    energy=("/instrument/source/energy",),
    energy_units=("keV", "eV"),
    wavelength=("/instrument/source/wavelength",),
    distance=("/instrument/detector/distance",),
    pixel_y=("/instrument/detector/y_pixel_size", "/instrument/detector/pixel_size"),
    pixel_x=("/instrument/detector/x_pixel_size", "/instrument/detector/pixel_size"),
    mask=("/instrument/detector/mask", "/exchange/mask"),
    dark=("/exchange/data_dark",),
    probe=(),
    position_unit="um",
)


def open_file(path: Path) -> h5py.File:
    """Open for reading, also if another process is writing the file or died doing so."""
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    with suppress(OSError):
        # refused for a file that is being written: tried again below, where the reason is reported
        return h5py.File(path, "r")
    try:
        return h5py.File(path, "r", swmr=True)
    except OSError as error:
        raise FormatError(
            f"{path}: not a readable HDF5 file ({error}); a scan that has just begun becomes readable in a moment"
        ) from error


def places_of(file: h5py.File) -> Places:
    """Family of the file. Raises FormatError that lists what the file has at its top."""
    for places in (CXI, APS):
        if find(file, places.frames) is not None:
            return places
    top = ", ".join(sorted(file)) or "nothing"
    raise FormatError(
        f"{file.filename}: no frames at {' or '.join(CXI.frames + APS.frames)}; at the top there is {top}. "
        "Readable are CXI files and APS files with /exchange/data"
    )


def dialect_of(file: h5py.File, places: Places, energy_unit: str | None) -> Dialect:
    """Dialect within the family: the unit of the energy tells the two kinds of CXI apart, else ``cxi_version``."""
    if places is APS:
        return Dialect.APS
    if is_own(file):
        return Dialect.STREAMPTYCHO
    if energy_unit is not None:
        return Dialect.STANDARD_CXI if energy_unit.lower().startswith("j") else Dialect.SEED_CXI
    return Dialect.STANDARD_CXI if "cxi_version" in file else Dialect.SEED_CXI


def is_own(file: h5py.File) -> bool:
    """True for a file of this project: what it says needs no guess."""
    return find(file, (f"{LIVE}/counters/n_frames",)) is not None


def find(file: h5py.File, paths: Iterable[str]) -> Any | None:
    """First of the datasets that exists; links that lead nowhere count as absent."""
    for path in paths:
        item = file.get(path)
        if isinstance(item, h5py.Dataset):
            return item
    return None


def unit_of(dataset: Any) -> str | None:
    """The ``units`` attribute as text, None if absent or empty."""
    return text(dataset.attrs["units"]) or None if "units" in dataset.attrs else None


def text(value: Any) -> str:
    """Text of a string as h5py returns it: str, bytes, or an array of one of these."""
    item = np.asarray(value).reshape(-1)[0] if np.size(value) else ""
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)


def reading(dataset: Any, axis: int = 0) -> Reading:
    """A scalar dataset, or element `axis` of a short one, with its unit. Raises FormatError for anything else."""
    if dataset.dtype.kind not in "fiu" or dataset.size not in (1, 2):
        raise FormatError(f"{dataset.name}: shape {dataset.shape} {dataset.dtype} is not a number")
    values = np.asarray(dataset[()], np.float64).reshape(-1)
    return Reading(dataset.name, float(values[axis if len(values) == 2 else 0]), unit_of(dataset))
