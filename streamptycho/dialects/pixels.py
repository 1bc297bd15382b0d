"""Frames as foreign senders encode them, as a :class:`Payload`.

Bitshuffle-LZ4 stays compressed: where the sender leaves the 12-byte header out, or sends zeros in its place, it is put
before the blocks. Everything else that is not a pixel type of ours in little-endian order is decoded here: LZ4, bare or
framed as in HDF5 (u64 big-endian total bytes, u32 big-endian block bytes, then u32 size and data of each block), big-endian
and wider types. What is allocated follows from shape and type, never from a number in the compressed bytes.
"""

import math
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from dectris.compression import decompress
from numpy.typing import NDArray

from streamptycho.errors import CodecError
from streamptycho.messages.payload import BSLZ4_HEADER, MAX_LZ4_RATIO, PIXEL_DTYPES, Encoding, Payload
from streamptycho.messages.stream import MAX_FRAME_PIXELS

BLOCK_BYTES = 8192
"""Block of bitshuffle where the sender does not say it: 8192 bytes for every element of up to 8 bytes."""
_MAX_BLOCK_BYTES = 1 << 24
_BARE_LZ4 = struct.Struct(">QII")
"""What makes a bare block of LZ4 a framed one."""
_OURS = frozenset(np.dtype(name) for name in PIXEL_DTYPES)
_WIDER: dict[str, np.dtype[Any]] = {"i1": np.dtype("<i2"), "f2": np.dtype("<f4"), "f8": np.dtype("<f4")}
"""Pixel types that are not ours, and one of ours that holds their values."""


