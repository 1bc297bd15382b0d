"""The receiving end of a link between services: :mod:`streamptycho.wire.outlink` has the other one, and says what it is."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import zmq

from streamptycho.errors import CodecError, LinkError, ReplacedError
from streamptycho.messages.kinds import Message
from streamptycho.wire.codec import Part, encode
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.hello import (
    MAX_PART_BYTES,
    REPLACED,
    UNDER_WAY,
    Hello,
    Mark,
    MarkKind,
    new_session,
    pack_hello,
    read_mark,
)
from streamptycho.wire.sockets import Inlet, receive_parts
from streamptycho.wire.window import Arrival, Arrivals

log = logging.getLogger(__name__)

BEAT_S = 0.5
"""Longest time between two hellos of a consumer that is alive and not at work."""
SOON_S = 0.05
"""How long an acknowledgement may wait for others that go with it."""
SOON_MESSAGES, SOON_BYTES = 32, 8 << 20
"""As many are acknowledged without waiting."""


class InLink(Inlet):
    """The receiving end: connects to `address` as the `service`, and takes each message once, in order.

    Parameters
    ----------
    resume : what this service has of open scans, for a sender that has begun anew; asked in the gap between two messages.
    after : do not introduce yourself before that link's sender has said what this service must know.
    """

    kinds = (SocketKind.DEALER,)

    def __init__(
        self,
        context: Any,
        address: str,
        service: str,
        *,
        resume: Callable[[], Iterable[Message]] = lambda: (),
        after: "InLink | None" = None,
    ) -> None:
        (kind,) = self.kinds
        endpoint = Endpoint(address=address, socket=kind, queue=UNDER_WAY, max_message_bytes=MAX_PART_BYTES)
        super().__init__(context, endpoint, linger_s=0.2)
        self.service = service
        self.session = new_session()
        self._resume_with = resume
        self._after = after
        self._beat = 0
        self._sender = 0
        self._arrivals = Arrivals()
        self.introduced = False
        """Whether the present sender has said what comes before its messages."""
        self._again = False
        self._told = 0
        """What the last hello said to be safe."""
        self._new_messages = self._new_bytes = 0
        """Taken since then."""
        self._hello_s = -BEAT_S
        self._asked_s = -BEAT_S
        self._odd: set[str] = set()

    def poll(self, timeout_s: float) -> list[memoryview] | None:
        """Parts of the next message; None if nothing came in time.

        Raises :class:`LinkError` if the sender will send this service nothing, :class:`ReplacedError` if because another
        has taken its place.
        """
        if timeout_s > 0 and not self.socket.poll(int(timeout_s * 1000), zmq.POLLIN):
            return None
        while True:
            try:
                mark, *parts = receive_parts(self.socket)
            except zmq.Again:
                return None
            if self._is_for_us(mark, parts):
                return parts

    def _is_for_us(self, part: Part, parts: list[memoryview]) -> bool:
        """Take in what a sender says; True for a message that is to be handed out now."""
        try:
            mark = read_mark(part)
        except CodecError as error:
            if error.field not in self._odd:
                self._odd.add(error.field)
                log.warning("%s: what is sent there is not understood: %s", self.endpoint.address, error)
            return False
        self.heard_s = time.monotonic()
        if mark.kind is MarkKind.BYE:
            text = bytes(parts[0]).decode(errors="replace") if parts else "no reason given"
            raise (ReplacedError if mark.number == REPLACED else LinkError)(f"{self.endpoint.address}: {text}")
        if mark.session != self._sender:
            self._meet(mark)
            return False
        match mark.kind:
            case MarkKind.MESSAGE:
                return self.introduced and self._takes(mark.number, parts)
            case MarkKind.INTRODUCTION:
                return not self.introduced
            case MarkKind.BEGIN if not self.introduced:
                self.introduced = True
                self._arrivals = Arrivals(mark.number)
                self._told = mark.number
        return False

    def _meet(self, mark: Mark) -> None:
        """A sender that has begun anew: what one before it has sent does not come any more."""
        if mark.kind is MarkKind.WELCOME:
            self._sender = mark.session
            self._arrivals, self._told, self.introduced, self._again = Arrivals(), 0, False, False
            self._hello_s = -BEAT_S

    def _takes(self, number: int, parts: Sequence[memoryview]) -> bool:
        arrival = self._arrivals.arrive(number)
        if arrival is Arrival.NEXT:
            self._new_messages += 1
            self._new_bytes += sum(part.nbytes for part in parts)
        elif arrival is Arrival.AHEAD and time.monotonic() >= self._asked_s + BEAT_S:
            self._again, self._asked_s, self._hello_s = True, time.monotonic(), -BEAT_S
        return arrival is Arrival.NEXT

    def acknowledge(self) -> None:
        """Everything handed out so far is safe."""
        self._arrivals.settle()

    def turn(self) -> None:
        """Say hello if it is due."""
        now_s = time.monotonic()
        if now_s < self._hello_s + SOON_S and not self._much_to_tell():
            return
        if now_s >= self._hello_s + BEAT_S or self._arrivals.settled > self._told:
            self._say_hello(now_s)

    def part(self) -> None:
        """Say the last time what is safe."""
        if self._sender and self._arrivals.settled > self._told:
            self._say_hello(time.monotonic())

    def _much_to_tell(self) -> bool:
        much = self._new_messages >= SOON_MESSAGES or self._new_bytes >= SOON_BYTES
        return much and self._arrivals.settled > self._told

    def _say_hello(self, now_s: float) -> None:
        if self._after is not None and not self._after.introduced:
            return
        self._beat += 1
        hello = Hello(
            service=self.service,
            session=self.session,
            beat=self._beat,
            sender=self._sender,
            taken=self._arrivals.taken,
            settled=self._arrivals.settled,
            introduced=self.introduced,
            again=self._again,
        )
        resume = [] if self.introduced or not self._sender else [encode(message) for message in self._resume_with()]
        self._hello_s = now_s
        try:
            self.socket.send_multipart(pack_hello(hello, resume), zmq.NOBLOCK, copy=False)
        except zmq.Again:  # nobody has been there for long: those of before are still under way
            return
        self._told, self._again = hello.settled, False
        self._new_messages = self._new_bytes = 0
