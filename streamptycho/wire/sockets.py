"""Messages over ZeroMQ sockets; :mod:`streamptycho.wire.links` has those on which nothing is lost.

Loss policy: PUSH blocks or reports that it could not send; PUB drops for subscribers that cannot follow. Bad input becomes
a value that the caller counts, never an exception. A part is bounded in size before it is received (`max_message_bytes`, 256
MiB unless set), a message is not: ZeroMQ takes in all of its parts, and up to `queue` such messages, before it hands out the
first, and only then is a message with too many parts refused. Any peer that may connect can fill the memory.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import zmq

from streamptycho.errors import ConfigError, GrammarError, ProtocolError
from streamptycho.messages.kinds import Message
from streamptycho.messages.live import Command
from streamptycho.options import Closing
from streamptycho.wire.codec import MAX_PARTS, Part, decode, encode
from streamptycho.wire.curve import Context, secure
from streamptycho.wire.curve import new_context as new_context
from streamptycho.wire.endpoint import Endpoint, SocketKind

_TYPES = {
    SocketKind.PULL: zmq.PULL,
    SocketKind.SUB: zmq.SUB,
    SocketKind.PUSH: zmq.PUSH,
    SocketKind.PUB: zmq.XPUB,  # XPUB reports when a subscriber is there
    SocketKind.REQ: zmq.REQ,
    SocketKind.REP: zmq.REP,
    SocketKind.ROUTER: zmq.ROUTER,
    SocketKind.DEALER: zmq.DEALER,
}


_MAX_HEARD = 1024
"""Bytes at once from the peers of a socket that only sends: handshakes and subscriptions. libzmq keeps a node of its own for
each byte of a subscription, 40 times as much."""
_KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 5, zmq.TCP_KEEPALIVE_CNT: 3}
"""Seconds and probes: a host that is gone is noticed after half a minute."""


AT_ONCE = 16
"""Messages of one stream that are taken, turn by turn with others, before it is asked again which have something."""


class OpenSocket(Closing):
    """What senders and receivers share: opening, naming and closing."""

    def __init__(self, context: Context, endpoint: Endpoint, linger_s: float) -> None:
        self.endpoint = endpoint
        self.socket: zmq.Socket[Any] = context.socket(_TYPES[endpoint.socket])
        self.socket.setsockopt(zmq.LINGER, int(linger_s * 1000))
        self.socket.setsockopt(zmq.SNDHWM, endpoint.queue)
        self.socket.setsockopt(zmq.RCVHWM, endpoint.queue)
        only_sends = endpoint.socket in (SocketKind.PUSH, SocketKind.PUB)
        self.socket.setsockopt(zmq.MAXMSGSIZE, _MAX_HEARD if only_sends else endpoint.max_message_bytes)
        if endpoint.socket is SocketKind.PUSH:
            self.socket.setsockopt(zmq.IMMEDIATE, 1)  # queue only for peers that are really there
        if endpoint.socket is SocketKind.ROUTER:
            # it says that a peer is gone or cannot take more, instead of dropping what is sent to it
            self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if endpoint.socket in (SocketKind.PUSH, SocketKind.ROUTER) and endpoint.bind:
            # with a domain (its name means nothing), what does not speak ZMTP 3 is turned away; else libzmq takes any
            # stray TCP connection for a peer of 2010 and sends it its share of the messages
            self.socket.setsockopt(zmq.ZAP_DOMAIN, b"streamptycho")
        if endpoint.socket is SocketKind.SUB:
            self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        if endpoint.address.startswith("tcp://"):
            # no ZMTP heartbeats: with a full pipe a stalled peer answers none, which drops what is queued, and libzmq 4.3.5
            # aborts when that peer comes back; the system's keepalive notices a host that is gone
            for option, value in _KEEPALIVE.items():
                self.socket.setsockopt(option, value)
        try:
            self._watch = secure(self.socket, endpoint)
            (self.socket.bind if endpoint.bind else self.socket.connect)(endpoint.address)
        except zmq.ZMQError as error:
            self.socket.close(0)
            verb = "bind" if endpoint.bind else "connect"
            raise ConfigError(f"cannot {verb} {endpoint.address}: {error.strerror}; choose another address") from error
        except ConfigError:
            self.socket.close(0)
            raise

    @property
    def address(self) -> str:
        """Address in use: shows the port chosen when binding to port ``*``."""
        return str(self.socket.getsockopt_string(zmq.LAST_ENDPOINT))

    @property
    def standing(self) -> str:
        """How it stands with a TCP connection that this end makes, as long as nothing has come; empty where nobody knows."""
        return self._watch.standing

    def renew(self) -> None:
        """Connect again where libzmq has given up; costs nothing otherwise."""
        self._watch.renew()

    def turn(self) -> None:
        """Hear what the peers say of themselves, and say what is due."""

    def close(self) -> None:
        """Close the socket; messages not yet sent leave within the linger time."""
        self.socket.close()


class Sender(OpenSocket):
    """Sends messages on one socket."""

    def __init__(self, context: Context, endpoint: Endpoint, *, linger_s: float = 5.0) -> None:
        if endpoint.socket not in (SocketKind.PUSH, SocketKind.PUB):
            raise ConfigError(f"{endpoint.address}: socket {endpoint.socket!s} cannot send; use push or pub")
        super().__init__(context, endpoint, linger_s)
        self._subscribed = 0

    def send(self, message: Message, *, wait_s: float = 0.0, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Send; returns False if no peer could take the message within `wait_s` or until `give_up()`.

        PUB never waits and always returns True.
        """
        return self.send_parts(encode(message), wait_s=wait_s, give_up=give_up)

    def send_parts(self, parts: Sequence[Part], *, wait_s: float = 0.0, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Send bytes as they are; the simulator uses it to send what no codec would write."""
        deadline = time.monotonic() + wait_s
        self.renew()
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
        """Wait for a listener: a connected PULL, or a subscription that has arrived."""
        deadline = time.monotonic() + timeout_s
        while not give_up():
            self.renew()
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


Pollable: TypeAlias = zmq.Socket[Any] | int
"""A socket, or the descriptor of a file."""


def readable(pollables: Iterable[Pollable], timeout_s: float) -> set[Pollable]:
    """Those from which something can be read; waits until there is one, for `timeout_s` at most."""
    return {ready for ready, _ in zmq.zmq_poll([(one, zmq.POLLIN) for one in pollables], int(timeout_s * 1000))}


class Inlet(OpenSocket):
    """A socket as a source of messages."""

    kinds: tuple[SocketKind, ...] = (SocketKind.PULL, SocketKind.SUB)
    heard_s: float | None = None
    """When the latest message came; None before the first."""

    def __init__(self, context: Context, endpoint: Endpoint, linger_s: float = 0.0) -> None:
        if endpoint.socket not in self.kinds:
            use = " or ".join(self.kinds)
            raise ConfigError(f"{endpoint.address}: socket {endpoint.socket!s} cannot receive; use {use}")
        super().__init__(context, endpoint, linger_s)

    @property
    def pollable(self) -> Pollable:
        """What to wait for; connects again where libzmq has given up."""
        self.renew()
        return self.socket

    def acknowledge(self) -> None:
        """Everything handed out so far is safe."""

    def part(self) -> None:
        """Say what must be said before the end."""

    def poll(self, timeout_s: float) -> list[memoryview] | None:
        """Parts of the next message, of one with too many only the first of them; None if nothing came in time."""
        self.renew()
        if timeout_s > 0 and not self.socket.poll(int(timeout_s * 1000), zmq.POLLIN):
            return None
        try:
            parts = receive_parts(self.socket)
        except zmq.Again:
            return None
        self.heard_s = time.monotonic()
        return parts


class Receiver(Closing):
    """Receives messages from several sockets as one stream, fairly."""

    def __init__(
        self,
        context: Context,
        endpoints: Sequence[Endpoint],
        control: Endpoint | None = None,
        links: Sequence[Inlet] = (),
        *,
        names: Sequence[str] = (),
    ) -> None:
        """Receive from `endpoints`, and from `control` commands and nothing else; `links` are closed with this receiver.

        `names` are of links, then endpoints: how statuses call those whose silence they tell.
        """
        self._links, self._inlets, self._names = links, list(links), names
        self._control: Inlet | None = None
        self._attended: list[OpenSocket] = []
        self._turns: deque[tuple[Inlet, int]] = deque()
        """Sockets of which it is known that something can be read, and how many messages may be taken from each."""
        try:
            for endpoint in endpoints:
                self._inlets.append(Inlet(context, endpoint))
            if control is not None:
                self._control = Inlet(context, control)
                self._inlets.append(self._control)
        except ConfigError:
            self.close()
            raise

    def attend(self, other: OpenSocket) -> None:
        """Give `other` a turn whenever its peers have said something while messages are waited for here."""
        self._attended.append(other)

    def acknowledge(self) -> None:
        """Everything handed out so far is safe: links may tell their senders."""
        for link in self._links:
            link.acknowledge()

    @property
    def silences_s(self) -> dict[str, float | None]:
        """How long nothing has come from each that has a name; None before the first message."""
        now_s = time.monotonic()
        named = zip(self._names, self._inlets, strict=False)
        return {name: None if inlet.heard_s is None else now_s - inlet.heard_s for name, inlet in named}

    @property
    def standings(self) -> dict[str, str]:
        """How it stands with connections that have a name: our services know it from their links."""
        return {}

    def part(self) -> None:
        """Let links tell their senders how far they have come, for the last time."""
        for link in self._links:
            link.part()

    @property
    def addresses(self) -> list[str]:
        """Addresses in use, in the order of the endpoints."""
        return [inlet.address for inlet in self._inlets]

    def receive(self, timeout_s: float) -> Message | ProtocolError | None:
        """The next message, the error that its bytes deserve, or None if nothing came in time.

        Sockets that have something take turns. What links say to each other does not end the wait.
        """
        until_s, message = time.monotonic() + timeout_s, self._next()
        while message is None:
            heard = self._listen(max(until_s - time.monotonic(), 0.0))
            message = self._next()
            if not heard or time.monotonic() >= until_s:
                break
        return message

    def _next(self) -> Message | ProtocolError | None:
        while self._turns:
            inlet, left = self._turns.popleft()
            parts = inlet.poll(0)
            if parts is not None:
                if left > 1:
                    self._turns.append((inlet, left - 1))
                return self._read(parts, only_commands=inlet is self._control)
        return None

    @staticmethod
    def _read(parts: Sequence[Part], *, only_commands: bool) -> Message | ProtocolError:
        try:
            message = decode(parts)
        except ProtocolError as error:
            return error
        if only_commands and not isinstance(message, Command):
            return GrammarError("header.kind", "only commands are taken at this address")
        return message

    def _listen(self, timeout_s: float) -> bool:
        """Give a turn to each socket that has something; True if there is one."""
        for link in self._links:
            link.turn()
        ready = readable(
            [*(inlet.pollable for inlet in self._inlets), *(other.socket for other in self._attended)], timeout_s
        )
        for other in self._attended:
            if other.socket in ready:
                other.turn()
        self._turns.extend((inlet, AT_ONCE) for inlet in self._inlets if inlet.socket in ready)
        return bool(ready)

    def close(self) -> None:
        """Close all sockets; what has not been received is dropped."""
        for inlet in self._inlets:
            inlet.close()


def receive_parts(socket: Any) -> list[memoryview]:
    """The parts of one message, not copied; of one with too many parts only as many as show that it has.

    Within a process the bytes may be the sender's own: they are handed out for reading only.
    """
    part = socket.recv(zmq.NOBLOCK, copy=False)
    parts = [part.buffer.toreadonly()]
    while part.more:
        part = socket.recv(copy=False)  # the parts of a message arrive together
        if len(parts) <= MAX_PARTS:
            parts.append(part.buffer.toreadonly())
    return parts
