"""The join of frames and positions by index for one scan: what is held, what is handed on, when the scan is over."""

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from enum import Enum, auto
from typing import TypeAlias

import numpy as np
from pydantic import Field

from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanPoint, ScanStart
from streamptycho.options import Options
from streamptycho.reasons import DropReason, EndReason, Stream
from streamptycho.taken import Taken


class MatchOptions(Options):
    """Bounds of the join."""

    max_waiting_bytes: int = Field(512 << 20, gt=0)
    """Frames held for their position, bytes; beyond it the oldest is given up for the engine (it is in the file)."""
    max_backlog_bytes: int = Field(256 << 20, gt=0)
    """Frames held for an engine that is busy, bytes; what comes on top is not used for the picture (it is in the file)."""
    max_waiting_positions: int = Field(1_000_000, gt=0)
    """Positions held for their frame; beyond it the oldest is given up for the engine (it is in the file)."""
    max_index: int = Field(10_000_000, gt=0)
    """Frame indices must be below this."""
    max_open_scans: int = Field(8, ge=1)
    """Scans that may run at once; beyond it the oldest is closed as superseded. As many are kept for a reconstruction that
    takes nothing."""
    settle_s: float = Field(2.0, ge=0)
    """After the end of the frames, or the start of the next scan: how long the stream must be silent before the scan is
    closed although something is missing. So long a frame may be later than those after it before it is told as lost."""
    timeout_s: float = Field(60.0, gt=0)
    """Silence after which a scan without end message is closed as incomplete."""


class Edge(Enum):
    """Who gets a message."""

    WRITER = auto()
    ENGINE = auto()
    BOTH = auto()


Routed: TypeAlias = tuple[Edge, Message]

LOST_BLOCK = 1000
"""Positions of lost frames in one message."""
HELD_BYTES = 1024
"""What a message that is held needs besides its arrays."""


