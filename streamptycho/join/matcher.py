"""The join of frames and positions by frame index. Pure: messages and times in, messages out.

Frames go to the writer as they come, before and without the join: a position that is missing, or a join that is slow, can
never cost a frame. Only the engine waits for pairs. Either side may be first; a missing one never delays the others; what
waits is bounded in memory, and what is dropped is counted with its reason. For each scan, at any time,

    received = matched + waiting + sum(dropped)

Usage::

    matcher = Matcher(MatchOptions())
    while True:
        for edge, message in matcher.handle(incoming, now_s):
            ...                                   # send to the writer, the engine or both
        for edge, message in matcher.tick(now_s):  # ends that are due
            ...
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile

from streamptycho.errors import ProtocolError
from streamptycho.join.open_scan import Edge, OpenScan, Routed
from streamptycho.join.options import MatchOptions
from streamptycho.join.rejected import Rejected
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import DropReason, EndReason, Stream
from streamptycho.messages.run import RunId
from streamptycho.messages.status import ReceiveStatus
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart

_CLOSED_IDS = 1000
"""Closed scans that are remembered, to distinguish late messages from early ones."""
_CLOSED_RUNS = 100
"""Runs of the same scan id that are remembered."""
_EARLY_IDS, _EARLY_MESSAGES = 100, 20_000
"""Scan ids and messages that wait for their start, at most: a message weighs 2 kB besides its rows."""


class Matcher:
    """Joins the streams of any number of scans, one after another.

    A new scan id lets the open scan run out: it takes what is still under way and closes at its end message or after
    `settle_s` of silence. Positions that overtake their own start message wait for it; if their scan id is that of a scan
    that is closed, they wait for `settle_s` only. Everything else of a closed scan is counted as `stray` and dropped.
    """

    def __init__(self, options: MatchOptions) -> None:
        self.options = options
        self.scans: dict[str, OpenScan] = {}
        """Those still open, oldest first."""
        self.rejected = Rejected()
        """Messages dropped, by reason, that belong to no open scan; and positions and dark frames that are of no use."""
        self._closed: OrderedDict[str, deque[RunId]] = OrderedDict()
        """Scan id to its closed runs, the last closed last."""
        self._early: OrderedDict[str, deque[_Early]] = OrderedDict()
        self._early_rows = self._early_messages = 0

    def handle(self, message: Message | ProtocolError, now_s: float) -> Iterator[Routed]:
        """Take one message, or the error it was refused with."""
        if isinstance(message, ScanStart):
            yield from self._start(message, now_s)
            return
        if isinstance(message, ProtocolError):
            self._refuse(message, now_s)
            return
        if not isinstance(message, Frame | Positions | ScanEnd):
            self.rejected.add("unexpected_kind", message.scan_id)
            return
        scan = self.scans.get(message.scan_id)
        if scan is None:
            self._without_scan(message, now_s)
            return
        if isinstance(message, ScanEnd) and not message.run.may_be(scan.start.run):
            self.rejected.add("stray", message.scan_id)
            return
        scan.last_s = now_s
        if isinstance(message, Frame):
            frame, positions = message.apart()
            if positions is not None:
                yield from scan.take_positions(positions)
            yield from scan.frame(frame)
            self._bound_waiting()
        elif isinstance(message, Positions):
            for earlier in takewhile(lambda other: other is not scan, self.scans.values()):
                earlier.positions_over = True
            yield from scan.take_positions(message)
        elif message.stream is Stream.SCAN:
            self.rejected.add("unexpected_kind", message.scan_id)
        else:
            scan.sent[message.stream] = message
        yield from self._close_due(now_s)

    def _bound_waiting(self) -> None:
        """Let go the oldest of the frames that wait for positions, where there are too many; one may always wait."""
        scans = [scan for scan in self.scans.values() if scan.frames]
        while sum(scan.waiting_bytes for scan in scans) > self.options.max_waiting_bytes:
            if not scans[0].frames:
                del scans[0]
            elif len(scans) == len(scans[0].frames) == 1:
                return
            else:
                scans[0].let_go()

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
        self._closed.setdefault(scan.scan_id, deque(maxlen=_CLOSED_RUNS)).append(scan.start.run)
        self._closed.move_to_end(scan.scan_id)
        if len(self._closed) > _CLOSED_IDS:
            self._closed.popitem(last=False)
        yield Edge.BOTH, end

    def _start(self, start: ScanStart, now_s: float) -> Iterator[Routed]:
        again = self.scans.get(start.scan_id)
        closed = start.started_ns != 0 and start.run in self._closed.get(start.scan_id, ())
        if closed or (again is not None and again.start.run == start.run):
            self.rejected.add("repeated_start", start.scan_id)
            return
        if again is not None:
            yield from self._close(again, EndReason.SUPERSEDED)
        while len(self.scans) >= self.options.max_open_scans:
            yield from self._close(next(iter(self.scans.values())), EndReason.SUPERSEDED)
        for scan in self.scans.values():
            scan.superseded = True
        self._forget_late(now_s)
        if start.repeated:  # which is not for senders to say
            start = replace(start, repeated=False)
        self.scans[start.scan_id] = OpenScan(start, now_s, self.options, self.rejected)
        yield Edge.BOTH, start
        for early in self._early.pop(start.scan_id, ()):
            self._forget(early)
            yield from self.handle(early.message, now_s)

    def resume(self, start: ScanStart, held: Resume, before: ReceiveStatus | None, now_s: float) -> Iterator[Routed]:
        """Open a scan again that a receiver before this one has left open; see :meth:`OpenScan.resume`."""
        for scan in self.scans.values():
            scan.superseded = True
        scan = self.scans[start.scan_id] = OpenScan(replace(start, repeated=False), now_s, self.options, self.rejected)
        scan.resume(held, before)
        yield Edge.BOTH, replace(start, repeated=True)

    def _without_scan(self, message: Frame | Positions | ScanEnd, now_s: float) -> None:
        """A message of a scan that is not open: late, or ahead of its start."""
        runs = self._closed.get(message.scan_id)
        if isinstance(message, Frame) or (isinstance(message, ScanEnd) and message.stream is not Stream.POSITIONS):
            count = len(message) if isinstance(message, Frame) else 1
            self.rejected.add("no_start" if runs is None else "stray", message.scan_id, count)
            if runs is None and isinstance(message, ScanEnd):
                self.rejected.add("unrecorded", message.scan_id, message.count)
        elif isinstance(message, ScanEnd) and message.started_ns and message.run in (runs or ()):
            self.rejected.add("stray", message.scan_id)
        else:
            early = _Early(message, now_s)
            self._early.setdefault(message.scan_id, deque()).append(early)
            self._early_rows += early.rows
            self._early_messages += 1
            while self._too_many_early:
                scan_id, forgotten = self._early.popitem(last=False)
                self._give_up(scan_id, forgotten)

    @property
    def _too_many_early(self) -> bool:
        many = len(self._early) > _EARLY_IDS or self._early_messages > _EARLY_MESSAGES
        return many or self._early_rows > self.options.max_waiting_positions

    def _forget(self, early: "_Early") -> None:
        """It does not wait any more."""
        self._early_rows -= early.rows
        self._early_messages -= 1

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
            self._forget(early)
            self.rejected.add("stray" if scan_id in self._closed else "no_start", scan_id)

    def _refuse(self, error: ProtocolError, now_s: float) -> None:
        """Count a message that could not be decoded where it belongs; its sender is not silent."""
        scan = self.scans.get(error.scan_id) if error.scan_id is not None else None
        if scan is not None:
            scan.last_s = now_s
        if scan is not None and error.frames:
            scan.received += error.frames
            known = error.reason in DropReason.__members__.values()
            scan.drop(DropReason(error.reason) if known else DropReason.CORRUPT, error.frames)
        else:
            self.rejected.add(error.reason or "undecodable", error.scan_id, max(error.frames, 1) if error.reason else 1)


@dataclass(frozen=True, slots=True)
class _Early:
    """A message that waits for its start."""

    message: Positions | ScanEnd
    since_s: float

    @property
    def rows(self) -> int:
        """What it counts against the limit of positions that wait."""
        return len(self.message) if isinstance(self.message, Positions) else 1
