"""The join of frames and positions by frame index. Pure: messages and times in, messages out.

Frames go to the writer as they come, before and without the join: a position that is missing, or a join that is slow, can
never cost a frame. Only the engine waits for pairs. Either side may be first; a missing one never delays the others; what
waits is bounded in memory, and what is given up is counted with its reason. For each scan, at any time,

    received = matched + waiting + sum(dropped)

Usage::

    matcher = Matcher(MatchOptions())
    while True:
        for edge, message in matcher.handle(incoming, now_s):
            ...                                   # send to the writer, the engine or both
        for edge, message in matcher.tick(now_s):  # ends that are due
            ...
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamptycho.errors import ProtocolError
from streamptycho.join import Edge, MatchOptions, OpenScan, Routed
from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanStart, same_run
from streamptycho.reasons import DropReason, EndReason, Stream

_CLOSED_IDS = 1000
"""Closed scans that are remembered, to tell what is late from what is early."""
_CLOSED_RUNS = 100
"""Runs of the same scan id that are remembered."""


class Matcher:
    """Joins the streams of any number of scans, one after another.

    A new scan id lets the open scan run out: it takes what is still under way and closes at its end message or after
    `settle_s` of silence. Positions that overtake their own start message wait for it; if their scan id is that of a scan
    which is closed, and may only be late, for `settle_s`. All else of a scan that is closed is counted as `stray` and
    dropped.

    Attributes
    ----------
    scans : the scans still open, oldest first.
    rejected : messages dropped, by reason, that belong to no open scan.
    """

    def __init__(self, options: MatchOptions) -> None:
        self.options = options
        self.scans: dict[str, OpenScan] = {}
        self.rejected: Counter[str] = Counter()
        self._closed: OrderedDict[str, deque[int]] = OrderedDict()
        """Scan id to the times at which its runs began, the last closed last."""
        self._early: OrderedDict[str, deque[_Early]] = OrderedDict()
        self._early_rows = 0

    @property
    def current(self) -> OpenScan | None:
        """The newest scan that is open."""
        return next(reversed(self.scans.values()), None)

    def handle(self, message: Message | ProtocolError, now_s: float) -> Iterator[Routed]:
        """Take one message, or the error it was refused with."""
        if isinstance(message, ScanStart):
            yield from self._start(message, now_s)
            return
        if isinstance(message, ProtocolError):
            self._refuse(message, now_s)
            return
        if not isinstance(message, Frame | Positions | ScanEnd):
            self.rejected["unexpected_kind"] += 1
            return
        scan = self.scans.get(message.scan_id)
        if scan is None:
            self._without_scan(message, now_s)
            return
        if isinstance(message, ScanEnd) and not same_run(message.started_ns, scan.start):
            self.rejected["stray"] += 1
            return
        scan.last_s = now_s
        if isinstance(message, Frame):
            yield from scan.frame(message)
        elif isinstance(message, Positions):
            yield from scan.take_positions(message)
        elif message.stream is Stream.SCAN:
            self.rejected["unexpected_kind"] += 1
        else:
            scan.sent[message.stream] = message
        yield from self._close_due(now_s)

    def tick(self, now_s: float) -> Iterator[Routed]:
        """Close the scans that are due, tell of lost frames, and give up positions that were late and not early."""
        yield from self._close_due(now_s)
        for scan in list(self.scans.values()):
            yield from scan.look_for_lost(now_s)
        self._forget_late(now_s)

    def _close_due(self, now_s: float) -> Iterator[Routed]:
        for scan in list(self.scans.values()):
            reason = scan.verdict(now_s)
            if reason is not None:
                yield from self._close(scan, reason)

    def finish(self, reason: EndReason) -> Iterator[Routed]:
        """Close all open scans now."""
        for scan in list(self.scans.values()):
            yield from self._close(scan, reason)

    def _close(self, scan: OpenScan, reason: EndReason) -> Iterator[Routed]:
        yield from scan.lost_at_the_end()
        end = scan.close(reason)
        del self.scans[scan.scan_id]
        self._closed.setdefault(scan.scan_id, deque(maxlen=_CLOSED_RUNS)).append(scan.start.started_ns)
        self._closed.move_to_end(scan.scan_id)
        if len(self._closed) > _CLOSED_IDS:
            self._closed.popitem(last=False)
        yield Edge.BOTH, end

    def _start(self, start: ScanStart, now_s: float) -> Iterator[Routed]:
        again = self.scans.get(start.scan_id)
        if again is not None and again.start.started_ns == start.started_ns:
            self.rejected["repeated_start"] += 1
            return
        if start.started_ns and start.started_ns in self._closed.get(start.scan_id, ()):
            self.rejected["repeated_start"] += 1
            return
        if again is not None:
            yield from self._close(again, EndReason.SUPERSEDED)
        while len(self.scans) >= self.options.max_open_scans:
            yield from self._close(next(iter(self.scans.values())), EndReason.SUPERSEDED)
        for scan in self.scans.values():
            scan.superseded = True
        self._forget_late(now_s)
        self.scans[start.scan_id] = OpenScan(start, now_s, self.options)
        yield Edge.BOTH, start
        for early in self._early.pop(start.scan_id, ()):
            self._early_rows -= early.rows
            yield from self.handle(early.message, now_s)

    def _without_scan(self, message: Frame | Positions | ScanEnd, now_s: float) -> None:
        """A message of a scan that is not open: late, or ahead of its start."""
        runs = self._closed.get(message.scan_id)
        if isinstance(message, Frame) or (isinstance(message, ScanEnd) and message.stream is not Stream.POSITIONS):
            self.rejected["no_start" if runs is None else "stray"] += 1
        elif isinstance(message, ScanEnd) and message.started_ns and message.started_ns in (runs or ()):
            self.rejected["stray"] += 1
        else:
            early = _Early(message, now_s)
            self._early.setdefault(message.scan_id, deque()).append(early)
            self._early_rows += early.rows
            while self._early_rows > self.options.max_waiting_positions or len(self._early) > 100:
                scan_id, forgotten = self._early.popitem(last=False)
                self._give_up(scan_id, forgotten)

    def _forget_late(self, now_s: float) -> None:
        """Of a closed scan id, what the next start has not followed soon was late."""
        for scan_id in [scan_id for scan_id in self._early if scan_id in self._closed]:
            waiting = self._early[scan_id]
            while waiting and now_s - waiting[0].since_s >= self.options.settle_s:
                self._give_up(scan_id, [waiting.popleft()])
            if not waiting:
                del self._early[scan_id]

    def _give_up(self, scan_id: str, forgotten: Iterable["_Early"]) -> None:
        for early in forgotten:
            self._early_rows -= early.rows
            self.rejected["stray" if scan_id in self._closed else "no_start"] += 1

    def _refuse(self, error: ProtocolError, now_s: float) -> None:
        """Count a message that could not be decoded where it belongs; whoever sends it has not fallen silent."""
        scan = self.scans.get(error.scan_id) if error.scan_id is not None else None
        if scan is not None:
            scan.last_s = now_s
        if scan is not None and error.frames:
            scan.received += error.frames
            scan.drop(DropReason.CORRUPT, error.frames)
        else:
            self.rejected["undecodable"] += 1


@dataclass(frozen=True, slots=True)
class _Early:
    """A message that waits for its start."""

    message: Positions | ScanEnd
    since_s: float

    @property
    def rows(self) -> int:
        """What it counts against the limit of positions that wait."""
        return len(self.message) if isinstance(self.message, Positions) else 1
