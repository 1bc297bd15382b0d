"""Bounded queue of messages that the engine has not accepted yet; it gets them in order, before anything else."""

from collections import deque
from dataclasses import replace

from streamptycho.join.open_scan import HELD_BYTES, held_bytes
from streamptycho.join.options import MatchOptions
from streamptycho.messages.kinds import Message
from streamptycho.messages.status import ReceiveStatus
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart

MAX_DARKS = 64
"""Messages with dark exposures on top of the bytes of the backlog."""


class Backlog:
    """A queue of messages. Frames are bounded by bytes; starts, which may hold masks and a probe, by the scans at once."""

    def __init__(self, options: MatchOptions) -> None:
        self._options = options
        self._queue: deque[tuple[Message, ReceiveStatus | None]] = deque()
        """With the end of a scan goes its last status."""
        self._bytes = 0
        self._some_are_over = False
        """There may be a scan, queued as a whole, that has ended."""

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def first(self) -> Message:
        """What is to be delivered next."""
        return self._queue[0][0]

    def pop(self) -> None:
        """The first has been delivered."""
        self._bytes -= _held_bytes(self._queue.popleft()[0])

    def add(self, message: Message, last_word: ReceiveStatus | None = None) -> bool:
        """Put a message at the end; False if there is no room for it. An end comes with the last status of its scan."""
        if not self._has_room(message):
            return False
        if isinstance(message, ScanStart):  # without what may be large and is for display only
            message = replace(message, planned_yx_m=None)
        self._queue.append((message, last_word))
        self._bytes += _held_bytes(message)
        self._some_are_over |= last_word is not None
        return True

    def _has_room(self, message: Message) -> bool:
        """Starts and ends are always kept; dark exposures have room of their own, as all frames of the scan need them."""
        size, limit = _held_bytes(message), self._options.max_backlog_bytes
        if not size or self._bytes + size <= limit:
            return True
        if not (isinstance(message, Frame) and message.dark):
            return False
        darks = [_held_bytes(queued) for queued, _ in self._queue if isinstance(queued, Frame) and queued.dark]
        return len(darks) < MAX_DARKS and sum(darks) + size <= limit

    @property
    def too_many_scans(self) -> bool:
        """True if more starts are queued than scans may run at once."""
        return sum(isinstance(queued, ScanStart) for queued, _ in self._queue) > self._options.max_open_scans

    def give_up(self) -> tuple[ReceiveStatus, list[Message]] | None:
        """Drop the oldest scan that is over and unknown to the engine, if any; its last status, and its messages."""
        if not self._some_are_over:
            return None
        starts: dict[str, int] = {}
        for place, (queued, last_word) in enumerate(self._queue):
            if isinstance(queued, ScanStart):
                starts[queued.scan_id] = place
            elif isinstance(queued, ScanEnd) and queued.scan_id in starts and last_word is not None:
                return last_word, self._drop(starts[queued.scan_id], place, queued.scan_id)
        self._some_are_over = False
        return None

    def _drop(self, first: int, last: int, scan_id: str) -> list[Message]:
        entries = list(self._queue)
        between = entries[first : last + 1]
        kept = (entry for entry in between if entry[0].scan_id != scan_id)
        self._queue = deque([*entries[:first], *kept, *entries[last + 1 :]])
        gone = [message for message, _ in between if message.scan_id == scan_id]
        self._bytes -= sum(map(_held_bytes, gone))
        return gone


def _held_bytes(message: Message) -> int:
    """Memory of a queued message; starts and ends count nothing."""
    if isinstance(message, Positions):
        return message.index.nbytes + message.yx_m.nbytes + HELD_BYTES
    return held_bytes(message) if isinstance(message, Frame) else 0
