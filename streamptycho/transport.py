"""Messages over ZeroMQ sockets. The only import of zmq.

Loss policy: PUSH blocks or reports that it could not send; PUB drops for subscribers that cannot follow. Bad input becomes
a value that the caller counts, never an exception. A part is bounded in size before it is received (`max_message_bytes`, 256
MiB unless set), a message is not: ZeroMQ takes in all of its parts, and up to `queue` such messages, before it hands out the
first, and only then is a message with too many parts refused. Whoever may connect can fill the memory.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Any

import zmq
from pydantic import Field

from streamptycho.codec import MAX_PARTS, Part, decode, encode
from streamptycho.errors import ConfigError, GrammarError, ProtocolError
from streamptycho.feed import Command
from streamptycho.messages import Message
from streamptycho.options import Options

MAX_QUESTION_BYTES = 1024
"""One who sends a larger part to a :class:`Replier` is disconnected."""
MAX_FOREIGN_BYTES = 64 << 20
"""Largest part that a :class:`Listener` takes; one who sends a larger one is disconnected."""


class SocketKind(StrEnum):
    """ZeroMQ pattern of one end of a stream."""

    PULL = "pull"
    SUB = "sub"
    PUSH = "push"
    PUB = "pub"
    REQ = "req"
    REP = "rep"


_TYPES = {
    SocketKind.PULL: zmq.PULL,
    SocketKind.SUB: zmq.SUB,
    SocketKind.PUSH: zmq.PUSH,
    SocketKind.PUB: zmq.XPUB,  # XPUB tells when a subscriber is there
    SocketKind.REQ: zmq.REQ,
    SocketKind.REP: zmq.REP,
}


class Endpoint(Options):
    """One end of a stream."""

    address: str
    """ZeroMQ address, e.g. ``tcp://127.0.0.1:5555``."""
    socket: SocketKind
    """push/pull: nothing is lost, the sender waits. pub/sub: the sender never waits, a slow reader loses messages."""
    bind: bool = False
    """Bind (wait for peers) instead of connecting to one. Exactly one end of a stream binds."""
    queue: int = Field(1000, ge=1)
    """Messages queued at this end before PUSH waits and PUB drops.

    Fixed while the socket is open: ZeroMQ 4.3 stalls for good when a queue in use is made shorter, and crashes when its
    length is changed while a peer leaves."""
    max_message_bytes: int = Field(256 << 20, ge=1)
    """A peer that sends a larger part is disconnected."""


