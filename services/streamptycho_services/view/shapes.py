"""What the events that are drawn must look like; see docs/documents.md. Other streams may be there."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError

_AXES = {
    "object": {"object_phase": 2, "object_amplitude": 2, "object_covered": 2, "object_pixel_m": 1, "object_origin_m": 1},
    "probe": {"probe_amplitude": 3, "probe_phase": 3, "probe_power": 1, "probe_pixel_m": 1},
    "diffraction": {
        "pattern_counts": 2,
        "pattern_valid": 2,
        "pattern_saturated": 2,
        "pattern_centre_px": 1,
        "pattern_crop_px": 1,
        "pattern_crop_shape_px": 1,
    },
    "maps": {
        "map_sum": 2,
        "map_dark_field": 2,
        "map_dpc_y": 2,
        "map_dpc_x": 2,
        "map_covered": 2,
        "map_pixel_m": 1,
        "map_origin_m": 1,
        "points_yx_m": 2,
    },
    "quality": {"frequency_per_m": 1, "ring_correlation": 1},
}
_COUNTS = {"diffraction": ("pattern_index", "pattern_binning"), "maps": ("points_listed", "points_mapped")}
_TOGETHER = (
    ("object_phase", "object_amplitude"),
    ("object_phase", "object_covered"),
    ("probe_amplitude", "probe_phase"),
    *(("pattern_counts", other) for other in ("pattern_valid", "pattern_saturated")),
    *(("map_covered", other) for other in ("map_sum", "map_dark_field", "map_dpc_y", "map_dpc_x")),
    ("frequency_per_m", "ring_correlation"),
)


def arranged(stream: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with lists as arrays.

    Raises :class:`GrammarError` if an array that is drawn is missing or does not fit, or a value is of another sort.
    """
    values = {name: _plain(f"{stream}.{name}", value) for name, value in data.items()}
    for name, axes in _AXES.get(stream, {}).items():
        array = np.asarray(values.get(name, ""))
        if array.ndim != axes or array.dtype.kind not in "biuf":
            raise GrammarError(f"{stream}.{name}", f"{array.ndim} axes of {array.dtype}, not {axes} of real numbers")
        if axes > 1 and array.size == 0:
            raise GrammarError(f"{stream}.{name}", "is empty")
        if name.endswith(("pixel_m", "origin_m", "_px")) and (array.shape != (2,) or not np.isfinite(array).all()):
            raise GrammarError(f"{stream}.{name}", f"{array.tolist()} is not a finite (y, x)")
        if name.endswith("pixel_m") and min(array) <= 0:
            raise GrammarError(f"{stream}.{name}", f"{array.tolist()} is not a pair of positive numbers")
    for one, other in _TOGETHER:
        if one in values and other in values and np.shape(values[one]) != np.shape(values[other]):
            shapes = f"{np.shape(values[other])} differs from {one}'s {np.shape(values[one])}"
            raise GrammarError(f"{stream}.{other}", shapes)
    for name in _COUNTS.get(stream, ()):
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < (name != "pattern_index"):
            raise GrammarError(f"{stream}.{name}", f"{value!r} is not a count")
    if stream == "maps":
        _check_points(values["points_yx_m"], values["points_listed"])
    if stream == "probe" and len(values["probe_power"]) != len(values["probe_amplitude"]):
        modes = len(values["probe_amplitude"])
        raise GrammarError("probe.probe_power", f"{len(values['probe_power'])} shares of {modes} modes")
    return values


def _check_points(yx_m: NDArray[Any], listed: int) -> None:
    if yx_m.shape[1] != 2 or not np.isfinite(yx_m).all():
        raise GrammarError("maps.points_yx_m", f"shape {yx_m.shape}; a finite (y, x) of each point is needed")
    if listed > len(yx_m):
        raise GrammarError("maps.points_listed", f"{listed} of {len(yx_m)} positions")


def _plain(field: str, value: Any) -> Any:
    """Number, text or array."""
    if isinstance(value, list) and all(isinstance(item, numbers.Real) for item in value):
        return np.array(value, np.float64)
    if not isinstance(value, str | np.ndarray | numbers.Real):
        raise GrammarError(field, f"a {type(value).__name__} is neither number, text nor array of numbers")
    return value
