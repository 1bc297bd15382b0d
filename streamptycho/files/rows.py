"""What a scan brings on its way into growing datasets: one row per frame index, each written once.

Owns which rows are taken and what waits for the next commit. Order of events: :meth:`FrameRows.add` keeps bytes in memory,
:meth:`FrameRows.write` puts the next of them into the file, :meth:`FrameRows.publish` sets the keys that tell readers which
rows they may use, and :meth:`FrameRows.let_go` ends the commit when the file has its counter too. Payload before keys, keys
before the counter: a reader never sees either ahead of its frames.

What waits does not need a file: datasets are given by ``bind``, and others may follow when a disk has failed.
"""

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho.files.bslz4 import decodes
from streamptycho.files.storage import Storage
from streamptycho.join.indices import IndexSet
from streamptycho.messages.payload import Payload
from streamptycho.messages.stream import Frame, Positions

_MANY_BLOCKS = 1000
"""Small arrays become one where a disk lets them wait for long."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of the frames of one block; the four add up to its length."""

    written: int
    """New rows, in the file after the next flush."""
    duplicate: int
    """The row was taken: the first frame stays."""
    corrupt: int
    """The compressed bytes do not decode: the row stays free."""
    again: int = 0
    """The row was in the file when that was taken up: a frame that was sent again because nobody knew."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What has come of a scan, in the file or in memory."""

    frames: NDArray[np.bool_]
    """(k,) bool, True where the frame of that index has come."""
    index: NDArray[np.int64]
    """(n,) frame indices of the positions that have come, rising."""
    yx_m: NDArray[np.float64]
    """(n, 2) metres, (y, x)."""


class FrameRows:
    """Rows of one frames dataset."""

    def __init__(self) -> None:
        self._frames: Any = None
        self._key: Any = None
        self._timestamp: Any = None
        self._taken = IndexSet()
        self._earlier: set[int] = set()
        """Rows of an earlier writer that have not come again."""
        self._waiting: list[tuple[int, int, Payload, int]] = []
        """Row, time, and where the bytes are."""
        self._put = 0
        """How many of them are in the file, without their keys."""
        self.rows = 0
        """Rows of the datasets after the next write."""
        self.committed = 0
        """Frames in the file, for every reader."""
        self.waiting_bytes = 0

    def bind(self, frames: Any, key: Any, timestamp: Any) -> None:
        """Write into these datasets from now on. What they hold is taken, and does not wait any more.

        Parameters
        ----------
        frames : (rows, ny, nx) dataset, one frame per chunk.
        key : (rows,) int32 dataset, 1 where a row holds a frame.
        timestamp : (rows,) int64 dataset, nanoseconds.
        """
        self._frames, self._key, self._timestamp = frames, key, timestamp
        self._storage = Storage(frames)
        there = IndexSet()
        there.update(np.flatnonzero(key[()] > 0))
        self.committed = len(there.numbers)
        self._earlier.update(there.numbers[~self._taken.among(there.numbers)].tolist())
        self._waiting = [one for one in self._waiting if one[0] not in there]
        self._put = 0
        self.waiting_bytes = sum(payload.chunks[i].nbytes for _, _, payload, i in self._waiting)
        there.update(np.array([row for row, *_ in self._waiting], np.int64))
        self._taken = there
        self.rows = max(self.rows, len(frames))

    @property
    def waiting(self) -> int:
        """Frames in memory, which no reader has yet."""
        return len(self._waiting)

    @property
    def count(self) -> int:
        """Rows that hold a frame, in the file or in memory."""
        return self.committed + len(self._waiting)

    @property
    def taken(self) -> NDArray[np.bool_]:
        """(k,) bool, True for those rows."""
        return self._taken.flags

    @property
    def changed(self) -> bool:
        """True if the file lags behind."""
        return bool(self._waiting) or self.rows > len(self._frames)

    def reserve(self, rows: int) -> None:
        """Make the datasets at least `rows` long at the next write."""
        self.rows = max(self.rows, rows)

    def add(self, frame: Frame) -> Appended:
        """Keep the frames of a block whose rows are free and whose bytes decode. The bytes must not change any more."""
        payload, index = frame.payload, frame.index.tolist()
        self.reserve(index[-1] + 1)
        duplicate = again = corrupt = 0
        for i, row in enumerate(index):
            if row in self._earlier:
                self._earlier.discard(row)
                again += 1
            elif row in self._taken:
                duplicate += 1
            elif not decodes(payload, i):
                corrupt += 1
            else:
                self._taken.add(row)
                self._waiting.append((row, int(frame.timestamp_ns[i]), payload, i))
                self.waiting_bytes += payload.chunks[i].nbytes
        written = len(index) - duplicate - again - corrupt
        return Appended(written=written, duplicate=duplicate, again=again, corrupt=corrupt)

    def discard(self) -> int:
        """Let go of what waits, and return how many frames that were."""
        count = len(self._waiting)
        self._waiting.clear()
        self._put = self.waiting_bytes = 0
        return count

    def next_bytes(self, limit_bytes: int) -> int:
        """Bytes that the next :meth:`write` puts into the file, at most; decides which frames they are."""
        size = count = 0
        for _, _, payload, i in self._waiting:
            if count and size + payload.chunks[i].nbytes > limit_bytes:
                break
            size, count = size + payload.chunks[i].nbytes, count + 1
        self._put = count
        return size

    def write(self) -> None:
        """Put the next frames into the file and flush it. Readers do not use them yet."""
        for dataset in (self._frames, self._key, self._timestamp):
            lengthen(dataset, self.rows)
        self._storage.begin()
        for row, _, payload, i in self._waiting[: self._put]:
            self._storage.put(row, payload, i)
        self._storage.settle()
        rows, times = (np.array([one[k] for one in self._waiting[: self._put]], np.int64) for k in (0, 1))
        put_rows(self._timestamp, rows, times)
        for dataset in (self._frames, self._timestamp):
            dataset.flush()

    def publish(self) -> int:
        """Tell readers of the rows that are in the file, and return how many that are."""
        rows = np.array([row for row, *_ in self._waiting[: self._put]], np.int64)
        put_rows(self._key, rows, np.ones(len(rows), np.int32))
        self._key.flush()
        return self.committed + self._put

    def let_go(self) -> None:
        """Forget what is in the file for good: the commit is over."""
        done = self._waiting[: self._put]
        del self._waiting[: self._put]
        self._put = 0
        self.waiting_bytes -= sum(payload.chunks[i].nbytes for _, _, payload, i in done)
        self.committed += len(done)


