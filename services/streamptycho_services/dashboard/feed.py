"""The thread between the services and the page: takes in what they publish, and sends on the viewers' commands."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack

from streamptycho.config import ServiceEndpoints
from streamptycho.errors import ProtocolError
from streamptycho.messages.live import Command
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.security import NO_KEYS, SecurityOptions
from streamptycho.wire.sockets import Receiver, Sender, new_context
from streamptycho_services.dashboard.state import State

log = logging.getLogger(__name__)

QUEUE = 32
"""Messages that wait in a subscription; more are lost, and newer ones come."""
MAX_COMMANDS = 16
SEND_S = 0.2
"""How long the reconstruction may take to accept a command."""
_POLL_S = 0.05
_DRAIN_S = 0.1
"""Longest time before commands are sent."""


class Feed:
    """Drains the display sockets into a :class:`State`, in a thread of its own, while the context is entered."""

    def __init__(
        self,
        services: ServiceEndpoints,
        state: State,
        on_news: Callable[[], None],
        *,
        control: bool,
        security: SecurityOptions = NO_KEYS,
    ) -> None:
        self.state = state
        self._services = services
        self._on_news = on_news
        self._control = control
        self._security = security
        self._commands: queue.Queue[tuple[Command, Future[bool]]] = queue.Queue(MAX_COMMANDS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """False if the thread has ended."""
        return self._thread.is_alive()

    def send(self, command: Command) -> "Future[bool]":
        """Send a command to the reconstruction; True if it was taken. Raises :class:`queue.Full` if too many wait."""
        sent: Future[bool] = Future()
        self._commands.put_nowait((command, sent))
        return sent

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:
            log.exception("the live page hears nothing any more")
            raise

    def _serve(self) -> None:
        addresses = (self._services.display_receive, self._services.display_reconstruct, self._services.display_write)
        inlets = [Endpoint(address=address, socket=SocketKind.SUB, queue=QUEUE) for address in addresses]
        with ExitStack() as stack:
            context = stack.enter_context(new_context(self._security))
            receiver, sender = stack.enter_context(Receiver(context, inlets)), None
            if self._control:
                outlet = Endpoint(address=self._services.control, socket=SocketKind.PUSH, queue=MAX_COMMANDS)
                sender = stack.enter_context(Sender(context, outlet, linger_s=0))
            while not self._stop.is_set():
                self._take(receiver)
                if sender is not None and not self._commands.empty():  # one at a time: nothing is heard meanwhile
                    command, sent = self._commands.get_nowait()
                    sent.set_result(sender.send(command, wait_s=SEND_S, give_up=self._stop.is_set))

    def _take(self, receiver: Receiver) -> None:
        """Take in what has come; pictures to be kept are encoded after the viewers have the news."""
        message, until_s = receiver.receive(_POLL_S), time.monotonic() + _DRAIN_S
        due = {}
        while message is not None:
            if isinstance(message, ProtocolError):
                self.state.undecodable += 1
            else:
                scan = self.state.take(message)
                if scan is not None:
                    due[scan.key] = scan
            message = receiver.receive(0) if time.monotonic() < until_s else None
            if message is None:
                self._on_news()
        for scan in due.values():
            try:
                self.state.keep(scan)
            except Exception:  # what comes next is worth more than looking back
                text = "a picture of scan %s could not be kept for looking back"
                log.exception(text, scan.run.scan_id, extra=scan.run.fields)
            self._on_news()
