"""What the events of each stream hold, and the descriptors that say so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DEVICE = "streamptycho"
"""The one "device" of a run, in bluesky's sense."""


@dataclass(frozen=True, slots=True)
class Key:
    """One value of an event."""

    source: str
    dtype: str
    """``number``, ``integer``, ``string`` or ``array``."""
    dtype_numpy: str
    units: str | None = None
    dims: tuple[str, ...] = ()
    precision: int | None = None


def _number(source: str, units: str | None = None, precision: int = 3) -> Key:
    return Key(source, "number", "<f8", units, precision=precision)


def _integer(source: str) -> Key:
    return Key(source, "integer", "<i8")


def _string(source: str) -> Key:
    return Key(source, "string", "")


def _array(source: str, dtype_numpy: str, dims: tuple[str, ...], units: str | None = None) -> Key:
    return Key(source, "array", dtype_numpy, units, dims)


_YX = ("y", "x")
_METRES = 12
"""Digits that show a picometre."""

STREAMS: dict[str, dict[str, Key]] = {
    "progress": {
        "frames_received": _integer("receive"),
        "frames_used": _integer("reconstruct"),
        "frames_dropped": _integer("receive, reconstruct"),
        "frames_missing": _integer("receive, write"),
        "positions_missing": _integer("receive, write"),
        "updates": _integer("reconstruct"),
        "error": _number("reconstruct", precision=5),
        "resolution_m": _number("assessment", "m", _METRES),
        "covered_fraction": _number("assessment"),
        "rate_hz": _number("receive", "Hz", 1),
        "updates_hz": _number("reconstruct", "Hz", 1),
        "lag_s": _number("reconstruct", "s"),
        "state": _string("receive, reconstruct"),
    },
    "object": {
        "object_phase": _array("reconstruct", "<f4", _YX, "rad"),
        "object_amplitude": _array("reconstruct", "<f4", _YX),
        "object_covered": _array("reconstruct", "|u1", _YX),
        "object_pixel_m": _array("reconstruct", "<f8", ("axis",), "m"),
        "object_origin_m": _array("reconstruct", "<f8", ("axis",), "m"),
        "object_frames_used": _integer("reconstruct"),
        "object_error": _number("reconstruct", precision=5),
        "object_final": _integer("reconstruct"),
    },
    "probe": {
        "probe_amplitude": _array("reconstruct", "<f4", ("mode", *_YX), "sqrt(counts)"),
        "probe_phase": _array("reconstruct", "<f4", ("mode", *_YX), "rad"),
        "probe_power": _array("reconstruct", "<f8", ("mode",)),
        "probe_pixel_m": _array("reconstruct", "<f8", ("axis",), "m"),
    },
    "diffraction": {
        "pattern_counts": _array("reconstruct", "<f4", _YX, "counts"),
        "pattern_valid": _array("reconstruct", "|u1", _YX),
        "pattern_saturated": _array("reconstruct", "|u1", _YX),
        "pattern_index": _integer("reconstruct"),
        "pattern_binning": _integer("reconstruct"),
        "pattern_centre_px": _array("reconstruct", "<f8", ("axis",), "px"),
        "pattern_crop_px": _array("reconstruct", "<f8", ("axis",), "px"),
        "pattern_crop_shape_px": _array("reconstruct", "<f8", ("axis",), "px"),
    },
    "maps": {
        "map_sum": _array("reconstruct", "<f4", _YX, "counts"),
        "map_dark_field": _array("reconstruct", "<f4", _YX, "counts"),
        "map_dpc_y": _array("reconstruct", "<f4", _YX, "px"),
        "map_dpc_x": _array("reconstruct", "<f4", _YX, "px"),
        "map_covered": _array("reconstruct", "|u1", _YX),
        "map_pixel_m": _array("reconstruct", "<f8", ("axis",), "m"),
        "map_origin_m": _array("reconstruct", "<f8", ("axis",), "m"),
        "points_yx_m": _array("reconstruct", "<f8", ("point", "axis"), "m"),
        "points_listed": _integer("reconstruct"),
        "points_mapped": _integer("reconstruct"),
        "points_known": _integer("reconstruct"),
    },
    "quality": {
        "verdict": _string("assessment"),
        "findings": _string("assessment"),
        "explanation": _string("assessment"),
        "quality_resolution_m": _number("assessment", "m", _METRES),
        "photons_per_frame": _number("assessment", precision=0),
        "quality_figures": _string("assessment"),
        "frequency_per_m": _array("assessment", "<f4", ("frequency",), "1/m"),
        "ring_correlation": _array("assessment", "<f4", ("frequency",)),
    },
}

HINTED = {"progress": ["error"]}
"""What stock tools plot of each stream; arrays are not for their line plots."""


def shapes(data: Mapping[str, Any]) -> dict[str, list[int]]:
    """Shape of each value of an event; [] for scalars."""
    return {name: list(np.shape(value)) for name, value in data.items()}


def data_keys(stream: str, sizes: Mapping[str, list[int]]) -> dict[str, dict[str, Any]]:
    """The data keys of a descriptor of `stream` for values of these shapes."""
    keys: dict[str, dict[str, Any]] = {}
    for name, key in STREAMS[stream].items():
        known = {"dtype_numpy": key.dtype_numpy, "units": key.units, "dims": list(key.dims), "precision": key.precision}
        keys[name] = {
            "source": f"streamptycho:{key.source}",
            "dtype": key.dtype,
            "shape": sizes[name],
            "object_name": DEVICE,
            **{entry: value for entry, value in known.items() if value not in (None, "", [])},
        }
    return keys
