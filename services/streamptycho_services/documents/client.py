"""For viewers and plans: documents of runs that began before they subscribed."""

from collections.abc import Callable
from typing import Any

from streamptycho.documents import Document, Follower, read_answer
from streamptycho.documents.history import QUESTION
from streamptycho.wire.questions import ask
from streamptycho.wire.security import NO_KEYS, SecurityOptions

TIMEOUT_S = 5.0


class LateJoiner(Follower):
    """A callback around a callback, for bluesky's dispatchers: requests earlier documents that were missed.

    Parameters
    ----------
    callback : takes ``(name, doc)``: a LiveTable, a router, a function.
    address : ZeroMQ address of the catch-up socket, `services.catch_up`.
    timeout_s : how long to wait for an answer; the dispatcher is blocked meanwhile.
    security : keys, where the services have some.
    """

    def __init__(
        self,
        callback: Callable[[str, dict[str, Any]], object],
        address: str = "tcp://127.0.0.1:5569",
        timeout_s: float = TIMEOUT_S,
        security: SecurityOptions = NO_KEYS,
    ) -> None:
        super().__init__(callback, lambda: past(address, timeout_s, security))


def past(address: str, timeout_s: float = TIMEOUT_S, security: SecurityOptions = NO_KEYS) -> list[Document]:
    """The documents of the open runs so far, or of the last one that ended.

    Raises :class:`TimeoutError` without an answer, :class:`~streamptycho.errors.CodecError` for one that cannot be read.
    """
    return read_answer(ask(address, QUESTION, timeout_s, security))
