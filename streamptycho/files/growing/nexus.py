"""What a file in the manner of NeXus says beside its frames: the numbers as they stand there, with their units.

DECTRIS masters, odin-data, areaDetector and NXmx writers keep them in an entry with an instrument and a detector. What the
numbers mean is said in :mod:`streamptycho.dialects.nexus`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.growing.located import open_now
from streamptycho.files.paths import find, text
from streamptycho.files.recorded.found import number
from streamptycho.files.recorded.quantities import Reading

_ENTRY = {
    "wavelength": ("instrument/beam/incident_wavelength", "sample/beam/incident_wavelength", "beam/incident_wavelength"),
    "incident_energy": ("instrument/beam/incident_energy", "sample/beam/incident_energy", "beam/incident_energy"),
    "mono_wavelength": ("instrument/monochromator/wavelength",),
    "mono_energy": ("instrument/monochromator/energy",),
}
"""Paths in the entry; the first that exists counts."""
_DETECTOR = {
    "photon_energy": ("detectorSpecific/photon_energy",),
    "distance": ("detector_distance", "distance"),
    "pixel_y": ("y_pixel_size",),
    "pixel_x": ("x_pixel_size",),
    "beam_y": ("beam_center_y",),
    "beam_x": ("beam_center_x",),
    "images": ("detectorSpecific/nimages",),
    "triggers": ("detectorSpecific/ntrigger",),
}
"""Paths in the detector."""
_MASK = ("pixel_mask", "detectorSpecific/pixel_mask")


@dataclass
class Found:
    """What one look at a file has found."""

    numbers: dict[str, Reading] = field(default_factory=dict)
    mask: NDArray[np.unsignedinteger[Any]] | None = None
    """(ny, nx), 0 where a pixel is good."""
    description: str = ""
    """Of the detector."""
    doubts: dict[str, str] = field(default_factory=dict)
    """Of what is there and no number, why."""


def look(path: Path, frames: str) -> Found:
    """What the file at `path` says beside its dataset `frames`. Raises OSError while it cannot be read."""
    try:
        with open_now(path) as file:
            return _look(file, frames)
    except (RuntimeError, KeyError, ValueError) as error:  # half-written
        raise OSError(f"{path}: {error}") from error


def _look(file: h5py.File, frames: str) -> Found:
    found = Found()
    entry = PurePosixPath("/", *PurePosixPath("/", frames).parts[1:2])
    if not isinstance(file.get(str(entry)), h5py.Group):
        entry = PurePosixPath("/entry")
    detector = _detector(file, entry, frames)
    places = [(entry, _ENTRY)] + ([] if detector is None else [(detector, _DETECTOR)])
    for base, table in places:
        for name, relative in table.items():
            dataset = find(file, _below(base, relative))
            if dataset is None:
                continue
            try:
                found.numbers[name] = number(dataset)
            except FormatError as error:
                found.doubts[name] = str(error)
    if detector is not None:
        mask, words = find(file, _below(detector, _MASK)), find(file, _below(detector, ("description",)))
        if mask is not None and mask.ndim == 2 and mask.dtype.kind in "uib" and mask.size:
            values = mask[()]
            found.mask = values.astype(np.uint8) if values.dtype == np.bool_ else values.view(f"u{values.dtype.itemsize}")
        found.description = "" if words is None else text(words[()])
    return found


def _detector(file: h5py.File, entry: PurePosixPath, frames: str) -> PurePosixPath | None:
    """The group of the detector: that of the frames, else ``detector``, else the only one of its class."""
    instrument = entry / "instrument"
    group = file.get(str(instrument))
    if not isinstance(group, h5py.Group):
        return None
    parent = PurePosixPath("/", frames).parent
    if parent.parent == instrument:
        return parent
    if isinstance(group.get("detector"), h5py.Group):
        return instrument / "detector"
    ours = [name for name, item in group.items() if _is_detector(item)]
    return instrument / ours[0] if len(ours) == 1 else None


def _is_detector(item: Any) -> bool:
    return isinstance(item, h5py.Group) and text(item.attrs.get("NX_class", "")) == "NXdetector"


def _below(base: PurePosixPath, relative: Iterable[str]) -> list[str]:
    return [str(base / name) for name in relative]
