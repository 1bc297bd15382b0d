"""The join of frames and positions by index for one scan: what is held, what is passed on, when the scan is over."""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from enum import Enum, auto
from typing import TypeAlias

import numpy as np

from streamptycho.join.indices import IndexSet
from streamptycho.join.options import MatchOptions
from streamptycho.join.rejected import Rejected
from streamptycho.messages.blocks import Blocks, pieces
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import DropReason, EndReason, Stream
from streamptycho.messages.status import ReceiveStatus
from streamptycho.messages.stream import Frame, Positions, Resume, ScanEnd, ScanStart


class Edge(Enum):
    """Where a message goes."""

    WRITER = auto()
    ENGINE = auto()
    BOTH = auto()


Routed: TypeAlias = tuple[Edge, Message]

LOST_BLOCK = 1000
"""Positions of lost frames in one message."""
HELD_BYTES = 1024
"""Memory of a held message besides its arrays."""
_CUT_SHORT = (EndReason.ABORTED, EndReason.INTERRUPTED)
"""Ends on purpose: what was only planned is not missing."""
_SPOILT = (DropReason.CORRUPT, DropReason.WRONG_SHAPE, DropReason.BAD_INDEX)
"""Frames that came and are not in the file."""


class OpenScan:
    """The state of the join for one scan; `rejected` counts what is dropped and is no frame."""

    def __init__(self, start: ScanStart, now_s: float, options: MatchOptions, rejected: Rejected | None = None) -> None:
        self.start = start
        self.rejected = rejected if rejected is not None else Rejected()
        self.options = options
        self.received = 0
        self.matched = 0
        self.dropped: Counter[str] = Counter()
        self.frames: OrderedDict[int, Frame] = OrderedDict()
        """Those that wait for their position."""
        self.positions: OrderedDict[int, tuple[float, float]] = OrderedDict()
        """Those that wait for their frame."""
        self.unique = 0
        """Frames of different index so far."""
        self.positions_received = 0
        """Positions of different index so far."""
        self.sent: dict[Stream, ScanEnd] = {}
        """End messages so far."""
        self.superseded = False
        self.positions_over = False
        """Positions of a later scan have come."""
        self.last_s = now_s
        self._seen = IndexSet()
        self._placed = IndexSet()
        self._unplaced = 0
        """Frames of different index whose positions have not come."""
        self._reached = 0
        """One more than the largest index of the frames."""
        self._within = 0
        """Frames of different index below it; those beyond the plan say nothing about the others."""
        self._due = 0
        """Frames below this index should have come; `_next_due` replaces it at the next look."""
        self._next_due = 0
        self._next_look_s = now_s
        self.waiting_bytes = 0
        """Memory of the frames that wait."""
        self._routing = 0
        """Frames that are being passed on at this moment."""

    @property
    def scan_id(self) -> str:
        """Identity of the scan."""
        return self.start.scan_id

    @property
    def waiting(self) -> int:
        """Frames held for their position, or being passed on at this moment."""
        return len(self.frames) + self._routing

    def announced(self, stream: Stream) -> int | None:
        """What the end of a stream says was sent; None before it has come."""
        end = self.sent.get(stream)
        return end.count if end is not None else None

    @property
    def gaps(self) -> int:
        """Indices below the largest that have not come."""
        return self._reached - self._within

    def missing(self, reason: EndReason) -> int:
        """Frames that have not come as they should, if the scan ends now for `reason`."""
        planned = self.start.expected if reason not in _CUT_SHORT else None
        announced = self.announced(Stream.FRAMES)
        return max(self.gaps, (planned or 0) - self._within, (announced or 0) - self.unique)

    def missing_positions(self, reason: EndReason) -> int:
        """Positions that have not come: of those announced or, where no end says how many, of the frames that have come."""
        announced = self.announced(Stream.POSITIONS)
        if announced is not None:
            return max(announced - self.positions_received, 0)
        return self._unplaced if reason not in _CUT_SHORT else 0

    def resume(self, held: Resume, before: ReceiveStatus | None) -> None:
        """Go on where a receiver before this one has broken off: with what the writer has, and what was counted last.

        A frame that it held for its position is in the file, from which the reconstruction takes it once it has one.
        """
        seen = np.flatnonzero(held.frames[: self.options.max_index])
        self._seen.update(seen)
        within = seen if self.start.expected is None else seen[seen < self.start.expected]
        self.unique, self._within = len(seen), len(within)
        self._reached = int(within[-1]) + 1 if len(within) else 0
        if held.index is not None and held.yx_m is not None:
            self._placed.update(held.index)
            self.positions_received = len(held.index)
            early = ~self._seen.among(held.index)
            places = zip(held.index[early].tolist(), held.yx_m[early].tolist(), strict=True)
            self.positions.update({index: (y, x) for index, (y, x) in places})
        self._unplaced = self._seen.without(self._placed)
        self.matched = self.unique - self._unplaced
        self.drop(DropReason.NO_POSITION, self._unplaced)
        self.received = self.unique
        if before is None:
            return
        for reason in (*_SPOILT, DropReason.DUPLICATE):
            self.drop(reason, before.dropped.get(reason, 0))
        full = min(before.dropped.get(DropReason.ENGINE_FULL, 0), self.matched)
        self.matched -= full
        self.drop(DropReason.ENGINE_FULL, full)
        self.received = self.matched + self.dropped.total()
        for stream, count in ((Stream.FRAMES, before.announced), (Stream.POSITIONS, before.announced_positions)):
            if count is not None:
                self.sent[stream] = ScanEnd(**self.start.run.fields, stream=stream, count=count)

    def drop(self, reason: DropReason, frames: int = 1) -> None:
        """Count frames that the engine will not see."""
        if frames:
            self.dropped[reason.value] += frames

    def frame(self, frame: Frame) -> Iterator[Routed]:
        """Take a block of frames."""
        fits = frame.payload.shape == self.start.geometry.frame_shape and frame.payload.dtype == self.start.dtype
        if frame.dark and fits:
            yield Edge.BOTH, frame
        elif frame.dark:
            self.rejected.add("dark_wrong_shape", self.scan_id, len(frame))
        if frame.dark:
            return
        self.received += len(frame)
        if not fits:
            self.drop(DropReason.WRONG_SHAPE, len(frame))
            return
        fresh = [i for i, index in enumerate(frame.index.tolist()) if self._is_new(index)]
        if not fresh:
            return
        frame = frame if len(fresh) == len(frame) else frame.select(fresh)
        self.unique += len(fresh)
        self._routing = len(fresh)  # the counts are read while the writer makes us wait
        yield Edge.WRITER, frame
        placed: dict[int, tuple[float, float]] = {}
        for row, index in enumerate(frame.index.tolist()):
            yx_m = self.positions.pop(index, None)
            if yx_m is not None:
                placed[row] = yx_m
                continue
            self._routing -= 1
            if index in self._placed:  # and forgotten; it is in the file, as this frame will be
                self.matched += 1
            else:
                self._hold(index, frame if len(frame) == 1 else frame.select([row]))
        if placed:
            joined = frame if len(placed) == len(frame) else frame.select(list(placed))
            yield from self._to_engine(joined.taken(np.array(list(placed.values()))))

    def _to_engine(self, joined: Frame) -> Iterator[Routed]:
        """Pass on frames with their positions."""
        for piece in pieces(joined):
            self._routing -= len(piece)
            self.matched += len(piece)
            yield Edge.ENGINE, piece

    def _is_new(self, index: int) -> bool:
        if index >= self.options.max_index:
            self.drop(DropReason.BAD_INDEX)
            return False
        if not self._seen.add(index):
            self.drop(DropReason.DUPLICATE)
            return False
        self._unplaced += index not in self._placed
        if self.start.expected is None or index < self.start.expected:
            self._within += 1
            self._reached = max(self._reached, index + 1)
        return True

    def _hold(self, index: int, frame: Frame) -> None:
        self.frames[index] = frame
        self.waiting_bytes += held_bytes(frame)

    def let_go(self) -> None:
        """Do not hold the oldest frame any longer: should its position come, the reconstruction finds both in the file."""
        _, oldest = self.frames.popitem(last=False)
        self.waiting_bytes -= held_bytes(oldest)
        self.drop(DropReason.NO_POSITION)

    def take_positions(self, positions: Positions) -> Iterator[Routed]:
        """Take a block of positions; the file gets all of them. The first of an index counts."""
        limit = self.options.max_index
        fresh = [i for i, index in enumerate(positions.index.tolist()) if index < limit and self._placed.add(index)]
        if len(fresh) < len(positions):
            beyond = int((positions.index >= limit).sum())
            self.rejected.add("position_index", self.scan_id, beyond)
            self.rejected.add("position_repeated", self.scan_id, len(positions) - len(fresh) - beyond)
        if not fresh:
            return
        if len(fresh) < len(positions):
            positions = Positions(scan_id=self.scan_id, index=positions.index[fresh], yx_m=positions.yx_m[fresh])
        self.positions_received += len(positions)
        self._unplaced -= int(self._seen.among(positions.index).sum())
        yield Edge.WRITER, positions
        lost, blocks = [], Blocks[Frame]()
        for row, (index, (y, x)) in enumerate(zip(positions.index.tolist(), positions.yx_m.tolist(), strict=True)):
            frame = self.frames.pop(index, None)
            if frame is not None:
                self.waiting_bytes -= held_bytes(frame)
                self._routing += 1
                for joined in blocks.add(frame.taken(positions.yx_m[row : row + 1])):
                    yield from self._to_engine(joined)
            elif index in self._seen:  # and let go: the reconstruction takes it from the file
                self.dropped[DropReason.NO_POSITION.value] -= 1
                self.matched += 1
            else:
                self.positions[index] = (y, x)
                if index < self._due:
                    lost.append(index)
                if len(self.positions) > self.options.max_waiting_positions:
                    self.positions.popitem(last=False)
                    self.rejected.add("position_forgotten", self.scan_id)
        if self.dropped.get(DropReason.NO_POSITION.value) == 0:
            del self.dropped[DropReason.NO_POSITION.value]
        for joined in blocks.flush():
            yield from self._to_engine(joined)
        yield from self._report_lost(lost)

    def look_for_lost(self, now_s: float) -> Iterator[Routed]:
        """For display only, from time to time: positions whose frames are overdue. They go on waiting."""
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + self.options.settle_s
            yield from self._lost_below(self._next_due)
            self._next_due = self._reached

    def lost_at_the_end(self) -> Iterator[Routed]:
        """The same before the scan is closed: of all frames that were sent, where the sender has said how many."""
        frames = self.sent.get(Stream.FRAMES)
        yield from self._lost_below(max(self._reached, frames.count if frames is not None else 0))

    def _lost_below(self, due: int) -> Iterator[Routed]:
        fresh = range(self._due, due)
        self._due = max(self._due, due)
        sides: list[Collection[int]] = [fresh, self.positions]
        few, many = sorted(sides, key=len)
        yield from self._report_lost(sorted(index for index in few if index in many))

    def _report_lost(self, indices: list[int]) -> Iterator[Routed]:
        for first in range(0, len(indices), LOST_BLOCK):
            # those beyond `max_waiting_positions` are forgotten
            block = [index for index in indices[first : first + LOST_BLOCK] if index in self.positions]
            if block:
                yx_m = np.array([self.positions[index] for index in block])
                yield Edge.ENGINE, Positions(scan_id=self.scan_id, index=np.array(block), yx_m=yx_m)

    def verdict(self, now_s: float) -> EndReason | None:
        """Why the scan should be closed now, or None to go on."""
        silent_s = now_s - self.last_s
        frames, positions = self.sent.get(Stream.FRAMES), self.sent.get(Stream.POSITIONS)
        if frames is None:
            if self._as_planned and silent_s >= self.options.settle_s:
                return EndReason.COMPLETE if self._whole else EndReason.INCOMPLETE
            if self.superseded and silent_s >= self.options.settle_s:
                return EndReason.SUPERSEDED
            return EndReason.TIMEOUT if silent_s >= self.options.timeout_s else None
        frames_in = self.unique >= frames.count
        positions_in = positions is not None and self.positions_received >= positions.count
        if not (frames_in and positions_in) and silent_s < self._patience_s:
            return None
        reason = positions.reason if frames.complete and positions is not None else frames.reason
        return EndReason.INCOMPLETE if reason is EndReason.COMPLETE and not self._whole else reason

    @property
    def _as_planned(self) -> bool:
        """True if all frames of the plan have come, and a position for each; a plan of none is none."""
        expected = self.start.expected or 0
        return expected > 0 and self._within >= expected and self.positions_received >= expected

    @property
    def awaited_positions(self) -> int:
        """Positions for which the end waits: of frames that have come, on a stream that is known to go on."""
        frames = self.sent.get(Stream.FRAMES)
        over = frames is None or not frames.complete or Stream.POSITIONS in self.sent or self.positions_over
        return 0 if over else self._unplaced

    @property
    def _patience_s(self) -> float:
        """How long the stream must be silent."""
        return max(self.options.settle_s, self.options.positions_grace_s if self.awaited_positions else 0.0)

    @property
    def _whole(self) -> bool:
        """True if the counts of all who count agree, and every frame that came could be kept."""
        spoilt = any(self.dropped[reason.value] for reason in _SPOILT)
        return not (spoilt or self.missing(EndReason.COMPLETE) or self.missing_positions(EndReason.COMPLETE))

    def close(self, reason: EndReason) -> ScanEnd:
        """Drop what still waits; the message that ends the scan for its consumers."""
        self.drop(DropReason.NO_POSITION, len(self.frames))
        self.frames.clear()
        self.positions.clear()
        self.waiting_bytes = 0
        return ScanEnd(**self.start.run.fields, stream=Stream.SCAN, count=self.unique, reason=reason)


def held_bytes(frame: Frame) -> int:
    """Memory of a held frame."""
    return frame.payload.nbytes + HELD_BYTES
