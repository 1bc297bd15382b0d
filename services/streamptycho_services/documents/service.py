"""From what the services publish to documents on a socket; answers late subscribers."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from streamptycho.config import Config
from streamptycho.documents import Composer, Document, History, frame
from streamptycho.errors import CodecError, ProtocolError
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.questions import Replier
from streamptycho.wire.sockets import Receiver, Sender, new_context
from streamptycho_services.processes.runtime import Control
from streamptycho_services.processes.started import BESIDE, Work

log = logging.getLogger(__name__)

POLL_S = 0.05
"""Longest time that a question waits while nothing else happens."""
MAX_TAKEN = 64
"""Messages taken in before due documents are sent."""
MAX_ANSWERS = 4
"""Questions answered before due documents are sent."""
DRAIN_S = 0.5
"""How long, at the end, last messages are awaited."""
ORPHANED_S = 6.0
"""If the parent is gone, documents are sent of what the services say at their end."""
QUEUE_IN = 32
"""Messages waiting to be taken in: the services drop what does not fit, and go on."""
QUEUE_OUT = 20
"""Documents waiting for a subscriber: a slow one loses pictures."""


def documents(config: Config, control: Control, context: Any = None) -> None:
    """Send documents of every scan until asked to stop."""
    with ExitStack() as stack:
        context = context or stack.enter_context(new_context(config.security))
        services = config.services
        out = Endpoint(address=services.documents, socket=SocketKind.PUB, bind=True, queue=QUEUE_OUT)
        publisher = stack.enter_context(Sender(context, out, linger_s=1))
        replier = stack.enter_context(Replier(context, services.catch_up))
        shown = (services.display_receive, services.display_reconstruct)
        inlets = [Endpoint(address=address, socket=SocketKind.SUB, queue=QUEUE_IN) for address in shown]
        receiver = stack.enter_context(Receiver(context, inlets))
        serve(Composer(), receiver, publisher, replier, control)


def documents_work(config: Config) -> Work:
    """The documents for a process of its own, which is to outlive the services and hear their last words."""
    return Work("documents", documents, (config,), niceness=BESIDE, needed=False, orphaned_s=ORPHANED_S)


def serve(
    composer: Composer,
    receiver: Receiver,
    publisher: Sender,
    replier: Replier,
    control: Control,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Take messages in, send what is due, answer questions; at the end take in the last messages and end all runs."""
    history = History()
    while not control.ended():
        control.beat()
        _take_waiting(composer, receiver, POLL_S)
        _publish(composer.due(), publisher, history)
        for _ in range(MAX_ANSWERS):
            if not replier.answer(history.answer):
                break
    until = clock() + DRAIN_S
    while clock() < until and not control.killed() and _take_waiting(composer, receiver, POLL_S):
        _publish(composer.due(), publisher, history)
    _publish(composer.finish(), publisher, history)


def _take_waiting(composer: Composer, receiver: Receiver, timeout_s: float) -> bool:
    """Take in what has come; False if nothing has."""
    for taken in range(MAX_TAKEN):
        message = receiver.receive(0 if taken else timeout_s)
        if message is None:
            return taken > 0
        if isinstance(message, ProtocolError):
            log.warning("a message was refused: %s", message)
        else:
            composer.take(message)
    return True


def _publish(new: Iterable[Document], publisher: Sender, history: History) -> None:
    for name, doc in new:
        try:
            message = frame(name, doc)
        except CodecError:
            log.exception("a %s cannot be sent and is dropped", name)
            continue
        publisher.send_parts([message])
        history.add(name, doc, message)
