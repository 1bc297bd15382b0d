"""What the engine has not taken yet: it gets it in order, before anything else, and it stays within bounds."""

from collections import deque
from dataclasses import dataclass, replace

from streamptycho.join import MatchOptions
from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanPoint, ScanStart

MAX_DARKS = 64
"""Messages with dark exposures on top of the bytes of the backlog."""
_HELD_BYTES = 1024
"""What a message needs besides its arrays."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A scan that the engine will not see."""

    scan_id: str
    points: int
    """Frames with positions that were owed."""
    darks: int
    """Dark exposures that were owed."""


class Backlog:
    """A queue of messages. Frames are bounded by bytes; starts, which may hold masks and a probe, by the scans at once."""

    def __init__(self, options: MatchOptions) -> None:
        self._options = options
        self._owed: deque[Message] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._owed)

    @property
    def first(self) -> Message:
        """What is to be delivered next."""
        return self._owed[0]

    def pop(self) -> None:
        """The first has been delivered."""
        self._bytes -= _held_bytes(self._owed.popleft())

    def add(self, message: Message) -> bool:
        """Put a message at the end; False if there is no room for it."""
        if not self._has_room(message):
            return False
        if isinstance(message, ScanStart):  # without what may be large and is for the eye only
            message = replace(message, planned_yx_m=None)
        self._owed.append(message)
        self._bytes += _held_bytes(message)
        return True

    def _has_room(self, message: Message) -> bool:
        """Starts and ends are always kept; dark exposures have room of their own, as all frames of the scan need them."""
        size, limit = _held_bytes(message), self._options.max_backlog_bytes
        if not size or self._bytes + size <= limit:
            return True
        if not isinstance(message, Frame):
            return False
        darks = [_held_bytes(owed) for owed in self._owed if isinstance(owed, Frame)]
        return len(darks) < MAX_DARKS and sum(darks) + size <= limit

    def make_room(self) -> GivenUp | None:
        """Let the oldest scan that is over go, if more are owed than may run at once: what is being measured comes first."""
        starts = {place: owed.scan_id for place, owed in enumerate(self._owed) if isinstance(owed, ScanStart)}
        if len(starts) <= self._options.max_open_scans:
            return None
        for first, scan_id in starts.items():
            last = self._end_of(scan_id, first)
            if last is not None:
                return self._give_up(scan_id, first, last)
        return None

    def _end_of(self, scan_id: str, first: int) -> int | None:
        """Where the scan that starts at `first` ends, if it is over."""
        ends = (place for place, owed in enumerate(self._owed) if isinstance(owed, ScanEnd) and owed.scan_id == scan_id)
        return next((place for place in ends if place > first), None)

    def _give_up(self, scan_id: str, first: int, last: int) -> GivenUp:
        kept: deque[Message] = deque()
        points = darks = 0
        for place, message in enumerate(self._owed):
            if message.scan_id != scan_id or not first <= place <= last:
                kept.append(message)
                continue
            self._bytes -= _held_bytes(message)
            points += isinstance(message, ScanPoint)
            darks += len(message) if isinstance(message, Frame) else 0
        self._owed = kept
        return GivenUp(scan_id, points, darks)


def _held_bytes(message: Message) -> int:
    """Memory that a message ties up, but for starts and ends."""
    if isinstance(message, Positions):
        return message.index.nbytes + message.yx_m.nbytes + _HELD_BYTES
    frame = message.frame if isinstance(message, ScanPoint) else message
    return frame.payload.nbytes + _HELD_BYTES if isinstance(frame, Frame) else 0
