"""bluesky's 0MQ form: ``prefix SP name SP payload``, and the document in the payload. Nothing in it is ever executed."""

import json
from typing import Any, TypeAlias

import msgpack
from msgpack import ExtType

from streamptycho.dialects import bluesky_pickle
from streamptycho.dialects.numbers import array_of
from streamptycho.errors import CodecError
from streamptycho.wire.codec import Part

try:  # not from msgpack itself: msgpack_numpy.patch(), which beamlines call, puts an unpickler there
    from msgpack._cmsgpack import unpackb
except ImportError:
    from msgpack.fallback import unpackb

Document: TypeAlias = dict[str, Any]

MAX_BYTES = 64 << 20
_HEAD = 256
"""Bytes in which prefix and name must lie."""
_LONGEST_LIST = 1 << 16
"""msgpack makes room for a list before it reads it, and lists nest."""
_PICKLES = (2, 3, 4, 5)
"""Their protocols; earlier ones have no first byte to know them by, and no Python 3 writes them unasked."""


def split(part: Part) -> tuple[bytes, str, memoryview]:
    """Prefix, name and payload of a message."""
    view = memoryview(part)
    if view.nbytes > MAX_BYTES:
        raise CodecError("document", f"{view.nbytes} bytes; at most {MAX_BYTES} are accepted")
    prefix, first, rest = bytes(view[:_HEAD]).partition(b" ")
    name, second, _ = rest.partition(b" ")
    if not (first and second and name.isascii()):
        raise CodecError("document", f"begins with {bytes(view[:20])!r}, not with a prefix, a name and a payload")
    return prefix, name.decode("ascii"), view[len(prefix) + len(name) + 2 :]


def loads(payload: memoryview, *, allow_pickle: bool) -> Document:
    """The document in a payload: JSON, msgpack (with or without msgpack-numpy), or a pickle of plain data.

    Arrays are views, or copies that are as large as their bytes. Raises :class:`CodecError` for anything else.
    """
    head = bytes(payload[:2])
    if head[:1] == b"{":
        doc = _from_json(payload)
    elif len(head) == 2 and head[0] == 0x80 and head[1] in _PICKLES and bytes(payload[-1:]) == b".":
        if not allow_pickle:
            raise CodecError(
                "document",
                "is a pickle, bluesky's default, which could hold a program; let the publisher serialise with msgpack"
                " (Publisher(..., serializer=msgpack.packb)), or set options.allow_pickle = true: then plain data and NumPy"
                " arrays are read from it, and nothing is executed",
            )
        doc = bluesky_pickle.loads(bytes(payload))
    elif head and (0x80 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        doc = _from_msgpack(payload)
    else:
        raise CodecError("document", f"begins with {head!r}, which is neither JSON nor msgpack nor a pickle")
    if type(doc) is not dict:
        raise CodecError("document", f"is a {type(doc).__name__}, not a map")
    return doc


def _from_json(payload: memoryview) -> Any:
    try:
        return json.loads(str(payload, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise CodecError("document", f"is not JSON ({type(error).__name__}: {error!s:.100})") from error


def _from_msgpack(payload: memoryview) -> Any:
    try:
        return unpackb(
            payload,
            ext_hook=_extension,
            object_hook=_table,
            max_array_len=min(_LONGEST_LIST, payload.nbytes),
            strict_map_key=False,
        )
    except CodecError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError(
            "document",
            f"is not msgpack, or has a list of more than {_LONGEST_LIST} ({type(error).__name__}: {error!s:.100})",
        ) from error


def _extension(code: int, _: bytes) -> ExtType:
    raise CodecError("document", f"has the msgpack extension {code}, which is not known; send numbers, texts and arrays")


def _table(table: dict[Any, Any]) -> Any:
    """A map; msgpack-numpy's forms of arrays and of their elements become what they stand for."""
    marked = table.get(b"nd", table.get("nd"))
    if type(marked) is not bool:
        return table
    plain = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in table.items()}
    content = plain.get("data")
    if not isinstance(content, bytes):
        raise CodecError("document", f"an array whose data are a {type(content).__name__}, not bytes")
    array = array_of("document", plain.get("type"), plain.get("shape", []) if marked else [], content)
    return array if marked else array.item()
