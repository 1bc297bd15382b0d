"""The file that grows while the scan runs, readable by others all the time.

Invariants: every dataset along the scan has the same number of rows; a row is used by readers only if its ``live_key`` is
set, which happens after its frame is in the file; a frame once written is never overwritten; an existing file never is, but
an unfinished one of the same run can be taken up. Knows nothing of sockets and threads: one thread calls it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import h5py

from streamptycho.display.ledger import Ledger
from streamptycho.errors import FormatError, GrammarError, ScanError
from streamptycho.files import pictures
from streamptycho.files.durable.disk import LIBVER, abandon, build, claimed, copy_open, hold, sync, why
from streamptycho.files.durable.mend import COUNT, DARKS, END_REASON, FRAMES, POSITIONS, take_up
from streamptycho.files.durable.superblock import End
from streamptycho.files.items import ENTRY, TEXT, fixed, update
from streamptycho.files.layout import create
from streamptycho.files.options import WriterOptions
from streamptycho.files.outcome import Outcome
from streamptycho.files.paths import LIVE
from streamptycho.files.report import COUNTERS, counts, fill, lack
from streamptycho.files.rows import Appended, FrameRows, PositionRows, Taken, check_fits, check_reach
from streamptycho.files.snapshots import SnapshotLog, stored_bytes
from streamptycho.messages.results import Snapshot
from streamptycho.messages.stream import Frame, Positions, ScanStart
from streamptycho.options import Closing

_MANY_POSITIONS = 100_000
"""Positions that wait in memory at most."""
_POSITION_BYTES = 64
"""What one position takes in the file, at most."""


class CxiWriter(Closing):
    """Writes one scan into a new file `path`; without a path all waits in memory until :meth:`begin`.

    ::

        with CxiWriter(path, start, config_json=config) as writer:
            for message in messages:      # Frame -> append, Positions -> positions, Snapshot -> snapshot
                ...
                writer.flush()            # every 50 to 100 ms
            writer.finish(outcome)

    Frames and positions wait in memory until :meth:`flush`, or until ``batch_frames`` of them or ``batch_bytes`` have
    gathered: then they are committed. Acknowledge frames only after a flush. After a flush they survive the death of the
    process, with ``sync`` also the loss of power.

    Raises :class:`ScanError` naming the path for anything the disk refuses. The file is then closed and holds what the last
    flush left, :attr:`failure` says why, and what is not in it stays in memory: :meth:`take` and :meth:`place` go on, all
    else but :meth:`close` raises the same again, until :meth:`reopen` or :meth:`begin` has succeeded.
    """

    def __init__(
        self, path: Path | None, start: ScanStart, *, config_json: str = "{}", options: WriterOptions | None = None
    ) -> None:
        self.path = Path() if path is None else Path(path)
        self._start = start
        self._config_json = config_json
        self._options = options or WriterOptions()
        self.failure: str | None = None if path is not None else f"the file of scan {start.scan_id} is not begun"
        """Why nothing can be written at the moment."""
        self.size_bytes = 0
        """Size of the file after the last commit."""
        self._file: Any = None
        self._orphan: int | None = None
        """Descriptor of a file that was removed while it was written: its content is there as long as that is open."""
        self._frames, self._darks, self._places = FrameRows(), FrameRows(), PositionRows()
        if path is not None:
            self.begin(path)

    @classmethod
    def resume(cls, path: Path, start: ScanStart, *, config_json: str = "{}", options: WriterOptions | None = None) -> Self:
        """Go on with the file of a writer of the same run that died, or that was closed without an end.

        Raises FormatError naming the reason where `path` is not such a file, or not free;
        :func:`~streamptycho.files.durable.mend.take_up` says when.
        """
        writer = cls(None, start, config_json=config_json, options=options)
        writer.reopen(path)
        return writer

    def begin(self, path: Path) -> None:
        """Begin a new file with all that is in memory, and with what was in one that has been removed."""
        self.path = Path(path)
        with self._disk("be created"), claimed(self.path) as partial:
            # it gets its name when it can be read: a reader that opens it a moment before keeps the writer out
            if self._orphan is not None:
                file = self._restore(self._orphan, partial)
            else:
                build(partial, lambda file: create(file, self._start, self._config_json, self._options))
                file = h5py.File(partial, "r+", libver=LIBVER)
                file.swmr_mode = True
                hold(file)
            self._bind(file)
        self._forget_orphan()

    def _restore(self, orphan: int, partial: Path) -> h5py.File:
        copy_open(orphan, partial)
        try:
            return take_up(partial, self._start, ours=True)
        except FormatError as error:  # damaged: the next attempt does without
            self._forget_orphan()
            raise ScanError(f"{self.path}: what was in the file that was removed cannot be read ({error})") from error

    def reopen(self, path: Path | None = None) -> None:
        """Take up the file again, or that of `path`, with all that has gathered in memory.

        Raises FormatError where it is not there, not free, or not an unfinished one of this run; then all is as before.
        """
        self.path = self.path if path is None else Path(path)
        with self._disk("be taken up"):
            self._bind(take_up(self.path, self._start))

    def _bind(self, file: h5py.File) -> None:
        self._file = file
        self._end = End(file)
        self._end.reserve(0)
        self._frames.bind(*(file[name] for name in FRAMES))
        self._darks.bind(*(file[name] for name in DARKS))
        self._places.bind(*(file[name] for name in POSITIONS))
        self._counters = {name: file[f"{COUNTERS}/{name}"] for name in counts(Ledger())}
        self._counted: dict[str, int] = {}
        self._count = file[COUNT]
        self._log = SnapshotLog(file, self._options.max_snapshot_bytes)
        self.failure = None

    @property
    def frames(self) -> int:
        """Frames taken so far, waiting ones included."""
        return self._frames.count

    @property
    def committed(self) -> int:
        """Frames in the file, for every reader."""
        return self._frames.committed

    @property
    def placed(self) -> int:
        """Positions taken so far, waiting ones included."""
        return self._places.count

    @property
    def waiting(self) -> int:
        """Frames in memory."""
        return self._frames.waiting

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the frames in memory, those without beam included."""
        return self._frames.waiting_bytes + self._darks.waiting_bytes

    @property
    def settled(self) -> bool:
        """True if all that was taken is in the file."""
        return not (self._frames.waiting or self._darks.waiting or self._places.waiting)

    @property
    def full(self) -> bool:
        """True if so much waits that it should be committed."""
        many = self._frames.waiting + self._darks.waiting >= self._options.batch_frames
        return many or self.waiting_bytes >= self._options.batch_bytes or self._places.waiting >= _MANY_POSITIONS

    @property
    def taken(self) -> Taken:
        """All that has come of the scan."""
        return Taken(frames=self._frames.taken, index=self._places.index, yx_m=self._places.yx_m)

    def append(self, frame: Frame) -> Appended:
        """Take a block of frames or, if ``frame.dark``, of exposures without beam; see the class for when it is written.

        Raises GrammarError, with nothing taken, for a block of another scan, type or shape, or an index beyond the limit.
        """
        self._check_open()
        appended = self.take(frame)
        if self.full:
            self.flush()
        return appended

    def take(self, frame: Frame) -> Appended:
        """The same without a commit: what waits is bounded only by the caller, who looks at :attr:`full`."""
        self._check_not_closed()
        start, options = self._start, self._options
        check_fits(frame, start.scan_id, start.dtype, start.geometry.frame_shape)
        rows, limit = (self._darks, options.max_darks) if frame.dark else (self._frames, options.max_frames)
        check_reach("frame.index", frame.index, limit, start.scan_id, len(frame))
        return rows.add(frame)

    def positions(self, positions: Positions) -> int:
        """Take a block of positions, before or after their frames; the number that was new. The first of a row stays."""
        self._check_open()
        count = self.place(positions)
        if self.full:
            self.flush()
        return count

    def place(self, positions: Positions) -> int:
        """The same without a commit, as :meth:`take` is for frames."""
        self._check_not_closed()
        start = self._start
        if positions.scan_id != start.scan_id:
            raise GrammarError(
                "positions.scan_id", f"{positions.scan_id!r} is not {start.scan_id!r}", scan_id=positions.scan_id
            )
        check_reach("positions.index", positions.index, self._options.max_frames, start.scan_id, 0)
        return self._places.add(positions)

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Append a picture; False if the budget of bytes is spent and it is not the final one."""
        self._check_open()
        if not snapshot.run.may_be(self._start.run):
            name = "started_ns" if snapshot.scan_id == self._start.scan_id else "scan_id"
            raise GrammarError(f"snapshot.{name}", f"{snapshot.run} is not {self._start.run}")
        with self._disk("take a snapshot"):
            return self._append_snapshot(snapshot)

    def _append_snapshot(self, snapshot: Snapshot) -> bool:
        self._end.reserve(_bytes_of(snapshot))
        ny, nx = self._start.geometry.frame_shape
        return self._log.append(snapshot, self.committed * ny * nx * self._start.dtype.itemsize)

    def counters(self, ledger: Ledger) -> None:
        """Record the balance of the scan; reasons that have no counter of their own add up in ``other``."""
        self._check_open()
        with self._disk("take counters"):
            for name, value in counts(ledger).items():
                if value != self._counted.get(name):
                    update(self._counters[name], value)
                    self._counted[name] = value

    def flush(self) -> None:
        """Commit what waits: first frames and positions, then the keys that let readers use them."""
        self._check_open()
        with self._disk("be found"):
            self._check_name()
        while self._frames.changed or self._darks.changed or self._places.waiting:
            with self._disk("take frames"):
                self._commit()

    def _commit(self) -> None:
        """The next part of it, of at most ``batch_bytes``: if the disk refuses, no more than that is written again."""
        frames, darks, places, limit = self._frames, self._darks, self._places, self._options.batch_bytes
        size = frames.next_bytes(limit) + darks.next_bytes(limit)
        self._end.reserve(size + places.waiting * _POSITION_BYTES)
        frames.reserve(places.rows)
        frames.write()
        darks.write()
        places.write(frames.rows)
        sync(self._file, wanted=self._options.sync)  # on the disk, too, keys come after what they tell of
        darks.publish()
        update(self._count, frames.publish())
        sync(self._file, wanted=self._options.sync)
        frames.let_go()
        darks.let_go()
        self.size_bytes = int(self._file.id.get_filesize())

    def finish(self, outcome: Outcome) -> None:
        """Commit what waits, fill in what the scan came to, and close."""
        self._check_open()
        if outcome.start.run != self._start.run:
            raise GrammarError("outcome.start", f"{outcome.start.run} is not {self._start.run}")
        if outcome.ledger is not None:
            self.counters(outcome.ledger)
        self.flush()
        result, end = outcome.snapshot, outcome.end
        with self._disk("be finished"):
            if result is not None:
                if result.sequence > self._log.last_sequence:
                    self._append_snapshot(result)
                self._end.reserve(3 * _bytes_of(result))
                pictures.fill(self._file, result)
            fill(self._file, outcome)
            for name, value in lack(outcome.missing).items():
                update(self._file[f"{COUNTERS}/{name}"], value)
            self._file[f"{ENTRY}/end_time"][()] = fixed(datetime.now(UTC).isoformat(), TEXT)
            # a reader that sees an end sees all of it, and a file that has none can be taken up again
            self._file.flush()
            self._end.reserve(0)
            if end is not None:
                self._file[END_REASON][()] = fixed(end.reason.value, TEXT)
            self._file[f"{LIVE}/complete"][()] = int(end is not None and end.complete)
        self.close()

    def close(self) -> None:
        """Commit what waits and close. A file that was not finished says ``complete = 0`` and has no reason."""
        self._forget_orphan()
        if self._file is None:
            return
        self.flush()
        with self._disk("be closed"):
            self._end.close()
            self._file = None

    def discard(self) -> int:
        """Let go of what waits in memory for a disk that refuses, and return how many frames that were."""
        self._forget_orphan()
        self._darks.discard()
        return self._frames.discard()

    def _check_name(self) -> None:
        """Raise FileNotFoundError if the file is no longer under its name: nobody would find what is written to it."""
        mine = os.fstat(self._file.id.get_vfd_handle())
        there = self.path.stat()
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise FileNotFoundError("another file is in its place")

    def _forget_orphan(self) -> None:
        if self._orphan is not None:
            os.close(self._orphan)
            self._orphan = None

    def _check_open(self) -> None:
        if self.failure is not None:
            raise ScanError(self.failure)
        self._check_not_closed()

    def _check_not_closed(self) -> None:
        if self._file is None and self.failure is None:
            raise ValueError(f"{self.path} is closed")

    @contextmanager
    def _disk(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:
            raise ScanError(f"{self.path}: exists and is not overwritten; choose another name") from error
        except (OSError, RuntimeError) as error:
            # h5py reports a full disk as either, depending on the call
            gone = isinstance(error, FileNotFoundError)
            remedy = "make the folder again" if gone else "free disk space or write elsewhere"
            self.failure = f"{self.path}: cannot {what} ({why(error)}); {remedy}"
            if self._file is not None:
                if gone:
                    self._orphan = os.dup(self._file.id.get_vfd_handle())
                abandon(self._file)
                self._file = None
            raise ScanError(self.failure) from error


def _bytes_of(snapshot: Snapshot) -> int:
    return stored_bytes(snapshot.object.shape, snapshot.probe.shape)
