"""Messages to and from the parts of a ZeroMQ multipart message. Pure: no socket, no state.

Part 0 is a msgpack map: ``v`` (wire version), ``kind``, ``fields`` (scalars) and ``arrays`` (name, dtype, shape of each
array that follows, one part each). Frames carry one part per frame instead, encoded as ``fields.encoding`` says. Nothing is
ever unpickled, and no number from the wire sizes an allocation: decoded arrays are read-only views of the received parts.
``docs/wire-protocol.md`` gives every field.
"""

from collections.abc import Sequence
from dataclasses import fields as dataclass_fields
from typing import Any, TypeAlias

import msgpack
import numpy as np

from streamptycho.builders import BUILDERS, Arrays
from streamptycho.errors import CodecError, ProtocolError
from streamptycho.feed import Assessment, Command, Preview, Survey
from streamptycho.fields import FieldReader
from streamptycho.geometry import Geometry
from streamptycho.invariants import MAX_SCAN_ID
from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanPoint, ScanStart, Snapshot, Status

WIRE_VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_PARTS = 4097
"""Header and at most 4096 frames or arrays."""
_SHORT_LIST = 64
"""Entries that a list in the header may have, or as many as there are parts: only lists with an entry per part are longer.
msgpack makes room for a list before it reads it, and lists nest."""

Part: TypeAlias = bytes | memoryview
_Fields: TypeAlias = dict[str, Any]

_ARRAYS: dict[type, dict[str, str]] = {
    ScanStart: {"valid": "bool", "dark": "float32", "probe": "complex64", "planned_yx_m": "float64"},
    Positions: {"index": "int64", "yx_m": "float64"},
    Snapshot: {"error_history": "float32", "object": "complex64", "covered": "bool", "probe": "complex64"},
    Survey: {
        "index": "int64",
        "yx_m": "float64",
        "counts": "float32",
        "dark_field": "float32",
        "centre_px": "float32",
        "state": "uint8",
    },
    Preview: {"pattern": "float32", "valid": "bool", "saturated": "bool"},
    Assessment: {"frequency_per_m": "float32", "ring_correlation": "float32"},
}
"""Arrays of each kind and the one type each may have on the wire (little-endian)."""

