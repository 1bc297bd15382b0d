"""Receive: from the detector's streams to the writer and the engine."""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from streamptycho.errors import ProtocolError
from streamptycho.join import Edge, MatchOptions, OpenScan, Routed
from streamptycho.match import Matcher
from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanPoint, ScanStart, Status
from streamptycho.pipeline.backlog import Backlog
from streamptycho.pipeline.last_words import LastWords
from streamptycho.pipeline.stage import Output, Port
from streamptycho.reasons import DropReason, EndReason, ServiceState

log = logging.getLogger(__name__)

START_AGAIN_S = 2.0
"""Time between two copies of the start message of an open scan for who watches: some come late."""
WARN_S = 10.0
"""Time between two warnings about the same field of refused messages."""


class ReceiveStage:
    """Joins the streams, passes everything on, and keeps count."""

    busy = False
    status_ports: tuple[Port, ...] = (Port.WRITER,)

    def __init__(
        self,
        options: MatchOptions,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.matcher = Matcher(options)
        self._clock = clock
        self._wall_ns = wall_ns
        self._owed = Backlog(options)
        self._refused = False
        self._rates: dict[str, Rate] = {}
        self._next_warning_s: dict[str, float] = {}
        self._last_words = LastWords(clock)
        self._start_again_s = clock() + START_AGAIN_S

    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        """Route one message of the detector's streams."""
        if isinstance(message, ProtocolError):
            self._warn(message)
        yield from self._route(self.matcher.handle(message, self._clock()))

    def _warn(self, error: ProtocolError) -> None:
        """Say what is wrong with a refused message, once for each field and a while."""
        now = self._clock()
        if now >= self._next_warning_s.get(error.field, now):
            self._next_warning_s[error.field] = now + WARN_S
            log.warning("a message was refused: %s", error)

    def idle(self) -> Iterable[Output]:
        """Close scans that are due."""
        yield from self._route(self.matcher.tick(self._clock()))
        yield from self._pay_owed()
        yield from self._show_starts_if_due()

    def finish(self) -> Iterable[Output]:
        """Close all scans as interrupted."""
        yield from self._route(self.matcher.finish(EndReason.INTERRUPTED))

    def _route(self, routed: Iterator[Routed]) -> Iterator[Output]:
        scans = dict(self.matcher.scans)
        for edge, message in routed:
            scans |= self.matcher.scans
            status = None
            if isinstance(message, ScanEnd):
                # before the end, so that a file which closes with the end has the final counts
                status = self._status(scans[message.scan_id], ServiceState.DONE)
                self._last_words.add(status)
                yield Port.WRITER, status
                yield Port.DISPLAY, status
                yield Port.DISPLAY, message
            elif isinstance(message, ScanStart):
                yield Port.DISPLAY, _without_arrays(message)
            if edge is not Edge.ENGINE:
                yield Port.WRITER, message
            if edge is not Edge.WRITER:
                yield from self._to_engine(message, status)

    def _show_starts_if_due(self) -> Iterator[Output]:
        if self._clock() >= self._start_again_s:
            self._start_again_s = self._clock() + START_AGAIN_S
            for scan in self.matcher.scans.values():
                yield Port.DISPLAY, _without_arrays(scan.start)

    def _to_engine(self, message: Message, last_word: Status | None) -> Iterator[Output]:
        """Nothing overtakes what is still owed."""
        yield from self._pay_owed()
        if self._owed:
            self._owe(message, last_word)
        else:
            yield Port.ENGINE, message

    def _pay_owed(self) -> Iterator[Output]:
        """Try what is owed, in order, up to the first that is not taken."""
        self._refused = False
        while self._owed:
            yield Port.ENGINE, self._owed.first
            if self._refused:
                return
            self._owed.pop()

    def unsent(self, port: Port, message: Message) -> None:
        """Keep what the engine could not take, within bounds; count frames that do not fit."""
        if port is not Port.ENGINE:
            return
        self._refused = True
        if not self._owed or message is not self._owed.first:
            self._owe(message, None)

    def _owe(self, message: Message, last_word: Status | None) -> None:
        """Put a message into the backlog; scans that are over make room for the frames of those that run."""
        while not self._owed.add(message, last_word):
            if isinstance(message, Positions) or not self._give_up_one():  # positions of lost frames are for the eye only
                self._drop(message)
                return
        if isinstance(message, ScanStart):
            while self._owed.too_many_scans and self._give_up_one():
                pass

    def _drop(self, message: Message) -> None:
        if isinstance(message, Frame):
            self.matcher.rejected["dark_engine_full"] += len(message)
        elif isinstance(message, ScanPoint):
            scan = self.matcher.scans.get(message.scan_id)
            if scan is not None:
                scan.matched -= 1
                scan.drop(DropReason.ENGINE_FULL)

    def _give_up_one(self) -> bool:
        """Give a scan up that is over; its counts are told anew. False if there is none."""
        gone = self._owed.give_up()
        if gone is None:
            return False
        told = gone.status
        log.warning("the reconstruction has taken nothing of scan %s and will not see it; it is in the file", told.scan_id)
        dropped = Counter(told.dropped) + Counter({DropReason.ENGINE_FULL.value: gone.points})
        used = told.used - gone.points
        self._last_words.add(dataclasses.replace(told, time_ns=self._wall_ns(), used=used, dropped=dict(dropped)))
        if gone.darks:
            self.matcher.rejected["dark_engine_full"] += gone.darks
        return True

    def statuses(self) -> list[Status]:
        """One per open scan, or an idle one; then the last ones of scans that have just ended."""
        scans = self.matcher.scans
        idle = Status(
            service="receive", scan_id=None, state=ServiceState.IDLE, time_ns=self._wall_ns(), figures=self._rejected()
        )
        now = [self._status(scan, ServiceState.RECEIVING) for scan in scans.values()]
        return (now or [idle]) + self._last_words.again(scans)

    def _status(self, scan: OpenScan, state: ServiceState) -> Status:
        rate = self._rates.setdefault(scan.scan_id, Rate(self._clock))
        figures = {
            "rate_hz": rate(scan.received),
            "unique": scan.unique,
            "expected": scan.start.expected if scan.start.expected is not None else -1,
            "positions": scan.positions_received,
        }
        if state is ServiceState.DONE:
            del self._rates[scan.scan_id]
        return Status(
            service="receive",
            scan_id=scan.scan_id,
            state=state,
            time_ns=self._wall_ns(),
            started_ns=scan.start.started_ns,
            received=scan.received,
            used=scan.matched,
            waiting=scan.waiting,
            dropped=dict(scan.dropped),
            figures=figures | self._rejected(),
        )

    def _rejected(self) -> dict[str, float]:
        return {f"rejected_{reason}": float(count) for reason, count in self.matcher.rejected.items()}


def _without_arrays(start: ScanStart) -> ScanStart:
    """What a display needs of a start: masks and probes would be sent again and again."""
    return dataclasses.replace(start, valid=None, dark=None, probe=None, planned_yx_m=None)


class Rate:
    """Events per second between two looks at a counter."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._then = clock()
        self._count = 0
        self._rate = 0.0

    def __call__(self, count: int) -> float:
        """Rate since the last call; calls less than a quarter of a second apart repeat the last answer."""
        now = self._clock()
        if now - self._then >= 0.25:
            self._rate = (count - self._count) / (now - self._then)
            self._then, self._count = now, count
        return self._rate
