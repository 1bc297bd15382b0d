"""Arrays and numbers that senders describe in words: nothing is allocated for a size that the bytes do not have."""

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError

_PLAIN = re.compile(r"[<>=|]?(b1|i[1248]|u[1248]|f[248]|c8|c16)")
_MAX_AXES = 8


def array_of(field: str, dtype: Any, shape: Any, content: Any, order: str = "C") -> NDArray[Any]:
    """The array of type `dtype` (``<f8``) and `shape` in bytes, read-only, not copied.

    Raises :class:`CodecError` naming `field` unless it is of plain numbers and the bytes are as many as that needs.
    """
    if not isinstance(dtype, str) or not _PLAIN.fullmatch(dtype):
        raise CodecError(field, f"an array of type {str(dtype)[:20]!r} is not read; send numbers")
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > _MAX_AXES
        or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    ):
        raise CodecError(field, f"the shape {str(shape)[:60]} of an array is not a short list of lengths")
    kind = np.dtype(dtype)
    if len(content) != kind.itemsize * math.prod(shape):
        raise CodecError(field, f"{len(content)} bytes for an array {dtype} {list(shape)}")
    try:
        array = np.frombuffer(content, kind).reshape(shape, order="F" if order == "F" else "C")
    except ValueError as error:  # without values, the product of the other lengths may be too large for NumPy
        raise CodecError(field, f"an array of shape {list(shape)}") from error
    array.flags.writeable = False
    return array
