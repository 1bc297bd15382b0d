"""Sockets: waiting, loss, and no peer that can harm the messages of another."""

import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from streamptycho.errors import ConfigError, ProtocolError
from streamptycho.messages.kinds import Message
from streamptycho.messages.payload import Payload
from streamptycho.messages.stream import Frame, Positions
from streamptycho.wire.codec import MAX_PARTS, encode
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.questions import MAX_QUESTION_BYTES, Listener, Replier, ask
from streamptycho.wire.sockets import Receiver, Sender, new_context
from tests.fuzz.raw import GREETING, connect, ready
from tests.hostile import CORPUS, GOOD
from tests.strategies import same

PUSH, PULL, PUB, SUB = SocketKind.PUSH, SocketKind.PULL, SocketKind.PUB, SocketKind.SUB
ANY = "tcp://127.0.0.1:*"
WAIT_S = 10.0


class Net:
    """Sockets of one test."""

    def __init__(self) -> None:
        self.context = new_context()
        self.open: list[Sender | Receiver] = []

    def sender(self, address: str, kind: SocketKind = PUSH, **more: Any) -> Sender:
        sender = Sender(self.context, endpoint(address, kind, **more), linger_s=0)
        self.open.append(sender)
        return sender

    def receiver(self, *endpoints: Endpoint) -> Receiver:
        receiver = Receiver(self.context, endpoints)
        self.open.append(receiver)
        return receiver

    def linked(
        self,
        kinds: tuple[SocketKind, SocketKind] = (PUSH, PULL),
        address: str = "inproc://a",
        *,
        sender_binds: bool = False,
        **more: Any,
    ) -> tuple[Sender, Receiver]:
        """A sender and a receiver that have found each other."""
        if sender_binds:
            sender = self.sender(address, kinds[0], bind=True, **more)
            receiver = self.receiver(endpoint(sender.address, kinds[1], **more))
        else:
            receiver = self.receiver(endpoint(address, kinds[1], bind=True, **more))
            sender = self.sender(receiver.addresses[0], kinds[0], **more)
        until = time.monotonic() + WAIT_S
        while not sender.wait_for_peer(0.05):
            assert receiver.receive(0) is None  # a SUB that binds greets its peers when it is used
            assert time.monotonic() < until
        return sender, receiver


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    for end in net.open:
        end.close()
    net.context.term()


def endpoint(address: str, kind: SocketKind, **more: Any) -> Endpoint:
    return Endpoint(address=address, socket=kind, **more)


def numbered(i: int, size: int = 4) -> Frame:
    payload = Payload.raw(np.zeros((size, size), np.uint16))
    return Frame(scan_id="s", index=np.array([i]), timestamp_ns=np.array([0]), payload=payload)


def fill(sender: Sender, size: int = 4, limit: int = 2000, first: int = 0) -> int:
    """Send until no message is accepted, not even after a while; how many were."""
    for i in range(limit):
        if not sender.send(numbered(first + i, size), wait_s=0.0 if i < 5 else 0.3):
            return i
    return limit


def drain(receiver: Receiver, wait_s: float = 0.3) -> list[Message | ProtocolError]:
    return list(iter(lambda: receiver.receive(wait_s), None))


# delivery


@pytest.mark.parametrize("sender_binds", [True, False], ids=["sender binds", "receiver binds"])
@pytest.mark.parametrize("address", ["inproc://a", ANY])
@pytest.mark.parametrize("kinds", [(PUSH, PULL), (PUB, SUB)], ids=["push-pull", "pub-sub"])
def test_every_kind_of_message_arrives_as_it_was(net, kinds, address, sender_binds):
    sender, receiver = net.linked(kinds, address, sender_binds=sender_binds)
    for message in GOOD.values():
        assert sender.send(message)
    for message in GOOD.values():
        assert same(receiver.receive(WAIT_S), message)
    assert receiver.receive(0) is None


def test_several_senders_into_one_receiver(net):
    receiver = net.receiver(endpoint(ANY, PULL, bind=True))
    senders = [net.sender(receiver.addresses[0], PUSH) for _ in range(3)]
    for i, sender in enumerate(senders):
        assert sender.send(numbered(i), wait_s=WAIT_S)
    assert {int(receiver.receive(WAIT_S).index[0]) for _ in senders} == {0, 1, 2}


