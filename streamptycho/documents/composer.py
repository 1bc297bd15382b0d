"""All scans as runs, from what a display is told about them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from streamptycho.documents.run import ExitStatus, Run, progress_data
from streamptycho.documents.wire import Document
from streamptycho.errors import ProtocolError
from streamptycho.feed import Assessment, Preview, Survey
from streamptycho.messages import Message, ScanEnd, ScanStart, Snapshot, Status
from streamptycho.points import Points
from streamptycho.reasons import EndReason, ServiceState

PROGRESS_S = 0.5
PICTURE_S = 1.0
QUALITY_S = 1.0
PATTERN_S = 1.0
MAPS_S = 1.0
START_PATIENCE_S = 3.0
"""How long a run waits for the start message of its scan: the receiver repeats it more often than this."""
FINAL_PATIENCE_S = 5.0
"""How long the final picture is waited for once the reconstruction is done."""
SILENCE_S = 60.0
MAX_OPEN_RUNS = 8
_REMEMBERED = 256
"""Runs that have ended and are not begun again by what is said of them late."""
_SHARE = 10
"""Pictures of a stream are not made more often than so many times the time they took: a tenth of a core at most."""

_HEARD = ScanStart | ScanEnd | Status | Snapshot | Survey | Preview | Assessment
_Key = tuple[str, int]
"""Scan id and beginning: one run of a scan."""


@dataclass(eq=False, slots=True)
class _Scan:
    """What is known of one scan, and what of it has been told."""

    scan_id: str
    started_ns: int
    since_s: float
    heard_s: float
    """When the reconstruction, or before its end the receiver, spoke last."""
    start: ScanStart | None = None
    end: ScanEnd | None = None
    receive: Status | None = None
    reconstruct: Status | None = None
    snapshot: Snapshot | None = None
    """The newest one."""
    picture: Snapshot | None = None
    """The newest one, if it has not been told."""
    assessment: Assessment | None = None
    verdict: Assessment | None = None
    """The newest assessment, if it has not been told."""
    preview: Preview | None = None
    """The newest one, if it has not been told."""
    points: Points = field(default_factory=Points)
    surveyed_ns: int = 0
    """When the newest points were told."""
    mapped: int = 0
    """Version of the points of which maps have been told."""
    done_s: float | None = None
    """When the reconstruction said that it was done."""
    run: Run | None = None
    due_s: dict[str, float] = field(default_factory=dict)
    """When the next event of a stream may be sent."""

    @property
    def received(self) -> bool:
        """All frames that will come have come."""
        return self.end is not None or (self.receive is not None and self.receive.state is ServiceState.DONE)

    @property
    def failure(self) -> str | None:
        """Why there will be no picture."""
        notes = self.reconstruct.notes if self.reconstruct and self.reconstruct.state is ServiceState.DONE else {}
        return notes.get("error") or notes.get("no_picture")


class Composer:
    """Makes documents of what the display is told: :meth:`take` each message, and :meth:`due` some times a second.

    What it holds is bounded: at most 8 open runs, of each the newest of everything, and as many points as
    :class:`Points` keeps.

    Parameters
    ----------
    clock : seconds, monotonic.
    computed : seconds of processor time so far, by which pictures are made less often where they are large.
    validate : check each document against the event model's schema, for tests.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.thread_time,
        *,
        validate: bool = False,
    ) -> None:
        self._clock = clock
        self._computed = computed
        self._validate = validate
        self._scans: dict[_Key, _Scan] = {}
        self._ended: dict[_Key, bool] = {}
        """Runs that have ended, oldest first, and whether the receiver had ended them as well."""
        self._runs = 0

    def take(self, message: Message | ProtocolError | None) -> None:
        """Remember what a message says; it becomes a document when it is due."""
        if not isinstance(message, _HEARD) or message.scan_id is None:
            return
        scan = self._scan(message.scan_id, message.started_ns, message)
        if scan is None:
            return
        if isinstance(message, Status):
            self._take_status(scan, message)
        elif isinstance(message, ScanStart):
            scan.start, scan.heard_s = message, self._clock()
        elif isinstance(message, ScanEnd):
            scan.end, scan.heard_s = message, self._clock()
        else:
            scan.heard_s = self._clock()
            if isinstance(message, Assessment):
                scan.assessment = scan.verdict = message
            elif isinstance(message, Preview):
                scan.preview = message
            elif isinstance(message, Survey):
                scan.points.take(message)
                scan.surveyed_ns = message.time_ns
            elif scan.snapshot is None or not scan.snapshot.final:
                scan.snapshot = scan.picture = message

    def _take_status(self, scan: _Scan, status: Status) -> None:
        now = self._clock()
        if status.service == "receive":
            scan.receive = status
            if status.state is not ServiceState.DONE:
                scan.heard_s = now
        elif status.service == "reconstruct":
            scan.reconstruct, scan.heard_s = status, now
            if status.state is ServiceState.DONE and scan.done_s is None:
                scan.done_s = now

    def _scan(self, scan_id: str, started_ns: int, message: Message) -> _Scan | None:
        """The scan of a message; None if it is over, or if this message does not begin it."""
        key = (scan_id, started_ns)
        if isinstance(message, ScanEnd) and not started_ns:
            key = next((k for k in reversed(self._scans) if k[0] == scan_id), key)
        if key in self._scans:
            return self._scans[key]
        if key in self._ended:
            if isinstance(message, Status) and message.service == "receive" and message.state is ServiceState.DONE:
                self._ended[key] = True
            if isinstance(message, ScanEnd):
                self._ended[key] = True
            # a beginning that is not known cannot tell two runs apart, but the receiver has ended the first one
            if started_ns or not isinstance(message, ScanStart) or not self._ended[key]:
                return None
            del self._ended[key]
        over = isinstance(message, ScanEnd) or (isinstance(message, Status) and message.state is ServiceState.DONE)
        if over or (isinstance(message, Status) and message.service not in ("receive", "reconstruct")):
            return None
        now = self._clock()
        scan = self._scans[key] = _Scan(scan_id, started_ns, now, now)
        return scan

    def due(self) -> Iterator[Document]:
        """The documents that are to be sent now, in order."""
        for scan in list(self._scans.values()):
            if scan.run is None and self._may_begin(scan):
                yield from self._begin(scan)
            if scan.run is not None:
                yield from self._tell(scan, scan.run)
            yield from self._stop_if_over(scan)
        while len(self._scans) > MAX_OPEN_RUNS:
            yield from self._stop(next(iter(self._scans.values())), "abort", f"more than {MAX_OPEN_RUNS} scans at once")

    def finish(self) -> Iterator[Document]:
        """End all runs: no more will be told."""
        yield from self.due()
        for scan in list(self._scans.values()):
            yield from self._stop(scan, "abort", "the documents service was stopped")

    def _may_begin(self, scan: _Scan) -> bool:
        final = scan.snapshot is not None and scan.snapshot.final
        return scan.start is not None or final or self._clock() - scan.since_s >= START_PATIENCE_S

    def _begin(self, scan: _Scan) -> Iterator[Document]:
        self._runs += 1
        scan.run = Run(scan.start, scan.scan_id, scan.started_ns, self._runs, validate=self._validate)
        yield scan.run.start

    def _tell(self, scan: _Scan, run: Run, *, last: bool = False) -> Iterator[Document]:
        """What is new and due, at the end all that is new."""
        final = scan.picture is not None and scan.picture.final
        if scan.verdict is not None and self._is_due(scan, "quality", QUALITY_S, at_once=last):
            yield from run.quality(scan.verdict)
            scan.verdict = None
        if scan.picture is not None and self._is_due(scan, "object", PICTURE_S, at_once=last or final):
            yield from self._paced(scan, "object", run.picture(scan.picture))
            scan.picture = None
        if scan.preview is not None and self._is_due(scan, "diffraction", PATTERN_S, at_once=last):
            yield from self._paced(scan, "diffraction", run.diffraction(scan.preview))
            scan.preview = None
        mapped = scan.points.version == scan.mapped or not scan.points.any_measured
        if not mapped and self._is_due(scan, "maps", MAPS_S, at_once=last):
            yield from self._paced(scan, "maps", run.maps(scan.points, scan.surveyed_ns))
            scan.mapped = scan.points.version
        said = (scan.receive, scan.reconstruct, scan.snapshot, scan.assessment)
        if any(said) and self._is_due(scan, "progress", PROGRESS_S, at_once=last):
            yield from run.progress(progress_data(*said))

    def _paced(self, scan: _Scan, stream: str, documents: Iterator[Document]) -> Iterator[Document]:
        """The same; what comes next of the stream waits for longer if they were costly."""
        begun = self._computed()
        yield from documents
        cost_s = self._computed() - begun  # of sending them too, as that is done between these documents
        scan.due_s[stream] = max(scan.due_s[stream], self._clock() + _SHARE * cost_s)

    def _is_due(self, scan: _Scan, stream: str, period_s: float, *, at_once: bool) -> bool:
        now = self._clock()
        since = scan.due_s.get(stream, now)
        if now < since and not at_once:
            return False
        # from when it was due, so that the period is kept though one looks a little late
        scan.due_s[stream] = since + period_s if now - period_s < since <= now else now + period_s
        return True

    def _stop_if_over(self, scan: _Scan) -> Iterator[Document]:
        now = self._clock()
        if scan.failure is not None:
            yield from self._stop(scan, "fail", scan.failure)
        elif scan.snapshot is not None and scan.snapshot.final:
            yield from self._stop(scan, *_outcome(scan.end))
        elif scan.done_s is not None and now - scan.done_s >= FINAL_PATIENCE_S:
            status, reason = _outcome(scan.end)
            yield from self._stop(scan, status, f"{reason}; the final picture was missed")
        elif now - scan.heard_s >= SILENCE_S:
            who = "the reconstruction" if scan.received else "the scan"
            yield from self._stop(scan, "abort", f"nothing was heard of {who} for {SILENCE_S:.0f} s")

    def _stop(self, scan: _Scan, exit_status: ExitStatus, reason: str) -> Iterator[Document]:
        """The end of a run; one that is over before it was told begins first."""
        if scan.run is None:
            yield from self._begin(scan)
        if scan.run is not None:
            yield from self._tell(scan, scan.run, last=True)
            yield scan.run.stop(exit_status, reason)
        key = (scan.scan_id, scan.started_ns)
        del self._scans[key]
        self._ended[key] = scan.received
        while len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]


def _outcome(end: ScanEnd | None) -> tuple[ExitStatus, str]:
    """Exit status and reason of a run of which the final picture is there."""
    if end is None:
        return "success", "the reconstruction ended; the end of the scan was not heard"
    if end.reason is EndReason.COMPLETE:
        return "success", "complete"
    return "abort", str(end.reason)
