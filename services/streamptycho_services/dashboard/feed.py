"""The thread between the services and the page: takes in what they publish, and hands on what viewers ask for."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from streamptycho.config import ServiceEndpoints
from streamptycho.errors import ProtocolError
from streamptycho.feed import Command
from streamptycho.transport import Endpoint, Receiver, Sender, SocketKind, new_context
from streamptycho_services.dashboard.state import State

log = logging.getLogger(__name__)

QUEUE = 32
"""Messages that wait in a subscription; more are lost, and newer ones come."""
MAX_COMMANDS = 16
"""Commands that wait to be sent."""
SEND_S = 0.2
"""How long the reconstruction may take to accept a command."""
_POLL_S = 0.05
_DRAIN_S = 0.1
"""Longest time between two looks at the commands."""


class Feed:
    """Drains the display sockets into a :class:`State`, in a thread of its own, while the context is entered."""

    def __init__(self, services: ServiceEndpoints, state: State, on_news: Callable[[], None], *, control: bool) -> None:
        self.state = state
        self._services = services
        self._on_news = on_news
        self._control = control
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
        with new_context() as context, Receiver(context, inlets) as receiver:
            if not self._control:
                self._loop(receiver, None)
                return
            outlet = Endpoint(address=self._services.control, socket=SocketKind.PUSH, queue=MAX_COMMANDS)
            with Sender(context, outlet, linger_s=0) as sender:
                self._loop(receiver, sender)

    def _loop(self, receiver: Receiver, sender: Sender | None) -> None:
        while not self._stop.is_set():
            self._take(receiver)
            if sender is not None:
                self._send_waiting(sender)

    def _take(self, receiver: Receiver) -> None:
        """Take in what has come; pictures to be kept are encoded after the viewers have heard of them."""
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
                log.exception("a picture of scan %s could not be kept for looking back", scan.scan_id)
            self._on_news()

    def _send_waiting(self, sender: Sender) -> None:
        if not self._commands.empty():  # one at a time: nothing is heard meanwhile
            command, sent = self._commands.get_nowait()
            sent.set_result(sender.send(command, wait_s=SEND_S, give_up=self._stop.is_set))