def test_at_the_control_address_only_commands_are_taken(net):
    control = endpoint("inproc://control", PULL, bind=True)
    with Receiver(net.context, [endpoint("inproc://a", PULL, bind=True)], control) as receiver:
        viewer, other = net.sender("inproc://control"), net.sender("inproc://a")
        for kind in GOOD:
            assert viewer.send(GOOD[kind], wait_s=WAIT_S)
            got = receiver.receive(WAIT_S)
            assert same(got, GOOD[kind]) if kind == "command" else isinstance(got, ProtocolError)
        assert other.send(GOOD["start"], wait_s=WAIT_S)
        assert same(receiver.receive(WAIT_S), GOOD["start"])


def test_receive_waits_as_long_as_it_is_told(net):
    receiver = net.receiver(endpoint("inproc://a", PULL, bind=True))
    then = time.monotonic()
    assert receiver.receive(0.2) is None
    assert 0.15 < time.monotonic() - then < 5


def test_what_was_sent_before_close_still_arrives(net):
    receiver = net.receiver(endpoint(ANY, PULL, bind=True))
    with Sender(net.context, endpoint(receiver.addresses[0], PUSH)) as sender:
        for i in range(50):
            assert sender.send(numbered(i, 256), wait_s=WAIT_S)
    got = [receiver.receive(WAIT_S) for _ in range(50)]
    assert [int(m.index[0]) for m in got] == list(range(50))


def test_closing_does_not_wait_for_a_peer_that_takes_nothing():
    with new_context() as receiving:
        receiver = Receiver(receiving, [endpoint(ANY, PULL, bind=True, queue=1)])
        sending = new_context()
        sender = Sender(sending, endpoint(receiver.addresses[0], PUSH), linger_s=0.2)
        assert sender.wait_for_peer(WAIT_S)
        assert fill(sender, size=1024, limit=50) > 5
        then = time.monotonic()
        sender.close()
        sending.term()
        assert time.monotonic() - then < 5
        receiver.close()


# waiting and loss


def test_push_reports_that_nobody_is_there(net):
    sender = net.sender(ANY, PUSH, bind=True)
    then = time.monotonic()
    assert not sender.send(GOOD["end"])
    assert time.monotonic() - then < 0.5
    assert not sender.send(GOOD["end"], wait_s=0.3)
    assert 0.3 <= time.monotonic() - then < 5


def test_waiting_ends_when_told(net):
    sender = net.sender(ANY, PUSH, bind=True)
    then = time.monotonic()
    asked = threading.Event()
    timer = threading.Timer(0.2, asked.set)
    timer.start()
    assert not sender.send(GOOD["end"], wait_s=60, give_up=asked.is_set)
    assert not sender.wait_for_peer(60, give_up=asked.is_set)
    assert time.monotonic() - then < 5
    timer.join()


@pytest.mark.parametrize("address", ["inproc://a", ANY])
def test_push_reports_a_full_queue_and_loses_nothing(net, address):
    sender, receiver = net.linked((PUSH, PULL), address, queue=5)
    taken = fill(sender, size=512)
    assert 5 <= taken < 2000
    assert not sender.send(numbered(taken, 512), wait_s=0.3)
    got = drain(receiver)
    assert [int(m.index[0]) for m in got] == list(range(taken))
    assert sender.send(numbered(0), wait_s=WAIT_S), "there is room again"


def test_push_that_waits_is_let_in_when_there_is_room(net):
    sender, receiver = net.linked((PUSH, PULL), "inproc://a", queue=2)
    taken = fill(sender)
    reader = threading.Thread(target=lambda: (time.sleep(0.2), drain(receiver)))
    reader.start()
    assert sender.send(numbered(taken), wait_s=WAIT_S)
    reader.join()


def test_pub_never_waits_and_loses(net):
    sender, receiver = net.linked((PUB, SUB), "inproc://a", queue=5)
    then = time.monotonic()
    assert fill(sender) == 2000
    assert time.monotonic() - then < 5
    got = [int(m.index[0]) for m in drain(receiver, 0.1)]
    assert got == list(range(len(got))), "the newest are lost, the order is kept"
    assert 5 <= len(got) <= 11


