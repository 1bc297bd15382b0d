"""All scans as runs, from what the services publish about them."""

import time
from collections.abc import Callable, Iterator

from streamptycho.display.known import Known
from streamptycho.display.ledger import Missing
from streamptycho.display.pace import Pace
from streamptycho.display.scans import Scans
from streamptycho.documents.run import ExitStatus, Run, progress_data
from streamptycho.documents.wire import Document
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Preview, Survey
from streamptycho.messages.reasons import EndReason
from streamptycho.messages.results import Assessment, Snapshot
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus, Status, WriteStatus
from streamptycho.messages.stream import ScanEnd, ScanStart

PERIODS_S = {"progress": 0.5, "object": 1.0, "quality": 1.0, "diffraction": 1.0, "maps": 1.0}
"""Least time between two events of a stream; those of `probe` come with `object`."""
START_PATIENCE_S = 3.0
"""How long a run waits for the start message of its scan: the receiver repeats it more often than this."""
FINAL_PATIENCE_S = 5.0
"""How long the final picture is waited for once the reconstruction is done."""
WRITER_PATIENCE_S = 5.0
"""How long a writer that has been heard is waited for after the final picture: it knows whether anything is missing."""
SILENCE_S = 60.0
MAX_OPEN_RUNS = 8
_REMEMBERED = 256
"""Runs that have ended and are not begun again by late messages."""
_SHARE = 0.1
"""Part of a core that the events of one stream may take."""

_HEARD = ScanStart | ScanEnd | Status | Snapshot | Survey | Preview | Assessment
_STREAMS: dict[type[Message], str] = {Assessment: "quality", Snapshot: "object", Preview: "diffraction"}
"""Messages of which the newest one becomes an event, in the order in which these are sent."""


class _Scan(Known):
    """What is known of one run of a scan, and what of it has been sent."""

    def __init__(self, run: RunId, clock: Callable[[], float], computed: Callable[[], float]) -> None:
        super().__init__(run)
        self._clock = clock
        self.since_s = self.heard_s = clock()
        """When anything was heard first; when the reconstruction, or before its end the receiver, was heard last."""
        self.unsent: dict[str, Message] = {}
        """The newest message of a stream, if it has not been sent."""
        self.mapped = 0
        """Version of the points whose maps have been sent."""
        self.surveyed_ns = 0
        self.done_s: float | None = None
        self.final_s: float | None = None
        """When the reconstruction was done, and when the last picture came."""
        self.documents: Run | None = None
        self.paces = {stream: Pace(period_s, clock, share=_SHARE, spent=computed) for stream, period_s in PERIODS_S.items()}

    @property
    def final(self) -> bool:
        """True if the last picture has come."""
        return self.snapshot is not None and self.snapshot.final

    def note(self, message: Message) -> None:
        """Take in a message of this run."""
        if not self.take(message):
            return
        now_s = self._clock()
        if not (isinstance(message, WriteStatus) or (isinstance(message, ReceiveStatus) and message.done)):
            self.heard_s = now_s
        if self.done_s is None and self.lead.status is not None and self.lead.status.done:
            self.done_s = now_s
        if self.final_s is None and self.final:
            self.final_s = now_s
        if isinstance(message, Survey):
            self.surveyed_ns = message.time_ns
        elif type(message) in _STREAMS:
            self.unsent[_STREAMS[type(message)]] = message


