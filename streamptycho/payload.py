"""Pixels of frames, raw or still compressed as the detector sent them.

A payload travels from the wire to the file untouched; only who needs pixels calls :meth:`Payload.decode`. The compressed
form is bitshuffle-LZ4 with the 12-byte header that DECTRIS streams and HDF5 filter 32008 share: u64 big-endian total
bytes, u32 big-endian block bytes, then the blocks.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from dectris.compression import decompress
from numpy.typing import NDArray

from streamptycho.errors import CodecError

PIXEL_DTYPES = ("uint8", "uint16", "uint32", "int16", "int32", "float32")
"""Pixel types that a frame may have, little-endian on the wire."""

BSLZ4_HEADER = struct.Struct(">QI")


class Encoding(StrEnum):
    """How the bytes of one frame are stored."""

    RAW = "raw"
    BSLZ4 = "bslz4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The pixels of n >= 1 frames, one chunk of bytes each.

    Raises :class:`CodecError` if the type is unknown or a raw chunk has not exactly ny * nx * itemsize bytes.
    """

    chunks: tuple[memoryview, ...]
    encoding: Encoding
    dtype: np.dtype
    shape: tuple[int, int]
    """(ny, nx) of one frame."""

    def __post_init__(self) -> None:
        if self.dtype.name not in PIXEL_DTYPES:
            raise CodecError("frame.dtype", f"{self.dtype.name!r} is not one of {', '.join(PIXEL_DTYPES)}")
        if min(self.shape) < 1:
            raise CodecError("frame.shape", f"{self.shape} has an empty axis")
        for chunk in self.chunks:
            if self.encoding is Encoding.RAW and chunk.nbytes != self.frame_bytes:
                raise CodecError(
                    "frame.payload",
                    f"{chunk.nbytes} bytes, but {self.shape[0]} x {self.shape[1]} {self.dtype.name} are {self.frame_bytes}",
                )

    @classmethod
    def raw(cls, frames: NDArray[np.generic]) -> "Payload":
        """Wrap pixels without a copy where they are contiguous; `frames` (ny, nx) or (n, ny, nx)."""
        frames = np.ascontiguousarray(frames)
        if frames.dtype.byteorder == ">":
            frames = frames.astype(frames.dtype.newbyteorder("<"))
        stack = frames[None] if frames.ndim == 2 else frames
        chunks = tuple(memoryview(frame.reshape(-1).view(np.uint8)).toreadonly() for frame in stack)
        return cls(chunks=chunks, encoding=Encoding.RAW, dtype=stack.dtype, shape=(stack.shape[1], stack.shape[2]))

    def __len__(self) -> int:
        return len(self.chunks)

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

        Raises :class:`CodecError` if the chunk does not decode to exactly the bytes that shape and type demand. The size
        in the chunk's own header is compared with them before anything is allocated.
        """
        chunk = self.chunks[i]
        if self.encoding is Encoding.RAW:
            pixels = np.frombuffer(chunk, self.dtype)
        else:
            pixels = np.frombuffer(self._decompress(chunk), self.dtype)
        pixels = pixels.reshape(self.shape)
        pixels.flags.writeable = False
        return pixels

    def _decompress(self, chunk: memoryview) -> bytes:
        if chunk.nbytes < BSLZ4_HEADER.size:
            raise CodecError("frame.payload", f"{chunk.nbytes} bytes are too short for a bslz4 header of 12")
        total, block = BSLZ4_HEADER.unpack_from(chunk)
        if total != self.frame_bytes:
            raise CodecError("frame.payload", f"bslz4 header says {total} bytes, but the frame has {self.frame_bytes}")
        # bitshuffle works on whole groups of eight elements
        if block % (8 * self.dtype.itemsize) or block > 1 << 24:
            raise CodecError("frame.payload", f"bslz4 block of {block} bytes is not usable")
        try:
            data: bytes = decompress(chunk, "bslz4", elem_size=self.dtype.itemsize)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise CodecError("frame.payload", f"bslz4 data do not decompress ({error})") from error
        if len(data) != self.frame_bytes:
            raise CodecError("frame.payload", f"bslz4 data give {len(data)} bytes instead of {self.frame_bytes}")
        return data
