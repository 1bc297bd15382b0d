"""Bitshuffle-LZ4 chunks in and out of HDF5 without touching the pixels.

A chunk of filter 32008 in LZ4 mode is byte for byte what DECTRIS detectors stream, so a file can be fed from the wire and
replayed to the wire without recompressing. Knows nothing of scans.
"""

from typing import Any
from uuid import uuid4

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from streamptycho.payload import Encoding, Payload

_FILTER_ID = 32008
_LZ4 = 2
"""Value of the filter's fifth parameter that selects LZ4 rather than none (0) or zstd (3)."""


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
    stack = np.ascontiguousarray(frames[None] if frames.ndim == 2 else frames)
    stack = stack.astype(stack.dtype.newbyteorder("<"), copy=False)
    with h5py.File(f"in-memory-{uuid4()}", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("frames", data=stack, chunks=(1, *stack.shape[1:]), **filter_options("bslz4"))
        chunks = tuple(memoryview(dataset.id.read_direct_chunk((i, 0, 0))[1]) for i in range(len(stack)))
    shape = (stack.shape[1], stack.shape[2])
    return Payload(chunks=chunks, encoding=Encoding.BSLZ4, dtype=stack.dtype, shape=shape)


def chunk_encoding(dataset: Any) -> Encoding | None:
    """Encoding of the chunks of `dataset` (n, ny, nx), None if they are not one plain or bitshuffle-LZ4 frame each."""
    if dataset.chunks != (1, *dataset.shape[1:]) or dataset.dtype.byteorder == ">":
        return None
    plist = dataset.id.get_create_plist()
    if plist.get_nfilters() == 0:
        return Encoding.RAW
    number, _, parameters, _ = plist.get_filter(0)
    lz4 = number == _FILTER_ID and len(parameters) > 4 and parameters[4] == _LZ4
    return Encoding.BSLZ4 if lz4 and plist.get_nfilters() == 1 else None


def stored_chunk(dataset: Any, row: int) -> memoryview | None:
    """Bytes of the chunk of frame `row` as stored; None if it was never written or the filter was skipped for it."""
    corner = (row, 0, 0)
    if dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:
        return None
    skipped, chunk = dataset.id.read_direct_chunk(corner)
    return None if skipped else memoryview(chunk)
