"""The start of a scan from what its senders say of it: which value counts, where it comes from, what is missing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from streamptycho.compose.identity import Run
from streamptycho.compose.options import Quantities, Role, ScanOptions
from streamptycho.errors import GrammarError
from streamptycho.messages.checks import MAX_METADATA_BYTES, Scalar
from streamptycho.messages.facts import StartParts
from streamptycho.messages.geometry import Geometry
from streamptycho.messages.stream import ScanStart, check_plan

NEEDED = ("wavelength_m", "distance_m", "pitch_m")
"""What a picture needs and no frame tells."""
RUN_KEY = "run."
"""Prefix in the metadata of a start, before the role: the name of the run."""
FIRST_FRAME = "frames.first"
"""In the metadata of a start: the detector's number of frame 0."""
_SAY_THIS = {
    "wavelength_m": "scan.energy_ev",
    "distance_m": "scan.distance_m",
    "pitch_m": "scan.pitch_m",
}
_PARTS = (*NEEDED, "expected", "valid", "dark", "saturation", "beam_center_px", "planned_yx_m", "started_ns")
_CALLED = {Role.FRAMES: "detector", Role.DOCUMENTS: "documents", Role.POSITIONS: "positions"}
"""Senders in the order in which they are believed, as origins are called."""
_MOST_DOUBTS, _DOUBT_CHARACTERS = 30, 500