@pytest.mark.parametrize("queue", [1, 16, 300])
def test_no_more_is_queued_than_configured(net, queue):
    sender, _ = net.linked(queue=queue)
    assert queue <= fill(sender) <= 2 * queue + 2


def test_waiting_for_a_subscriber(net):
    sender = net.sender("inproc://a", PUB, bind=True)
    assert not sender.wait_for_peer(0.1)
    receiver = net.receiver(endpoint("inproc://a", SUB))
    assert sender.wait_for_peer(WAIT_S)
    receiver.close()
    until = time.monotonic() + WAIT_S
    while sender.wait_for_peer(0.05):
        assert time.monotonic() < until, "the subscriber has gone"


def test_sockets_take_turns(net):
    receiver = net.receiver(*(endpoint(f"inproc://{name}", PULL, bind=True) for name in "ab"))
    flood = net.sender("inproc://a", PUSH)
    other = net.sender("inproc://b", PUSH)
    for _ in range(200):
        assert flood.send(numbered(0), wait_s=WAIT_S)
    for _ in range(5):
        assert other.send(numbered(1), wait_s=WAIT_S)
    order = [int(receiver.receive(WAIT_S).index[0]) for _ in range(12)]
    assert sum(order) == 5, "five messages do not wait behind two hundred"
    assert len(drain(receiver, 0)) == 193


def test_nobody_changes_what_another_one_holds(net):
    sender, receiver = net.linked()
    pixels = np.arange(512 * 512, dtype=np.uint16).reshape(1, 512, 512)
    places = np.random.default_rng(0).random((50_000, 2))
    index = np.arange(50_000)
    frame = Frame(scan_id="s", index=np.array([0]), timestamp_ns=np.array([0]), payload=Payload.raw(pixels))
    assert sender.send(frame)
    assert sender.send(Positions(scan_id="s", index=index, yx_m=places))
    got, block = receiver.receive(WAIT_S), receiver.receive(WAIT_S)
    assert (got.payload.chunks[0].readonly, (got.payload.decode() == pixels[0]).all()) == (True, True)
    for array in (got.payload.decode(), block.index, block.yx_m):
        assert not array.flags.writeable
        while isinstance(array, np.ndarray):
            with pytest.raises(ValueError, match="cannot set WRITEABLE"):
                array.flags.writeable = True
            array = array.base


# peers that misbehave


def test_bad_messages_are_values_and_the_next_good_one_arrives(net):
    sender, receiver = net.linked((PUSH, PULL), ANY)
    sent = [(name, parts) for name, parts in CORPUS if parts]
    assert len(sent) > 1000
    for name, parts in sent:
        assert sender.send_parts(parts, wait_s=WAIT_S)
        assert sender.send(GOOD["end"], wait_s=WAIT_S)
        assert isinstance(receiver.receive(WAIT_S), ProtocolError), name
        assert same(receiver.receive(WAIT_S), GOOD["end"]), name


def test_a_message_of_very_many_parts_is_refused(net):
    sender, receiver = net.linked()
    assert sender.send_parts([bytes(encode(GOOD["frame"])[0]), *[b"x"] * 100_000])
    assert sender.send(GOOD["end"])
    error = receiver.receive(WAIT_S)
    assert isinstance(error, ProtocolError)
    assert str(error).startswith(f"message: {MAX_PARTS + 1} parts"), "no more than that were kept"
    assert same(receiver.receive(WAIT_S), GOOD["end"])


def test_a_message_that_is_too_large_disconnects_only_its_sender(net):
    receiver = net.receiver(endpoint(ANY, PULL, bind=True, max_message_bytes=10_000))
    bad, good = (net.sender(receiver.addresses[0], PUSH) for _ in range(2))
    assert bad.wait_for_peer(WAIT_S)
    assert good.wait_for_peer(WAIT_S)
    assert good.send(numbered(1))
    assert bad.send(numbered(0, size=100))
    assert good.send(numbered(2))
    assert [int(receiver.receive(WAIT_S).index[0]) for _ in range(2)] == [1, 2]
    assert receiver.receive(0.3) is None
    until = time.monotonic() + WAIT_S
    while not (bad.send(numbered(3), wait_s=0.1) and receiver.receive(0.1)):
        assert time.monotonic() < until, "it may come back"
    assert good.send(numbered(4))
    assert int(receiver.receive(WAIT_S).index[0]) in (3, 4)


