"""Pixels of frames, raw or still compressed as the detector sent them.

A payload travels from the wire to the file untouched; only what needs pixels calls :meth:`Payload.decode`. The compressed
form is bitshuffle-LZ4 with the 12-byte header that DECTRIS streams and HDF5 filter 32008 share: u64 big-endian total
bytes, u32 big-endian block bytes, then the blocks.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

import numpy as np
from dectris.compression import decompress
from numpy.typing import NDArray

from streamptycho.errors import CodecError
from streamptycho.messages.marks import Wire

PIXEL_DTYPES = ("uint8", "uint16", "uint32", "int16", "int32", "float32")
"""Pixel types that a frame may have, little-endian on the wire."""
NEAREST_DTYPES = {
    "bool": "uint8", "int8": "int16", "int64": "int32", "uint64": "uint32", "float16": "float32", "float64": "float32",
}  # fmt: skip
"""Pixel types of NumPy that no detector sends, and the one that holds their counts."""
RESERVED_COUNTS = (65534.0, 65535.0, 2.0**31 - 1, 2.0**32 - 2, 2.0**32 - 1, 2.0**64 - 1)
"""What detectors write where nothing was measured, in whatever type the frames come."""
_LITTLE_ENDIAN = frozenset(np.dtype(name).newbyteorder("<") for name in PIXEL_DTYPES)

BSLZ4_HEADER = struct.Struct(">QI")
MAX_LZ4_RATIO = 255
"""No LZ4 block decompresses to more than this many times its size: one more byte of input extends a match by 255."""


class Encoding(StrEnum):
    """How the bytes of one frame are stored."""

    RAW = "raw"
    BSLZ4 = "bslz4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The pixels of n >= 1 frames, one chunk of bytes each.

    Raises :class:`CodecError` if the type is unknown, if a raw chunk has not exactly ny * nx * itemsize bytes, or if the
    header of a compressed chunk says anything else or more than that chunk can hold.
    """

    chunks: Annotated[tuple[memoryview, ...], Wire.PARTS]
    encoding: Encoding
    dtype: np.dtype
    shape: tuple[int, int]
    """(ny, nx) of one frame."""

    def __post_init__(self) -> None:
        if self.dtype not in _LITTLE_ENDIAN:
            raise CodecError("frame.dtype", f"{self.dtype.str!r} is not a little-endian {', '.join(PIXEL_DTYPES)}")
        if min(self.shape) < 1:
            raise CodecError("frame.shape", f"{self.shape} has an empty axis")
        for chunk in self.chunks:
            self._check(chunk)

    @classmethod
    def raw(cls, frames: NDArray[np.generic]) -> "Payload":
        """Wrap pixels without a copy where they are contiguous; `frames` (ny, nx) or (n, ny, nx)."""
        frames = np.ascontiguousarray(frames)
        if frames.dtype.byteorder == ">":
            frames = frames.astype(frames.dtype.newbyteorder("<"))
        stack = frames[None] if frames.ndim == 2 else frames
        chunks = tuple(frame.reshape(-1).view(np.uint8).data.toreadonly() for frame in stack)
        return cls(chunks=chunks, encoding=Encoding.RAW, dtype=stack.dtype, shape=(stack.shape[1], stack.shape[2]))

    def __len__(self) -> int:
        return len(self.chunks)

    @staticmethod
    def joined(payloads: Sequence["Payload"]) -> "Payload":
        """One of several of one form; shares the bytes."""
        return replace(payloads[0], chunks=tuple(chunk for payload in payloads for chunk in payload.chunks))

    @property
    def form(self) -> tuple[Encoding, np.dtype, tuple[int, int]]:
        """What frames of one payload have in common."""
        return self.encoding, self.dtype, self.shape

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes held, as stored."""
        return sum(chunk.nbytes for chunk in self.chunks)

    def decode(self, i: int = 0) -> NDArray[np.generic]:
        """Pixels of frame `i`, (ny, nx), read-only.

        Raises :class:`CodecError` if the chunk does not decode to exactly the bytes that shape and type demand.
        """
        chunk = self.chunks[i]
        pixels = np.frombuffer(chunk if self.encoding is Encoding.RAW else self._decompress(chunk), self.dtype)
        pixels = pixels.reshape(self.shape)
        pixels.flags.writeable = False
        return pixels

    @property
    def _pixels(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]} {self.dtype.name}"

    def _check(self, chunk: memoryview) -> None:
        """What shows without decompressing, so that no later step allocates for a size that a sender made up."""
        if self.encoding is Encoding.RAW:
            if chunk.nbytes != self.frame_bytes:
                raise CodecError("frame.payload", f"{chunk.nbytes} bytes, but {self._pixels} are {self.frame_bytes}")
            return
        if chunk.nbytes < BSLZ4_HEADER.size:
            raise CodecError("frame.payload", f"{chunk.nbytes} bytes are too short for a bslz4 header of 12")
        total, block = BSLZ4_HEADER.unpack_from(chunk)
        if total != self.frame_bytes:
            raise CodecError("frame.payload", f"bslz4 header says {total} bytes, but {self._pixels} are {self.frame_bytes}")
        if total > MAX_LZ4_RATIO * chunk.nbytes:
            raise CodecError("frame.payload", f"{chunk.nbytes} compressed bytes cannot hold {self._pixels}")
        # bitshuffle works on whole groups of eight elements
        if block == 0 or block % (8 * self.dtype.itemsize) or block > 1 << 24:
            raise CodecError("frame.payload", f"bslz4 block of {block} bytes is not usable")

    def _decompress(self, chunk: memoryview) -> bytes:
        try:
            data: bytes = decompress(chunk, "bslz4", elem_size=self.dtype.itemsize)
        except (RuntimeError, ValueError, OverflowError, MemoryError) as error:
            raise CodecError("frame.payload", f"bslz4 data do not decompress ({error})") from error
        if len(data) != self.frame_bytes:
            raise CodecError("frame.payload", f"bslz4 data give {len(data)} bytes instead of {self.frame_bytes}")
        return data