class Composer:
    """Makes documents of what the services publish: :meth:`take` each message, and :meth:`due` some times a second.

    What it holds is bounded: at most 8 open runs, of each the newest of everything, and as many points as
    :class:`Points` keeps.

    Parameters
    ----------
    clock : seconds, monotonic.
    computed : seconds of processor time so far; pictures that cost more come less often.
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
        self._validate = validate
        self._scans = Scans(lambda run: _Scan(run, clock, computed))
        self._ended: dict[RunId, bool] = {}
        """Runs that have ended, oldest first, and whether the receiver had ended them as well."""
        self._runs = 0

    def take(self, message: Message) -> None:
        """Remember what a message says; it becomes a document when it is due."""
        if isinstance(message, _HEARD) and message.run is not None:
            scan = self._scan(message.run, message)
            if scan is not None:
                scan.note(message)

    def _scan(self, run: RunId, message: Message) -> _Scan | None:
        """The scan of a message; None if it is over, or if this message does not begin it."""
        known = self._scans.find(run)
        if known is not None:
            return known
        received = isinstance(message, ScanEnd) or (isinstance(message, ReceiveStatus) and message.done)
        if run in self._ended:
            self._ended[run] = self._ended[run] or received
            # an unknown beginning cannot distinguish two runs, but the receiver has ended the first one
            if run.started_ns or not isinstance(message, ScanStart) or not self._ended[run]:
                return None
            del self._ended[run]
        over = received or isinstance(message, WriteStatus) or (isinstance(message, Status) and message.done)
        return None if over else self._scans.add(run)

    def due(self) -> Iterator[Document]:
        """The documents that are to be sent now, in order."""
        for scan in self._scans:
            waited = self._clock() - scan.since_s >= START_PATIENCE_S
            if scan.documents is None and (scan.start is not None or scan.final or waited):
                yield from self._begin(scan)
            if scan.documents is not None:
                yield from self._send(scan, scan.documents)
            yield from self._stop_if_over(scan)
        while len(self._scans) > MAX_OPEN_RUNS:
            yield from self._stop(next(iter(self._scans)), "abort", f"more than {MAX_OPEN_RUNS} scans at once")

    def finish(self) -> Iterator[Document]:
        """End all runs: nothing follows."""
        yield from self.due()
        for scan in self._scans:
            yield from self._stop(scan, "abort", "the documents service was stopped")

    def _begin(self, scan: _Scan) -> Iterator[Document]:
        self._runs += 1
        scan.documents = Run(scan.start, scan.run, self._runs, validate=self._validate)
        yield scan.documents.start

    def _send(self, scan: _Scan, run: Run, *, last: bool = False) -> Iterator[Document]:
        """What is new and due, at the end all that is new."""
        lead, points = scan.lead, scan.lead.points
        for stream in _STREAMS.values():
            final = stream == "object" and scan.final
            if stream in scan.unsent and (last or final or scan.paces[stream].due):
                yield from self._paced(scan, stream, run.of(scan.unsent.pop(stream)))
        if points.version != scan.mapped and points.any_measured and (last or scan.paces["maps"].due):
            yield from self._paced(scan, "maps", run.maps(points, scan.surveyed_ns))
            scan.mapped = points.version
        if any((scan.receive, lead.status, lead.snapshot, lead.assessment)) and (last or scan.paces["progress"].due):
            yield from self._paced(scan, "progress", run.progress(progress_data(scan.facts())))

    @staticmethod
    def _paced(scan: _Scan, stream: str, documents: Iterator[Document]) -> Iterator[Document]:
        """The same, counted with the cost of sending them, which is done in between."""
        with scan.paces[stream].turn():
            yield from documents

    def _stop_if_over(self, scan: _Scan) -> Iterator[Document]:
        now = self._clock()
        if scan.lead.failure is not None:
            yield from self._stop(scan, "fail", scan.lead.failure)
        elif scan.final_s is not None:
            if scan.write is None or scan.written or now - scan.final_s >= WRITER_PATIENCE_S:
                yield from self._stop(scan, *_outcome(scan))
        elif scan.done_s is not None and now - scan.done_s >= FINAL_PATIENCE_S:
            status, reason = _outcome(scan)
            yield from self._stop(scan, status, f"{reason}; the final picture was missed")
        elif now - scan.heard_s >= SILENCE_S:
            source = "the reconstruction" if scan.received else "the scan"
            yield from self._stop(scan, "abort", f"nothing was heard of {source} for {SILENCE_S:.0f} s")

    def _stop(self, scan: _Scan, exit_status: ExitStatus, reason: str) -> Iterator[Document]:
        """The end of a run; one that is over before its start was sent begins first."""
        if scan.documents is None:
            yield from self._begin(scan)
        if scan.documents is not None:
            yield from self._send(scan, scan.documents, last=True)
            yield scan.documents.stop(exit_status, reason)
        self._scans.remove(scan.run)
        self._ended[scan.run] = scan.received
        while len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]


def _outcome(scan: _Scan) -> tuple[ExitStatus, str]:
    """Exit status and reason of a run whose final picture has come."""
    facts = scan.facts()
    lack = str(Missing(facts.missing, facts.missing_positions))
    if facts.end is None and not lack:
        return "success", "the reconstruction ended; the end of the scan was not heard"
    if facts.end is EndReason.COMPLETE and not lack:
        return "success", "complete" if scan.write is None or scan.written else "complete; its file was not closed in time"
    return "abort", ": ".join(filter(None, (str(facts.end or "no end was heard"), lack)))
