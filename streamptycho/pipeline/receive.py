"""Receive: from the detector's streams to the writer and the engine."""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from streamptycho.compose.composer import Composer
from streamptycho.compose.options import Role, ScanOptions
from streamptycho.errors import ProtocolError
from streamptycho.join.matcher import Matcher
from streamptycho.join.open_scan import Edge, OpenScan, Routed
from streamptycho.join.options import MatchOptions
from streamptycho.messages.facts import Fact, Remark
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import DropReason, EndReason, ServiceKind, ServiceState, Stream
from streamptycho.messages.status import ReceiveStatus
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart
from streamptycho.pipeline.backlog import Backlog
from streamptycho.pipeline.stage import Newest, Output, Port, Rate, Stage

log = logging.getLogger(__name__)

START_AGAIN_S = 2.0
"""Time between two copies of the start message of an open scan, for late subscribers."""
MAX_REMARKS, MAX_REMARK = 32, 600
"""Remarks about one scan, and characters of each: they are sent with every status."""
_TOLD_S = 600.0
"""How long remarks that concern no open scan are told."""


class ReceiveStage(Stage[ReceiveStatus]):
    """Joins the streams, passes everything on, and keeps count."""

    status_kind = ReceiveStatus
    status_ports = (Port.WRITER,)

    def __init__(
        self,
        options: MatchOptions,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        name: str = ServiceKind.RECEIVE,
        composer: Composer | None = None,
    ) -> None:
        super().__init__(name, clock, wall_ns)
        self.matcher = Matcher(options)
        self.rejected = self.matcher.rejected
        self._composer = composer or Composer(ScanOptions())
        self._remarks: Newest[tuple[str, ...]] = Newest()
        """By scan id, or the name of a run or stream."""
        self._remarked_s: Newest[float] = Newest()
        self._backlog = Backlog(options)
        self._refused = False
        self._rates: dict[str, Rate] = {}
        self._start_again_s = clock() + START_AGAIN_S

    def hear(self, role: Role, fact: Fact) -> Iterator[Output]:
        """Route what the stream of a role has told."""
        if isinstance(fact, Remark):
            self._remark(f"detector.{role.value}", fact.text)
            return iter(())
        return self._take(self._composer.take(role, fact, self._clock()))

    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        """Route one message of a scan."""
        if isinstance(message, ProtocolError):
            self._notices.refused(message)
        yield from self._route(self.matcher.handle(message, self._clock()))

    def _take(self, messages: Iterable[Message | ProtocolError]) -> Iterator[Output]:
        for message in messages:
            yield from self.handle(message)

    def resume(self, messages: Iterable[Message]) -> Iterator[Output]:
        """Take up the open scans of a receiver that has broken off, from what the writer says that it has of them.

        `messages` are, for each scan, its start, the last status of that receiver if there is one, and a :class:`Resume`.
        """
        messages = list(messages)
        self._composer.resume(messages)
        start, before = None, None
        for message in messages:
            match message:
                case ScanStart():
                    start, before = message, None
                case ReceiveStatus():
                    before = message
                case Resume() if start is not None and message.run == start.run:
                    log.warning("scan %s goes on: %d frames have come before", start.scan_id, message.frames.sum())
                    yield from self._route(self.matcher.resume(start, message, before, self._clock()))

    def idle(self) -> Iterable[Output]:
        """Close scans that are due."""
        yield from self._take(self._composer.tick(self._clock()))
        self._tell()
        yield from self._route(self.matcher.tick(self._clock()))
        yield from self._send_backlog()
        if self._clock() >= self._start_again_s:
            self._start_again_s = self._clock() + START_AGAIN_S
            for scan in self.matcher.scans.values():
                yield Port.DISPLAY, _without_arrays(scan.start)

    def _tell(self) -> None:
        """Log what the composer has found, and keep it for the statuses."""
        for finding in self._composer.fresh():
            self._remark(finding.scan, finding.text)

    def _remark(self, about: str, text: str) -> None:
        """Log a remark about a scan, run or stream, and keep it for the statuses."""
        log.warning("%s: %s", about, text, extra={"scan_id": about})
        said = self._remarks.get(about, ())
        if len(said) < MAX_REMARKS and text[:MAX_REMARK] not in said:
            self._remarks[about] = (*said, text[:MAX_REMARK])
            self._remarked_s[about] = self._clock()

    def _of_no_scan(self) -> tuple[str, ...]:
        """Remarks of late that concern no open scan."""
        since_s = self._clock() - _TOLD_S
        about = [key for key in self._remarks if key not in self.matcher.scans and self._remarked_s.get(key, 0.0) > since_s]
        return tuple(f"{key}: {text}"[:MAX_REMARK] for key in about for text in self._remarks[key])[-MAX_REMARKS:]

    def finish(self) -> Iterable[Output]:
        """Close all scans as interrupted."""
        yield from self._take(self._composer.finish(self._clock()))
        yield from self._route(self.matcher.finish(EndReason.INTERRUPTED))
        yield from self._send_backlog()

    def _route(self, routed: Iterator[Routed]) -> Iterator[Output]:
        scans, over = dict(self.matcher.scans), []
        for edge, message in routed:
            scans |= self.matcher.scans
            status = None
            if isinstance(message, ScanEnd):
                over.append(message.run)
                # before the end, so that a file which closes with the end has the final counts
                status = self._last_status(scans[message.scan_id], message)
                yield Port.WRITER, status
                yield Port.DISPLAY, status
                yield Port.DISPLAY, message
            elif isinstance(message, ScanStart):
                yield Port.DISPLAY, _without_arrays(message)
            if edge is not Edge.ENGINE:
                yield Port.WRITER, message
            if status is not None:  # from which the engine counts what it has not got
                yield from self._to_engine(status, None)
            if edge is not Edge.WRITER:
                yield from self._to_engine(message, status)
        for run in over:
            yield from self._take(self._composer.closed(run))

    def _to_engine(self, message: Message, last_word: ReceiveStatus | None) -> Iterator[Output]:
        if self._backlog:  # which nothing overtakes; it is offered again when idle
            self._keep(message, last_word)
        else:
            yield Port.ENGINE, message

    def _send_backlog(self) -> Iterator[Output]:
        """Offer the backlog in order, up to the first message that is not accepted."""
        self._refused = False
        while self._backlog:
            yield Port.ENGINE, self._backlog.first
            if self._refused:
                return
            self._backlog.pop()

    def unsent(self, port: Port, message: Message) -> None:
        """Keep what the engine could not accept, within bounds; count frames that do not fit."""
        if port is not Port.ENGINE:
            return
        self._refused = True
        if not self._backlog or message is not self._backlog.first:
            self._keep(message, None)

    def _keep(self, message: Message, last_word: ReceiveStatus | None) -> None:
        """Put a message into the backlog; scans that are over make room for the frames of those that run."""
        while not self._backlog.add(message, last_word):
            if isinstance(message, Positions) or not self._give_up_one():  # positions of lost frames are for display only
                self._drop(message)
                return
        if isinstance(message, ScanStart):
            while self._backlog.too_many_scans and self._give_up_one():
                pass

    def _drop(self, message: Message) -> None:
        if not isinstance(message, Frame):
            return
        scan = self.matcher.scans.get(message.scan_id)
        if message.dark:
            self.rejected.add("dark_engine_full", message.scan_id, len(message))
        elif scan is not None and scan.announced(Stream.FRAMES) is None:  # else the reconstruction takes them from the file
            scan.matched -= len(message)
            scan.drop(DropReason.ENGINE_FULL, len(message))

    def _give_up_one(self) -> bool:
        """Drop a scan that is over from the backlog and correct its last status. False if there is none."""
        gone = self._backlog.give_up()
        if gone is None:
            return False
        last, messages = gone
        text = "the reconstruction has taken nothing of scan %s and will not see it; it is in the file"
        log.warning(text, last.scan_id, extra={"scan_id": last.scan_id, "started_ns": last.started_ns})
        frames = [message for message in messages if isinstance(message, Frame)]
        darks = sum(len(frame) for frame in frames if frame.dark)
        dropped = Counter(last.dropped) + Counter({DropReason.ENGINE_FULL.value: last.used})
        self._last_words.add(dataclasses.replace(last, time_ns=self._wall_ns(), used=0, dropped=dict(dropped)))
        self.rejected.add("dark_engine_full", last.scan_id, darks)
        return True

    def _open(self) -> dict[str, ReceiveStatus]:
        return {scan_id: self._status(scan, ServiceState.RECEIVING) for scan_id, scan in self.matcher.scans.items()}

    def _idle(self) -> ReceiveStatus:
        refused = self._composer.watch.refusals.sentences()
        remarks = tuple(text[:MAX_REMARK] for text in refused)
        return dataclasses.replace(super()._idle(), remarks=remarks, stream_remarks=self._of_no_scan())

    def _last_status(self, scan: OpenScan, end: ScanEnd) -> ReceiveStatus:
        """The final counts of a scan, with what is missing; a scan that is not complete is told in the log."""
        self._tell()
        missing, positions = scan.missing(end.reason), scan.missing_positions(end.reason)
        status = dataclasses.replace(self._status(scan, ServiceState.DONE), missing=missing, missing_positions=positions)
        self._last_words.add(status)
        self._remarks.pop(scan.scan_id, None)
        if missing or positions or not end.complete:
            words = "scan %s has ended as %s: %d frames have come, %d of the frames and %d of the positions are missing"
            said = (scan.scan_id, end.reason, scan.unique, missing, positions)
            log.warning(words, *said, extra=scan.start.run.fields)
        return status

    def _status(self, scan: OpenScan, state: ServiceState) -> ReceiveStatus:
        rate = self._rates.setdefault(scan.scan_id, Rate(self._clock))
        if state is ServiceState.DONE:
            del self._rates[scan.scan_id]
        return ReceiveStatus(
            service=self.name,
            **scan.start.run.fields,
            state=state,
            time_ns=self._wall_ns(),
            received=scan.received,
            used=scan.matched,
            waiting=scan.waiting,
            dropped=dict(scan.dropped),
            rejected=dict(self.rejected),
            rate_hz=rate(scan.received),
            unique=scan.unique,
            expected=scan.start.expected,
            positions=scan.positions_received,
            announced=scan.announced(Stream.FRAMES),
            announced_positions=scan.announced(Stream.POSITIONS),
            gaps=scan.gaps,
            remarks=(*self._remarks.get(scan.scan_id, ()), *self._waits(scan)),
            stream_remarks=self._of_no_scan(),
        )

    def _waits(self, scan: OpenScan) -> Iterator[str]:
        """Why a scan is still open of which all frames have come, where that takes longer than usual."""
        options, lacking = self.matcher.options, scan.awaited_positions
        if lacking and self._clock() - scan.last_s >= options.settle_s:
            yield (
                f"the frames have ended, and {lacking} of them have no position: the scan stays open until their positions "
                f"end, or nothing has come for {options.positions_grace_s:g} s (match.positions_grace_s)"
            )


def _without_arrays(start: ScanStart) -> ScanStart:
    """The part of a start that displays need: masks and probes would be sent again and again."""
    return dataclasses.replace(start, valid=None, dark=None, probe=None, planned_yx_m=None)
