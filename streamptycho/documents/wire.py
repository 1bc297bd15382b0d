"""Documents to bytes and back: bluesky's 0MQ form with msgpack inside. Nothing is ever unpickled."""

import math
import struct
from typing import Any, TypeAlias

import msgpack
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError
from streamptycho.messages.checks import MAX_METADATA_BYTES

try:  # not from msgpack itself: msgpack_numpy.patch(), which beamlines call, puts an unpickler there
    from msgpack._cmsgpack import Packer, unpackb
except ImportError:
    from msgpack.fallback import Packer, unpackb

Document: TypeAlias = tuple[str, dict[str, Any]]
"""Name (``start``, ``descriptor``, ``event``, ``event_page`` or ``stop``) and content."""

PREFIX = b"streamptycho"
ARRAY_CODE = 78
"""Extension type of an array, the letter N."""
MAX_AXES = 4
MAX_PAYLOAD_BYTES = 256 << 20
_DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8", "<c8", "<c16")
_NAMES = frozenset({"start", "descriptor", "event", "event_page", "stop"})
_LONGEST_LIST = 4096
"""msgpack makes room for a list before it reads it, and lists nest."""
_LARGEST_MAP = MAX_METADATA_BYTES // 2
"""Entries of a map, for which no room is made: as many as metadata may have, of two bytes each at least."""
_DEEPEST = 16


def dumps(doc: dict[str, Any]) -> bytes:
    """The payload of a document: a msgpack map.

    Raises :class:`CodecError` for what cannot be sent: arrays of objects or text, or anything but plain values.
    """
    try:
        # metadata may hold text that is not UTF-8
        packed: bytes = Packer(default=_pack, unicode_errors="replace").pack(doc)
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError("document", f"cannot be sent: {error}") from error
    return packed


def loads(payload: bytes) -> dict[str, Any]:
    """The document in a payload. For bluesky's dispatchers: ``RemoteDispatcher(address, deserializer=loads)``.

    Arrays are copies of their own. Raises :class:`CodecError` for bytes that are not a document; takes at most 32 MiB more
    than a few times the length of `payload`.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise CodecError("document", f"{len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are accepted")
    try:
        doc = unpackb(payload, ext_hook=_unpack, max_array_len=_LONGEST_LIST, max_map_len=_LARGEST_MAP, strict_map_key=False)
    except CodecError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError(
            "document",
            f"not msgpack, or a list of more than {_LONGEST_LIST} or a map of more than {_LARGEST_MAP} entries"
            f" ({type(error).__name__})",
        ) from error
    if type(doc) is not dict:
        raise CodecError("document", f"a msgpack {type(doc).__name__}, not a map")
    _check_plain(doc, 0)
    return doc


def frame(name: str, doc: dict[str, Any]) -> bytes:
    """The message that carries a document: ``prefix SP name SP payload``."""
    return b" ".join((PREFIX, name.encode(), dumps(doc)))


def unframe(message: bytes) -> Document:
    """The document in a message; raises :class:`CodecError` if there is none of ours."""
    prefix, _, rest = message.partition(b" ")
    name, separator, payload = rest.partition(b" ")
    if prefix != PREFIX or not separator:
        raise CodecError("document", f"begins with {message[:20]!r}, not with {PREFIX!r}, a name and a payload")
    text = name.decode(errors="replace")
    if text not in _NAMES:
        raise CodecError("document.name", f"{text[:20]!r} is not one of {', '.join(sorted(_NAMES))}")
    return text, loads(payload)


def _pack(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return msgpack.ExtType(ARRAY_CODE, _array_bytes(value))
    if isinstance(value, np.generic | np.ndarray):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")


def _array_bytes(array: NDArray[Any]) -> bytes:
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in _DTYPES:
        raise TypeError(f"an array of {array.dtype}; {', '.join(_DTYPES)} are known")
    if array.ndim > MAX_AXES or max(array.shape) >= 1 << 32:
        raise ValueError(f"an array of shape {array.shape}; at most {MAX_AXES} axes of less than 2**32 are known")
    name = dtype.str.encode()
    head = struct.pack(f"<B{len(name)}sB{array.ndim}I", len(name), name, array.ndim, *array.shape)
    return head + array.astype(dtype, copy=False).tobytes()


def _unpack(code: int, data: bytes) -> NDArray[Any]:
    if code != ARRAY_CODE:
        raise CodecError("document", f"extension type {code}; only {ARRAY_CODE} is known")
    try:
        length = data[0]
        name = data[1 : 1 + length].decode("ascii")
        axes = data[1 + length]
        if name not in _DTYPES or not 1 <= axes <= MAX_AXES:
            raise CodecError("document", f"an array of {name[:20]!r} with {axes} axes is not known")
        shape = struct.unpack_from(f"<{axes}I", data, 2 + length)
    except (IndexError, UnicodeDecodeError, struct.error) as error:
        raise CodecError("document", f"the head of an array is cut off or not text ({type(error).__name__})") from error
    dtype, begin = np.dtype(name), 2 + length + 4 * axes
    size = dtype.itemsize * math.prod(shape)
    if len(data) - begin != size:
        raise CodecError("document", f"{len(data) - begin} bytes follow, {name} {list(shape)} needs {size}")
    if dtype == np.bool_ and size and np.frombuffer(data, np.uint8, offset=begin).max() > 1:
        raise CodecError("document", "bytes other than 0 and 1 in a bool array")
    try:
        return np.frombuffer(data, dtype, offset=begin).reshape(shape).copy() if size else np.empty(shape, dtype)
    except ValueError as error:  # without values, the product of the other lengths may be too large for NumPy
        raise CodecError("document", f"an array of shape {list(shape)}") from error


def _check_plain(value: Any, depth: int) -> None:
    """Refuse what msgpack knows and documents do not have: bytes, times, keys that are not text, deep nesting."""
    if depth > _DEEPEST:
        raise CodecError("document", f"nested deeper than {_DEEPEST}")
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise CodecError("document", f"a key is a {type(key).__name__}, not text")
            _check_plain(item, depth + 1)
    elif type(value) is list:
        for item in value:
            _check_plain(item, depth + 1)
    elif value is not None and type(value) not in (str, int, float, bool, np.ndarray):
        raise CodecError("document", f"holds a {type(value).__name__}")
