"""The loop that turns a stage into a service, and its orderly end."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

from streamptycho.display.pace import Pace
from streamptycho.errors import LinkError, ProtocolError
from streamptycho.messages.blocks import Blocks
from streamptycho.messages.kinds import Message
from streamptycho.messages.results import Assessment, Estimates, Snapshot
from streamptycho.messages.status import AnyStatus, ReceiveStatus, Status
from streamptycho.pipeline.stage import Output, Port, Stage
from streamptycho.wire.outlink import OutLink
from streamptycho.wire.sockets import OpenSocket, Sender
from streamptycho_services.processes.logs import about

log = logging.getLogger(__name__)

Outlets: TypeAlias = Mapping[Port, Sender | OutLink]
Heard_co = TypeVar("Heard_co", covariant=True)
Take: TypeAlias = Callable[[Any], Iterable[Output]]

POLL_S = 0.05
DRAIN_S = 0.02
"""Time that messages may take before the stage gets a slice for its own work, or as much as its last slice took: data never
starve the reconstruction, and on a busy machine, where slices are long, messages do not pile up behind them."""
STATUS_S = 0.5
PATIENCE_S = 30.0
"""How long a final message waits for its reader."""
ENGINE_WAIT_S = 0.5
"""How long the end waits for the engine. Before, nothing waits: the stage keeps what the engine must have."""
PARTING_S = {Port.WRITER: PATIENCE_S, Port.ENGINE: 2.0, Port.RESULTS: PATIENCE_S}
"""How long the end waits for the next acknowledgement."""


@dataclass(frozen=True, slots=True)
class Control:
    """How a service is asked to stop, and how it says that it lives."""

    finish: threading.Event
    """End in order: close scans and files, then stop."""
    kill: threading.Event
    """Stop at once."""
    beat: Callable[[], None] = lambda: None
    """Called by the loop of the service each time it turns; who is silent for long is taken for hung."""
    restarts: int = 0
    """How often the service was started again."""

    def killed(self) -> bool:
        """True if the service must stop at once."""
        return self.kill.is_set()

    def ended(self) -> bool:
        """True if the service must stop, in order or at once."""
        return self.finish.is_set() or self.killed()


class Inbox(Protocol[Heard_co]):
    """What a service hears: a :class:`~streamptycho.wire.sockets.Receiver`, or a detector's
    :class:`~streamptycho.sources.listener.Listener`.
    """

    def receive(self, timeout_s: float) -> Heard_co | None:
        """What comes next, or None if nothing comes in time."""
        ...

    def attend(self, other: OpenSocket) -> None:
        """Give `other` a turn whenever its peers have said something."""
        ...

    def acknowledge(self) -> None:
        """Everything handed out so far is safe."""
        ...

    def part(self) -> None:
        """Say what must be said before the end."""
        ...

    @property
    def silences_s(self) -> dict[str, float | None]:
        """How long nothing has come, by the name of a stream or service; None before the first message."""
        ...

    @property
    def standings(self) -> dict[str, str]:
        """By the name of a stream, how it stands with the connection to a sender of whom nothing has come."""
        ...


def serve(
    stage: Stage[Any],
    inbox: Inbox[object],
    outlets: Outlets,
    control: Control,
    *,
    take: Take | None = None,
    first: Iterable[Output] = (),
    drain_at_end_s: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run `stage` until asked to stop: receive, handle, compute in the gaps, publish health twice a second.

    What the inbox hears is given to `take`, or else to the stage's `handle`. It begins with the outputs `first`. At the end
    it takes in what is still to be heard, for at most `drain_at_end_s`, before the stage finishes, and waits until what it
    has sent is acknowledged. If a link ends because another service has taken this one's place, it finishes too, and raises
    :class:`LinkError`.
    """
    service = _Service(stage, inbox, outlets, control, take or stage.handle)
    try:
        service.send(first)
        _run(service, stage, inbox, control, clock)
        deadline = clock() + drain_at_end_s
        while clock() < deadline and not control.killed() and (heard := inbox.receive(0.2)) is not None:
            control.beat()
            service.handle(heard)
    except LinkError:
        if not control.killed():
            service.send(stage.finish(), engine_wait_s=ENGINE_WAIT_S)
        raise
    if not control.killed():
        service.send(stage.finish(), engine_wait_s=ENGINE_WAIT_S)
        service.publish()
        service.part()


def _run(service: "_Service", stage: Stage[Any], inbox: Inbox[object], control: Control, clock: Callable[[], float]) -> None:
    health, spent_s = Pace(STATUS_S, clock), 0.0
    while not control.ended():
        control.beat()
        until_s = clock() + min(max(DRAIN_S, spent_s), STATUS_S)
        heard = inbox.receive(0.0 if stage.busy else POLL_S)
        while heard is not None:
            service.handle(heard)
            heard = inbox.receive(0.0) if clock() < until_s and not control.killed() else None
        begun_s = clock()
        service.idle()
        spent_s = clock() - begun_s
        if health.due:
            with health.turn():
                service.publish()