def good_ones(receiver: Receiver, count: int) -> list[int]:
    """Frames, between whatever the noise was taken for."""
    got: list[int] = []
    until = time.monotonic() + WAIT_S
    while len(got) < count and time.monotonic() < until:
        message = receiver.receive(0.1)
        if message is not None and not isinstance(message, ProtocolError):
            got.append(int(message.index[0]))
    return got


NOISE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "random": random.Random(4).randbytes(100_000),
    "zeros": bytes(100_000),
    "nothing": b"",
    "half a greeting": GREETING[:20],
    "a greeting and noise": GREETING + random.Random(5).randbytes(10_000),
    "a frame of 2^63 bytes": GREETING + b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x04PUSH" + b"\x02" + b"\x7f" + b"\xff" * 7,
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_noise_on_the_port_harms_nobody(net, noise):
    sender, receiver = net.linked((PUSH, PULL), ANY)
    port = int(receiver.addresses[0].rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as peer:
        try:
            peer.sendall(noise)
        except ConnectionError:
            assert noise, "it was thrown out while it spoke"
        for i in range(5):
            assert sender.send(numbered(i), wait_s=WAIT_S)
        assert good_ones(receiver, 5) == list(range(5))
    assert sender.send(numbered(9), wait_s=WAIT_S)
    assert good_ones(receiver, 1) == [9]


# mistakes in the configuration


def test_a_socket_of_the_wrong_kind_is_refused(net):
    with pytest.raises(ConfigError, match="cannot send; use push or pub"):
        net.sender("inproc://a", PULL)
    with pytest.raises(ConfigError, match="cannot receive; use pull or sub"):
        net.receiver(endpoint("inproc://a", PUSH))


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "carrier://pigeon"])
@pytest.mark.parametrize("bind", [True, False])
def test_an_address_that_cannot_be_used_is_named(net, address, bind):
    with pytest.raises(ConfigError, match=f"cannot {'bind' if bind else 'connect'} {address}"):
        net.sender(address, PUSH, bind=bind)


def test_an_address_in_use_is_named_and_what_was_opened_is_closed(net):
    taken = net.sender(ANY, PUSH, bind=True)
    with pytest.raises(ConfigError, match=f"cannot bind {taken.address}"):
        net.receiver(endpoint("inproc://a", PULL, bind=True), endpoint(taken.address, PULL, bind=True))
    until = time.monotonic() + WAIT_S
    while True:  # closing goes on in the background
        try:
            net.receiver(endpoint("inproc://a", PULL, bind=True))
        except ConfigError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            break


def test_a_peer_that_subscribes_to_much_is_turned_away(net):
    sender = net.sender(ANY, PUB, bind=True)
    subscription = b"\x02" + struct.pack(">Q", 100_001) + b"\x01" + bytes(100_000)
    with connect(sender.address, WAIT_S) as peer:
        peer.sendall(GREETING + ready(b"SUB"))
        said = b""
        while b"READY" not in said:
            said += peer.recv(100)
        peer.sendall(b"\x00\x01\x01")
        assert sender.wait_for_peer(WAIT_S)
        peer.sendall(subscription)
        with suppress(ConnectionResetError):
            while peer.recv(1 << 16):
                pass


