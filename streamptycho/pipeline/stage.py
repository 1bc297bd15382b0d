"""What every stage has in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from streamptycho.errors import ProtocolError
from streamptycho.join.rejected import Rejected
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.run import RunId
from streamptycho.messages.status import AnyStatus
from streamptycho.pipeline.notices import Notices

REPEAT_S = 5.0
"""How long the last status of a scan is repeated: a display may miss a message."""
SHORTEST_S = 0.25
"""Rates asked for again earlier than this repeat the last answer."""


class Port(StrEnum):
    """Where a message goes, and what happens if it is not accepted."""

    WRITER = "writer"
    """Receiver to writer: nothing is lost, the sender waits."""
    ENGINE = "engine"
    """Receiver to reconstruction: never waits for long; what does not fit is handed back and counted."""
    RESULTS = "results"
    """Reconstruction to writer: snapshots may be skipped; the final one, and what comes with it, waits.

    What these three have accepted arrives, also if a connection or the service at the other end breaks off."""
    DISPLAY = "display"
    """To all viewers: snapshots, statuses and the rest, lost where nobody listens."""


Output: TypeAlias = tuple[Port, Message]
S = TypeVar("S", bound=AnyStatus)
V = TypeVar("V")


class Newest(dict[str, V]):
    """The newest entries of a table that peers can fill: beyond `MOST`, the oldest go."""

    MOST = 100

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        while len(self) > self.MOST:
            del self[next(iter(self))]


class LastWords(Generic[S]):
    """The last status of each run that ended within the last `REPEAT_S`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[RunId, tuple[float, S]] = {}

    def add(self, status: S) -> None:
        """Remember the last status of a run."""
        if status.run is not None:
            self._said.pop(status.run, None)
            self._said[status.run] = (self._clock(), status)

    def again(self, open_ids: Container[str]) -> list[S]:
        """Those still to be repeated, oldest first; none about a scan id that is in use again."""
        since = self._clock() - REPEAT_S
        self._said = {run: said for run, said in self._said.items() if said[0] >= since}
        return [status for run, (_, status) in self._said.items() if run.scan_id not in open_ids]


class Rate:
    """Events per second since the last call."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._then = clock()
        self._count = 0
        self._rate = 0.0

    def __call__(self, count: int) -> float:
        """The rate, from the present `count`."""
        now = self._clock()
        if now - self._then >= SHORTEST_S:
            self._rate = (count - self._count) / (now - self._then)
            self._then, self._count = now, count
        return self._rate


class Stage(ABC, Generic[S]):
    """One service without its process; `clock` in seconds, `wall_ns` since the Unix epoch."""

    status_kind: type[S]
    status_ports: tuple[Port, ...] = ()
    """Where the statuses go, besides the display."""

    def __init__(self, name: str, clock: Callable[[], float], wall_ns: Callable[[], int]) -> None:
        self.name = name
        self.rejected = Rejected()
        """Reason to number of messages of no open scan, of another run of its id, or that do not fit it."""
        self._notices = Notices(clock)
        self._last_words: LastWords[S] = LastWords(clock)
        self._clock = clock
        self._wall_ns = wall_ns

    @property
    def busy(self) -> bool:
        """True if there is work to do without input."""
        return False

    @property
    def settled(self) -> bool:
        """True if nothing that was handled so far can be lost with this process: it need not be sent again."""
        return True

    @abstractmethod
    def handle(self, message: Message | ProtocolError) -> Iterable[Output]:
        """Take one message, or the error it was refused with."""

    @abstractmethod
    def idle(self) -> Iterable[Output]:
        """One short slice of background work, and whatever is due by the clock."""

    def unsent(self, port: Port, message: Message) -> None:  # most may be lost
        """A message could not be sent."""

    def statuses(self) -> list[S]:
        """One for each open scan, or one without a scan; then the last one of each scan that has just ended.

        What has been dropped since the last call is told in the log.
        """
        now = self._open()
        statuses = [*(now.values() or [self._idle()]), *self._last_words.again(now)]
        for status in statuses:
            self._notices.of(status)
        self._notices.rejected(self.rejected)
        return statuses

    @abstractmethod
    def _open(self) -> dict[str, S]:
        """Scan id to status of the open scans."""

    def _idle(self) -> S:
        return self.status_kind(
            service=self.name, state=ServiceState.IDLE, time_ns=self._wall_ns(), rejected=dict(self.rejected)
        )

    def _failed(self, run: RunId, error: Exception) -> S:
        """The last status of a scan that could not be begun."""
        return self.status_kind(
            service=self.name, **run.fields, state=ServiceState.DONE, time_ns=self._wall_ns(), failure=str(error)
        )

    @abstractmethod
    def finish(self) -> Iterable[Output]:
        """Bring everything to an orderly end now."""