@dataclass
class Known:
    """What is known of a scan so far."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    """Value to ``setting``, ``detector``, ``documents``, ``positions`` or ``fallback``."""
    doubts: list[str] = field(default_factory=list)
    metadata: dict[str, Scalar] = field(default_factory=dict)

    def missing(self, *, fallback: bool = True) -> list[str]:
        """What a picture needs and nobody says; without `fallback` what no sender says either."""
        unsure = () if fallback else ("fallback",)
        return [name for name in NEEDED if name not in self.values or self.origin[name] in unsure]


def gather(options: ScanOptions, runs: Mapping[Role, Run]) -> Known:
    """Put together what settings and senders say: setting over detector over documents over positions over fallback."""
    known = Known()
    said = [("setting", _settings(options))]
    for role, name in _CALLED.items():
        if role in runs:
            parts = runs[role].parts
            said.append((name, {part: getattr(parts, part) for part in _PARTS}))
            known.doubts += [f"{name}: {doubt}" for doubt in parts.doubts]
            known.metadata = {**parts.metadata, **known.metadata}
    said.append(("fallback", _settings(options.fallback)))
    for origin, values in said:
        for name, value in values.items():
            if value is None:
                continue
            if not _possible(name, value):
                known.doubts.append(f"{origin}: {name} = {_short(value)} cannot be right and is not used")
            elif name not in known.values:
                known.values[name], known.origin[name] = value, origin
            elif origin != "fallback" and _differ(known.values[name], value):
                mine = f"{known.origin[name]} says {_short(known.values[name])}"
                known.doubts.append(f"{name}: {mine}, which counts, and {origin} says {_short(value)}")
    return known


def build(known: Known, runs: Mapping[Role, Run], scan_id: str, started_ns: int, like: StartParts) -> ScanStart:
    """The start message; shape and pixel type are those of `like`, what is not known of the geometry is NaN.

    What does not fit the frames, or cannot be stored, is left out, with an entry in the doubts.
    """
    values, doubts = dict(known.values), known.doubts
    shape, dtype = like.frame_shape, like.dtype
    if shape is None or dtype is None:
        raise GrammarError("start.geometry", "shape and pixel type of the frames are not known")
    for part, found in (("frame_shape", shape), ("dtype", dtype)):
        told = getattr(runs[Role.FRAMES].parts, part) if Role.FRAMES in runs else None
        if told is not None and told != found:
            doubts.append(f"frames are {_short(found)}, the detector announced {_short(told)}: the frames count")
    for name in ("valid", "dark"):
        array = values.get(name)
        if array is not None and array.shape != shape:
            doubts.append(f"{name}: shape {array.shape} does not fit frames of {shape}, so it is not used")
            del values[name]
    center = values.get("beam_center_px")
    if center is not None and not all(0 <= at < size for at, size in zip(center, shape, strict=True)):
        doubts.append(f"beam_center_px: {_short(center)} is off the detector of {shape} pixels, so it is not used")
        del values["beam_center_px"]
    for name in set(_PARTS) - values.keys():
        known.origin.pop(name, None)
    pitch = values.get("pitch_m", math.nan)
    geometry = Geometry(
        wavelength_m=values.get("wavelength_m", math.nan),
        distance_m=values.get("distance_m", math.nan),
        pitch_m=(float(pitch[0]), float(pitch[1])) if isinstance(pitch, tuple) else (float(pitch), float(pitch)),
        frame_shape=(int(shape[0]), int(shape[1])),
    )
    return ScanStart(
        scan_id=scan_id,
        geometry=geometry,
        dtype=dtype,
        started_ns=started_ns,
        expected=values.get("expected"),
        valid=values.get("valid"),
        dark=values.get("dark"),
        saturation=values.get("saturation"),
        beam_center_px=values.get("beam_center_px"),
        planned_yx_m=values.get("planned_yx_m"),
        metadata=_metadata(known, runs),
    )


def parts_of(start: ScanStart) -> StartParts:
    """What a start message of our own dialect says, for the scan of another sender."""
    geometry = start.geometry
    lengths = {name: getattr(geometry, name) for name in NEEDED if name not in geometry.unknown}
    return StartParts(
        started_ns=start.started_ns or None,
        expected=start.expected,
        planned_yx_m=start.planned_yx_m,
        metadata=start.metadata,
        **lengths,
    )


def ask_for(missing: list[str]) -> str:
    """What to set for values that nobody says."""
    return f"nobody says {', '.join(missing)}: set {', '.join(_SAY_THIS[name] for name in missing)}"


def _settings(quantities: Quantities) -> dict[str, Any]:
    pitch = quantities.pitch_m
    return {
        "wavelength_m": quantities.wavelength,
        "distance_m": quantities.distance_m,
        "pitch_m": (pitch, pitch) if isinstance(pitch, float) else pitch,
        "beam_center_px": quantities.beam_center_px,
        "saturation": quantities.saturation,
        "expected": quantities.expected,
    }


def _possible(name: str, value: Any) -> bool:
    if name in NEEDED:
        return all(math.isfinite(number) and number > 0 for number in np.ravel(value).tolist())
    if name == "planned_yx_m":
        try:
            check_plan(value)
        except GrammarError:
            return False
        return True
    if name in ("beam_center_px", "dark"):
        return bool(np.isfinite(value).all())
    if name in ("saturation", "started_ns", "expected"):
        return int(name != "saturation") <= int(value) < 1 << 63
    return True


def _differ(mine: Any, other: Any) -> bool:
    if isinstance(mine, np.ndarray) or isinstance(other, np.ndarray):
        return False
    pairs = zip(np.ravel(mine).tolist(), np.ravel(other).tolist(), strict=True)
    return not all(math.isclose(one, two, rel_tol=1e-3) for one, two in pairs)


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, np.dtype):
        return str(value.name)
    if isinstance(value, tuple):
        return f"({', '.join(_short(item) for item in value)})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:80]


def _metadata(known: Known, runs: Mapping[Role, Run]) -> dict[str, Scalar]:
    """What goes into the file besides: origins, doubts, names of the runs, and of the senders' own what fits."""
    ours: dict[str, Scalar] = {f"{RUN_KEY}{role.value}": run.key for role, run in runs.items()}
    ours |= {f"origin.{name}": origin for name, origin in known.origin.items() if name in known.values}
    doubts = [doubt[:_DOUBT_CHARACTERS] for doubt in known.doubts]
    ours |= {f"doubt.{number}": doubt for number, doubt in enumerate(doubts[:_MOST_DOUBTS], 1)}
    size = _size(ours)
    left_out = 0
    theirs: dict[str, Scalar] = {}
    for key, value in known.metadata.items():
        plain = _plain(value)
        size += _size({key: plain})
        if size > MAX_METADATA_BYTES - 1024:
            left_out += 1
        elif key not in ours:
            theirs[key] = plain
    if left_out:
        ours["metadata.left_out"] = left_out
    return {**theirs, **ours}


def _plain(value: Any) -> Scalar:
    if isinstance(value, str | float | bool) or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63):
        return value
    return str(value)[:_DOUBT_CHARACTERS]


def _size(table: dict[str, Scalar]) -> int:
    return len(msgpack.packb(table, unicode_errors="replace"))
