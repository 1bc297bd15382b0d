"""Several sources as one stream of facts."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from streamptycho.compose.options import Role
from streamptycho.dialects import door
from streamptycho.dialects.door import Interpreter
from streamptycho.errors import CodecError, ProtocolError
from streamptycho.messages.facts import Ended, Fact, Remark
from streamptycho.messages.stream import Frame, Positions, ScanStart
from streamptycho.sources.listener import Listener, OwnStream, Stream, listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.wire.codec import encode
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Sender, new_context
from tests import scans
from tests.ports import free_address
from tests.sources.test_tcp import WAIT_S, Server


class Lines:
    """A dialect of connections that says each line, and what was lost with a connection."""

    greeting = b"hello\n"

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, parts: Sequence[bytes], now_s: float) -> Iterable[Fact]:
        *lines, self._kept = (self._kept + b"".join(parts)).split(b"\n")
        return [Ended(run=line.decode()) for line in lines]

    def tick(self, now_s: float) -> Iterable[Fact]:
        return ()

    def restarted(self, now_s: float) -> Iterable[Fact]:
        lost, self._kept = self._kept, b""
        return [Ended(run=f"lost {lost.decode()}")]


class Script:
    """A source that cannot be waited for."""

    pollable = None

    def __init__(self, *said: Any) -> None:
        self.said = list(said)
        self.closed = False

    def poll(self, timeout_s: float) -> Sequence[bytes] | None:
        said = self.said.pop(0) if self.said else None
        if isinstance(said, Exception):
            raise said
        return said

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "make", lambda name, options: Lines())


def runs(listener: Listener, count: int) -> list[Any]:
    heard = [listener.receive(WAIT_S) for _ in range(count)]
    return [(one.role, getattr(one.fact, "run", one.fact)) for one in heard if one is not None]


def test_a_source_that_cannot_be_waited_for_is_asked_again_and_again(lines):
    script = Script(None, None, None, [b"a\nb\n"], None, [b"c"], None, [b"\n"])
    with Listener([Stream(Role.DOCUMENTS, script, Interpreter("lines"))]) as listener:
        assert runs(listener, 3) == [("documents", run) for run in "abc"]
        assert listener.receive(0.05) is None
    assert script.closed


def test_what_a_source_cannot_read_is_a_fact_and_not_the_end(lines):
    bad = CodecError("file", "is gone")
    with Listener([Stream(Role.FRAMES, Script(bad, [b"a\n"]), Interpreter("lines"))]) as listener:
        assert runs(listener, 2) == [("frames", bad), ("frames", "a")]


def test_a_dialect_hears_of_a_new_connection(lines):
    server = Server()
    try:
        end = DetectorEndpoint(address=server.address, socket="stream")
        with new_context() as context, listen(context, {Role.POSITIONS: end}) as listener:
            while listener.receive(0.01) is not None:
                pytest.fail("nothing was sent")
            first = server.accept()
            assert first.recv(100) == Lines.greeting
            first.sendall(b"a\nb")
            first.close()
            assert runs(listener, 2) == [("positions", "a"), ("positions", "lost b")]
            second = server.accept()
            assert second.recv(100) == Lines.greeting
            second.sendall(b"c\n")
            assert runs(listener, 1) == [("positions", "c")]
    finally:
        server.close()


def test_our_own_frames_that_have_come_together_are_heard_as_one_block():
    messages = [scans.start(), *map(scans.frame, range(5)), scans.positions([0]), scans.positions([1])]
    said = [*map(encode, messages), [b"nonsense"], encode(scans.frame(5)), None, encode(scans.frame(6))]
    with Listener([OwnStream(Role.FRAMES, Script(*said))]) as listener:
        facts = [listener.receive(WAIT_S).fact for _ in range(6)]
        assert listener.receive(0) is None
    assert isinstance(facts[3], ProtocolError)
    assert [type(fact) for i, fact in enumerate(facts) if i != 3] == [ScanStart, Frame, Positions, Frame, Frame]
    assert [facts[i].index.tolist() for i in (1, 2, 4, 5)] == [list(range(5)), [0, 1], [5], [6]]


V1 = [[json.dumps({"htype": "dheader-1.0", "series": 7, "header_detail": "none"}).encode()]]
V1 += [
    [
        json.dumps({"htype": "dimage-1.0", "series": 7, "frame": i, "hash": ""}).encode(),
        json.dumps({"htype": "dimage_d-1.0", "shape": [4, 4], "type": "uint16", "encoding": "<", "size": 32}).encode(),
        bytes(32),
        json.dumps({"htype": "dconfig-1.0", "start_time": 0, "stop_time": 0, "real_time": 0}).encode(),
    ]
    for i in range(6)
]


@pytest.mark.parametrize(
    ("format", "said", "told"),
    [
        (
            "streamptycho",
            V1,
            "understood as streamptycho; it looks like dectris-v1: set format",
        ),
        ("dectris-v1", [encode(scans.frame(i)) for i in range(6)], "as dectris-v1; it looks like streamptycho: set format"),
        (
            "streamptycho",
            [[b"hello"]] * 6,
            "as streamptycho, or as any other format that is known; or its beginning was missed",
        ),
        ("streamptycho", [[b"hello"]] * 3, ""),
        ("streamptycho", [encode(scans.start()), *V1], ""),
        ("dectris-v1", V1, ""),
    ],
)
def test_a_stream_in_another_format_than_is_configured_is_told_of_once(format: str, said: list, told: str):
    sockets = Endpoint(address=free_address(), socket=SocketKind.PUSH, bind=True)
    ends = {Role.FRAMES: DetectorEndpoint(address=sockets.address, format=format)}
    with new_context() as context, Sender(context, sockets) as sender, listen(context, ends) as listener:
        assert sender.wait_for_peer(WAIT_S)
        for parts in said:
            assert sender.send_parts(parts, wait_s=WAIT_S)
        heard = [listener.receive(0.1) for _ in range(15)]
    assert any(one is not None for one in heard)
    texts = [one.fact.text for one in heard if one is not None and isinstance(one.fact, Remark)]
    assert len(texts) == bool(told)
    assert all(told in text for text in texts)