class OpenScan:
    """The state of the join for one scan."""

    def __init__(self, start: ScanStart, now_s: float, options: MatchOptions) -> None:
        self.start = start
        self.options = options
        self.received = 0
        self.matched = 0
        self.dropped: Counter[str] = Counter()
        self.frames: OrderedDict[int, Frame] = OrderedDict()
        """Waiting for their position."""
        self.positions: OrderedDict[int, tuple[float, float]] = OrderedDict()
        """Waiting for their frame."""
        self.unique = 0
        """Frames of different index so far."""
        self.positions_received = 0
        """Positions of different index so far."""
        self.sent: dict[Stream, ScanEnd] = {}
        """End messages so far."""
        self.superseded = False
        self.last_s = now_s
        self._seen = Taken()
        self._placed = Taken()
        self._reached = 0
        """One more than the largest index of the frames."""
        self._due = 0
        """Frames below this index should have come; what it will be at the next look is `_reached` now."""
        self._next_due = 0
        self._next_look_s = now_s
        self._waiting_bytes = 0
        self._in_hand = 0

    @property
    def scan_id(self) -> str:
        """Identity of the scan."""
        return self.start.scan_id

    @property
    def waiting(self) -> int:
        """Frames held for their position, or being handed on at this moment."""
        return len(self.frames) + self._in_hand

    def drop(self, reason: DropReason, frames: int = 1) -> None:
        """Count frames that the engine will not see."""
        if frames:
            self.dropped[reason.value] += frames

    def frame(self, frame: Frame) -> Iterator[Routed]:
        """Take a block of frames in."""
        if frame.dark:
            if self._fits(frame):
                yield Edge.BOTH, frame
            return
        self.received += len(frame)
        if not self._fits(frame):
            self.drop(DropReason.WRONG_SHAPE, len(frame))
            return
        fresh = [i for i, index in enumerate(frame.index.tolist()) if self._is_new(index)]
        if not fresh:
            return
        frame = frame if len(fresh) == len(frame) else frame.select(fresh)
        self.unique += len(fresh)
        self._in_hand = len(fresh)  # the balance is looked at while the writer makes us wait
        yield Edge.WRITER, frame
        for i, index in enumerate(frame.index.tolist()):
            single = frame if len(frame) == 1 else frame.select([i])
            self._in_hand -= 1
            yx_m = self.positions.pop(index, None)
            if yx_m is not None:
                self.matched += 1
                yield Edge.ENGINE, ScanPoint(frame=single, yx_m=yx_m)
            else:
                self._hold(index, single)

    def _fits(self, frame: Frame) -> bool:
        payload = frame.payload
        return payload.shape == self.start.geometry.frame_shape and payload.dtype == self.start.dtype

    def _is_new(self, index: int) -> bool:
        if index >= self.options.max_index:
            self.drop(DropReason.BAD_INDEX)
            return False
        if not self._seen.add(index):
            self.drop(DropReason.DUPLICATE)
            return False
        if self.start.expected is None or index < self.start.expected:  # an odd one tells nothing of the others
            self._reached = max(self._reached, index + 1)
        return True

    def _hold(self, index: int, frame: Frame) -> None:
        self.frames[index] = frame
        self._waiting_bytes += held_bytes(frame)
        while self._waiting_bytes > self.options.max_waiting_bytes and len(self.frames) > 1:
            _, oldest = self.frames.popitem(last=False)
            self._waiting_bytes -= held_bytes(oldest)
            self.drop(DropReason.NO_POSITION)

    def take_positions(self, positions: Positions) -> Iterator[Routed]:
        """Take a block of positions in; they reach the file in any case. The first of an index counts."""
        limit = self.options.max_index
        fresh = [i for i, index in enumerate(positions.index.tolist()) if index < limit and self._placed.add(index)]
        if not fresh:
            return
        if len(fresh) < len(positions):
            positions = Positions(scan_id=self.scan_id, index=positions.index[fresh], yx_m=positions.yx_m[fresh])
        self.positions_received += len(positions)
        yield Edge.WRITER, positions
        lost = []
        for index, (y, x) in zip(positions.index.tolist(), positions.yx_m.tolist(), strict=True):
            frame = self.frames.pop(index, None)
            if frame is not None:
                self._waiting_bytes -= held_bytes(frame)
                self.matched += 1
                yield Edge.ENGINE, ScanPoint(frame=frame, yx_m=(y, x))
            elif index not in self._seen:
                self.positions[index] = (y, x)
                if index < self._due:
                    lost.append(index)
                if len(self.positions) > self.options.max_waiting_positions:
                    self.positions.popitem(last=False)
        yield from self._tell_lost(lost)

    def look_for_lost(self, now_s: float) -> Iterator[Routed]:
        """For the eye, now and then: positions whose frames should have come by now. They are held all the same."""
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + self.options.settle_s
            yield from self._lost_below(self._next_due)
            self._next_due = self._reached

    def lost_at_the_end(self) -> Iterator[Routed]:
        """The same before the scan is closed: of all frames that were sent, where the sender has told how many."""
        frames = self.sent.get(Stream.FRAMES)
        yield from self._lost_below(max(self._reached, frames.count if frames is not None else 0))

    def _lost_below(self, due: int) -> Iterator[Routed]:
        fresh = range(self._due, due)
        self._due = max(self._due, due)
        sides: list[Collection[int]] = [fresh, self.positions]
        few, many = sorted(sides, key=len)
        yield from self._tell_lost(sorted(index for index in few if index in many))

    def _tell_lost(self, indices: list[int]) -> Iterator[Routed]:
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
            if self.superseded and silent_s >= self.options.settle_s:
                return EndReason.SUPERSEDED
            return EndReason.TIMEOUT if silent_s >= self.options.timeout_s else None
        frames_in = self.unique >= frames.count
        positions_in = positions is not None and self.positions_received >= positions.count
        if (frames_in and positions_in) or silent_s >= self.options.settle_s:
            return positions.reason if frames.complete and positions is not None else frames.reason
        return None

    def close(self, reason: EndReason) -> ScanEnd:
        """Give up what still waits and say why the scan ended."""
        self.drop(DropReason.NO_POSITION, len(self.frames))
        self.frames.clear()
        self.positions.clear()
        self._waiting_bytes = 0
        started_ns = self.start.started_ns
        return ScanEnd(scan_id=self.scan_id, stream=Stream.SCAN, count=self.unique, reason=reason, started_ns=started_ns)


def held_bytes(frame: Frame) -> int:
    """Memory that a frame ties up while it is held."""
    return frame.payload.nbytes + HELD_BYTES
