"""For viewers and plans: documents of runs that have begun before one listened."""

from collections.abc import Callable
from typing import Any

from streamptycho.documents import Document, Follower, read_answer
from streamptycho.documents.history import QUESTION
from streamptycho.transport import ask

TIMEOUT_S = 5.0


class LateJoiner(Follower):
    """A callback around a callback, for bluesky's dispatchers: what came before is asked for where it was missed.

    Parameters
    ----------
    callback : takes ``(name, doc)``: a LiveTable, a router, a function.
    address : ZeroMQ address of the catch-up socket, `services.catch_up`.
    timeout_s : how long an answer is waited for; the dispatcher stands still meanwhile.
    """

    def __init__(
        self,
        callback: Callable[[str, dict[str, Any]], object],
        address: str = "tcp://127.0.0.1:5569",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        super().__init__(callback, lambda: past(address, timeout_s))


def past(address: str, timeout_s: float = TIMEOUT_S) -> list[Document]:
    """The documents of the open runs so far, or of the last one that ended.

    Raises :class:`TimeoutError` if nobody answers, :class:`~streamptycho.errors.CodecError` if it is no answer.
    """
    return read_answer(ask(address, QUESTION, timeout_s))