class Codec(StrEnum):
    """How a sender has compressed a frame."""

    RAW = "raw"
    BSLZ4 = "bslz4"
    LZ4 = "lz4"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the bytes of an array are to be read. Raises :class:`CodecError` if no array can be so."""

    shape: tuple[int, int]
    """(ny, nx), pixels."""
    dtype: np.dtype
    """As sent."""
    codec: Codec = Codec.RAW
    element: int = 0
    """Bytes that bitshuffle took for an element; 0 for the size of the type."""
    column_major: bool = False
    nbytes: int = field(init=False)
    """Bytes of the decoded array."""
    as_it_is: bool = field(init=False)
    """Whether a payload can hold the bytes as they came."""

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.shape[0] * self.shape[1] > MAX_FRAME_PIXELS:
            raise CodecError("frame.shape", f"{self.shape} is not 1 to {MAX_FRAME_PIXELS} pixels")
        size, element = self.dtype.itemsize, self.element or self.dtype.itemsize
        nbytes = self.shape[0] * self.shape[1] * size
        if self.codec is Codec.BSLZ4 and nbytes % element:
            raise CodecError("frame.encoding", f"{nbytes} bytes are no whole elements of {element}")
        kept = self.codec is Codec.RAW or (self.codec is Codec.BSLZ4 and element == size)
        object.__setattr__(self, "element", element)
        object.__setattr__(self, "nbytes", nbytes)
        object.__setattr__(self, "as_it_is", kept and self.dtype in _OURS and not self.column_major)


def payload(chunk: memoryview, layout: Layout, announced: np.dtype | None = None) -> Payload:
    """One frame.

    Parameters
    ----------
    chunk : its bytes as sent; held where they need not change.
    announced : pixel type that the sender has announced, in which 64-bit pixels are stored if their values fit.

    Raises :class:`CodecError` if the bytes are not such a frame.
    """
    if layout.as_it_is:
        if layout.codec is Codec.RAW:
            encoding = Encoding.RAW
        else:
            encoding, chunk = Encoding.BSLZ4, _with_header(chunk, layout)
        return Payload(chunks=(chunk,), encoding=encoding, dtype=layout.dtype, shape=layout.shape)
    return Payload.raw(_ours(array(chunk, layout), announced))


def array(chunk: memoryview, layout: Layout) -> NDArray[Any]:
    """(ny, nx) array of the type as sent; raises :class:`CodecError` if the bytes are not exactly that."""
    data: memoryview | bytes = chunk
    if layout.codec is Codec.BSLZ4:
        data = _inflate(_with_header(chunk, layout), "bslz4", layout)
    elif layout.codec is Codec.LZ4:
        data = _unpacked(chunk, layout)
    if len(data) != layout.nbytes:
        raise CodecError("frame.payload", f"{len(data)} bytes, but {_pixels(layout)} are {layout.nbytes}")
    flat = np.frombuffer(data, layout.dtype)
    return flat.reshape(layout.shape[::-1]).T if layout.column_major else flat.reshape(layout.shape)


def _ours(pixels: NDArray[Any], announced: np.dtype | None) -> NDArray[Any]:
    """The same values in one of our types."""
    dtype: np.dtype[Any] = pixels.dtype.newbyteorder("<")
    if dtype not in _OURS:
        if dtype.kind in "iu" and dtype.itemsize == 8:
            if announced not in _OURS or announced is None or announced.kind not in "iu":
                raise CodecError("frame.dtype", f"{dtype.name} pixels cannot be kept; let the sender store at most uint32")
            limits = np.iinfo(announced)
            if int(pixels.min()) < limits.min or int(pixels.max()) > limits.max:
                raise CodecError(
                    "frame.dtype",
                    f"{dtype.name} pixels of up to {pixels.max()} do not fit the announced {announced.name}; "
                    "let the sender store at most uint32",
                )
            dtype = announced
        elif (wider := _WIDER.get(dtype.str[1:])) is not None:
            dtype = wider
        else:
            raise CodecError("frame.dtype", f"{dtype.name} is no type of pixels; known are {', '.join(PIXEL_DTYPES)}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(pixels, dtype)


def _pixels(layout: Layout) -> str:
    return f"{layout.shape[0]} x {layout.shape[1]} {layout.dtype.name}"


def _with_header(chunk: memoryview, layout: Layout) -> memoryview:
    """`chunk` with the 12 bytes that say the size of frame and block; as it is if they are there, right or wrong."""
    size = layout.nbytes
    if len(chunk) >= BSLZ4_HEADER.size:
        total, block = BSLZ4_HEADER.unpack_from(chunk)
        if total == size and block:
            return chunk
        if total in (0, size):
            return memoryview(b"".join((BSLZ4_HEADER.pack(size, block or BLOCK_BYTES), chunk[BSLZ4_HEADER.size :])))
        if total >> 32 == 0:
            return chunk
    # no frame has 4 GiB: the bytes in the place of its size are that of the first block
    if size >= 8 * layout.element and not 0 < int.from_bytes(chunk[:4], "big") <= len(chunk) - 4:
        raise CodecError("frame.payload", f"{bytes(chunk[:12])!r} begins neither a header of bslz4 nor its blocks")
    return memoryview(b"".join((BSLZ4_HEADER.pack(size, BLOCK_BYTES), chunk)))


def _inflate(chunk: memoryview | bytes, algorithm: str, layout: Layout) -> bytes:
    """Decompress what begins with a header of 12 bytes."""
    if len(chunk) < BSLZ4_HEADER.size:
        raise CodecError("frame.payload", f"{len(chunk)} bytes are too short for the header of {algorithm}")
    total, block = BSLZ4_HEADER.unpack_from(chunk)
    if total != layout.nbytes:
        raise CodecError("frame.payload", f"header says {total} bytes, but {_pixels(layout)} are {layout.nbytes}")
    if total > MAX_LZ4_RATIO * len(chunk):
        raise CodecError("frame.payload", f"{len(chunk)} compressed bytes cannot hold {_pixels(layout)}")
    if block == 0 or (algorithm == "bslz4" and (block % (8 * layout.element) or block > _MAX_BLOCK_BYTES)):
        raise CodecError("frame.payload", f"{algorithm} block of {block} bytes is not usable")
    try:
        data: bytes = decompress(chunk, algorithm, elem_size=layout.element)
    except (RuntimeError, ValueError, OverflowError, MemoryError) as error:
        raise CodecError("frame.payload", f"{algorithm} data do not decompress ({error})") from error
    return data


def _unpacked(chunk: memoryview, layout: Layout) -> bytes:
    """LZ4, framed or bare: a bare block cannot begin with a zero byte, and the size of a frame always does."""
    if len(chunk) >= BSLZ4_HEADER.size and chunk[0] == 0:
        return _inflate(chunk, "lz4", layout)
    size = layout.nbytes
    if len(chunk) == size:  # a block of this size would be taken for one that is stored as it is
        return unpack_block(chunk, size)
    return _inflate(b"".join((_BARE_LZ4.pack(size, size, len(chunk)), chunk)), "lz4", layout)


def unpack_block(block: memoryview, size: int) -> bytes:
    """Decompress one bare block of LZ4 of `size` bytes in plain Python.

    Raises :class:`CodecError` if it is not one. Takes about 10 ms for a megabyte that does not compress, for which alone it
    is used.
    """
    out = bytearray()
    at = 0
    try:
        while True:
            token, at = block[at], at + 1
            length, at = _length(block, at, token >> 4)
            out += block[at : at + length]
            at += length
            if at >= len(block) or len(out) > size:
                break
            offset, at = block[at] | block[at + 1] << 8, at + 2
            length, at = _length(block, at, token & 15)
            length += 4
            if not 0 < offset <= len(out) or len(out) + length > size:
                break
            begin = len(out) - offset
            match = out[begin : begin + length]
            out += (match * math.ceil(length / len(match)))[:length]
    except IndexError:
        at = -1
    if at != len(block) or len(out) != size:
        raise CodecError("frame.payload", "lz4 data do not decompress")
    return bytes(out)


def _length(block: memoryview, at: int, length: int) -> tuple[int, int]:
    """A length that goes on in further bytes where its four bits are full, and where it ends."""
    if length == 15:
        while block[at] == 255:
            length, at = length + 255, at + 1
        length, at = length + block[at], at + 1
    return length, at
