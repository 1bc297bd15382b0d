"""The loop that turns a stage into a service, and its orderly end."""

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from streamptycho.errors import ProtocolError
from streamptycho.messages import Message, Snapshot, Status
from streamptycho.pipeline.stage import Output, Port, Stage
from streamptycho.transport import Receiver, Sender

log = logging.getLogger(__name__)

POLL_S = 0.05
DRAIN_S = 0.02
"""Time that messages may take before the stage gets a slice for its own work, or as much as that took last: data never
starve the reconstruction, and on a busy machine, where a slice takes long, messages do not pile up behind it either."""
STATUS_S = 0.5
PATIENCE_S = 30.0
"""How long a final word waits for its reader."""
ENGINE_WAIT_S = 0.5
"""How long the engine is waited for at the end. Before, it never is: the stage keeps what the engine must have."""


class Flag(Protocol):
    """What threads and processes share of an event."""

    def is_set(self) -> bool:
        """True once somebody asked."""

    def set(self) -> None:
        """Ask."""


@dataclass(frozen=True, slots=True)
class Control:
    """How a service is told to stop."""

    finish: Flag
    """End in order: close scans and files, then stop."""
    kill: Flag
    """Stop at once."""

    def killed(self) -> bool:
        """True if the service must stop at once, also because the process that started it is gone."""
        parent = multiprocessing.parent_process()
        return self.kill.is_set() or (parent is not None and not parent.is_alive())


def serve(
    stage: Stage,
    receiver: Receiver,
    outlets: Mapping[Port, Sender],
    control: Control,
    *,
    drain_at_end_s: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run `stage` until told to stop: receive, handle, compute in the gaps, publish health twice a second.

    At the end what is still in the sockets is taken in, for at most `drain_at_end_s`, before the stage finishes.
    """
    next_status_s = spent_s = 0.0
    while not control.finish.is_set() and not control.killed():
        _take_waiting(stage, receiver, outlets, control, clock, min(max(DRAIN_S, spent_s), STATUS_S))
        begun_s = clock()
        _send(stage, stage.idle(), outlets, control)
        spent_s = clock() - begun_s
        if clock() >= next_status_s:
            next_status_s = clock() + STATUS_S
            _publish(stage, outlets)
    deadline = clock() + drain_at_end_s
    while clock() < deadline and not control.killed():
        message = receiver.receive(0.2)
        if message is None:
            break
        _send(stage, stage.handle(message), outlets, control)
    if not control.killed():
        _send(stage, stage.finish(), outlets, control, engine_wait_s=ENGINE_WAIT_S)
        _publish(stage, outlets)


def _take_waiting(
    stage: Stage,
    receiver: Receiver,
    outlets: Mapping[Port, Sender],
    control: Control,
    clock: Callable[[], float],
    longest_s: float,
) -> None:
    """Handle what has arrived, for at most `longest_s`."""
    until = clock() + longest_s
    message = receiver.receive(0.0 if stage.busy else POLL_S)
    while message is not None:
        _send(stage, stage.handle(message), outlets, control)
        if clock() >= until or control.killed():
            return
        message = receiver.receive(0.0)


def _publish(stage: Stage, outlets: Mapping[Port, Sender]) -> None:
    for status in stage.statuses():
        _tell(stage, outlets[Port.DISPLAY], status)
        for port in stage.status_ports:
            if status.scan_id is not None:
                _tell(stage, outlets[port], status)


def _tell(stage: Stage, sender: Sender, status: Status) -> None:
    """Send a status to whoever can take it now."""
    try:
        sender.send(status)
    except ProtocolError as error:
        _count_unencodable(stage, status, error)


def _count_unencodable(stage: Stage, message: Message, error: ProtocolError) -> None:
    """A message that no receiver would accept is dropped; the stage counts it like one that it could not decode."""
    log.error("a %s cannot be sent and is dropped: %s", type(message).__name__, error)
    for _ in stage.handle(error):
        pass  # an error calls for no answer


def _send(
    stage: Stage,
    outputs: Iterable[Output],
    outlets: Mapping[Port, Sender],
    control: Control,
    *,
    engine_wait_s: float = 0.0,
) -> None:
    for port, message in outputs:
        sender = outlets[port]
        try:
            if port is Port.WRITER and not isinstance(message, Status):
                sent = _send_lossless(stage, sender, message, outlets, control)
            else:
                wait_s = engine_wait_s if port is Port.ENGINE else _wait(port, message)
                sent = sender.send(message, wait_s=wait_s, give_up=control.killed)
        except ProtocolError as error:
            _count_unencodable(stage, message, error)
            continue
        if not sent:
            stage.unsent(port, message)
            engine_wait_s = 0.0 if port is Port.ENGINE else engine_wait_s  # it has been waited for


def _wait(port: Port, message: Message) -> float:
    """How long a message may hold the service up."""
    if port is Port.RESULTS:
        return PATIENCE_S if _is_final(message) else 0.0
    return PATIENCE_S if port is Port.WRITER else 0.0


def _is_final(message: Message) -> bool:
    if isinstance(message, Snapshot):
        return message.final
    return isinstance(message, Status) and message.state.value == "done"


def _send_lossless(stage: Stage, sender: Sender, message: Message, outlets: Mapping[Port, Sender], control: Control) -> bool:
    """Wait for the writer as long as it takes: the detector feels it, no frame is lost."""
    waited_s = 0.0
    while not sender.send(message, wait_s=1.0, give_up=control.killed):
        waited_s += 1.0
        if control.killed() or (control.finish.is_set() and waited_s > PATIENCE_S):
            log.error("the writer took no message for %.0f s; what it has not taken is lost", waited_s)
            return False
        if waited_s in (2.0, 10.0, 60.0):
            log.warning("the writer has taken no message for %.0f s; the detector is being held up", waited_s)
        for status in stage.statuses():
            _tell(stage, outlets[Port.DISPLAY], status)
    return True
