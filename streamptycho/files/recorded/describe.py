"""Mask, dark, probe, beam centre and metadata of a recorded scan.

Each function returns its value with the sentence that says where it came from.
"""

import json
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import FormatError
from streamptycho.files.options import MaskMeaning, ReadOptions
from streamptycho.files.paths import DETECTOR, LIVE, find, is_own, text
from streamptycho.files.recorded import masks
from streamptycho.files.recorded.basis import DEFAULT, basis_axes
from streamptycho.files.recorded.beam import corner_position, unit_is_joule
from streamptycho.files.recorded.containers import axes_reversed, complex_of
from streamptycho.files.recorded.found import Found, reading
from streamptycho.files.recorded.layouts import CXI, Place
from streamptycho.files.recorded.pixels import Pixels
from streamptycho.files.recorded.places import Places
from streamptycho.messages.checks import Scalar
from streamptycho.messages.geometry import Geometry

_FEW = 16
"""Planes of a mask that are compared."""


def read_mask(
    found: Found, places: Places, options: ReadOptions, pixels: Pixels, shape: tuple[int, int], energy_unit: str | None
) -> tuple[NDArray[np.bool_] | None, str]:
    """(ny, nx) bool, True = valid, None if nothing is masked, as stored: before frames are shifted."""
    if options.mask_at is not None:
        (dataset,) = places.datasets(options.mask_at, "mask")
    else:
        dataset = found.find(*found.layout.mask)
    valid, why = None, "none in the file"
    if options.mask_meaning is MaskMeaning.IGNORE:
        valid, why = None, "ignored as set"
    elif dataset is not None:
        mask = _plane(dataset, shape)
        if is_own(found.file) and options.mask == MaskMeaning.AUTO:
            valid = None if (mask != 0).all() else mask != 0
            why = f"{int((mask == 0).sum())} pixels masked, as this program writes it ({dataset.name})"
        else:
            polarity = text(dataset.attrs["polarity"]) if "polarity" in dataset.attrs else None
            standard, light = _standard(found, str(dataset.name), energy_unit), pixels.light
            valid, why = masks.valid_pixels(
                mask, options.mask_meaning, polarity, str(dataset.name), standard=standard, light=light
            )
    elif (weights := found.find(*found.layout.weights)) is not None and weights.shape[-2:] == shape and weights.ndim < 4:
        valid, why = _weighted(weights)
    if pixels.measured is not None and options.mask_meaning is not MaskMeaning.IGNORE:
        valid = pixels.measured if valid is None else valid & pixels.measured
    return valid, why


def _standard(found: Found, path: str, energy_unit: str | None) -> str | None:
    """Why 0 is good in a mask of this file, if its standard says so."""
    if path.endswith("pixel_mask"):
        return "the standard of NXdetector"
    if found.layout.zero_is_good:
        return "the standard of NeXus"
    if found.layout is CXI and "cxi_version" in found.file:
        return "the standard of CXI (the file has cxi_version)"
    if found.layout is CXI and unit_is_joule(energy_unit):
        return "the standard of CXI (the file has joules)"
    return None


def _plane(dataset: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """(ny, nx) of a mask that may have one plane, or the same one for each frame."""
    remedy = "set read.mask = 'ignore', or the place of another mask"
    if (
        dataset.shape[-2:] != (shape[::-1] if axes_reversed(dataset) else shape)
        or dataset.ndim not in (2, 3)
        or not dataset.size
    ):
        raise FormatError(f"{dataset.name}: shape {dataset.shape} differs from the frame's {shape}; {remedy}")
    if dataset.ndim == 2:
        mask: NDArray[Any] = dataset[()]
        return mask.T if axes_reversed(dataset) else mask
    planes = [dataset[i] for i in np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _FEW)).astype(int))]
    if any((plane != planes[0]).any() for plane in planes):
        raise FormatError(f"{dataset.name}: has another mask for each frame, and one is needed; {remedy}")
    first: NDArray[Any] = planes[0]
    return first


def _weighted(weights: Any) -> tuple[NDArray[np.bool_] | None, str]:
    valid = np.all(np.asarray(weights[()]).reshape(-1, *weights.shape[-2:]) > 0, axis=0)
    why = f"{int((~valid).sum())} pixels masked, whose weight is 0 ({weights.name})"
    return (None if valid.all() else valid), why


