"""A sender of documents like the documents service: a publisher, and answers for late subscribers."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from streamptycho.documents import frame
from streamptycho.documents.history import ANSWER
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.questions import Replier
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.view.source import Addresses

WAIT_S = 20.0


class Service:
    """Answers requests with the documents sent so far."""

    def __init__(self, where: Addresses | None = None) -> None:
        where = where or Addresses("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
        self.context = new_context()
        endpoint = Endpoint(address=where.documents, socket=SocketKind.PUB, bind=True)
        self.sender = Sender(self.context, endpoint, linger_s=0)
        self.replier = Replier(self.context, where.catch_up)
        self.where = Addresses(self.sender.address, self.replier.address)
        self.history: list[bytes] = []
        self.questions = 0
        self.first_part = ANSWER
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._answer)

    def tell(self, name: str, document: dict[str, Any]) -> None:
        """Send a document and keep it."""
        self.keep(name, document)
        self.sender.send_parts([self.history[-1]])

    def keep(self, name: str, document: dict[str, Any]) -> None:
        """Only keep it, without sending."""
        self.history.append(frame(name, document))

    def send(self, *parts: bytes) -> None:
        """Anything."""
        self.sender.send_parts(parts)

    def wait_for_viewer(self) -> None:
        assert self.sender.wait_for_peer(WAIT_S)

    def _answer(self) -> None:
        def reply(_: Sequence[bytes]) -> list[bytes]:
            self.questions += 1
            return [self.first_part, *self.history]

        while not self._end.is_set():
            if not self.replier.answer(reply):
                time.sleep(0.005)

    def __enter__(self) -> "Service":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()
        self.sender.close()
        self.replier.__exit__(*exc)
        self.context.term()


@contextmanager
def service() -> Iterator[Service]:
    with Service() as served:
        yield served


def wait_until(met: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not met():
        assert time.monotonic() < until, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(0.01)
