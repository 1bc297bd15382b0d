"""Chunks of bitshuffle-LZ4, and of LZ4 alone, in and out of HDF5 without touching the pixels.

A chunk of filter 32008 in LZ4 mode is byte for byte what DECTRIS detectors stream, so a file can be fed from the wire and
replayed to the wire without recompressing. Knows nothing of scans.
"""

from functools import cache
from typing import Any
from uuid import uuid4

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError
from streamptycho.messages.payload import BSLZ4_HEADER, Encoding, Payload

FILTER_ID = 32008
INSTEAD = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]
"""Filters that a chunk of our files may have gone through instead."""
_LZ4 = 2
"""Value of the filter's fifth parameter that selects LZ4 rather than none (0) or zstd (3)."""


_LAST_LITERALS, _LAST_MATCH = 5, 12
"""How an LZ4 block ends: so many bytes are not matched, and no match begins within so many."""


def filter_options(compression: str) -> dict[str, Any]:
    """Keyword arguments of ``create_dataset`` for ``"bslz4"`` or ``"none"``."""
    if compression == "none":
        return {}
    options: dict[str, Any] = dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4"))
    return options


def compress(frames: NDArray[np.generic]) -> Payload:
    """Compress a block of frames, (n, ny, nx) or (ny, nx), as a DECTRIS detector would.

    One in-memory file serves the whole block: its fixed cost of about 0.6 ms is shared by all frames of the block.
    """
    stack = _stack(frames)
    shape = (stack.shape[1], stack.shape[2])
    chunks = _chunks(stack, filter_options("bslz4"))
    return Payload(chunks=chunks, encoding=Encoding.BSLZ4, dtype=stack.dtype, shape=shape)


def compress_lz4(frames: NDArray[np.generic], block_bytes: int = 0) -> tuple[memoryview, ...]:
    """Compress each frame of a block by LZ4 without bitshuffle, framed as filter 32004 of HDF5 does it.

    `block_bytes` is the size of its blocks before compression; 0 leaves it to the filter.
    """
    return _chunks(_stack(frames), dict(hdf5plugin.LZ4(nbytes=block_bytes)))


def _stack(frames: NDArray[np.generic]) -> NDArray[np.generic]:
    stack = np.ascontiguousarray(frames[None] if frames.ndim == 2 else frames)
    return stack.astype(stack.dtype.newbyteorder("<"), copy=False)


def _chunks(stack: NDArray[np.generic], options: dict[str, Any]) -> tuple[memoryview, ...]:
    with h5py.File(f"in-memory-{uuid4()}", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("frames", data=stack, chunks=(1, *stack.shape[1:]), **options)
        return tuple(memoryview(dataset.id.read_direct_chunk((i, 0, 0))[1]) for i in range(len(stack)))


def chunk_encoding(dataset: Any) -> Encoding | None:
    """Encoding that chunks of `dataset` (n, ny, nx) can be in, one frame each: plain, or bitshuffle-LZ4; None if neither.

    Whether a chunk is tells :func:`stored_chunk`: in files of ours it may have gone through other filters instead.
    """
    if dataset.chunks != (1, *dataset.shape[1:]) or dataset.dtype.byteorder == ">":
        return None
    return _encoding(dataset)[0]


def _encoding(dataset: Any) -> tuple[Encoding | None, int]:
    """The same, and the filters that such a chunk has skipped, as HDF5 notes them."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(at) for at in range(properties.get_nfilters())]
    if not filters:
        return Encoding.RAW, 0
    number, _, parameters, _ = filters[-1]
    before = [one[0] for one in filters[:-1]]
    if number != FILTER_ID or len(parameters) < 5 or parameters[4] != _LZ4 or before not in ([], INSTEAD):
        return None, 0
    return Encoding.BSLZ4, (1 << len(before)) - 1


def stored_chunk(dataset: Any, row: int) -> memoryview | None:
    """Bytes of the chunk of frame `row` in the encoding of the dataset; None if it was never written, or is in another."""
    corner = (row, 0, 0)
    found = dataset.id.get_chunk_info_by_coord(corner)
    if found.byte_offset is None or found.filter_mask != _encoding(dataset)[1]:
        return None
    return memoryview(dataset.id.read_direct_chunk(corner)[1])


def decodes(payload: Payload, i: int) -> bool:
    """Whether frame `i` can be decompressed: a chunk that cannot, once stored, would break every read of the whole dataset.

    Its blocks are only walked through, which takes a quarter to a half of the time; where that does not convince, they are
    decompressed.
    """
    if payload.encoding is Encoding.RAW:
        return True
    total, block = BSLZ4_HEADER.unpack_from(payload.chunks[i])
    if load_walk()(np.frombuffer(payload.chunks[i], np.uint8), total, block, 8 * payload.dtype.itemsize):
        return True
    try:
        payload.decode(i)
    except CodecError:
        return False
    return True


@cache
def load_walk() -> Any:
    """:func:`walk`, compiled: loading takes some tenths of a second, once for each process."""
    from streamptycho.solve.compiled.jit import jit

    walk_compiled = jit(walk)
    walk_compiled(np.frombuffer(bytes(BSLZ4_HEADER.size), np.uint8), 0, 1, 8)
    return walk_compiled


def walk(chunk: NDArray[np.uint8], total: int, block: int, group: int) -> bool:
    """Whether every LZ4 block of `chunk` keeps the rules of the format and gives the bytes that are due.

    It is stricter than decoders are: what passes here passes all of them.

    Parameters
    ----------
    chunk : (n,) uint8, header included.
    total, block : bytes of the frame and of a block, decompressed.
    group : bytes that bitshuffle keeps together; what is left of the frame behind whole groups is stored as it is.
    """
    at, left = np.int64(12), total
    while left >= group:
        wanted = min(block, left - left % group)
        if at + 4 > chunk.size:
            return False
        end = at + 4
        for k in range(4):
            end += np.int64(chunk[at + k]) << (24 - 8 * k)
        at, given = at + 4, np.int64(0)
        if end > chunk.size:
            return False
        while True:  # one sequence: a token, literals and, but for the last, a match
            if at >= end:
                return False
            token, at = np.int64(chunk[at]), at + 1
            length = token >> 4
            byte = np.int64(255 if length == 15 else 0)
            while byte == 255:
                if at >= end:
                    return False
                byte, at = np.int64(chunk[at]), at + 1
                length += byte
            at, given = at + length, given + length
            if at == end and given == wanted:
                break
            if at > end - _LAST_LITERALS - 3 or given > wanted - _LAST_MATCH:
                return False
            offset, at = np.int64(chunk[at]) | (np.int64(chunk[at + 1]) << 8), at + 2
            length = (token & 15) + 4
            byte = np.int64(255 if length == 19 else 0)
            while byte == 255:
                if at >= end:
                    return False
                byte, at = np.int64(chunk[at]), at + 1
                length += byte
            given += length
            if offset == 0 or offset > given - length or given > wanted - _LAST_LITERALS:
                return False
        left -= wanted
    return bool(at + left == chunk.size)
