"""Arrays in CBOR: typed (RFC 8746), of several dimensions, and compressed as DECTRIS detectors do it (tag 56500)."""

from typing import Any

import numpy as np

from streamptycho.dialects.pixels import Codec, Layout
from streamptycho.errors import CodecError
from streamptycho.messages.payload import BSLZ4_HEADER

_ROWS_FIRST, _COLUMNS_FIRST, _COMPRESSED = 40, 1040, 56500
_UNSIGNED = {64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 68: "u1", 69: "<u2", 70: "<u4", 71: "<u8"}
_SIGNED = {72: "i1", 73: ">i2", 74: ">i4", 75: ">i8", 77: "<i2", 78: "<i4", 79: "<i8"}
_FLOAT = {80: ">f2", 81: ">f4", 82: ">f8", 84: "<f2", 85: "<f4", 86: "<f8"}
_TYPES = {tag: np.dtype(name) for tag, name in (_UNSIGNED | _SIGNED | _FLOAT).items()}
"""Tags of RFC 8746, but for floats of 128 bits."""
_CODECS = {"bslz4": Codec.BSLZ4, "lz4": Codec.LZ4}


def typed_array(
    value: Any, field: str, shape: tuple[int, int] | None = None, dtype: np.dtype | None = None
) -> tuple[Layout, memoryview]:
    """How an array as :func:`streamptycho.dialects.dectris.cbor.read` gives it is to be read, and its bytes.

    `shape` (ny, nx) and `dtype` stand in for what it does not say itself. Raises :class:`CodecError` that names `field` if
    it is no array of two dimensions.
    """
    tag, inner = _opened(value)
    column_major = tag == _COLUMNS_FIRST
    if tag in (_ROWS_FIRST, _COLUMNS_FIRST):
        if not (isinstance(inner, list) and len(inner) == 2):
            raise CodecError(field, f"an array of several dimensions is {inner!r:.60}, not their sizes and the values")
        shape = _shape(inner[0], field)
        tag, inner = _opened(inner[1])
    typed = None if tag is None else _TYPES.get(tag)
    if typed is not None:
        dtype = typed
        tag, inner = _opened(inner)
    codec, element = Codec.RAW, 0
    if tag == _COMPRESSED:
        codec, element, inner = _compressed(inner, field)
    elif tag is not None:
        raise CodecError(field, f"tag {tag} in an array is not known")
    if not isinstance(inner, memoryview):
        raise CodecError(field, f"the values of an array are {inner!r:.60}, not bytes")
    if shape is None or dtype is None:
        raise CodecError(field, "an array without its sizes and type, and the start does not say them")
    layout = Layout(shape, dtype, codec, element, column_major)
    if codec is Codec.RAW and typed is None and len(inner) >= BSLZ4_HEADER.size:
        # plain bytes may be a chunk of HDF5
        compressed = BSLZ4_HEADER.unpack_from(inner)[0] == layout.nbytes != len(inner)
        layout = Layout(shape, dtype, Codec.BSLZ4, 0, column_major) if compressed else layout
    return layout, inner


def _opened(value: Any) -> tuple[int | None, Any]:
    return value if isinstance(value, tuple) else (None, value)


def _shape(sizes: Any, field: str) -> tuple[int, int]:
    """(ny, nx); dimensions of size 1 before them are left out."""
    if not (isinstance(sizes, list) and 2 <= len(sizes) <= 8 and all(type(size) is int and size > 0 for size in sizes)):
        raise CodecError(field, f"{sizes!r:.60} are not the sizes of an array of two dimensions")
    if any(size != 1 for size in sizes[:-2]):
        raise CodecError(field, f"{sizes!r:.60} are the sizes of several frames; send one in each message")
    return sizes[-2], sizes[-1]


def _compressed(value: Any, field: str) -> tuple[Codec, int, Any]:
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)):
        raise CodecError(field, f"compressed bytes are {value!r:.60}, not method, size of elements and bytes")
    if value[0] not in _CODECS:
        raise CodecError(field, f"compression {value[0]!r:.40} is not known; let the sender use {' or '.join(_CODECS)}")
    codec = _CODECS[value[0]]
    if codec is Codec.LZ4:
        return codec, 0, value[2]
    if value[1] not in (1, 2, 4, 8):
        raise CodecError(field, f"elements of {value[1]!r:.40} bytes are not 1, 2, 4 or 8")
    return codec, int(value[1]), value[2]
