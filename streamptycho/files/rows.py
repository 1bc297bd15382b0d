"""Frames on their way into one growing dataset: one row per index, each written once.

Owns which rows are taken and what waits for the next batch. Order of events: :meth:`FrameRows.add` keeps bytes in memory,
:meth:`FrameRows.write` puts the batch into the file, :meth:`FrameRows.publish` sets the keys that tell readers which rows
they may use. Payload before keys: a reader never sees a key ahead of its frame.
"""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError, GrammarError
from streamptycho.files.bslz4 import chunk_encoding
from streamptycho.messages import Frame
from streamptycho.payload import Encoding, Payload
from streamptycho.taken import Taken


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of the frames of one block; the three add up to its length."""

    written: int
    """New rows, in the file after the next flush."""
    duplicate: int
    """The row was taken: the first frame stays."""
    corrupt: int
    """The compressed bytes do not decode: the row stays free."""


class FrameRows:
    """Rows of one frames dataset.

    Parameters
    ----------
    frames : (rows, ny, nx) dataset, one frame per chunk.
    key : (rows,) int32 dataset, 1 where a row holds a frame.
    timestamp : (rows,) int64 dataset, nanoseconds.
    """

    def __init__(self, frames: Any, key: Any, timestamp: Any) -> None:
        self._frames, self._key, self._timestamp = frames, key, timestamp
        self._encoding = chunk_encoding(frames)
        self._taken = Taken()
        self._waiting: list[tuple[int, int, Payload, int]] = []
        self._written: list[int] = []
        self.rows = 0
        """Rows of the datasets after the next write."""
        self.count = 0
        """Rows that hold a frame, written and waiting."""
        self.waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """Frames in memory."""
        return len(self._waiting)

    @property
    def changed(self) -> bool:
        """True if the file lags behind."""
        return bool(self._waiting or self._written) or self.rows > len(self._frames)

    def reserve(self, rows: int) -> None:
        """Make the datasets at least `rows` long at the next write."""
        self.rows = max(self.rows, rows)

    def add(self, frame: Frame) -> Appended:
        """Keep the frames of a block whose rows are free and whose bytes decode. The bytes must not change any more."""
        self.reserve(int(frame.index[-1]) + 1)
        duplicate = corrupt = 0
        taken = self._taken.among(frame.index)
        for i, row in enumerate(frame.index.tolist()):
            if taken[i]:
                duplicate += 1
            elif not _decodes(frame.payload, i):
                corrupt += 1
            else:
                self._taken.add(row)
                self._waiting.append((row, int(frame.timestamp_ns[i]), frame.payload, i))
                self.waiting_bytes += frame.payload.chunks[i].nbytes
        written = len(frame) - duplicate - corrupt
        self.count += written
        return Appended(written=written, duplicate=duplicate, corrupt=corrupt)

    def write(self) -> None:
        """Put what waits into the file and flush it. Readers do not use it yet."""
        if len(self._frames) < self.rows:
            for dataset in (self._frames, self._key, self._timestamp):
                dataset.resize(self.rows, axis=0)
        if not self._waiting:
            return
        for row, _, payload, i in self._waiting:
            if payload.encoding is self._encoding and payload.dtype == self._frames.dtype:
                self._frames.id.write_direct_chunk((row, 0, 0), payload.chunks[i])
            else:
                self._frames[row] = payload.decode(i)
        rows = [row for row, *_ in self._waiting]
        put_rows(self._timestamp, rows, np.array([time for _, time, *_ in self._waiting]))
        self._written += rows
        self._waiting.clear()
        self.waiting_bytes = 0
        for dataset in (self._frames, self._timestamp):
            dataset.flush()

    def publish(self) -> None:
        """Tell readers of the rows that are in the file."""
        put_rows(self._key, self._written, np.ones(len(self._written), np.int32))
        self._written.clear()
        self._key.flush()


def put_rows(dataset: h5py.Dataset, rows: list[int] | NDArray[np.int64], values: NDArray[Any]) -> None:
    """Set `dataset[rows]` to `values` (n, ...), whatever the order of the rows; one write per run of neighbours."""
    if not len(rows):
        return
    order = np.argsort(rows)
    rising = np.asarray(rows)[order]
    for run in np.split(np.arange(len(rising)), np.flatnonzero(np.diff(rising) != 1) + 1):
        dataset[rising[run[0]] : rising[run[-1]] + 1] = values[order[run]]


def check_fits(frame: Frame, scan_id: str, dtype: np.dtype, shape: tuple[int, int]) -> None:
    """Raise GrammarError if a block does not belong into the file of this scan."""
    found, wanted = frame.payload.dtype.newbyteorder("<"), dtype.newbyteorder("<")
    if frame.scan_id != scan_id:
        raise GrammarError(
            "frame.scan_id", f"{frame.scan_id!r} is not {scan_id!r}", scan_id=frame.scan_id, frames=len(frame)
        )
    if found != wanted or frame.payload.shape != shape:
        raise GrammarError(
            "frame.payload",
            f"{frame.payload.shape} {found.name} is not {shape} {wanted.name} as the start message said",
            scan_id=scan_id,
            frames=len(frame),
        )


def check_reach(name: str, index: NDArray[np.int64], limit: int, scan_id: str, frames: int) -> None:
    """Raise GrammarError if the last of the indices would make a file absurdly long.

    A jump costs nothing: datasets are chunked, and rows without a frame take no room.
    """
    last = int(index[-1])
    if last >= limit:
        raise GrammarError(name, f"{last} is not below the limit of {limit}", scan_id=scan_id, frames=frames)


def _decodes(payload: Payload, i: int) -> bool:
    if payload.encoding is Encoding.RAW:
        return True
    try:
        payload.decode(i)
    except CodecError:
        # counted by the caller; stored, it would break every later read of the whole dataset
        return False
    return True
