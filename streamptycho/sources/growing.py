"""Rows that are being written into HDF5 files, as facts.

Reading waits for disks, which may take seconds on a network. So it happens in a thread, and what it has found waits in a
short queue: with the queue full the thread waits, and the file keeps the rest. Nothing is dropped but by an error that says
so. :class:`StoredReader` reads what documents name; :mod:`streamptycho.sources.scan_files` whole scans.
"""

import logging
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError, FormatError, ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Frames, Learned, Place, Samples, StartParts, Stored
from streamptycho.options import Closing
from streamptycho.sources.precedence import Precedence

if TYPE_CHECKING:
    from streamptycho.files.growing.follower import Follower
    from streamptycho.sources.described import Described

log = logging.getLogger(__name__)

POLL_S = 0.05
_QUEUE = 32
"""Facts that have been read and not been taken."""
_BLOCK_BYTES, _BLOCK_ROWS = 4 << 20, 4096
"""Most of frames and of samples in one fact."""
_MAX_JOBS = 10_000
_MAX_OPEN = 32
"""Datasets that are kept open."""


class Background(Closing):
    """Facts that a thread finds; subclasses say how."""

    def __init__(self, name: str) -> None:
        self._found: Queue[Fact] = Queue(_QUEUE)
        self._ended = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def _search(self) -> Iterator[Fact]:
        """What can be found now; called again and again, in the thread."""

    def _release(self) -> None:
        """Close what is open; called once, in the thread."""

    def found(self) -> Iterator[Fact]:
        """What has been found since the last call; never waits."""
        while True:
            try:
                yield self._found.get_nowait()
            except Empty:
                return

    def close(self) -> None:
        """End the thread; what has not been taken is dropped."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5)  # a disk that hangs does not hang us: the thread ends with the process

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._wake.wait(POLL_S)
                self._wake.clear()
                for fact in self._search():
                    if not self._give(fact):
                        return
        except Exception as error:
            log.exception("%s failed; it finds nothing more until the service is started again", self._thread.name)
            self._give(CodecError("file", f"reading failed with {error!r:.200}; see the log, and start the service again"))
        finally:
            self._release()

    def _give(self, fact: Fact) -> bool:
        while not self._ended.is_set():
            try:
                self._found.put(fact, timeout=POLL_S)
            except Full:
                continue
            return True
        return False


def samples_of(
    columns: dict[str, tuple["Follower", int]], done: int, count: int, *, settled: bool
) -> dict[str, NDArray[np.float64]]:
    """Columns of the rows that can be had from the `done`th of `count` on, in one piece; empty if there is none.

    Rows at the end in which every column has its fill value, or NaN, may not have been written yet: they are left out unless
    `settled`.

    Parameters
    ----------
    columns : name to dataset and its row that is the first of these.
    """
    stop = min(count, done + _BLOCK_ROWS)
    for follower, row in columns.values():
        stop = done + _leading(follower.written(row + done, row + stop))
    if stop <= done:
        return {}
    found = {name: follower.rows(row + done, row + stop) for name, (follower, row) in columns.items()}
    if settled:
        return found
    there = np.flatnonzero(~empty_rows(columns, found))
    return {name: values[: there[-1] + 1] for name, values in found.items()} if len(there) else {}


def empty_rows(columns: dict[str, tuple["Follower", int]], found: dict[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """(n,) bool, True where every column holds what rows hold that were never written, or NaN."""
    empty = [(found[name] == follower.fill) | np.isnan(found[name]) for name, (follower, _) in columns.items()]
    return np.asarray(np.logical_and.reduce(empty))


def frames_of(run: str, follower: "Follower", row: int, stop: int, first: int) -> Iterator[Frames]:
    """Frames in rows `row` to `stop` - 1, up to the first that has not been written; `first` is the number of `row`."""
    (ny, nx), size = follower.frame_shape, follower.frame_dtype.itemsize
    block = max(_BLOCK_BYTES // (ny * nx * size), 1)
    number = first
    while row < stop:
        count = _leading(follower.written(row, min(row + block, stop)))
        if not count:
            return
        for payload in follower.blocks(row, row + count):
            numbers = np.arange(number, number + len(payload), dtype=np.int64)
            yield Frames(run=run, number=numbers, timestamp_ns=np.zeros(len(payload), np.int64), payload=payload)
            number += len(payload)
        row += count


def _leading(flags: NDArray[np.bool_]) -> int:
    """How many are True before the first that is not."""
    return len(flags) if flags.all() else int(np.argmin(flags))


@dataclass(eq=False)
class _Job:
    """Rows that are being waited for."""

    stored: Stored
    since_s: float
    """When the latest of them came."""
    done: int = 0
    why: str = field(default="")


class StoredReader(Background):
    """Puts what files hold in the place of the facts that name them.

    Usage::

        for fact in reader.through(dialect.feed(parts, now_s)):  # also of dialect.tick(now_s)
            ...

    The end of a run is held back until all that was named before it has been read, or has not come for `patience_s`.

    Parameters
    ----------
    patience_s : how long rows that are said to be written may not be there.
    settle_s : after which rows that hold nothing but fill values are believed to be what was measured.
    """

    def __init__(
        self, *, patience_s: float = 30.0, settle_s: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__("stored rows")
        self._patience_s, self._settle_s, self._clock = patience_s, settle_s, clock
        self._asked: deque[Stored] = deque()
        self._jobs: list[_Job] = []
        self._open: dict[tuple[Place, bool], Follower] = {}
        self._finished: deque[str] = deque()
        self._pending: dict[str, int] = {}
        self._held: dict[str, Ended] = {}
        self._told = Precedence()
        self._described: dict[tuple[str, Place], Described] = {}

    def through(self, facts: Iterable[Fact]) -> Iterator[Fact]:
        """`facts` and what has been read meanwhile, without those that name files."""
        for fact in facts:
            if isinstance(fact, Stored):
                yield from self._ask(fact)
            elif isinstance(fact, Ended) and self._pending.get(fact.run):
                self._held[fact.run] = fact
            elif isinstance(fact, Began | Learned):
                yield self._told.of_documents(fact)
            elif isinstance(fact, Ended):
                yield self._end(fact)
            else:
                yield fact
        yield from self._read()

    def _ask(self, fact: Stored) -> Iterator[Fact]:
        if sum(self._pending.values()) >= _MAX_JOBS:
            where = fact.places[0].path
            yield CodecError("stored", f"{where}: {_MAX_JOBS} pieces wait to be read, {fact.count} rows are left out")
            return
        if self._thread.ident is None:
            self._thread.start()
        self._pending[fact.run] = self._pending.get(fact.run, 0) + 1
        self._asked.append(fact)
        self._wake.set()

    def _read(self) -> Iterator[Fact]:
        finished = len(self._finished)  # before their facts are taken: those come first
        for fact in self.found():
            yield self._told.of_file(fact) if isinstance(fact, Learned) else fact
        for _ in range(finished):
            run = self._finished.popleft()
            self._pending[run] -= 1
            if not self._pending[run]:
                del self._pending[run]
                if run in self._held:
                    yield self._end(self._held.pop(run))

    def _end(self, fact: Ended) -> Ended:
        self._told.forget(fact.run)
        return fact

    def _search(self) -> Iterator[Fact]:
        while self._asked:
            self._jobs.append(_Job(self._asked.popleft(), self._clock()))
        looked: dict[Follower, bool] = {}
        for job in list(self._jobs):
            yield from self._work(job, looked)
        if not self._jobs and not self._asked:
            while len(self._open) > _MAX_OPEN:
                self._open.pop(next(iter(self._open))).close()

    def _work(self, job: _Job, looked: "dict[Follower, bool]") -> Iterator[Fact]:
        """One step of a job: what has come, and the error if it has not come for too long."""
        before, count = job.done, job.stored.count
        try:
            yield from self._rows(job, looked)
        except FormatError as error:
            yield self._lost(job, str(error))
            job.done = count
        except (OSError, ProtocolError) as error:  # may pass, as long as it is written
            job.why = str(error)
        if job.done > before:
            job.since_s = self._clock()
        elif job.done < count and self._clock() - job.since_s > self._patience_s:
            yield self._lost(job, job.why or "they are not in the file")
            job.done = count
        if job.done >= count:
            self._jobs.remove(job)
            self._finished.append(job.stored.run)

    def _rows(self, job: _Job, looked: "dict[Follower, bool]") -> Iterator[Fact]:
        stored = job.stored
        followers = [self._follower(place, frames=stored.frames is not None) for place in stored.places]
        for follower in followers:
            if follower not in looked:
                looked[follower] = follower.refresh()
            if not looked[follower]:
                job.why = follower.why
                return
        if stored.frames is not None:
            parts = self._describing(stored.run, stored.frames).look(followers[0].frame_shape, self._clock())
            if parts is not None:  # how many there are the documents know
                yield Learned(run=stored.run, parts=replace(parts, expected=None))
            row, first = stored.frames.row, stored.first + job.done
            for frames in frames_of(stored.run, followers[0], row + job.done, row + stored.count, first):
                yield frames
                job.done += len(frames)
            return
        columns = {name: (f, place.row) for f, (name, place) in zip(followers, stored.columns.items(), strict=True)}
        settled = self._clock() - job.since_s > self._settle_s
        while found := samples_of(columns, job.done, stored.count, settled=settled):
            first = stored.first + job.done
            numbers = np.arange(first, first + len(next(iter(found.values()))), dtype=np.int64)
            yield Samples(run=stored.run, first=first, columns=found, number=numbers)
            job.done += len(numbers)
            if settled and empty_rows(columns, found)[-1]:
                words = f"{', '.join(found)} hold in row {first + len(numbers) - 1} what rows hold that were never written: "
                doubt = words + "they are taken as measured; if they were not, let the detector flush its file"
                yield Learned(run=stored.run, parts=StartParts(doubts=(doubt,)))

    def _describing(self, run: str, place: Place) -> "Described":
        from streamptycho.sources.described import Described

        key = run, replace(place, row=0)
        if key not in self._described:
            self._described[key] = Described(Path(place.path), place.dataset)
            while len(self._described) > _MAX_OPEN:
                del self._described[next(iter(self._described))]
        return self._described[key]

    def _follower(self, place: Place, *, frames: bool) -> "Follower":
        from streamptycho.files.growing.follower import Follower  # most receivers need no HDF5

        key = Place(path=place.path, dataset=place.dataset, row=0), frames
        if key not in self._open:
            self._open[key] = Follower(Path(place.path), place.dataset, frames=frames)
        return self._open[key]

    def _lost(self, job: _Job, why: str) -> ProtocolError:
        stored = job.stored
        what = "frames" if stored.frames is not None else ", ".join(stored.columns)
        left = f"{stored.first + job.done} to {stored.first + stored.count - 1}"
        datasets = ", ".join(f"{place.path} {place.dataset}" for place in stored.places)
        return CodecError("stored", f"rows {left} of {what} cannot be read from {datasets}: {why}")

    def _release(self) -> None:
        for follower in self._open.values():
            follower.close()
