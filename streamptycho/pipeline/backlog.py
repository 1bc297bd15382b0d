"""What the engine has not taken yet: it gets it in order, before anything else, and it stays within bounds."""

from collections import deque
from dataclasses import dataclass, replace

from streamptycho.join import HELD_BYTES, MatchOptions, held_bytes
from streamptycho.messages import Frame, Message, Positions, ScanEnd, ScanPoint, ScanStart, Status

MAX_DARKS = 64
"""Messages with dark exposures on top of the bytes of the backlog."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A scan that the engine will not see."""

    status: Status
    """The receiver's last word about it."""
    points: int
    """Frames with positions that were owed."""
    darks: int
    """Dark exposures that were owed."""


class Backlog:
    """A queue of messages. Frames are bounded by bytes; starts, which may hold masks and a probe, by the scans at once."""

    def __init__(self, options: MatchOptions) -> None:
        self._options = options
        self._owed: deque[tuple[Message, Status | None]] = deque()
        """With the end of a scan goes the last word about it."""
        self._bytes = 0
        self._some_are_over = False
        """There may be a scan, owed as a whole, that has ended."""

    def __len__(self) -> int:
        return len(self._owed)

    @property
    def first(self) -> Message:
        """What is to be delivered next."""
        return self._owed[0][0]

    def pop(self) -> None:
        """The first has been delivered."""
        self._bytes -= _held_bytes(self._owed.popleft()[0])

    def add(self, message: Message, last_word: Status | None = None) -> bool:
        """Put a message at the end; False if there is no room for it. An end comes with the last word about its scan."""
        if not self._has_room(message):
            return False
        if isinstance(message, ScanStart):  # without what may be large and is for the eye only
            message = replace(message, planned_yx_m=None)
        self._owed.append((message, last_word))
        self._bytes += _held_bytes(message)
        self._some_are_over |= last_word is not None
        return True

    def _has_room(self, message: Message) -> bool:
        """Starts and ends are always kept; dark exposures have room of their own, as all frames of the scan need them."""
        size, limit = _held_bytes(message), self._options.max_backlog_bytes
        if not size or self._bytes + size <= limit:
            return True
        if not isinstance(message, Frame):
            return False
        darks = [_held_bytes(owed) for owed, _ in self._owed if isinstance(owed, Frame)]
        return len(darks) < MAX_DARKS and sum(darks) + size <= limit

    @property
    def too_many_scans(self) -> bool:
        """True if more starts are owed than scans may run at once."""
        return sum(isinstance(owed, ScanStart) for owed, _ in self._owed) > self._options.max_open_scans

    def give_up(self) -> GivenUp | None:
        """Let go of the oldest scan that is over and of which the engine has seen nothing; None if there is none."""
        if not self._some_are_over:
            return None
        starts: dict[str, int] = {}
        for place, (owed, last_word) in enumerate(self._owed):
            if isinstance(owed, ScanStart):
                starts[owed.scan_id] = place
            elif isinstance(owed, ScanEnd) and owed.scan_id in starts and last_word is not None:
                return self._let_go(starts[owed.scan_id], place, last_word)
        self._some_are_over = False
        return None

    def _let_go(self, first: int, last: int, last_word: Status) -> GivenUp:
        kept: deque[tuple[Message, Status | None]] = deque()
        points = darks = 0
        for place, (message, word) in enumerate(self._owed):
            if message.scan_id != last_word.scan_id or not first <= place <= last:
                kept.append((message, word))
                continue
            self._bytes -= _held_bytes(message)
            points += isinstance(message, ScanPoint)
            darks += len(message) if isinstance(message, Frame) else 0
        self._owed = kept
        return GivenUp(last_word, points, darks)


def _held_bytes(message: Message) -> int:
    """Memory that a message ties up, but for starts and ends."""
    if isinstance(message, Positions):
        return message.index.nbytes + message.yx_m.nbytes + HELD_BYTES
    frame = message.frame if isinstance(message, ScanPoint) else message
    return held_bytes(frame) if isinstance(frame, Frame) else 0
