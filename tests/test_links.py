"""Links: whatever the network, the consumer or a stranger does, each message arrives once and in order."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from streamptycho.errors import CodecError, LinkError, ProtocolError, ReplacedError
from streamptycho.messages.kinds import Message
from streamptycho.messages.reasons import ServiceState
from streamptycho.messages.status import ReceiveStatus
from streamptycho.messages.stream import Frame, Resume, ScanEnd, ScanStart
from streamptycho.wire import inlink, outlink
from streamptycho.wire.codec import encode
from streamptycho.wire.hello import LINK_VERSION, Hello, Mark, MarkKind, pack_hello, read_hello, read_mark
from streamptycho.wire.inlink import InLink
from streamptycho.wire.outlink import OutLink
from streamptycho.wire.sockets import Receiver, new_context
from tests.hostile import GOOD
from tests.proxy import Proxy
from tests.scans import FRAME_BYTES, frame, only, start
from tests.strategies import same

ANY = "tcp://127.0.0.1:*"
WAIT_S = 20.0


def until(condition: Callable[[], Any], what: str = "it does not happen") -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, what
    return value


class Net:
    """Both ends of links, driven by hand in one thread."""

    def __init__(self) -> None:
        self.context = new_context()
        self.open: list[Any] = []
        self.out: OutLink

    def sender(self, address: str = ANY, **options: Any) -> OutLink:
        options = {"max_bytes": 1 << 20, "linger_s": 0} | options
        self.out = OutLink(self.context, address, "write", **options)
        self.open.append(self.out)
        return self.out

    def consumer(self, address: str | None = None, service: str = "write", **options: Any) -> "Consumer":
        consumer = Consumer(self.context, address or self.out.address, service, self, **options)
        self.open.append(consumer.receiver)
        return consumer

    def linked(self, address: str = ANY, **options: Any) -> tuple[OutLink, "Consumer"]:
        out, consumer = self.sender(address, **options), self.consumer()
        consumer.look(lambda: out.wait_for_peer(0) and consumer.link.introduced)
        return out, consumer

    def peer(self, kind: int) -> zmq.Socket[Any]:
        """A bare socket that connects to the sender."""
        socket = self.context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        self.open.append(socket)
        socket.connect(self.out.address)
        return socket

    def close(self) -> None:
        for end_ in self.open:
            end_.close()
        self.context.term()


class Consumer:
    """A receiver with one link, and what it has got."""

    def __init__(self, context: Any, address: str, service: str, net: Net, **options: Any) -> None:
        self.link = InLink(context, address, service, **options)
        self.receiver = Receiver(context, [], links=[self.link])
        self.got: list[Any] = []
        self._net = net

    def look(self, condition: Callable[[], Any] = lambda: False, most: int | None = None, *, safe: bool = True) -> Any:
        """Take messages until `condition`, or `most` of them, or until none has come for a moment."""
        first, deadline, quiet = len(self.got), time.monotonic() + WAIT_S, 0
        while not (value := condition()):
            self._net.out.turn()
            message = self.receiver.receive(0.01)
            if message is not None:
                self.got.append(message)
            if safe:
                self.receiver.acknowledge()
            quiet = 0 if message is not None else quiet + 1
            if most is not None and (len(self.got) - first >= most or quiet > 2):
                return self.got[first:]
            assert time.monotonic() < deadline, "it does not happen"
        return value

    @property
    def indices(self) -> list[int]:
        return [int(f.index[0]) for f in only(Frame, self.got)]


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    net.close()


def send(out: OutLink, indices: Any, wait_s: float = 0.1) -> None:
    for i in indices:
        assert out.send(frame(i), wait_s=wait_s)


# bytes


def test_a_hello_and_a_mark_travel():
    said = Hello(service="write", session=5, beat=2, sender=7, taken=9, settled=8, introduced=True, again=True)
    parts = pack_hello(said, [[b"a", b"b"], [b"c"]])
    assert read_hello(parts) == (said, [[b"a", b"b"], [b"c"]])
    assert read_mark(Mark(MarkKind.BEGIN, 2**63 - 1, 4).pack()) == Mark(MarkKind.BEGIN, 2**63 - 1, 4)


def changed(**changes: Any) -> list[bytes]:
    said = msgpack.unpackb(pack_hello(Hello(service="write", session=5, beat=1))[0])
    return [msgpack.packb({key: value for key, value in (said | changes).items() if value is not ...})]


BAD_HELLOS = {
    "nothing": ([], "hello"),
    "an empty part": ([b""], "hello"),
    "noise": ([random.Random(1).randbytes(100)], "hello"),
    "a list": ([msgpack.packb([1])], "hello"),
    "too long": ([msgpack.packb({"service": "x" * 5000})], "hello"),
    "a long text": (changed(service="x" * 300), "hello"),
    "a long list": (changed(resume=[1] * 300), "hello"),
    "nested": ([b"\x91" * 4000], "hello"),
    "another version": (changed(link=2), "hello.link"),
    "no version": (changed(link=...), "hello.link"),
    "keys that are numbers": ([msgpack.packb({1: 2})], "hello"),
    "no service": (changed(service=...), "hello.service"),
    "a service of bytes": (changed(service=b"write"), "hello.service"),
    "a session of text": (changed(session="5"), "hello.session"),
    "a negative session": (changed(session=-5), "hello.session"),
    "a beat that is true": (changed(beat=True), "hello.beat"),
    "a large beat": (changed(beat=2**64 - 1), "hello.beat"),
    "settled without being taken": (changed(taken=1, settled=2), "hello.settled"),
    "introduced by a number": (changed(introduced=1), "hello.introduced"),
    "parts that are not announced": ([*changed(), b"x"], "hello.resume"),
    "parts that do not follow": (changed(resume=[1]), "hello.resume"),
    "a negative number of parts": (changed(resume=[-1]), "hello.resume"),
    "a number of parts that is true": ([*changed(resume=[True]), b"x"], "hello.resume"),
}


@pytest.mark.parametrize(("parts", "field"), BAD_HELLOS.values(), ids=BAD_HELLOS)
def test_a_bad_hello_is_refused_by_name(parts, field):
    with pytest.raises(CodecError) as caught:
        read_hello(parts)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("part", "field"),
    [
        (b"", "mark"),
        (b"x" * 17, "mark"),
        (b"\x02" + Mark(MarkKind.BEGIN, 1).pack()[1:], "mark.version"),
        (bytes([LINK_VERSION, 9]) + bytes(16), "mark.kind"),
    ],
)
def test_a_bad_mark_is_refused_by_name(part, field):
    with pytest.raises(CodecError) as caught:
        read_mark(part)
    assert caught.value.field == field


# delivery


@pytest.mark.parametrize("address", [ANY, "inproc://link"])
def test_every_kind_of_message_arrives_as_it_was(net, address):
    out, consumer = net.linked(address)
    for message in GOOD.values():
        assert out.send(message, wait_s=1)
    consumer.look(lambda: len(consumer.got) == len(GOOD))
    assert all(same(got, sent) for got, sent in zip(consumer.got, GOOD.values(), strict=True))
    consumer.look(lambda: not out.unacknowledged)
    assert out.unacknowledged_bytes == 0


def test_what_is_sent_before_anybody_is_there_waits(net):
    out = net.sender()
    send(out, range(5))
    assert (out.unacknowledged, out.silence_s) == (5, None)
    assert not out.wait_for_peer(0.05)
    consumer = net.consumer()
    consumer.look(lambda: len(consumer.got) == 5)
    assert consumer.indices == list(range(5))


def test_on_request_nothing_is_taken_while_nobody_is_there(net):
    out = net.sender(needs_peer=True)
    assert not out.send(frame(0), wait_s=0.05)
    consumer = net.consumer()
    consumer.look(lambda: out.send(frame(0)))
    consumer.look(lambda: consumer.got)
    consumer.receiver.close()
    until(lambda: not out.send(frame(1)), "it notices that the consumer is gone")


def test_only_what_is_acknowledged_is_let_go(net):
    out, consumer = net.linked()
    send(out, range(100))
    consumer.look(lambda: len(consumer.got) == 100, safe=False)
    consumer.look(most=0, safe=False)
    assert out.unacknowledged == 100
    consumer.receiver.acknowledge()
    consumer.look(lambda: out.unacknowledged == 0, safe=False)


def test_a_full_window_holds_the_sender_up_until_there_is_room(net):
    out, consumer = net.linked(max_bytes=20_000)
    taken = 0
    while out.send(frame(taken), wait_s=0.01):
        taken += 1
    assert taken == 20_000 // (FRAME_BYTES + len(encode(frame(0))[0]) + 1024)
    assert not out.send(frame(taken), wait_s=10, give_up=lambda: True)
    consumer.look(lambda: out.send(frame(taken), wait_s=0.01))
    consumer.look(lambda: len(consumer.got) == taken + 1)
    assert consumer.indices == list(range(taken + 1))


def test_what_nobody_waits_for_leaves_room_for_the_rest(net):
    out = net.sender(max_bytes=1 << 20, max_messages=10)
    assert [out.send(frame(i)) for i in range(7)] == [True] * 5 + [False] * 2
    assert [out.send(frame(i), wait_s=0.01) for i in range(6)] == [True] * 5 + [False]


def test_a_message_larger_than_the_window_goes_alone(net):
    out, consumer = net.linked(max_bytes=1000)
    large = frame(0, pixels=np.zeros((1, 100, 100), np.uint16))
    for _ in range(2):
        consumer.look(lambda: out.send(large, wait_s=0.01))
    consumer.look(lambda: len(consumer.got) == 2)


def test_a_message_that_no_consumer_would_take_is_refused(net, monkeypatch):
    monkeypatch.setattr(outlink, "MAX_PART_BYTES", 1000)
    out = net.sender()
    with pytest.raises(CodecError, match="at most 1000"):
        out.send(frame(0, pixels=np.zeros((1, 100, 100), np.uint16)))
    assert out.unacknowledged == 0


def test_draining_waits_for_the_last_acknowledgement(net):
    out, consumer = net.linked()
    send(out, range(3))
    assert out.drain(0.05) == 3
    consumer.look(lambda: out.drain(0.01) == 0)
    assert consumer.indices == [0, 1, 2]


def test_nobody_changes_what_another_one_holds(net):
    out, consumer = net.linked("inproc://link", max_bytes=1 << 24)
    pixels = np.arange(512 * 512, dtype=np.uint16).reshape(1, 512, 512)
    sent = frame(0, pixels=pixels)
    assert out.send(sent, wait_s=1)
    consumer.look(lambda: consumer.got)
    chunk = consumer.got[0].payload.chunks[0]
    assert chunk.readonly
    assert np.shares_memory(np.frombuffer(chunk, np.uint16), np.frombuffer(sent.payload.chunks[0], np.uint16)), "no copy"


def test_messages_of_links_and_of_sockets_take_turns(net):
    out = net.sender("inproc://one")
    other = OutLink(net.context, "inproc://two", "write", max_bytes=1 << 20)
    net.open.append(other)
    links = [InLink(net.context, address, "write") for address in ("inproc://one", "inproc://two")]
    with Receiver(net.context, [], links=links) as receiver:
        send(out, range(100))
        send(other, range(1000, 1005))

        def introduced() -> bool:
            receiver.receive(0)
            out.turn()
            other.turn()
            return all(link.introduced for link in links)

        first = None
        while first is None:
            out.turn()
            other.turn()
            first = receiver.receive(0.01) if introduced() else None
        got = [first]
        while len(got) < 12:
            out.turn()
            other.turn()
            got.append(receiver.receive(WAIT_S))
        assert sum(int(message.index[0]) >= 1000 for message in got) >= 3


# connections that break


@pytest.mark.parametrize("seed", range(4))
def test_cuts_and_stalls_lose_and_repeat_nothing(net, seed, monkeypatch):
    """A network that breaks off at random moments, in every way that TCP knows."""
    monkeypatch.setattr(inlink, "BEAT_S", 0.05)
    rng = random.Random(seed)
    out = net.sender(max_bytes=400_000)
    pixels = np.zeros((1, 128, 128), np.uint16)
    n = 400
    with Proxy(int(out.address.rsplit(":", 1)[1])) as proxy:
        consumer = net.consumer(proxy.address)
        sent = 0
        while len(consumer.got) < n:
            for _ in range(rng.randrange(20)):
                if sent < n and out.send(frame(sent, pixels=pixels)):
                    sent += 1
            consumer.look(most=rng.randrange(1, 20), safe=rng.random() < 0.7)
            if rng.random() < 0.06:
                match rng.randrange(3):
                    case 0:
                        proxy.cut(reset=rng.random() < 0.5)
                    case 1:
                        proxy.cut(refuse=True)
                    case 2:
                        proxy.stall()
            elif rng.random() < 0.5:
                proxy.accept()
                proxy.go_on()
        proxy.accept()
        proxy.go_on()
        consumer.look(lambda: not out.unacknowledged)
        assert consumer.indices == list(range(n))
        assert proxy.connections > 2


def test_a_consumer_that_begins_anew_gets_what_was_not_safe_and_the_starts_of_open_scans(net):
    out, first = net.linked()
    assert out.send(start("a"), wait_s=1)
    send(out, range(3))
    first.look(lambda: out.unacknowledged == 0)
    send(out, range(3, 6))
    first.look(lambda: len(first.got) == 7, safe=False)
    first.receiver.close()

    second = net.consumer()
    second.look(lambda: len(second.got) == 4)
    again, *rest = second.got
    assert isinstance(again, ScanStart)
    assert same(again, start("a", repeated=True))
    assert [int(message.index[0]) for message in rest] == [3, 4, 5]
    second.look(lambda: out.unacknowledged == 0)


def test_nothing_is_lost_while_consumers_come_and_go(net):
    """Each takes some, and is gone before all of it is safe; what was safe is not sent again."""
    rng = random.Random(3)
    out = net.sender()
    n, sent, safe = 100, 0, []
    while len(set(safe)) < n:
        consumer = net.consumer()
        consumer.look(lambda link=consumer.link: link.introduced, safe=False)
        for _ in range(rng.randrange(1, 4)):
            for _ in range(rng.randrange(10)):
                if sent < n and out.send(frame(sent)):
                    sent += 1
            consumer.look(most=rng.randrange(1, 10), safe=False)
            if rng.random() < 0.7:
                consumer.receiver.acknowledge()
                safe += [i for i in consumer.indices if i not in safe]
                if rng.random() < 0.7:  # else it is gone before it has said so
                    kept = out.unacknowledged
                    consumer.look(lambda kept=kept: out.unacknowledged < kept or not kept, safe=False)
        assert consumer.indices == list(range(consumer.indices[0], consumer.indices[-1] + 1)) if consumer.indices else True
        consumer.receiver.close()
    assert sorted(safe) == list(range(n))


def test_scans_that_are_over_are_told_of_as_far_as_wanted(net):
    def done(scan_id: str) -> ReceiveStatus:
        return ReceiveStatus(scan_id=scan_id, started_ns=1, state=ServiceState.DONE, time_ns=1)

    def over(scan_id: str) -> ScanEnd:
        return ScanEnd(scan_id=scan_id, started_ns=1, stream=GOOD["end"].stream, count=0)

    out, first = net.linked(over=2)
    for scan_id in "abc":
        for message in (start(scan_id), frame(0, scan_id), done(scan_id), over(scan_id)):
            assert out.send(message, wait_s=1)
    assert out.send(start("d"), wait_s=1)
    first.look(lambda: out.unacknowledged == 0)
    first.receiver.close()
    second = net.consumer()
    second.look(lambda: len(second.got) == 7)
    second.look(most=1)
    told = [(message.kind, message.scan_id) for message in second.got]
    ended = [(kind, scan_id) for scan_id in "bc" for kind in ("start", "receive_status", "end")]
    assert told == [*ended, ("start", "d")]


def test_a_sender_that_begins_anew_is_told_what_the_consumer_has(net):
    held: list[Message] = [GOOD["start"], GOOD["resume"]]
    out = net.sender()
    address = out.address
    consumer = net.consumer(resume=lambda: held)
    consumer.look(lambda: consumer.link.introduced)
    assert [message.kind for message in out.resumed()] == ["start", "resume"]
    send(out, range(3))
    consumer.look(lambda: len(consumer.got) == 3)
    out.close()

    again = until(lambda: _bound(net, address))
    consumer.look(lambda: again.wait_for_peer(0))
    resumed = again.resumed()
    assert [type(message) for message in resumed] == [ScanStart, Resume]
    assert same(resumed[1], GOOD["resume"])
    assert again.resumed() == [], "told once"
    send(again, range(10, 13))
    consumer.look(lambda: len(consumer.got) == 6)
    assert consumer.indices == [0, 1, 2, 10, 11, 12]


def _bound(net: Net, address: str) -> OutLink | None:
    """The address is free a moment after the former socket was closed."""
    try:
        return net.sender(address)
    except Exception:  # noqa: BLE001 - asked again
        return None


def test_a_consumer_waits_until_it_knows_what_another_link_says(net):
    out = net.sender("inproc://one")
    other = OutLink(net.context, "inproc://two", "write", max_bytes=1 << 20)
    net.open.append(other)
    first = InLink(net.context, "inproc://one", "write")
    second = InLink(net.context, "inproc://two", "write", after=first)
    with Receiver(net.context, [], links=[first, second]) as receiver:
        send(other, [7])
        for _ in range(20):
            assert receiver.receive(0.01) is None
            other.turn()
        assert other.silence_s is None
        got = until(lambda: (out.turn(), other.turn(), receiver.receive(0.01))[2])
        assert first.introduced
        assert int(got.index[0]) == 7


def test_one_that_misses_a_message_asks_again(net):
    """It cannot happen on one connection; if it does, nothing is skipped."""
    out, consumer = net.linked()
    send(out, range(2))
    consumer.look(lambda: len(consumer.got) == 2)
    out._window.put((encode(frame(2)), None), 1)
    out._window.sent()
    send(out, range(3, 6))
    consumer.look(lambda: len(consumer.got) == 6)
    assert consumer.indices == list(range(6))


# peers that are not what they seem


def test_of_two_consumers_the_newer_is_served_and_the_older_told(net, caplog):
    out, first = net.linked()
    send(out, range(3))
    first.look(lambda: len(first.got) == 3, safe=False)
    second = net.consumer()
    second.look(lambda: len(second.got) == 3)
    assert "a new write service takes over" in caplog.text
    with pytest.raises(ReplacedError, match="another write service has taken over; stop one of the two"):
        first.look(most=1000)
    send(out, range(3, 6))
    second.look(lambda: out.unacknowledged == 0)
    assert second.indices == list(range(6))


def test_a_service_at_the_wrong_address_is_told(net, caplog):
    net.sender()
    consumer = net.consumer(service="reconstruct")
    with pytest.raises(LinkError, match="serves write, not 'reconstruct'") as refused:
        consumer.look()
    assert not isinstance(refused.value, ReplacedError), "it may try again: the other end may be mended"
    assert "not served and gets no message: hello.service" in caplog.text


def test_another_version_is_refused_once_in_the_log_and_told(net, caplog):
    out = net.sender()
    dealer = net.peer(zmq.DEALER)
    for _ in range(3):
        dealer.send_multipart(changed(link=2))
    until(lambda: (out.turn(), out.rejected["hello.link"] == 3)[1])
    assert caplog.text.count("link version 2, this program 1") == 1
    mark, reason = dealer.recv_multipart()
    assert read_mark(mark).kind is MarkKind.BYE
    assert b"link version 2" in reason


STRAYS = {"pull": zmq.PULL, "push": zmq.PUSH, "dealer": zmq.DEALER, "req": zmq.REQ, "sub": zmq.SUB, "router": zmq.ROUTER}


@pytest.mark.parametrize("kind", STRAYS.values(), ids=STRAYS)
def test_a_stranger_takes_nothing_and_does_no_harm(net, kind):
    out, consumer = net.linked()
    strangers = [net.peer(kind) for _ in range(3)]
    rng = random.Random(1)
    junk = [parts for parts, _ in BAD_HELLOS.values() if parts] + [[bytes(p) for p in encode(m)] for m in GOOD.values()]
    for i in range(200):
        for stranger in strangers:
            with suppress(zmq.ZMQError):  # it cannot send, or has nobody to send to
                stranger.send_multipart(rng.choice(junk), zmq.NOBLOCK)
        assert out.send(frame(i), wait_s=WAIT_S)
        consumer.look(most=1)
    consumer.look(lambda: out.unacknowledged == 0)
    assert consumer.indices == list(range(200))
    for stranger in strangers:
        while stranger.type != zmq.PUSH and stranger.poll(0, zmq.POLLIN):
            mark, *_ = stranger.recv_multipart()
            assert read_mark(mark).kind in (MarkKind.WELCOME, MarkKind.BYE)


def test_a_hello_that_claims_more_than_was_sent_is_refused(net, caplog):
    out, consumer = net.linked()
    dealer = net.peer(zmq.DEALER)
    liar = Hello(service="write", session=9, beat=1, sender=out.session, taken=50, settled=50)
    dealer.send_multipart(pack_hello(liar))
    until(lambda: (out.turn(), out.rejected["hello.taken"])[1])
    send(out, range(3))
    consumer.look(lambda: consumer.indices == [0, 1, 2])


def test_a_publisher_of_something_else_is_not_believed(net, caplog):
    """The address of another program, which speaks ZeroMQ and nothing that we know."""
    router = net.context.socket(zmq.ROUTER)
    net.open.append(router)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    net.sender()
    consumer = net.consumer(f"tcp://127.0.0.1:{port}")
    identity = None
    while identity is None:
        consumer.receiver.receive(0.01)
        if router.poll(0):
            identity, *_ = router.recv_multipart()
    router.send_multipart([identity, b"noise"])
    router.send_multipart([identity, b"noise", b"more"])
    router.send_multipart([identity, Mark(MarkKind.MESSAGE, 77, 1).pack(), *encode(GOOD["end"])])
    consumer.look(lambda: "is not understood" in caplog.text)
    assert consumer.look(most=1) == []
    assert caplog.text.count("is not understood") == 1


def test_bad_bytes_that_a_sender_passes_on_are_values(net):
    out, consumer = net.linked()
    out._window.put(([b"noise"], None), 1)
    send(out, [0])
    consumer.look(lambda: len(consumer.got) == 2)
    assert isinstance(consumer.got[0], ProtocolError)
    assert isinstance(consumer.got[1], Frame)


# silence


def test_both_ends_say_how_long_the_other_has_been_silent(net, monkeypatch, caplog):
    out, consumer = net.linked()
    consumer.look(lambda: consumer.link.heard_s is not None and out.silence_s is not None)
    beats = []
    for _ in range(3):  # though there is nothing to say
        then = consumer.link.heard_s
        consumer.look(lambda then=then: consumer.link.heard_s != then)
        beats.append(out.silence_s)
    assert max(beats) < protocol_patience()
    monkeypatch.setattr(outlink, "SILENT_S", 0.2)
    send(out, [0])
    until(lambda: (out.turn(), "has said nothing for" in caplog.text)[1])
    assert out.silence_s >= 0.2
    consumer.look(lambda: "is back" in caplog.text)
    assert caplog.text.count("has said nothing for") == 1


def protocol_patience() -> float:
    return 20 * inlink.BEAT_S
