"""What the events that are drawn must look like; see docs/documents.md. Other streams may be there."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamptycho.errors import GrammarError

_AXES = {
    "object": {"object_phase": 2, "object_amplitude": 2, "object_covered": 2, "object_pixel_m": 1, "object_origin_m": 1},
    "probe": {"probe_amplitude": 3, "probe_phase": 3, "probe_power": 1, "probe_pixel_m": 1},
    "quality": {"frequency_per_m": 1, "ring_correlation": 1},
}
_TOGETHER = (
    ("object_phase", "object_amplitude"),
    ("object_phase", "object_covered"),
    ("probe_amplitude", "probe_phase"),
    ("frequency_per_m", "ring_correlation"),
)


def check_event(stream: str, data: Mapping[str, Any]) -> None:
    """Raises :class:`GrammarError` if an array that is drawn is missing or does not fit, or a value is of another sort."""
    for name, value in data.items():
        if not isinstance(value, str | np.ndarray | numbers.Real):
            raise GrammarError(f"{stream}.{name}", f"a {type(value).__name__} is neither number, text nor array")
    for name, axes in _AXES.get(stream, {}).items():
        value = data.get(name)
        array = value if isinstance(value, np.ndarray) else np.zeros(())
        if array.ndim != axes or array.dtype.kind not in "biuf":
            raise GrammarError(f"{stream}.{name}", f"{array.ndim} axes of {array.dtype}, not {axes} of real numbers")
        if axes > 1 and array.size == 0:
            raise GrammarError(f"{stream}.{name}", "is empty")
        if name.endswith(("pixel_m", "origin_m")) and (array.shape != (2,) or not np.isfinite(array).all()):
            raise GrammarError(f"{stream}.{name}", f"{array.tolist()} is not a finite (y, x)")
        if name.endswith("pixel_m") and min(array) <= 0:
            raise GrammarError(f"{stream}.{name}", f"{array.tolist()} is not a pair of positive numbers")
    for one, other in _TOGETHER:
        if one in data and other in data and np.shape(data[one]) != np.shape(data[other]):
            raise GrammarError(f"{stream}.{other}", f"{np.shape(data[other])} differs from {one}'s {np.shape(data[one])}")
    if stream == "probe" and len(data["probe_power"]) != len(data["probe_amplitude"]):
        raise GrammarError("probe.probe_power", f"{len(data['probe_power'])} shares of {len(data['probe_amplitude'])} modes")
