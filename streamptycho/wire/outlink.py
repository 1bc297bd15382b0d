"""The sending end of a link between services, on which nothing is lost: neither with a connection nor with a process.

The sender binds and keeps every message until the consumer has acknowledged it; the consumer connects, says who it is, and
repeats twice a second how far it has come. What a lost connection has swallowed is sent again. A peer that does not
introduce itself gets nothing. ``docs/wire-protocol.md``, *Links*, has the bytes, :mod:`streamptycho.wire.window` the rule.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import zmq

from streamptycho.errors import CodecError, ProtocolError
from streamptycho.messages.kinds import Message
from streamptycho.wire.codec import Part, decode, encode
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.hello import MAX_PART_BYTES, REPLACED, UNDER_WAY, Hello, Mark, MarkKind, new_session, read_hello
from streamptycho.wire.introduction import Introduction, lasts
from streamptycho.wire.sockets import OpenSocket, receive_parts
from streamptycho.wire.window import Window

log = logging.getLogger(__name__)

SILENT_S = 10.0
"""After as long without a hello, while messages wait for it, a consumer is said to be silent."""
GONE_S = 5.0
"""How long the end waits for a consumer that has no connection."""
_OVERHEAD_BYTES = 1024
"""Memory of a message besides its parts."""
_HEARD_AT_ONCE = 64
_LOOK_S = 0.05
_FIRST, _MORE = int(zmq.SNDMORE | zmq.NOBLOCK), int(zmq.SNDMORE)  # joining them each time takes 2 us

_Kept: TypeAlias = tuple[Sequence[Part], Message | None]
"""Parts, and the message if it lasts."""


@dataclass(slots=True)
class _Peer:
    """The consumer that gets the messages."""

    session: int
    identity: bytes | None
    """Name of its connection; None once that is lost."""
    beat: int
    heard_s: float
    silent: bool = False
    """Whether its silence has been said."""


class OutLink(OpenSocket):
    """The sending end: binds `address`, and serves one consumer, the newest that names itself `consumer`.

    Parameters
    ----------
    max_bytes, max_messages : what is kept until it is acknowledged; beyond it :meth:`send` waits.
    over : scans that are over of which a consumer that has begun anew is told.
    needs_peer : take messages only while there is a consumer.
    """

    def __init__(
        self,
        context: Any,
        address: str,
        consumer: str,
        *,
        max_bytes: int,
        max_messages: int = 65_536,
        over: int = 0,
        needs_peer: bool = False,
        linger_s: float = 1.0,
    ) -> None:
        endpoint = Endpoint(address=address, socket=SocketKind.ROUTER, bind=True, queue=UNDER_WAY)
        super().__init__(context, endpoint, linger_s)
        self.consumer = consumer
        self.session = new_session()
        self.rejected: Counter[str] = Counter()
        """Field to number of hellos that were refused for it."""
        self._window: Window[_Kept] = Window(max_bytes, max_messages)
        self._introduction = Introduction(over)
        self._needs_peer = needs_peer
        self._peer: _Peer | None = None
        self._replaced: deque[int] = deque(maxlen=64)
        self._prelude: deque[tuple[Mark, Sequence[Part]]] = deque()
        """What the consumer must be told before the messages."""
        self._resume: list[Sequence[Part]] = []
        self._spoken = False
        """Whether anything was sent since the last hello."""

    def send(self, message: Message, *, wait_s: float = 0.0, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Keep the message and send it as soon as the consumer can take it; False if there is no room for it.

        Waits for room for up to `wait_s` or until `give_up()`. A message for which nobody waits may fill only the half of
        what is kept: the rest is for those that matter.

        Raises :class:`CodecError` if the message is larger than a consumer accepts.
        """
        share = 1.0 if wait_s else 0.5
        if not wait_s and not self._admits(_OVERHEAD_BYTES, share):
            self.turn()
            if not self._admits(_OVERHEAD_BYTES, share):  # without encoding it in vain
                return False
        parts = encode(message)
        sizes = [part.nbytes if isinstance(part, memoryview) else len(part) for part in parts]
        if max(sizes) > MAX_PART_BYTES:
            raise CodecError("message", f"a part of {max(sizes)} bytes; at most {MAX_PART_BYTES} are accepted")
        size = sum(sizes) + _OVERHEAD_BYTES
        if not self._admits(size, share):
            self.turn()
            deadline = time.monotonic() + wait_s
            while not self._admits(size, share):
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0 or give_up():
                    return False
                self._wait(remaining_s)
        self._window.put((parts, message if lasts(message) else None), size)
        self._pump()
        return True

    def _admits(self, size: int, share: float) -> bool:
        there = self._peer is not None and self._peer.identity is not None
        return (there or not self._needs_peer) and self._window.has_room(size, share)

    def _wait(self, most_s: float) -> None:
        """Until the consumer says something, or for a moment."""
        self.socket.poll(int(min(most_s, _LOOK_S) * 1000), zmq.POLLIN)
        self.turn()

    def wait_for_peer(self, timeout_s: float, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until a consumer has introduced itself."""
        deadline = time.monotonic() + timeout_s
        while self._peer is None and not give_up():
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return False
            self._wait(remaining_s)
        return self._peer is not None

    def drain(self, patience_s: float, give_up: Callable[[], bool] = lambda: False) -> int:
        """Wait until all is acknowledged; the number of messages that are not, once none was for `patience_s`.

        A consumer without a connection gets only `GONE_S` to come back.
        """
        left = len(self._window)
        moved_s = there_s = time.monotonic()
        while left and not give_up() and time.monotonic() < min(moved_s + patience_s, there_s + GONE_S):
            self._wait(patience_s)
            if len(self._window) < left:
                left, moved_s = len(self._window), time.monotonic()
            if self._is_there():
                there_s = time.monotonic()
        return left

    def _is_there(self) -> bool:
        """Whether there is a connection to the consumer: it shows when something is sent."""
        peer = self._peer
        if peer is not None and peer.identity is not None:
            self._put(peer.identity, Mark(MarkKind.WELCOME, self.session))
        return peer is not None and peer.identity is not None

    @property
    def unacknowledged(self) -> int:
        """Messages that are kept because they are not known to be safe."""
        return len(self._window)

    @property
    def unacknowledged_bytes(self) -> int:
        """Their size."""
        return self._window.size_bytes

    @property
    def silence_s(self) -> float | None:
        """How long the consumer has said nothing; None while there has been none."""
        return None if self._peer is None else time.monotonic() - self._peer.heard_s

    def resumed(self) -> list[Message]:
        """What the first consumer had of scans from a sender before this one; told once."""
        told, self._resume = self._resume, []
        try:
            return [decode(parts) for parts in told]
        except ProtocolError as error:
            log.error("%s: what the %s service has of open scans cannot be read: %s", self.address, self.consumer, error)  # noqa: TRY400
            return []

    def turn(self) -> None:
        """Hear what consumers say of themselves, and send what the present one can take."""
        for _ in range(_HEARD_AT_ONCE):
            try:
                identity, *parts = receive_parts(self.socket)
            except zmq.Again:
                break
            self._hear(bytes(identity), parts)
        self._pump()
        self._watch_silence()

    def _hear(self, identity: bytes, parts: Sequence[Part]) -> None:
        try:
            hello, resume = read_hello(parts)
            self._check(hello)
        except CodecError as error:
            self._refuse(identity, error)
            return
        peer = self._peer
        if hello.sender != self.session:
            self._put(identity, Mark(MarkKind.WELCOME, self.session))
        elif hello.session in self._replaced:
            self._say_replaced(identity)
        elif peer is None or hello.session != peer.session:
            if peer is None:
                self._resume = resume
            self._begin_with(identity, hello)
        elif hello.beat > peer.beat:
            self._go_on_with(peer, identity, hello)

    def _check(self, hello: Hello) -> None:
        if hello.service != self.consumer:
            raise CodecError("hello.service", f"this address serves {self.consumer}, not {hello.service[:40]!r}")
        if hello.sender == self.session and hello.taken > self._window.last:
            raise CodecError("hello.taken", f"{hello.taken}, but only {self._window.last} were sent")

    def _refuse(self, identity: bytes, error: CodecError) -> None:
        self.rejected[error.field] += 1
        if self.rejected[error.field] == 1:
            log.warning("%s: a peer is not served and gets no message: %s", self.address, error)
        if error.field in ("hello.link", "hello.service"):  # one of ours, with a mistake that its user must know of
            self._say_bye(identity, error.detail)

    def _begin_with(self, identity: bytes, hello: Hello) -> None:
        """Serve a consumer that has begun anew; the newest counts."""
        former = self._peer
        self._peer = _Peer(hello.session, identity, hello.beat, time.monotonic())
        if former is not None:
            log.warning("%s: a new %s service takes over; it gets what is not safe yet", self.address, self.consumer)
            self._replaced.append(former.session)
            if former.identity is not None:
                self._say_replaced(former.identity)
        self._introduce()

    def _introduce(self) -> None:
        said = [(Mark(MarkKind.INTRODUCTION, self.session), encode(message)) for message in self._introduction.messages]
        self._prelude = deque([*said, (Mark(MarkKind.BEGIN, self.session, self._window.safe), ())])
        self._window.rewind(0)

    def _go_on_with(self, peer: _Peer, identity: bytes, hello: Hello) -> None:
        """Take in how far the present consumer has come; on a new connection go back to there."""
        if peer.silent:
            log.warning("%s: the %s service is back", self.address, self.consumer)
        peer.beat, peer.heard_s, peer.silent = hello.beat, time.monotonic(), False
        for _, lasting in self._window.acknowledge(hello.settled):
            if lasting is not None:
                self._introduction.add(lasting)
        if identity != peer.identity:
            peer.identity = identity
            if hello.introduced:
                self._prelude.clear()
                self._window.rewind(hello.taken)
            else:
                self._introduce()
        elif hello.again:
            self._window.rewind(hello.taken)
        if not self._spoken:
            self._put(identity, Mark(MarkKind.WELCOME, self.session))  # a sign of life
        self._spoken = False

    def _pump(self) -> None:
        """Send what the consumer can take now."""
        peer = self._peer
        if peer is None:
            return
        while peer.identity is not None and self._prelude:
            if not self._put(peer.identity, *self._prelude[0]):
                return
            self._prelude.popleft()
        while peer.identity is not None and (pending := self._window.pending) is not None:
            number, (parts, _) = pending
            if not self._put(peer.identity, Mark(MarkKind.MESSAGE, self.session, number), parts):
                return
            self._window.sent()
            self._spoken = True

    def _put(self, identity: bytes, mark: Mark, parts: Sequence[Part] = ()) -> bool:
        """Hand a message to ZeroMQ; False if the peer's queue is full or its connection gone."""
        try:
            self.socket.send(identity, _FIRST)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            if self._peer is not None and self._peer.identity == identity:
                self._peer.identity = None
            return False
        # behind the name of a peer, which is refused if need be, the parts of a message always find room
        if parts:
            self.socket.send(mark.pack(), _MORE)
            self.socket.send_multipart(parts, copy=False)
        else:
            self.socket.send(mark.pack())
        return True

    def _say_replaced(self, identity: bytes) -> None:
        self._say_bye(identity, f"another {self.consumer} service has taken over; stop one of the two", REPLACED)

    def _say_bye(self, identity: bytes, reason: str, number: int = 0) -> None:
        self._put(identity, Mark(MarkKind.BYE, self.session, number), [reason.encode()])

    def _watch_silence(self) -> None:
        peer, silence_s = self._peer, self.silence_s
        if peer is None or silence_s is None or peer.silent or silence_s < SILENT_S or not self._window:
            return
        peer.silent = True
        waiting = f"{len(self._window)} messages ({self._window.size_bytes / 1e6:.0f} MB)"
        log.warning("%s: %s has said nothing for %.0f s; %s wait for it", self.address, self.consumer, silence_s, waiting)
