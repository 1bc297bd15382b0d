"""How frames and pictures are stored: chunks are compressed here and go into the file as they are.

Frames have one dataset, whose chunks say, each for itself, which of its filters they have gone through. A frame that came as
bitshuffle-LZ4 is stored as it came; one that came plain is stored so that any program with HDF5 reads it, without a plugin:
deflated where there is time, else as it is. See docs/adr/0026-frames-without-a-plugin.md.
"""

import zlib
from itertools import product
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from streamptycho.files.bslz4 import FILTER_ID, INSTEAD, filter_options
from streamptycho.messages.payload import Encoding, Payload

DEFLATED_BYTES = 4 << 20
"""Of plain frames, before compression, that are deflated in one commit: some 40 ms of one core. One frame always is."""
_LEVEL = 1
_SHUFFLED_AND_DEFLATED, _BSLZ4, _AS_IT_IS = 0b100, 0b011, 0b111
"""Filters of a chunk that were skipped, as HDF5 notes it: shuffle, deflate, bitshuffle-LZ4."""


def storage_of(compression: str) -> dict[str, Any]:
    """Keyword arguments of ``create_dataset`` for frames: ``"plain"``, ``"bslz4"`` or ``"none"``."""
    if compression != "plain":
        return filter_options(compression)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_shuffle()
    properties.set_deflate(_LEVEL)
    options = dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4"))["compression_opts"]
    properties.set_filter(FILTER_ID, h5py.h5z.FLAG_OPTIONAL, options)
    return {"dcpl": properties}


class Storage:
    """Puts frames into one dataset, as that stores them."""

    def __init__(self, frames: Any) -> None:
        self._frames = frames
        properties = frames.id.get_create_plist()
        filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
        self._mixed = filters == [*INSTEAD, FILTER_ID]
        self._only = None if self._mixed else Encoding.BSLZ4 if filters == [FILTER_ID] else Encoding.RAW
        self._left_bytes = DEFLATED_BYTES
        self._rows = (-1, -1)
        """The first row that was put, and the last."""

    def begin(self) -> None:
        """A commit begins."""
        self._left_bytes = DEFLATED_BYTES

    def put(self, row: int, payload: Payload, i: int) -> None:
        """Put frame `i` of a block into a row."""
        write, chunk = self._frames.id.write_direct_chunk, payload.chunks[i]
        self._rows = (row if self._rows[0] < 0 else self._rows[0], row)
        if payload.encoding is self._only:
            write((row, 0, 0), chunk)
        elif not self._mixed:
            self._frames[row] = payload.decode(i)
        elif payload.encoding is Encoding.BSLZ4:
            write((row, 0, 0), chunk, _BSLZ4)
        else:
            small = self._deflated(chunk, payload.dtype.itemsize)
            write((row, 0, 0), chunk if small is None else small, _AS_IT_IS if small is None else _SHUFFLED_AND_DEFLATED)

    def settle(self) -> None:
        """A commit has put all its rows.

        HDF5 2.0 forgets, for readers in this process, which filters the last chunk has skipped, until it looks for another.
        That must be one that is there: of others it does not say how large they are. Where there is only one, a change of
        the length helps as well.
        """
        first, last = self._rows
        if not self._mixed or last < 0:
            return
        if first != last:
            self._frames.id.read_direct_chunk((first, 0, 0))
            return
        rows = len(self._frames)
        self._frames.resize(rows + 1, axis=0)
        self._frames.resize(rows, axis=0)

    def _deflated(self, chunk: memoryview, itemsize: int) -> bytes | None:
        """The pixels as HDF5's filters would leave them; None where there is no time, or nothing is gained."""
        if self._left_bytes < min(chunk.nbytes, DEFLATED_BYTES):
            return None
        self._left_bytes -= chunk.nbytes
        small = _deflate(np.frombuffer(chunk, np.uint8), itemsize)
        return small if len(small) < chunk.nbytes else None


def put_tiles(dataset: Any, values: NDArray[Any], row: int | None = None, *, over: bool = False) -> None:
    """Put a picture into a dataset that has room for it and is stored as :data:`~streamptycho.files.items.SMALL` says.

    The disk refuses here what would fail inside of HDF5 otherwise, after which that cannot even close the file.

    row : first index of what is one picture in a stack of them.
    over : there may be something already; else tiles of zeros, which take no room, are left out.
    """
    values = values.astype(dataset.dtype, copy=False)
    at = () if row is None else (row,)
    sides = dataset.chunks[len(at) :]
    for corner in product(*(range(0, n, side) for n, side in zip(values.shape, sides, strict=True))):
        tile = values[tuple(slice(k, k + side) for k, side in zip(corner, sides, strict=True))]
        if not over and not tile.any():
            continue
        whole = np.zeros(sides, dataset.dtype)
        whole[tuple(slice(n) for n in tile.shape)] = tile
        dataset.id.write_direct_chunk((*at, *corner), _deflate(whole.reshape(-1).view(np.uint8), whole.itemsize))


def _deflate(pixels: NDArray[np.uint8], itemsize: int) -> bytes:
    """(n * itemsize,) bytes as shuffle and deflate of HDF5 make them."""
    return zlib.compress(pixels.reshape(-1, itemsize).T.tobytes(), _LEVEL)