class _Service:
    """A stage, and the sockets to which its outputs go."""

    def __init__(self, stage: Stage[Any], inbox: Inbox[object], outlets: Outlets, control: Control, take: Take) -> None:
        self._stage = stage
        self._inbox = inbox
        self._take = take
        self._outlets = outlets
        self._blocks = Blocks[Message]()
        self._control = control
        self._links = {port: outlet for port, outlet in outlets.items() if isinstance(outlet, OutLink)}
        for link in self._links.values():
            inbox.attend(link)

    def handle(self, heard: object) -> None:
        """Give the stage a message, and acknowledge it and others once they are safe; meanwhile, log lines name its scan."""
        with about(heard):
            self.send(self._take(heard))
        if self._stage.settled:
            self._inbox.acknowledge()

    def idle(self) -> None:
        """Give the stage time for its own work, and the links what they need without messages."""
        self.flush()
        self.send(self._stage.idle())
        self.flush()
        if self._stage.settled:
            self._inbox.acknowledge()
        for link in self._links.values():
            link.turn()

    def part(self) -> None:
        """Tell those who have sent something what is safe, and wait until those who were sent something have it safe."""
        self.flush()
        if self._stage.settled:
            self._inbox.acknowledge()
        self._inbox.part()
        for port, link in self._links.items():
            left = link.drain(PARTING_S[port], self._give_up)
            if left:
                log.log(
                    logging.WARNING if port is Port.ENGINE else logging.ERROR,
                    "%s has not acknowledged %d messages; what it has not taken is lost",
                    link.consumer,
                    left,
                )

    def _give_up(self) -> bool:
        """Asked while something is waited for: to wait is not to hang."""
        self._control.beat()
        return self._control.killed()

    def publish(self) -> None:
        """Send the statuses to all that can take them now."""
        for status in self._stage.statuses():
            self._publish_to(Port.DISPLAY, status)
            for port in self._stage.status_ports:
                if status.scan_id is not None:
                    self._publish_to(port, status)

    def _publish_to(self, port: Port, status: AnyStatus) -> None:
        try:
            self._outlets[port].send(self._signed(status))
        except ProtocolError as error:
            self._count_unencodable(status, error)

    def _count_unencodable(self, message: Message, error: ProtocolError) -> None:
        """Drop a message that no receiver would accept; the stage counts it like one that it could not decode."""
        log.error("a %s cannot be sent and is dropped: %s", type(message).__name__, error)
        for _ in self._stage.handle(error):
            pass  # an error calls for no answer

    def _signed(self, message: Message) -> Message:
        """A status also says what no stage knows: starts of its service, and how it stands with others."""
        if not isinstance(message, Status):
            return message
        links = self._links.values()
        silences_s = self._inbox.silences_s | {link.consumer: link.silence_s for link in links}
        if isinstance(message, ReceiveStatus):
            message = replace(message, connections=self._inbox.standings)
        strangers = sum(link.rejected.total() for link in links)
        return replace(
            message,
            restarts=self._control.restarts,
            rejected=message.rejected | ({"stranger": strangers} if strangers else {}),
            silence_s={name: silence_s for name, silence_s in silences_s.items() if silence_s is not None},
            unacknowledged={link.consumer: link.unacknowledged for link in links},
            unacknowledged_bytes={link.consumer: link.unacknowledged_bytes for link in links},
        )

    def send(self, outputs: Iterable[Output], *, engine_wait_s: float = 0.0) -> None:
        """Send what a stage gives out; what is not accepted is handed back to it."""
        silent: set[Port] = set()
        for port, unsigned in outputs:
            message = self._signed(unsigned)
            if port is Port.WRITER:
                for due in self._blocks.add(message):
                    self._send_one(port, due, _wait(port, due))
                continue
            wait_s = engine_wait_s if port is Port.ENGINE else _wait(port, message)
            if not self._send_one(port, message, 0.0 if port in silent else wait_s) and wait_s:
                silent.add(port)  # one wait is enough

    def flush(self) -> None:
        """Send what is held for the writer."""
        for due in self._blocks.flush():
            self._send_one(Port.WRITER, due, PATIENCE_S)

    def _send_one(self, port: Port, message: Message, patience_s: float) -> bool:
        """Send a message; False if it was not accepted, which the stage is told."""
        try:
            if port is Port.WRITER and not isinstance(message, Status):
                sent = self._send_lossless(message)
            else:
                sent = self._outlets[port].send(message, wait_s=patience_s, give_up=self._give_up)
        except ProtocolError as error:
            self._count_unencodable(message, error)
            return True
        if not sent:
            self._stage.unsent(port, message)
        return sent

    def _send_lossless(self, message: Message) -> bool:
        """Wait for the writer as long as it takes: the detector is held up, and no frame is lost."""
        control, waited_s = self._control, 0.0
        while not self._outlets[Port.WRITER].send(message, wait_s=1.0, give_up=self._give_up):
            waited_s += 1.0
            if control.killed() or (control.finish.is_set() and waited_s > PATIENCE_S):
                log.error("the writer took no message for %.0f s; what it has not taken is lost", waited_s)
                return False
            if waited_s in (2.0, 10.0, 60.0):
                log.warning("the writer has taken no message for %.0f s; the detector is being held up", waited_s)
            for status in self._stage.statuses():
                self._publish_to(Port.DISPLAY, status)
        return True


def _wait(port: Port, message: Message) -> float:
    """How long a message may hold the service up."""
    final = isinstance(message, Estimates)
    final |= isinstance(message, Snapshot | Assessment) and message.final
    final |= isinstance(message, Status) and message.done
    return PATIENCE_S if port is Port.WRITER or (port is Port.RESULTS and final) else 0.0