_KINDS: dict[str, type] = {
    "start": ScanStart,
    "frame": Frame,
    "positions": Positions,
    "end": ScanEnd,
    "point": ScanPoint,
    "snapshot": Snapshot,
    "status": Status,
    "survey": Survey,
    "preview": Preview,
    "assessment": Assessment,
    "command": Command,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(message: Message) -> list[Part]:
    """Parts of a multipart message; arrays are not copied.

    Raises :class:`CodecError` if the message is larger than a receiver accepts.
    """
    fields = _plain(message)
    arrays: list[tuple[str, str, tuple[int, ...]]] = []
    parts: list[Part] = []
    if isinstance(message, Frame | ScanPoint):
        frame = message.frame if isinstance(message, ScanPoint) else message
        fields |= _frame_fields(frame)
        parts.extend(frame.payload.chunks)
    for name, dtype in _ARRAYS.get(type(message), {}).items():
        array = getattr(message, name)
        if array is not None:
            wire = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
            arrays.append((name, dtype, wire.shape))
            parts.append(wire.reshape(-1).view(np.uint8).data)
    header = {"v": WIRE_VERSION, "kind": _NAMES[type(message)], "fields": fields, "arrays": arrays}
    # a file name in the notes may hold bytes that are not UTF-8
    packed: bytes = msgpack.packb(header, default=_scalar, unicode_errors="replace")
    _check_limits([packed, *parts])
    return [packed, *parts]


def decode(parts: Sequence[Part]) -> Message:
    """The message in `parts`.

    Raises
    ------
    CodecError
        If the bytes are not a message of this version: the text names the field.
    GrammarError
        If they are, but the values break an invariant of the message.
    """
    kind, fields, arrays = _header(parts)
    scan_id = fields.get("scan_id")
    if not (isinstance(scan_id, str) and len(scan_id) <= MAX_SCAN_ID):
        scan_id = None
    # exposures without beam are not among the frames that are counted
    frames = len(parts) - 1 if kind in (Frame, ScanPoint) and fields.get("dark") is not True else 0
    try:
        return BUILDERS[kind](FieldReader(_NAMES[kind], fields), _unpack_arrays(kind, arrays, parts))
    except ProtocolError as error:
        raise type(error)(error.field, error.detail, scan_id=scan_id, frames=frames) from error


def _check_limits(parts: Sequence[Part]) -> None:
    if not 1 <= len(parts) <= MAX_PARTS:
        raise CodecError("message", f"{len(parts)} parts; a message has 1 to {MAX_PARTS}")
    if len(parts[0]) > MAX_HEADER_BYTES:
        raise CodecError("header", f"{len(parts[0])} bytes; at most {MAX_HEADER_BYTES} are accepted")


def _header(parts: Sequence[Part]) -> tuple[type, _Fields, list[Any]]:
    _check_limits(parts)
    longest = max(_SHORT_LIST, len(parts))
    try:
        header = msgpack.unpackb(parts[0], max_array_len=longest)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError("header", f"not msgpack, or a list of more than {longest} ({type(error).__name__})") from error
    if not isinstance(header, dict):
        raise CodecError("header", f"a msgpack {type(header).__name__}, not a map")
    read = FieldReader("header", header)
    version = read("v", int)
    if version != WIRE_VERSION:
        raise CodecError("header.v", f"wire version {version}, but this program speaks {WIRE_VERSION}")
    name = read("kind", str)
    if name not in _KINDS:
        raise CodecError("header.kind", f"{name[:40]!r} is not one of {', '.join(_KINDS)}")
    return _KINDS[name], read("fields", dict), read("arrays", list)


def _unpack_arrays(kind: type, entries: list[Any], parts: Sequence[Part]) -> Arrays:
    """Views of the parts, each checked against the bytes that are really there."""
    if kind in (Frame, ScanPoint):
        if entries:
            raise CodecError("header.arrays", f"{len(entries)} announced, but the parts of this kind are frames")
        return {"chunks": tuple(memoryview(part).toreadonly() for part in parts[1:])}
    known = _ARRAYS.get(kind, {})
    if len(entries) != len(parts) - 1:
        raise CodecError("header.arrays", f"{len(entries)} announced, {len(parts) - 1} parts follow")
    arrays: Arrays = {}
    for entry, part in zip(entries, parts[1:], strict=False):
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)):
            raise CodecError("header.arrays", "an entry is not [name, dtype, shape]")
        name, dtype, shape = entry
        if name not in known:
            raise CodecError("header.arrays", f"{name[:40]!r} is not an array of this kind of message")
        if dtype != known[name]:
            raise CodecError(f"{_NAMES[kind]}.{name}", f"type {str(dtype)[:20]!r} instead of {known[name]}")
        if name in arrays:
            raise CodecError(f"{_NAMES[kind]}.{name}", "sent twice")
        if not _is_shape(shape):
            raise CodecError(f"{_NAMES[kind]}.{name}", "shape is not a list of one to three sizes")
        wire = np.dtype(known[name]).newbyteorder("<")
        size = wire.itemsize
        for n in shape:
            size *= n
        if size != len(part):
            raise CodecError(f"{_NAMES[kind]}.{name}", f"{len(part)} bytes follow, {dtype} {shape} needs {size}")
        if wire == np.bool_ and size and np.frombuffer(part, np.uint8).max() > 1:
            raise CodecError(f"{_NAMES[kind]}.{name}", "bytes other than 0 and 1 in a bool array")
        arrays[name] = np.frombuffer(part, wire).reshape(shape)
    for name in known:
        if kind is not ScanStart and name not in arrays:
            raise CodecError(f"{_NAMES[kind]}.{name}", "missing")
    return arrays


def _is_shape(shape: Any) -> bool:
    """One to three sizes from 1, or [0]: an empty list is an array, an empty picture is not."""
    if not (isinstance(shape, list) and 1 <= len(shape) <= 3 and all(type(n) is int for n in shape)):
        return False
    return min(shape) >= 1 or shape == [0]


def _plain(message: Message) -> _Fields:
    """Scalar fields as msgpack can carry them."""
    skip = set(_ARRAYS.get(type(message), {}))
    if isinstance(message, Frame | ScanPoint):
        skip |= {"frame", "payload", "index", "timestamp_ns"}
    fields: _Fields = {}
    for item in dataclass_fields(message):
        if item.name in skip:
            continue
        value = getattr(message, item.name)
        if isinstance(value, Geometry):
            value = {f.name: getattr(value, f.name) for f in dataclass_fields(value)}
        elif isinstance(value, np.dtype):
            value = value.name
        elif isinstance(value, str):
            value = str(value)
        fields[item.name] = value
    return fields


def _scalar(value: Any) -> Any:
    """A NumPy scalar as the Python number that msgpack knows."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _frame_fields(frame: Frame) -> _Fields:
    payload = frame.payload
    return {
        "scan_id": frame.scan_id,
        "index": frame.index.tolist(),
        "timestamp_ns": frame.timestamp_ns.tolist(),
        "dark": frame.dark,
        "encoding": str(payload.encoding),
        "dtype": payload.dtype.name,
        "shape": list(payload.shape),
    }
