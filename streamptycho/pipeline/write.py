"""Write: every frame, position and snapshot of every scan into its own file."""

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from streamptycho.errors import ConfigError, FormatError, GrammarError, ProtocolError, ScanError
from streamptycho.files.bslz4 import load_walk
from streamptycho.files.durable.disk import free_bytes, remove_leftovers
from streamptycho.files.durable.mend import Finished, abandoned, find_finished, left_behind
from streamptycho.files.naming import RESULT, beside
from streamptycho.files.recover import recover
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import EndReason, ServiceKind, ServiceState, Stream
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus, ReconstructStatus, Status, WriteStatus
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.early import Early
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.scan_file import ScanFile
from streamptycho.pipeline.stage import Newest, Output, Port, Stage

log = logging.getLogger(__name__)

SPACE_S = 1.0
"""Time between two looks at the free space."""
_LONGEST_TURN_S = 1.0
"""What a turn counts at most where silence is measured: after a stall of our own, messages wait that are not read yet."""
_ENDED = 8
"""Scans that have ended and wait for a disk that refuses, at most."""


class WriteStage(Stage[WriteStatus]):
    """Keeps one file per scan; several may be open while earlier scans are still being polished."""

    status_kind = WriteStatus

    def __init__(
        self,
        options: WriteOptions,
        config_json: str = "{}",
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        name: str = ServiceKind.WRITE,
    ) -> None:
        super().__init__(name, clock, wall_ns)
        self.options = options
        self.config_json = config_json
        self.scans: dict[str, ScanFile] = {}
        self.failed: Newest[str] = Newest()
        self._finished: deque[RunId] = deque(maxlen=100)
        """Those whose files an earlier process has finished."""
        self._early = Early()
        self._next_flush_s = 0.0
        self._awake_s, self._turn_s = 0.0, clock()
        self._free_bytes: int | None = None
        self._next_space_s = 0.0
        self._short: set[RunId] = set()
        load_walk()  # no frame is to wait for it
        try:
            options.directory.mkdir(parents=True, exist_ok=True)
            for path in remove_leftovers(options.directory):
                log.warning("%s: removed, its writer died before the file was finished", path)
            self._recover(left_behind(options.directory, options.silence_s))
            for start in abandoned(options.directory, options.silence_s):
                self._open_file(start)
        except OSError as error:
            raise ConfigError(f"{options.directory}: cannot be created ({error.strerror}); choose another") from error

    def _recover(self, paths: Iterable[Path]) -> None:
        """Make whole what an earlier writer has left in a scan that is long over."""
        for path in paths:
            try:
                found = recover(path)
            except (FormatError, ScanError) as error:
                log.warning("a file of an earlier writer is left as it is: %s", error)
            else:
                log.warning("%s: its writer died; recovered with %d frames", path, found.frames)

    @property
    def settled(self) -> bool:
        """True if all that was handled is in the files, or waits in memory for a disk that refuses."""
        return all(scan.trouble is not None or scan.writer.settled for scan in self.scans.values())

    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        """Take whatever belongs into a file."""
        if isinstance(message, ProtocolError):
            self._notices.refused(message)
            self.rejected.add("undecodable", message.scan_id)
            return
        scan_id = message.scan_id or ""
        try:
            yield from self._handle(message, scan_id)
        except GrammarError as error:
            self._notices.refused(error)
            self.rejected.add("unfit", scan_id)
        yield from self.idle()

    def _handle(self, message: Message, scan_id: str) -> Iterator[Output]:
        if isinstance(message, ScanStart):
            yield from self._begin(message)
            return
        scan = self.scans.get(scan_id)
        run: RunId | None = getattr(message, "run", None)  # frames and positions name none
        if scan is None:
            if run not in self._finished:
                self._without_scan(message, scan_id)
        elif run is not None and not run.may_be(scan.start.run):
            if not isinstance(message, Status):
                self.rejected.add("stray", scan_id)
        else:
            self._take(scan, message)

    def _without_scan(self, message: Message, scan_id: str) -> None:
        given_up = self._early.keep(message)
        if given_up is None and not isinstance(message, Status):
            self.rejected.add("failed" if scan_id in self.failed else "no_start", scan_id)
        elif given_up:
            self.rejected.add("no_start", count=given_up)

    def _take(self, scan: ScanFile, message: Message) -> None:
        now_s = self._clock()
        if isinstance(message, Frame | Positions | ReceiveStatus):
            scan.heard_s = self._awake_s
        match message:
            case Frame():
                scan.frame(message, now_s)
            case Positions():
                scan.positions(message, now_s)
            case ScanEnd():
                scan.end = message
            case Snapshot() | Assessment() | Estimates() | ReceiveStatus() | ReconstructStatus():
                scan.take(message, now_s)
            case _:
                self.rejected.add("unexpected_kind", message.scan_id)

    def _begin(self, start: ScanStart) -> Iterator[Output]:
        earlier = self.scans.get(start.scan_id)
        if earlier is not None:
            if (start.started_ns or start.repeated) and earlier.start.run == start.run:
                self.rejected.add("repeated_start", start.scan_id, count=not start.repeated)
                return
            yield from self._close(earlier, earlier.end or _superseded(earlier), last=True)
        stuck = [scan for scan in self.scans.values() if scan.trouble is not None and scan.end is not None]
        if len(stuck) >= _ENDED:
            yield from self._close(stuck[0], stuck[0].end or _superseded(stuck[0]), last=True)
        self.failed.pop(start.scan_id, None)
        finished = find_finished(self.options.directory, start.run) if start.repeated else None
        if finished is not None:
            yield self._say_finished(start.run, finished)
            return
        self._open_file(start)

    def _open_file(self, start: ScanStart) -> None:
        scan = ScanFile(start, self.options, self.config_json, self._has_room, self._clock())
        scan.heard_s = self._awake_s
        self.scans[start.scan_id] = scan
        for message in self._early.begin(start.run):
            self._take(scan, message)

    def _say_finished(self, run: RunId, file: Finished) -> Output:
        """Say again the last word on a scan whose file an earlier process has finished, in case that could not."""
        self._finished.append(run)
        status = WriteStatus(
            service=self.name,
            **run.fields,
            state=ServiceState.DONE,
            time_ns=self._wall_ns(),
            received=file.frames,
            used=file.frames,
            file=str(file.path),
            result=_if_there(beside(file.path, RESULT)),
            picture=_if_there(file.path.with_suffix(".png")),
            end=file.end,
            positions=file.positions,
        )
        self._last_words.add(status)
        return Port.DISPLAY, status

    def holdings(self) -> Iterator[Message]:
        """What there is of each scan that goes on, for a receiver that has begun anew.

        Its start, the last status of the receiver before if there is one, and a :class:`Resume`.
        """
        for scan in self.scans.values():
            if scan.end is None:
                yield scan.start
                if scan.known.receive is not None:
                    yield scan.known.receive
                yield scan.holdings

    def _has_room(self, size: int) -> bool:
        """True if so many more bytes may wait for a disk that refuses."""
        return sum(scan.waiting_bytes for scan in self.scans.values()) + size <= self.options.hold_bytes

    def idle(self) -> Iterable[Output]:
        """Flush, and close the files that are due."""
        now_s = self._clock()
        if now_s < self._next_flush_s:
            return
        self._next_flush_s = now_s + self.options.flush_s
        self._awake_s += min(now_s - self._turn_s, _LONGEST_TURN_S)
        self._turn_s = now_s
        if now_s >= self._next_space_s:
            self._next_space_s = now_s + SPACE_S
            self._look_for_space()
        for scan in list(self.scans.values()):
            if scan.end is None and self._awake_s - scan.heard_s > self.options.silence_s:
                said = (scan.start.scan_id, self.options.silence_s)
                log.warning("scan %s: no word of it for %.0f s; closed without its end", *said, extra=scan.start.run.fields)
                scan.end, scan.forsaken = _superseded(scan, EndReason.TIMEOUT), True
            if scan.end is not None and scan.due(now_s):
                if scan.may_try(now_s):
                    yield from self._close(scan, scan.end)
            elif scan.may_try(now_s):
                scan.flush(now_s)

    def _look_for_space(self) -> None:
        self._free_bytes = free_bytes(self.options.directory)
        for scan in self.scans.values():
            short = scan.shortage(self._free_bytes)
            if short is not None and scan.start.run not in self._short:
                log.warning("scan %s: %s", scan.start.scan_id, short, extra=scan.start.run.fields)
            (self._short.discard if short is None else self._short.add)(scan.start.run)

    def _close(self, scan: ScanFile, end: ScanEnd, *, last: bool = False) -> Iterator[Output]:
        """Close a file; where the disk refuses, it stays open and is tried again, unless this is the `last` time."""
        now_s = self._clock()
        closed = scan.close(end, now_s)
        if not closed and not last and now_s - scan.trouble_s <= self.options.hold_s:
            return
        del self.scans[scan.start.scan_id]
        self._short.discard(scan.start.run)
        failure = scan.trouble
        if failure is not None:
            scan.fail()
            log.error("scan %s is given up: %s", scan.start.scan_id, failure, extra=scan.start.run.fields)
            self.failed[scan.start.scan_id] = failure
        elif scan.end is not None and not scan.end.complete:
            said = (scan.path, scan.end.reason, scan.missing or "nothing is known to be missing")
            log.warning("%s: %s; %s", *said, extra=scan.start.run.fields)
        status = dataclasses.replace(self._status(scan, ServiceState.DONE), failure=failure, trouble=None)
        self._last_words.add(status)
        yield Port.DISPLAY, status

    def finish(self) -> Iterable[Output]:
        """Close every file as it stands."""
        for scan in list(self.scans.values()):
            yield from self._close(scan, scan.end or _superseded(scan, EndReason.INTERRUPTED), last=True)

    def _open(self) -> dict[str, WriteStatus]:
        return {scan_id: self._status(scan, ServiceState.RECEIVING) for scan_id, scan in self.scans.items()}

    def _idle(self) -> WriteStatus:
        return dataclasses.replace(super()._idle(), free_bytes=self._free_bytes)

    def _status(self, scan: ScanFile, state: ServiceState) -> WriteStatus:
        done = state is ServiceState.DONE and scan.known.snapshot is not None and scan.finished
        return WriteStatus(
            service=self.name,
            **scan.start.run.fields,
            state=state,
            time_ns=self._wall_ns(),
            received=scan.received,
            used=scan.writer.committed,
            waiting=scan.writer.waiting,
            dropped=dict(scan.dropped),
            file=str(scan.path) if scan.begun else None,
            result=str(scan.result_path) if done else None,
            picture=str(scan.picture_path) if done and scan.shown else None,
            end=scan.end.reason if scan.end is not None else None,
            positions=scan.writer.placed,
            trouble=scan.trouble or scan.shortage(self._free_bytes),
            free_bytes=self._free_bytes,
            frame_bytes=scan.frame_bytes,
        )


def _if_there(path: Path) -> str | None:
    return str(path) if path.exists() else None


def _superseded(scan: ScanFile, reason: EndReason = EndReason.SUPERSEDED) -> ScanEnd:
    """An end for a scan that had none."""
    return ScanEnd(**scan.start.run.fields, stream=Stream.SCAN, count=scan.writer.committed, reason=reason)