class _Socket:
    """What senders and receivers share: opening, naming and closing."""

    def __init__(self, context: zmq.Context[Any], endpoint: Endpoint, linger_s: float) -> None:
        self.endpoint = endpoint
        self.socket: zmq.Socket[Any] = context.socket(_TYPES[endpoint.socket])
        self.socket.setsockopt(zmq.LINGER, int(linger_s * 1000))
        self.socket.setsockopt(zmq.SNDHWM, endpoint.queue)
        self.socket.setsockopt(zmq.RCVHWM, endpoint.queue)
        self.socket.setsockopt(zmq.MAXMSGSIZE, endpoint.max_message_bytes)
        if endpoint.socket is SocketKind.PUSH:
            self.socket.setsockopt(zmq.IMMEDIATE, 1)  # queue only for peers that are really there
        if endpoint.socket is SocketKind.PUSH and endpoint.bind:
            # with a domain (nobody asks what is in it), whatever does not speak ZMTP 3 is turned away; else libzmq takes any
            # stray TCP connection for a peer of 2010 and sends it its share of the messages
            self.socket.setsockopt(zmq.ZAP_DOMAIN, b"streamptycho")
        if endpoint.socket is SocketKind.SUB:
            self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        if endpoint.address.startswith("tcp://"):
            self.socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
            self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 6000)
        try:
            (self.socket.bind if endpoint.bind else self.socket.connect)(endpoint.address)
        except zmq.ZMQError as error:
            self.socket.close(0)
            verb = "bind" if endpoint.bind else "connect"
            raise ConfigError(f"cannot {verb} {endpoint.address}: {error.strerror}; choose another address") from error

    @property
    def address(self) -> str:
        """Address in use: shows the port chosen when binding to port ``*``."""
        return str(self.socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def close(self) -> None:
        """Close the socket; messages not yet sent leave within the linger time."""
        self.socket.close()


class Sender(_Socket):
    """Sends messages on one socket."""

    def __init__(self, context: zmq.Context[Any], endpoint: Endpoint, *, linger_s: float = 5.0) -> None:
        if endpoint.socket not in (SocketKind.PUSH, SocketKind.PUB):
            raise ConfigError(f"{endpoint.address}: socket {endpoint.socket!s} cannot send; use push or pub")
        super().__init__(context, endpoint, linger_s)
        self._subscribed = 0

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, message: Message, *, wait_s: float = 0.0, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Send; returns False if no peer could take the message within `wait_s` or until `give_up()`.

        PUB never waits and always returns True.
        """
        return self.send_parts(encode(message), wait_s=wait_s, give_up=give_up)

    def send_parts(self, parts: Sequence[Part], *, wait_s: float = 0.0, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Send bytes as they are; the simulator uses it to send what no codec would write."""
        deadline = time.monotonic() + wait_s
        if self.endpoint.socket is SocketKind.PUB:
            self._count_subscribers()
        while True:
            try:
                self.socket.send_multipart(parts, flags=zmq.NOBLOCK, copy=False)
            except zmq.Again:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or give_up():
                    return False
                self.socket.poll(int(min(remaining, 0.1) * 1000), zmq.POLLOUT)
            else:
                return True

    def wait_for_peer(self, timeout_s: float, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until somebody listens: a connected PULL, or a subscription that has arrived."""
        deadline = time.monotonic() + timeout_s
        while not give_up():
            if self.endpoint.socket is SocketKind.PUSH:
                if self.socket.poll(50, zmq.POLLOUT):
                    return True
            else:
                self.socket.poll(50, zmq.POLLIN)
                self._count_subscribers()
                if self._subscribed > 0:
                    return True
            if time.monotonic() > deadline:
                return False
        return False

    def _count_subscribers(self) -> None:
        while True:
            try:
                note = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if note[:1] == b"\x01":
                self._subscribed += 1
            elif note[:1] == b"\x00":
                self._subscribed -= 1


class Receiver:
    """Receives from several sockets as one stream, fairly."""

    def __init__(self, context: zmq.Context[Any], endpoints: Sequence[Endpoint], control: Endpoint | None = None) -> None:
        """Receive from `endpoints`, and from `control` commands and nothing else."""
        endpoints = [*endpoints, *([control] if control is not None else [])]
        for endpoint in endpoints:
            if endpoint.socket not in (SocketKind.PULL, SocketKind.SUB):
                raise ConfigError(f"{endpoint.address}: socket {endpoint.socket!s} cannot receive; use pull or sub")
        self._inlets: list[_Socket] = []
        self._poller = zmq.Poller()
        try:
            for endpoint in endpoints:
                inlet = _Socket(context, endpoint, linger_s=0)
                self._inlets.append(inlet)
                self._poller.register(inlet.socket, zmq.POLLIN)
        except ConfigError:
            self.close()
            raise
        self._ready: deque[Any] = deque()
        self._control = self._inlets[-1].socket if control is not None else None

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def addresses(self) -> list[str]:
        """Addresses in use, in the order of the endpoints."""
        return [inlet.address for inlet in self._inlets]

    def receive(self, timeout_s: float) -> Message | ProtocolError | None:
        """The next message, the error that its bytes deserve, or None if nothing came in time.

        Sockets that have something waiting take turns.
        """
        if not self._ready:
            self._ready.extend(socket for socket, _ in self._poller.poll(int(timeout_s * 1000)))
        while self._ready:
            socket = self._ready.popleft()
            try:
                parts = _receive_parts(socket)
            except zmq.Again:
                continue
            try:
                message = decode(parts)
            except ProtocolError as error:
                return error
            if socket is self._control and not isinstance(message, Command):
                return GrammarError("header.kind", "only commands are taken at this address")
            return message
        return None

    def close(self) -> None:
        """Close all sockets; what has not been received is dropped."""
        for inlet in self._inlets:
            inlet.close()


class Replier:
    """Answers questions of anyone; one who does not fetch the answers loses them."""

    def __init__(self, context: zmq.Context[Any], address: str) -> None:
        endpoint = Endpoint(address=address, socket=SocketKind.REP, bind=True, queue=2, max_message_bytes=MAX_QUESTION_BYTES)
        self._socket = _Socket(context, endpoint, linger_s=0)

    def __enter__(self) -> "Replier":
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    @property
    def address(self) -> str:
        """Address in use."""
        return self._socket.address

    def answer(self, reply: Callable[[Sequence[bytes]], Sequence[Part]]) -> bool:
        """Answer one question that has come, without waiting; False if there is none.

        `reply` gets the parts of the question, whatever they are, and returns those of the answer.
        """
        try:
            question = _receive_parts(self._socket.socket)
        except zmq.Again:
            return False
        self._socket.socket.send_multipart(reply([bytes(part) for part in question]), flags=zmq.NOBLOCK, copy=False)
        return True


class Listener:
    """Hears one publisher whose messages are bytes of another sort than ours."""

    def __init__(self, context: zmq.Context[Any], address: str) -> None:
        endpoint = Endpoint(address=address, socket=SocketKind.SUB, queue=100, max_message_bytes=MAX_FOREIGN_BYTES)
        self._socket = _Socket(context, endpoint, linger_s=0)

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def receive(self, timeout_s: float) -> list[memoryview] | None:
        """Parts of the next message, of one with too many only the first of them; None if nothing came in time."""
        if not self._socket.socket.poll(int(timeout_s * 1000), zmq.POLLIN):
            return None
        try:
            return _receive_parts(self._socket.socket)
        except zmq.Again:
            return None


def ask(address: str, question: bytes, timeout_s: float) -> list[bytes]:
    """Parts of the answer of a :class:`Replier`; raises :class:`TimeoutError` if none comes in time."""
    endpoint = Endpoint(address=address, socket=SocketKind.REQ)
    with zmq.Context() as context:
        asker = _Socket(context, endpoint, linger_s=0)
        try:
            asker.socket.send(question)
            if not asker.socket.poll(int(timeout_s * 1000), zmq.POLLIN):
                raise TimeoutError(f"no answer from {address} within {timeout_s:g} s; is streamptycho running there?")
            return [bytes(part) for part in asker.socket.recv_multipart()]
        finally:
            asker.close()


def _receive_parts(socket: Any) -> list[memoryview]:
    """The parts of one message, not copied; of one with too many parts only as many as tell that it has.

    Within a process the bytes may be the sender's own: they are handed out for reading only.
    """
    part = socket.recv(zmq.NOBLOCK, copy=False)
    parts = [part.buffer.toreadonly()]
    while part.more:
        part = socket.recv(copy=False)  # the parts of a message arrive together
        if len(parts) <= MAX_PARTS:
            parts.append(part.buffer.toreadonly())
    return parts


def new_context() -> zmq.Context[Any]:
    """A context for all sockets of one process."""
    return zmq.Context()