def read_dark(found: Found, shape: tuple[int, int]) -> tuple[NDArray[np.float32] | None, str]:
    """(ny, nx) float32 mean of the dark exposures, counts; None if there are none."""
    for path in found.layout.dark:
        dataset = found.find(path)
        if dataset is None or dataset.ndim not in (2, 3) or dataset.shape[-2:] != shape or not dataset.size:
            continue
        if dataset.dtype.kind not in "biuf":
            raise FormatError(f"{dataset.name}: type {dataset.dtype} is no dark frame; remove it from the file")
        if dataset.ndim == 2:
            return np.asarray(dataset[()], np.float32), f"one frame ({dataset.name})"
        key = find(found.file, (f"{LIVE}/dark_key",))
        rows = np.arange(len(dataset)) if key is None else np.flatnonzero(key[: len(dataset)] > 0)
        if len(rows):
            # one exposure at a time: hundreds of them need not fit into memory
            total = np.zeros(shape, np.float64)
            for row in rows:
                total += dataset[row]
            return (total / len(rows)).astype(np.float32), f"mean of {len(rows)} exposures ({dataset.name})"
    return None, "none in the file"


def read_probe(found: Found, places: Places, options: ReadOptions) -> tuple[NDArray[np.complex64] | None, str]:
    """(modes, n, n) complex64; None if none is recorded or wanted."""
    if not options.probe:
        return None, "ignored as set"
    if options.probe_at is not None:
        (dataset,) = places.datasets(options.probe_at, "probe")
    else:
        dataset = found.find(*found.layout.probe)
    if dataset is None or dataset.dtype.kind in "SO":  # NeXus has the word x-ray under this name
        return None, "none in the file"
    values = complex_of(dataset)
    values = values[0] if values.ndim == 4 and len(values) == 1 else values
    if values.ndim not in (2, 3) or values.dtype.kind not in "cf" or not values.size:
        raise FormatError(f"{dataset.name}: shape {values.shape} {values.dtype} is no probe; set read.probe = false")
    probe = np.asarray(values, np.complex64)
    probe = probe[None] if probe.ndim == 2 else probe
    if not np.isfinite(probe).all():
        raise FormatError(f"{dataset.name}: has values that are not finite; set read.probe = false")
    return probe, f"{probe.shape[0]} modes of {probe.shape[1]} x {probe.shape[2]} ({dataset.name})"


def read_beam_center(found: Found, options: ReadOptions, geometry: Geometry) -> tuple[tuple[float, float] | None, str]:
    """(y, x) of the direct beam on the detector in pixels, where the file puts it onto the detector."""
    own = find(found.file, (f"{LIVE}/beam_center_px",))
    if own is not None:
        y, x = (float(v) for v in own[()])
        return ((y, x), str(own.name)) if np.isfinite([y, x]).all() else (None, "not recorded")
    said = [dataset for path in found.layout.beam_center if (dataset := found.find(path)) is not None and dataset.size == 1]
    if len(said) == 2:
        y, x = (float(np.asarray(dataset[()]).reshape(-1)[0]) for dataset in said)
        return _on_detector((y, x), geometry, f"{said[0].name}, {said[1].name}")
    corner = corner_position(found) if found.layout is CXI else None
    if corner is None or options.basis_vectors == "ignore" or basis_axes(found) != DEFAULT:
        return None, "not recorded for these axes"
    return _on_detector((corner[1] / geometry.pitch_m[0], corner[0] / geometry.pitch_m[1]), geometry, "corner_position")


def _on_detector(center: tuple[float, float], geometry: Geometry, where: str) -> tuple[tuple[float, float] | None, str]:
    y, x = float(center[0]), float(center[1])
    if 0 < y < geometry.frame_shape[0] and 0 < x < geometry.frame_shape[1]:
        return (y, x), f"from {where}"
    return None, f"unknown: {where} puts it at ({y:.6g}, {x:.6g}), not on the detector"


def read_saturation(file: h5py.File) -> int | None:
    """Counts at which a pixel saturates, where recorded."""
    dataset = find(file, (f"{DETECTOR}/saturation_value",))
    return None if dataset is None else int(reading(Place(str(dataset.name), ()), dataset, "mask").value)


def read_metadata(file: h5py.File) -> dict[str, Scalar]:
    """What the scan's own start message carried, else the file's plain root attributes and the rotation angle."""
    own = find(file, (f"{LIVE}/metadata",))
    if own is not None:
        recorded: dict[str, Scalar] = json.loads(text(own[()]))
        return recorded
    found = {str(name): plain for name, value in file.attrs.items() if (plain := _plain(value)) is not None}
    theta = find(file, ("/exchange/theta",))
    if theta is not None and theta.size == 1 and theta.dtype.kind in "fiu":
        found["theta"] = float(np.asarray(theta[()]).reshape(-1)[0])
    return found


def _plain(value: Any) -> Scalar | None:
    if np.size(value) != 1:
        return None
    item = np.asarray(value).reshape(-1)[0]
    if isinstance(item, str | bytes):
        return text(item)
    python = item.item() if isinstance(item, np.generic) else item
    return python if isinstance(python, bool | int | float) else None
