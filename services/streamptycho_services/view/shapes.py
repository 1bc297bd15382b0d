"""What the events that are drawn must look like; see docs/documents.md. Other streams may be there."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamptycho.documents.keys import STREAMS
from streamptycho.errors import GrammarError

_COUNTS = {"diffraction": ("pattern_index", "pattern_binning"), "maps": ("points_listed", "points_mapped")}


def arranged(stream: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with lists as arrays.

    Raises :class:`GrammarError` if an array that is drawn is missing or does not fit, or a value is of another sort.
    """
    values = {name: _plain(f"{stream}.{name}", value) for name, value in data.items()}
    arrays = {name: key for name, key in STREAMS.get(stream, {}).items() if key.dtype == "array"}
    lengths: dict[str, int] = {"axis": 2}
    for name, key in arrays.items():
        array = np.asarray(values.get(name, ""))
        if array.ndim != len(key.dims) or array.dtype.kind not in "biuf":
            axes = f"{array.ndim} axes of {array.dtype}, not {len(key.dims)} of real numbers"
            raise GrammarError(f"{stream}.{name}", axes)
        if array.ndim > 1 and array.size == 0:
            raise GrammarError(f"{stream}.{name}", "is empty")
        expected = tuple(lengths.setdefault(dim, length) for dim, length in zip(key.dims, array.shape, strict=True))
        if array.shape != expected:
            raise GrammarError(f"{stream}.{name}", f"shape {array.shape}; {expected} is expected for {key.dims}")
        if "axis" in key.dims and not np.isfinite(array).all():
            raise GrammarError(f"{stream}.{name}", f"{array.tolist()} is not finite")
        if name.endswith("pixel_m") and min(array) <= 0:
            raise GrammarError(f"{stream}.{name}", f"{array.tolist()} is not a pair of positive numbers")
    for name in _COUNTS.get(stream, ()):
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < (name != "pattern_index"):
            raise GrammarError(f"{stream}.{name}", f"{value!r} is not a count")
    if stream == "maps" and values["points_listed"] > lengths["point"]:
        raise GrammarError("maps.points_listed", f"{values['points_listed']} of {lengths['point']} positions")
    return values


def _plain(field: str, value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, numbers.Real) for item in value):
        return np.array(value, np.float64)
    if not isinstance(value, str | np.ndarray | numbers.Real):
        raise GrammarError(field, f"a {type(value).__name__} is neither number, text nor array of numbers")
    return value
