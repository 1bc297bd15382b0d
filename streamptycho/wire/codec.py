"""Messages to and from the parts of a ZeroMQ multipart message. Pure: no socket, no state.

Part 0 is a msgpack map: ``v`` (wire version), ``kind``, ``fields`` (scalars) and ``arrays`` (name, dtype, shape of each
array that follows, one part each). Frames carry one part per frame instead, encoded as ``fields.encoding`` says. Nothing is
ever unpickled, and no number from the wire sizes an allocation: decoded arrays are read-only views of the received parts.
``docs/wire-protocol.md`` gives every field.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import msgpack
import numpy as np

from streamptycho.errors import CodecError, GrammarError, ProtocolError
from streamptycho.messages.checks import MAX_SCAN_ID
from streamptycho.messages.kinds import KINDS, Message
from streamptycho.messages.stream import ScanStart, check_plan
from streamptycho.wire.forms import PIXEL_NAMES, Form, Reader, form_of

log = logging.getLogger(__name__)

WIRE_VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_PARTS = 4097
"""Header and at most 4096 frames or arrays."""
_SHORT_LIST = 64
"""Entries that a list in the header may have, or as many as there are parts: only lists with an entry per part are longer.
msgpack makes room for a list before it reads it, and lists nest."""

Part: TypeAlias = bytes | memoryview

_HEADER: dict[str, type] = {"v": int, "kind": str, "fields": dict, "arrays": list}
_read_header = Reader("header", _HEADER)


def encode(message: Message) -> list[Part]:
    """Parts of a multipart message; arrays are not copied.

    Raises :class:`CodecError` if the message is larger than a receiver accepts.
    """
    form = form_of(message.kind)
    parts: list[Part] = [] if form.chunks is None else list(form.chunks(message))
    arrays: list[tuple[str, str, tuple[int, ...]]] = []
    for name, dtype in form.arrays.items():
        array = getattr(message, name)
        if array is not None:
            wire = np.ascontiguousarray(array, dtype)
            arrays.append((name, dtype.name, wire.shape))
            parts.append(wire.reshape(-1).view(np.uint8).data)
    header = {"v": WIRE_VERSION, "kind": form.kind, "fields": form.fields(message), "arrays": arrays}
    # the name of a file may hold bytes that are not UTF-8
    packed: bytes = msgpack.packb(header, default=_plain, unicode_errors="replace")
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
    form, fields, arrays = _header(parts)
    try:
        values = form.read(fields) | _behind(form, arrays, parts)
        if form.kind == ScanStart.kind:
            _leave_out_a_plan_that_cannot_be_shown(values)
        message: Message = form.build(values)
    except ProtocolError as error:
        scan_id = fields.get("scan_id")
        if not (isinstance(scan_id, str) and len(scan_id) <= MAX_SCAN_ID):
            scan_id = None
        # exposures without beam are not among the frames that are counted
        frames = len(parts) - 1 if form.chunks is not None and fields.get("dark") is not True else 0
        raise type(error)(error.field, error.detail, scan_id=scan_id, frames=frames) from error
    return message


def _check_limits(parts: Sequence[Part]) -> None:
    if not 1 <= len(parts) <= MAX_PARTS:
        raise CodecError("message", f"{len(parts)} parts; a message has 1 to {MAX_PARTS}")
    if len(parts[0]) > MAX_HEADER_BYTES:
        raise CodecError("header", f"{len(parts[0])} bytes; at most {MAX_HEADER_BYTES} are accepted")


def _header(parts: Sequence[Part]) -> tuple[Form, dict[str, Any], list[Any]]:
    _check_limits(parts)
    longest = max(_SHORT_LIST, len(parts))
    try:
        header = msgpack.unpackb(parts[0], max_array_len=longest)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError("header", f"not msgpack, or a list of more than {longest} ({type(error).__name__})") from error
    if not isinstance(header, dict):
        raise CodecError("header", f"a msgpack {type(header).__name__}, not a map")
    version = header.get("v")
    if type(version) is int and version != WIRE_VERSION:
        raise CodecError("header.v", f"wire version {version}, but this program speaks {WIRE_VERSION}")
    # the reader says what is wrong, and takes longer
    read = header if all(type(header.get(name)) is kind for name, kind in _HEADER.items()) else _read_header(header)
    if read["kind"] not in KINDS:
        raise CodecError("header.kind", f"{read['kind'][:40]!r} is not one of {', '.join(KINDS)}")
    return form_of(read["kind"]), read["fields"], read["arrays"]


def _behind(form: Form, entries: list[Any], parts: Sequence[Part]) -> dict[str, Any]:
    """Views of the parts behind the header, each checked against the bytes that are really there."""
    if form.chunks is not None:
        if entries:
            raise CodecError("header.arrays", f"{len(entries)} announced, but the parts of this kind are frames")
        return {"chunks": tuple([memoryview(part).toreadonly() for part in parts[1:]])}
    if len(entries) != len(parts) - 1:
        raise CodecError("header.arrays", f"{len(entries)} announced, {len(parts) - 1} parts follow")
    arrays: dict[str, Any] = {}
    for entry, part in zip(entries, parts[1:], strict=True):
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)):
            raise CodecError("header.arrays", "an entry is not [name, dtype, shape]")
        name, dtype, shape = entry
        if name not in form.arrays:
            raise CodecError("header.arrays", f"{name[:40]!r} is not an array of this kind of message")
        if name in arrays:
            raise CodecError(f"{form.kind}.{name}", "sent twice")
        if dtype != form.arrays[name].name:
            raise CodecError(f"{form.kind}.{name}", f"type {str(dtype)[:20]!r} instead of {form.arrays[name].name}")
        try:
            arrays[name] = _view(part, form.arrays[name], shape)
        except ValueError as error:
            raise CodecError(f"{form.kind}.{name}", str(error)) from error
    for name in form.required:
        if name not in arrays:
            raise CodecError(f"{form.kind}.{name}", "missing")
    return arrays


def _view(part: Part, dtype: np.dtype, shape: Any) -> np.ndarray:
    """The bytes of `part` as an array; raises ValueError if they are not exactly that."""
    # from 1, or [0]: an empty list is an array, an empty picture is not
    if not (isinstance(shape, list) and 1 <= len(shape) <= 3 and all(type(n) is int for n in shape)) or (
        min(shape) < 1 and shape != [0]
    ):
        raise ValueError("shape is not a list of one to three sizes")
    size = math.prod(shape) * dtype.itemsize
    if size != len(part):
        raise ValueError(f"{len(part)} bytes follow, {dtype.name} {shape} needs {size}")
    if dtype == np.bool_ and size and np.frombuffer(part, np.uint8).max() > 1:
        raise ValueError("bytes other than 0 and 1 in a bool array")
    return np.frombuffer(part, dtype).reshape(shape)


def _leave_out_a_plan_that_cannot_be_shown(values: dict[str, Any]) -> None:
    """It is for display only, and no frame may be lost because of it."""
    try:
        if "planned_yx_m" in values:
            check_plan(values["planned_yx_m"])
    except GrammarError as error:
        log.warning("the plan of a scan is not shown: %s", error)
        del values["planned_yx_m"]


def _plain(value: Any) -> Any:
    """What msgpack does not know, in terms that it does."""
    if isinstance(value, np.dtype):
        return PIXEL_NAMES[value]
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value):
        told = {item.name: getattr(value, item.name) for item in fields(value)}
        # a field that was added later is left out where it says nothing: the bytes are those of before
        return {item.name: told[item.name] for item in fields(value) if told[item.name] is not item.default}
    raise TypeError(f"{type(value).__name__} cannot be sent")