@pytest.mark.parametrize("bad", [{"queue": 0}, {"queue": -1}, {"max_message_bytes": 0}, {"max_message_bytes": -1}])
def test_no_queue_and_no_message_is_unbounded(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        endpoint("inproc://a", PULL, **bad)


class TestReplier:
    """Questions and answers: in a thread one asks, here they are answered."""

    @staticmethod
    def asking(address: str, *questions: bytes, wait_s: float = WAIT_S) -> tuple[threading.Thread, list[Any]]:
        answers: list[Any] = []

        def run() -> None:
            for question in questions:
                try:
                    answers.append(ask(address, question, wait_s))
                except TimeoutError as error:
                    answers.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread, answers

    def test_answers_in_order(self):
        with new_context() as context, Replier(context, ANY) as replier:
            assert not replier.answer(lambda parts: parts)
            thread, answers = self.asking(replier.address, b"a", b"", b"c" * MAX_QUESTION_BYTES)
            asked: list[bytes] = []
            while len(asked) < 3:
                replier.answer(lambda parts: asked.extend(parts) or [b"you said", *parts, bytes(1 << 20)])
            thread.join(WAIT_S)
        assert asked == [b"a", b"", b"c" * MAX_QUESTION_BYTES]
        assert answers == [[b"you said", question, bytes(1 << 20)] for question in asked]

    def test_too_long_a_question_is_not_taken(self):
        with new_context() as context, Replier(context, ANY) as replier:
            thread, answers = self.asking(replier.address, bytes(MAX_QUESTION_BYTES + 1), b"short", wait_s=1.0)
            asked: list[bytes] = []
            until = time.monotonic() + WAIT_S
            while len(answers) < 2 and time.monotonic() < until:
                replier.answer(lambda parts: asked.extend(parts) or parts)
            thread.join(WAIT_S)
        assert asked == [b"short"]
        assert isinstance(answers[0], TimeoutError)
        assert answers[1] == [b"short"]

    def test_one_who_has_gone_holds_nobody_up(self):
        with new_context() as context, Replier(context, ANY) as replier:
            thread, answers = self.asking(replier.address, b"gone", wait_s=0.1)
            thread.join(WAIT_S)
            thread, answers = self.asking(replier.address, b"here")
            while not answers:
                replier.answer(lambda parts: parts)
            thread.join(WAIT_S)
        assert answers == [[b"here"]]

    def test_an_address_in_use(self):
        with (
            new_context() as context,
            Replier(context, ANY) as replier,
            pytest.raises(ConfigError, match="choose another address"),
        ):
            Replier(context, replier.address)


def test_a_listener_takes_any_bytes_but_bounds_the_parts():
    with (
        new_context() as context,
        Sender(context, endpoint(ANY, PUB, bind=True), linger_s=0) as sender,
        Listener(context, sender.address) as listener,
    ):
        assert listener.poll(0.01) is None
        assert sender.wait_for_peer(WAIT_S)
        sender.send_parts([b"not ours"])
        sender.send_parts([b"x"] * (MAX_PARTS + 5))
        sender.send_parts([b"", b"\xff"])
        assert [bytes(part) for part in listener.poll(WAIT_S) or []] == [b"not ours"]
        assert len(listener.poll(WAIT_S) or []) == MAX_PARTS + 1
        assert [bytes(part) for part in listener.poll(WAIT_S) or []] == [b"", b"\xff"]


def test_a_listener_at_an_impossible_address():
    with new_context() as context, pytest.raises(ConfigError, match="nonsense"):
        Listener(context, "nonsense://1")


@pytest.mark.slow
@pytest.mark.parametrize("leaves", [False, True], ids=["the sender stays", "the sender has left"])
def test_a_reader_that_stalls_for_long_gets_everything(leaves):
    """Longer than heartbeats would wait, with more queued than the system holds."""
    pixels = np.zeros((1, 512, 512), np.uint16)
    with ExitStack() as stack:
        there, here = (stack.enter_context(new_context()) for _ in range(2))
        receiver = stack.enter_context(Receiver(there, [endpoint(ANY, PULL, bind=True, queue=4)]))
        with Sender(here, endpoint(receiver.addresses[0], PUSH), linger_s=WAIT_S * 3 if leaves else 0) as sender:
            assert sender.wait_for_peer(WAIT_S)
            for i in range(200):
                frame = Frame(scan_id="s", index=np.array([i]), timestamp_ns=np.array([0]), payload=Payload.raw(pixels))
                assert sender.send(frame, wait_s=0)
            if leaves:
                sender.close()
            time.sleep(10)
            got = [receiver.receive(WAIT_S)]
            while len(got) < 200 and got[-1] is not None:
                got.append(receiver.receive(WAIT_S))
    assert [int(frame.index[0]) for frame in got if isinstance(frame, Frame)] == list(range(200))
