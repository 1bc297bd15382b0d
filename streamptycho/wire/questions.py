"""Questions and answers over ZeroMQ, and publishers whose messages are not ours."""

from collections.abc import Callable, Sequence

import zmq

from streamptycho.wire.codec import Part
from streamptycho.wire.curve import Context
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.security import NO_KEYS, SecurityOptions
from streamptycho.wire.sockets import Inlet, OpenSocket, new_context, receive_parts

MAX_QUESTION_BYTES = 1024
"""A peer that sends a larger part to a :class:`Replier` is disconnected."""
MAX_FOREIGN_BYTES = 64 << 20
"""A peer that sends a larger part to a :class:`Listener` is disconnected."""


class Replier(OpenSocket):
    """Answers questions of any peer; a peer that does not fetch its answers loses them."""

    def __init__(self, context: Context, address: str) -> None:
        endpoint = Endpoint(address=address, socket=SocketKind.REP, bind=True, queue=2, max_message_bytes=MAX_QUESTION_BYTES)
        super().__init__(context, endpoint, linger_s=0)

    def answer(self, reply: Callable[[Sequence[bytes]], Sequence[Part]]) -> bool:
        """Answer one question that has come, without waiting; False if there is none.

        `reply` gets the parts of the question, whatever they are, and returns those of the answer.
        """
        try:
            question = receive_parts(self.socket)
        except zmq.Again:
            return False
        self.socket.send_multipart(reply([bytes(part) for part in question]), flags=zmq.NOBLOCK, copy=False)
        return True


class Listener(Inlet):
    """Hears one publisher whose messages are not ours: bytes as they come."""

    def __init__(self, context: Context, address: str) -> None:
        endpoint = Endpoint(address=address, socket=SocketKind.SUB, queue=100, max_message_bytes=MAX_FOREIGN_BYTES)
        super().__init__(context, endpoint, linger_s=0)


def ask(address: str, question: bytes, timeout_s: float, security: SecurityOptions = NO_KEYS) -> list[bytes]:
    """Parts of the answer of a :class:`Replier`; raises :class:`TimeoutError` if none comes in time."""
    endpoint = Endpoint(address=address, socket=SocketKind.REQ)
    with new_context(security) as context, OpenSocket(context, endpoint, linger_s=0) as asker:
        asker.socket.send(question)
        if not asker.socket.poll(int(timeout_s * 1000), zmq.POLLIN):
            raise TimeoutError(f"no answer from {address} within {timeout_s:g} s; is streamptycho running there?")
        return [bytes(part) for part in asker.socket.recv_multipart()]
