"""Write: every frame, position and snapshot of every scan into its own file."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from streamptycho.display import save_phase
from streamptycho.errors import ConfigError, GrammarError, ProtocolError, ScanError
from streamptycho.files.naming import unique_path
from streamptycho.files.result import write_result
from streamptycho.files.writer import CxiWriter
from streamptycho.ledger import Ledger, combine
from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanStart, Snapshot, Status, same_run
from streamptycho.pipeline.last_words import LastWords
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.stage import Output, Port
from streamptycho.reasons import DropReason, EndReason, ServiceState, Stream

log = logging.getLogger(__name__)


class ScanFile:
    """The file of one scan and what is still expected for it."""

    def __init__(self, start: ScanStart, options: WriteOptions, config_json: str, now_s: float) -> None:
        self.start = start
        self.options = options
        self.config_json = config_json
        self.path = unique_path(options.directory, start.scan_id)
        self.writer = CxiWriter(self.path, start, config_json=config_json, options=options)
        self.received = 0
        self.written = 0
        self.dropped: dict[str, int] = {}
        self.end: ScanEnd | None = None
        self.result: Snapshot | None = None
        self.no_result = False
        self.newest: Snapshot | None = None
        self.last_word_s = now_s
        self.next_picture_s = 0.0
        self.receive: Status | None = None
        self.reconstruct: Status | None = None
        self.shown = False

    @property
    def result_path(self) -> Path:
        """The separate reconstruction file."""
        return self.path.with_name(self.path.stem + ".result.h5")

    @property
    def picture_path(self) -> Path:
        """The PNG of the newest object phase."""
        return self.path.with_suffix(".png")

    def due(self, now_s: float) -> bool:
        """True if the file can be closed."""
        if self.end is None:
            return False
        answered = self.result is not None or self.no_result
        return answered or now_s - self.last_word_s > self.options.result_timeout_s

    def frame(self, frame: Frame) -> None:
        """Append a block."""
        if not frame.dark:
            self.received += len(frame)
        try:
            appended = self.writer.append(frame)
        except GrammarError:
            if not frame.dark:
                self._drop(DropReason.BAD_INDEX, len(frame))
            return
        except ScanError:
            if not frame.dark:
                self._drop(DropReason.FAILED, len(frame))
            raise
        if frame.dark:
            return
        self.written += appended.written
        self._drop(DropReason.DUPLICATE, appended.duplicate)
        self._drop(DropReason.CORRUPT, appended.corrupt)

    def _drop(self, reason: DropReason, frames: int) -> None:
        if frames:
            self.dropped[reason.value] = self.dropped.get(reason.value, 0) + frames

    def take_status(self, status: Status) -> None:
        """Note the counts of another service, and whether a picture will come."""
        if status.service == "receive":
            self.receive = status
        elif status.service == "reconstruct":
            self.reconstruct = status
            self.no_result = self.no_result or "no_picture" in status.notes

    def ledger(self) -> Ledger:
        """The count of all services."""
        return combine(self.receive, self.reconstruct)

    def show(self, snapshot: Snapshot, now_s: float) -> None:
        """Append a snapshot and refresh the picture."""
        self.newest = snapshot
        self.writer.snapshot(snapshot)
        if self.options.picture and (snapshot.final or now_s >= self.next_picture_s):
            self.next_picture_s = now_s + self.options.picture_s
            self._save_picture(snapshot)

    def _save_picture(self, snapshot: Snapshot) -> None:
        """The picture is a convenience: that it cannot be written costs no data."""
        try:
            save_phase(snapshot, self.picture_path)
            self.shown = True
        except OSError as error:
            log.warning("%s: the picture cannot be written (%s)", self.picture_path, error)

    def flush(self) -> None:
        """Make everything so far readable for others, the counts included."""
        ledger = self.ledger()
        self.writer.counters(received=ledger.received, used=ledger.used, waiting=ledger.waiting, dropped=ledger.dropped)
        self.writer.flush()

    def close(self, end: ScanEnd) -> None:
        """Final picture, final counts, result file."""
        self.flush()
        result = self.result or self.newest
        self.writer.finish(end, result)
        if result is not None:
            write_result(self.result_path, result, self.start, end=end, config_json=self.config_json)


class WriteStage:
    """Keeps one file per scan; several may be open while earlier scans are still being polished."""

    busy = False
    status_ports: tuple[Port, ...] = ()

    def __init__(
        self,
        options: WriteOptions,
        config_json: str = "{}",
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.options = options
        self.config_json = config_json
        self.scans: dict[str, ScanFile] = {}
        self.failed: dict[str, str] = {}
        self.rejected = 0
        """Messages of no open scan, of another run of its id, or that do not fit it."""
        self._next_flush_s = 0.0
        self._last_words = LastWords(clock)
        self._clock = clock
        self._wall_ns = wall_ns
        try:
            options.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{options.directory}: cannot be created ({error.strerror}); choose another") from error

    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        """Take whatever belongs into a file."""
        if isinstance(message, ProtocolError):
            self.rejected += 1
            return
        scan_id = getattr(message, "scan_id", None) or ""
        try:
            yield from self._handle(message, scan_id)
        except GrammarError:
            self.rejected += 1
        except ScanError as error:
            scan = self.scans.pop(scan_id, None)
            if scan is not None:
                yield from self._fail(error, self._status(scan, ServiceState.DONE))
            elif isinstance(message, ScanStart):
                yield from self._fail(error, self._last_status(message))
        yield from self.idle()

    def _handle(self, message: Message, scan_id: str) -> Iterator[Output]:
        if isinstance(message, ScanStart):
            yield from self._begin(message)
            return
        scan = self.scans.get(scan_id)
        if scan is None:
            self.rejected += scan_id not in self.failed and not isinstance(message, Status)
            return
        if isinstance(message, ScanEnd | Snapshot | Status) and not same_run(message.started_ns, scan.start):
            self.rejected += not isinstance(message, Status)
            return
        if isinstance(message, Frame):
            scan.frame(message)
        elif isinstance(message, Positions):
            scan.writer.positions(message)
        elif isinstance(message, ScanEnd):
            scan.end = message
        elif isinstance(message, Snapshot):
            scan.last_word_s = self._clock()
            scan.show(message, scan.last_word_s)
            if message.final:
                scan.result = message
        elif isinstance(message, Status):
            scan.last_word_s = self._clock()
            scan.take_status(message)

    def _begin(self, start: ScanStart) -> Iterator[Output]:
        earlier = self.scans.get(start.scan_id)
        if earlier is not None:
            yield from self._close(earlier, earlier.end or _superseded(earlier))
        self.failed.pop(start.scan_id, None)
        self.scans[start.scan_id] = ScanFile(start, self.options, self.config_json, self._clock())

    def _fail(self, error: ScanError, status: Status) -> Iterator[Output]:
        """Stop writing this scan, loudly; the picture goes on."""
        log.error("scan %s is no longer written: %s", status.scan_id, error)
        self.failed[status.scan_id or ""] = str(error)
        yield self._end(dataclasses.replace(status, notes=status.notes | {"error": str(error)}))

    def _end(self, status: Status) -> Output:
        self._last_words.add(status)
        return Port.DISPLAY, status

    def idle(self) -> Iterable[Output]:
        """Flush, and close the files that are due."""
        now = self._clock()
        if now < self._next_flush_s:
            return
        self._next_flush_s = now + self.options.flush_s
        for scan_id, scan in list(self.scans.items()):
            try:
                scan.flush()
            except ScanError as error:
                del self.scans[scan_id]
                yield from self._fail(error, self._status(scan, ServiceState.DONE))
                continue
            if scan.end is not None and scan.due(now):
                yield from self._close(scan, scan.end)

    def _close(self, scan: ScanFile, end: ScanEnd) -> Iterator[Output]:
        del self.scans[scan.start.scan_id]
        try:
            scan.close(end)
        except ScanError as error:
            yield from self._fail(error, self._status(scan, ServiceState.DONE))
            return
        yield self._end(self._status(scan, ServiceState.DONE))

    def unsent(self, port: Port, message: Message) -> None:
        """Only status leaves the writer; nobody has to listen."""

    def finish(self) -> Iterable[Output]:
        """Close every file as it stands."""
        for scan in list(self.scans.values()):
            yield from self._close(scan, scan.end or _superseded(scan, EndReason.INTERRUPTED))

    def statuses(self) -> list[Status]:
        """One per open file, or an idle one; then the last ones of files that have just been closed."""
        now = [self._status(scan, ServiceState.RECEIVING) for scan in self.scans.values()]
        return (now or [self._idle_status()]) + self._last_words.again(self.scans)

    def _idle_status(self) -> Status:
        return Status(
            service="write",
            scan_id=None,
            state=ServiceState.IDLE,
            time_ns=self._wall_ns(),
            figures={"rejected": float(self.rejected)},
        )

    def _last_status(self, start: ScanStart) -> Status:
        """Of a scan that has no file."""
        return Status(
            service="write",
            scan_id=start.scan_id,
            state=ServiceState.DONE,
            time_ns=self._wall_ns(),
            started_ns=start.started_ns,
        )

    def _status(self, scan: ScanFile, state: ServiceState) -> Status:
        notes = {"file": str(scan.path)}
        if state is ServiceState.DONE and (scan.result or scan.newest) is not None:
            notes |= {"result": str(scan.result_path)} | ({"picture": str(scan.picture_path)} if scan.shown else {})
        if scan.end is not None:
            notes["end"] = scan.end.reason.value
        return Status(
            service="write",
            scan_id=scan.start.scan_id,
            state=state,
            time_ns=self._wall_ns(),
            started_ns=scan.start.started_ns,
            received=scan.received,
            used=scan.written,
            dropped=dict(scan.dropped),
            notes=notes,
        )


def _superseded(scan: ScanFile, reason: EndReason = EndReason.SUPERSEDED) -> ScanEnd:
    """An end for a scan that had none."""
    start = scan.start
    return ScanEnd(scan_id=start.scan_id, stream=Stream.SCAN, count=scan.written, reason=reason, started_ns=start.started_ns)
