"""What every stage has in common."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol, TypeAlias

from streamptycho.errors import ProtocolError
from streamptycho.messages import Message, Status


class Port(StrEnum):
    """Where a message goes, and what happens if nobody takes it."""

    WRITER = "writer"
    """Receiver to writer: nothing is lost, the sender waits."""
    ENGINE = "engine"
    """Receiver to reconstruction: never waits for long; what does not fit is reported back and counted."""
    RESULTS = "results"
    """Reconstruction to writer: snapshots may be skipped, the final one waits."""
    DISPLAY = "display"
    """To anyone who watches: snapshots and status, lost where nobody listens."""


Output: TypeAlias = tuple[Port, Message]


class Stage(Protocol):
    """One service without its process."""

    status_ports: tuple[Port, ...]
    """Where the statuses go, besides the display."""

    @property
    def busy(self) -> bool:
        """True if there is work to do without input."""

    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        """Take one message, or the error it was refused with."""

    def idle(self) -> Iterable[Output]:
        """One short slice of background work, and whatever is due by the clock."""

    def unsent(self, port: Port, message: Message) -> None:
        """A message could not be sent."""

    def statuses(self) -> list[Status]:
        """Health of each scan in work, or one entry without scan; then the last word on each that has just ended."""

    def finish(self) -> Iterable[Output]:
        """Bring everything to an orderly end now."""