class PositionRows:
    """Rows of the positions. All are kept in memory, 16 bytes each: a file that was lost can be begun again with them."""

    def __init__(self) -> None:
        self._datasets: list[Any] = []
        self._placed = IndexSet()
        self._yx_m = np.zeros((1024, 2))
        self._moved: list[NDArray[np.int64]] = []
        self.rows = 0
        """Rows that they need."""
        self.count = 0
        """Positions, in the file or in memory."""
        self.waiting = 0
        """Positions that are not in the file yet."""

    def bind(self, xyz: Any, x: Any, y: Any) -> None:
        """Write into these datasets from now on; what they hold is placed.

        Parameters
        ----------
        xyz, x, y : (rows, 3), (rows,) and (rows,) float64 datasets, metres.
        """
        self._datasets = [xyz, x, y]
        known = xyz[()]
        there = np.flatnonzero(np.isfinite(known[:, 0]) & np.isfinite(known[:, 1]))
        self._keep(there, known[there, 1::-1])
        placed = self._placed.numbers
        in_file = IndexSet()
        in_file.update(there)
        self.count = len(placed)
        late = placed[~in_file.among(placed)]
        self._moved, self.waiting = [late], len(late)

    @property
    def index(self) -> NDArray[np.int64]:
        """(n,) frame indices of all positions, rising."""
        return self._placed.numbers

    @property
    def yx_m(self) -> NDArray[np.float64]:
        """(n, 2) metres."""
        return self._yx_m[self._placed.numbers]

    def add(self, positions: Positions) -> int:
        """Take those that are new, and return their number. The first of a row stays."""
        index, yx_m = positions.index, positions.yx_m
        if index.size == 1:  # as many motors send them: no need for arrays
            row = int(index[0])
            if not self._placed.add(row):
                return 0
            self._reach(row + 1)
            self._yx_m[row] = yx_m[0]
        else:
            new = ~self._placed.among(index)
            index, yx_m = index[new], yx_m[new]
            if not index.size:
                return 0
            self._keep(index, yx_m)
        self._moved.append(index)
        if len(self._moved) > _MANY_BLOCKS:
            self._moved = [np.concatenate(self._moved)]
        self.waiting += index.size
        self.count += index.size
        return int(index.size)

    def _keep(self, index: NDArray[np.int64], yx_m: NDArray[np.float64]) -> None:
        if index.size:
            self._reach(int(index[-1]) + 1)
            self._placed.update(index)
            self._yx_m[index] = yx_m

    def _reach(self, rows: int) -> None:
        self.rows = max(self.rows, rows)
        if rows > len(self._yx_m):
            grown = np.zeros((max(rows, 2 * len(self._yx_m)), 2))
            grown[: len(self._yx_m)] = self._yx_m
            self._yx_m = grown

    def write(self, rows: int) -> None:
        """Put what waits into datasets of so many rows."""
        for dataset in self._datasets:
            lengthen(dataset, rows)
        if self.waiting:
            at = np.concatenate(self._moved)
            yx = self._yx_m[at]
            xyz = np.column_stack([yx[:, 1], yx[:, 0], np.zeros(len(yx))])
            for dataset, values in zip(self._datasets, (xyz, xyz[:, 0], xyz[:, 1]), strict=True):
                put_rows(dataset, at, values)
        for dataset in self._datasets:
            dataset.flush()
        self._moved, self.waiting = [], 0


def lengthen(dataset: Any, rows: int) -> None:
    """Make a dataset at least `rows` long."""
    shape = dataset.shape
    if shape[0] < rows:
        dataset.id.set_extent((rows, *shape[1:]))


def put_rows(dataset: Any, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Set `dataset[rows]` to `values` (n, ...), whatever the order of the rows; one write per run of neighbours."""
    if not rows.size:
        return
    if (rows[1:] <= rows[:-1]).any():
        order = np.argsort(rows)
        rows, values = rows[order], values[order]
    if rows[-1] - rows[0] == rows.size - 1:  # as frames come: all are neighbours
        _put_run(dataset, int(rows[0]), values)
        return
    for part in np.split(np.arange(rows.size), np.flatnonzero(np.diff(rows) != 1) + 1):
        _put_run(dataset, int(rows[part[0]]), values[part[0] : part[-1] + 1])


def _put_run(dataset: Any, first: int, values: NDArray[Any]) -> None:
    """``dataset[first : first + n] = values`` without what h5py spends on understanding that."""
    space = dataset.id.get_space()
    space.select_hyperslab((first,) + (0,) * (values.ndim - 1), values.shape)
    dataset.id.write(h5py.h5s.create_simple(values.shape), space, np.ascontiguousarray(values))


def check_fits(frame: Frame, scan_id: str, dtype: np.dtype, shape: tuple[int, int]) -> None:
    """Raise GrammarError if a block does not belong into the file of this scan."""
    found, wanted = frame.payload.dtype, dtype  # both little-endian
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
