"""The file that grows while the scan runs, readable by others all the time.

Invariants: every dataset along the scan has the same number of rows; a row is used by readers only if its ``live_key`` is
set, which happens after its frame is in the file; a frame once written is never overwritten; an existing file never is.
Knows nothing of sockets and threads: one thread calls it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError, ScanError
from streamptycho.files.dialect import DETECTOR, LIVE, LIVE_KEY
from streamptycho.files.disk import LIBVER, abandon, build, claimed
from streamptycho.files.layout import DROP_REASONS, ENTRY, TEXT, TRANSLATION, create
from streamptycho.files.options import WriterOptions
from streamptycho.files.rows import Appended, FrameRows, check_fits, check_reach, put_rows
from streamptycho.files.snapshots import SnapshotLog
from streamptycho.messages import Frame, Positions, ScanEnd, ScanStart, Snapshot, same_run
from streamptycho.taken import Taken

_MANY_POSITIONS = 100_000
"""Positions that wait in memory at most."""


class CxiWriter:
    """Writes one scan.

    ::

        with CxiWriter(path, start, config_json=config) as writer:
            for message in messages:      # Frame -> append, Positions -> positions, Snapshot -> snapshot
                ...
                writer.flush()            # every 50 to 100 ms
            writer.finish(end, result)

    Frames and positions wait in memory until :meth:`flush`, or until ``batch_frames`` of them or ``batch_bytes`` have
    gathered: then they are committed without being asked. Whoever acknowledges frames does so after a flush. After a flush
    they survive the death of the process, not the loss of power.

    Raises :class:`ScanError` naming the path for anything the disk refuses. After that the file is closed, holds what the
    last flush left, and every further call but :meth:`close` raises the same again.
    """

    def __init__(
        self, path: Path, start: ScanStart, *, config_json: str = "{}", options: WriterOptions | None = None
    ) -> None:
        self.path = Path(path)
        self._start = start
        self._options = options or WriterOptions()
        self._failure: str | None = None
        self._file: Any = None
        with self._disk("be created"), claimed(self.path) as partial:
            # it gets its name when it can be read: a reader that opens it a moment before keeps the writer out
            build(partial, lambda file: create(file, start, config_json, self._options))
            file = self._file = h5py.File(partial, "r+", libver=LIBVER)
            file.swmr_mode = True
        self._frames = FrameRows(file[f"{DETECTOR}/data"], file[LIVE_KEY], file[f"{LIVE}/timestamp_ns"])
        self._darks = FrameRows(file[f"{DETECTOR}/data_dark"], file[f"{LIVE}/dark_key"], file[f"{LIVE}/dark_timestamp_ns"])
        self._translation = file[TRANSLATION]
        self._xy = [file[f"{ENTRY}/sample_1/transformations/{axis}"] for axis in ("x", "y")]
        self._placed = Taken()
        self._moves: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self._moved = 0
        self._log = SnapshotLog(file, self._options.max_snapshot_bytes)

    @property
    def frames(self) -> int:
        """Frames taken so far, waiting ones included."""
        return self._frames.count

    def append(self, frame: Frame) -> Appended:
        """Take a block of frames or, if ``frame.dark``, of exposures without beam; see the class for when it is written.

        Raises GrammarError, with nothing taken, for a block of another scan, type or shape, or an index beyond the limit.
        """
        self._check_open()
        start, options = self._start, self._options
        check_fits(frame, start.scan_id, start.dtype, start.geometry.frame_shape)
        rows, limit = (self._darks, options.max_darks) if frame.dark else (self._frames, options.max_frames)
        check_reach("frame.index", frame.index, limit, start.scan_id, len(frame))
        appended = rows.add(frame)
        self._commit_if_full()
        return appended

    def positions(self, positions: Positions) -> int:
        """Take a block of positions, before or after their frames; the number that was new. The first of a row stays."""
        self._check_open()
        index, start, options = positions.index, self._start, self._options
        if positions.scan_id != start.scan_id:
            raise GrammarError(
                "positions.scan_id", f"{positions.scan_id!r} is not {start.scan_id!r}", scan_id=positions.scan_id
            )
        check_reach("positions.index", index, options.max_frames, start.scan_id, 0)
        self._frames.reserve(int(index[-1]) + 1)
        new = ~self._placed.among(index)
        self._placed.update(index[new])
        self._moves.append((index[new], positions.yx_m[new]))
        count = int(np.count_nonzero(new))
        self._moved += count
        if self._moved >= _MANY_POSITIONS:
            self.flush()
        return count

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Append a picture; False if the budget of bytes is spent and it is not the final one."""
        self._check_snapshot(snapshot)
        with self._disk("take a snapshot"):
            return self._log.append(snapshot)

    def counters(self, *, received: int, used: int, waiting: int, dropped: dict[str, int]) -> None:
        """Record the balance of the scan; reasons that have no counter of their own add up in ``other``."""
        self._check_open()
        values = {"received": received, "used": used, "waiting": waiting}
        values |= {f"dropped/{reason}": dropped.get(reason, 0) for reason in DROP_REASONS}
        values["dropped/other"] += sum(n for reason, n in dropped.items() if reason not in DROP_REASONS)
        with self._disk("take counters"):
            for name, value in values.items():
                counter = self._file[f"{LIVE}/counters/{name}"]
                counter[()] = value
                counter.flush()

    def flush(self) -> None:
        """Commit what waits: first frames and positions, then the keys that let readers use them."""
        self._check_open()
        if not (self._frames.changed or self._darks.changed or self._moved):
            return
        with self._disk("take frames"):
            self._frames.write()
            self._darks.write()
            self._write_positions()
            self._frames.publish()
            self._darks.publish()
            counter = self._file[f"{LIVE}/counters/n_frames"]
            counter[()] = self._frames.count
            counter.flush()

    def finish(self, end: ScanEnd, result: Snapshot | None = None) -> None:
        """Commit what waits, fill in the image and the end of the scan, and close."""
        if result is not None:
            self._check_snapshot(result)
        self.flush()
        with self._disk("be finished"):
            if result is not None:
                if result.sequence > self._log.last_sequence:
                    self._log.append(result)
                self._log.fill_image(result)
            self._file[f"{ENTRY}/end_time"][()] = datetime.now(UTC).isoformat().encode()[:TEXT]
            self._file[f"{LIVE}/end_reason"][()] = end.reason.value.encode()[:TEXT]
            # whoever sees the scan complete sees all of it
            self._file.flush()
            self._file[f"{LIVE}/complete"][()] = int(end.complete)
        self.close()

    def close(self) -> None:
        """Commit what waits and close. A file that was not finished says ``complete = 0`` and has no reason."""
        if not self._file:
            return
        self.flush()
        with self._disk("be closed"):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write_positions(self) -> None:
        rows = self._frames.rows
        datasets = [self._translation, *self._xy]
        if len(self._translation) < rows:
            for dataset in datasets:
                dataset.resize(rows, axis=0)
        if self._moved:
            at = np.concatenate([index for index, _ in self._moves])
            yx = np.concatenate([yx_m for _, yx_m in self._moves])
            xyz = np.column_stack([yx[:, 1], yx[:, 0], np.zeros(len(yx))])
            for dataset, values in zip(datasets, (xyz, xyz[:, 0], xyz[:, 1]), strict=True):
                put_rows(dataset, at, values)
            self._moves.clear()
            self._moved = 0
        for dataset in datasets:
            dataset.flush()

    def _commit_if_full(self) -> None:
        waiting = self._frames.waiting + self._darks.waiting
        size = self._frames.waiting_bytes + self._darks.waiting_bytes
        if waiting >= self._options.batch_frames or size >= self._options.batch_bytes:
            self.flush()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise ScanError(self._failure)
        if not self._file:
            raise ValueError(f"{self.path} is closed")

    def _check_snapshot(self, snapshot: Snapshot) -> None:
        self._check_open()
        if snapshot.scan_id != self._start.scan_id:
            raise GrammarError("snapshot.scan_id", f"{snapshot.scan_id!r} is not {self._start.scan_id!r}")
        if not same_run(snapshot.started_ns, self._start):
            started_ns = self._start.started_ns
            raise GrammarError("snapshot.started_ns", f"{snapshot.started_ns} is another run than {started_ns}")

    @contextmanager
    def _disk(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError as error:
            raise ScanError(f"{self.path}: exists and is not overwritten; choose another name") from error
        except (OSError, RuntimeError) as error:
            # h5py reports a full disk as either, depending on the call, and over several lines
            reason = " ".join(str(error).split())
            self._failure = f"{self.path}: cannot {what} ({reason}); free disk space or write elsewhere"
            if self._file:
                abandon(self._file)
            raise ScanError(self._failure) from error
