"""Numbered messages on a link that loses nothing. Pure: no socket, no clock.

The sender numbers messages from 1 and keeps each in a :class:`Window` until the consumer has said that it is safe. The
consumer's :class:`Arrivals` tell the next message from a repeated one and from one ahead of its turn. After a lost
connection the sender goes back to what the consumer had taken; for a consumer that has begun anew, to what was safe.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import Generic, TypeVar

T = TypeVar("T")


class Window(Generic[T]):
    """Messages that were sent, or are to be sent, and are not known to be safe; bounded by their bytes and their number."""

    def __init__(self, max_bytes: int, max_messages: int) -> None:
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._kept: dict[int, tuple[T, int]] = {}
        """By number, with the size in bytes."""
        self._safe = 0
        self._next = 1
        """Number of the first message that has not been sent on the present connection."""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def safe(self) -> int:
        """Number of the last message that was acknowledged."""
        return self._safe

    @property
    def last(self) -> int:
        """Number of the last message that was put in."""
        return self._safe + len(self._kept)

    def has_room(self, size_bytes: int, share: float = 1.0) -> bool:
        """Whether a message of this size fits into this share of the window; a single one always does."""
        if not self._kept:
            return True
        within = self.size_bytes + size_bytes <= share * self._max_bytes
        return within and len(self._kept) < share * self._max_messages

    def put(self, message: T, size_bytes: int) -> int:
        """Keep a message; its number. Room is looked for before, with :meth:`has_room`."""
        number = self.last + 1
        self._kept[number] = (message, size_bytes)
        self.size_bytes += size_bytes
        return number

    @property
    def pending(self) -> tuple[int, T] | None:
        """Number and content of the next message to be sent; None if all have been."""
        entry = self._kept.get(self._next)
        return None if entry is None else (self._next, entry[0])

    def sent(self) -> None:
        """The pending message has been sent."""
        self._next += 1

    def acknowledge(self, number: int) -> Iterator[T]:
        """Let go of all messages up to `number`, which are safe; gives them out in their order.

        Raises ValueError if so many have not been put in.
        """
        if number > self.last:
            raise ValueError(f"{number} acknowledged, but only {self.last} were sent")
        return self._let_go(number)

    def _let_go(self, number: int) -> Iterator[T]:
        while self._safe < number:
            self._safe += 1
            message, size_bytes = self._kept.pop(self._safe)
            self.size_bytes -= size_bytes
            self._next = max(self._next, self._safe + 1)
            yield message

    def rewind(self, taken: int) -> None:
        """Send everything after `taken` again, apart from what is safe."""
        self._next = max(taken, self._safe) + 1


class Arrival(Enum):
    """What a number means to a consumer."""

    NEXT = auto()
    REPEATED = auto()
    """It has had it."""
    AHEAD = auto()
    """Others before it are missing."""


class Arrivals:
    """What a consumer has had of one sender's messages."""

    def __init__(self, begin: int = 0) -> None:
        """Without those up to `begin`, which were safe before this consumer was there."""
        self.taken = begin
        """Number of the last message that was taken."""
        self.settled = begin
        """Number of the last message that is safe."""

    def arrive(self, number: int) -> Arrival:
        """Take the message of this number if it is the next one."""
        if number == self.taken + 1:
            self.taken = number
            return Arrival.NEXT
        return Arrival.REPEATED if number <= self.taken else Arrival.AHEAD

    def settle(self) -> None:
        """All that was taken is safe."""
        self.settled = self.taken
