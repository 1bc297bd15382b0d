"""A plain TCP connection as a source: what a peer may do to it, and what the dialect hears of that."""

import logging
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from streamptycho.sources import tcp
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.sources.tcp import TcpSource
from tests.ports import free_port

WAIT_S = 20.0


class Server:
    """A peer that does what the test says."""

    def __init__(self, port: int = 0) -> None:
        self._listening = socket.create_server(("127.0.0.1", port))
        self._listening.settimeout(WAIT_S)
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open = [self._listening]

    def accept(self) -> socket.socket:
        peer, _ = self._listening.accept()
        peer.settimeout(WAIT_S)
        self._open.append(peer)
        return peer

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., TcpSource]]:
    made: list[TcpSource] = []

    def build(address: str, greeting: bytes = b"") -> TcpSource:
        made.append(TcpSource(DetectorEndpoint(address=address, socket="stream"), greeting, "peer of the test"))
        return made[-1]

    yield build
    for source in made:
        source.close()


def until(source: TcpSource, done: Callable[[list[bytes] | None], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done(source.poll(0.01)):
        assert time.monotonic() < deadline


def read(source: TcpSource, size: int) -> bytes:
    """As many bytes from one connection."""
    got = bytearray()

    def enough(parts: list[bytes] | None) -> bool:
        assert parts != [], "a new connection"
        got.extend(b"".join(parts or ()))
        return len(got) >= size

    until(source, enough)
    return bytes(got)


def test_the_greeting_goes_out_first_and_bytes_come_as_they_are(server, connect):
    source = connect(server.address, b"XML FRAMED SCALED\n")
    assert source.pollable is None, "a connection that is not there yet cannot be waited for"
    until(source, lambda parts: source.pollable is not None)
    peer = server.accept()
    assert peer.recv(100) == b"XML FRAMED SCALED\n"
    peer.sendall(b"OK\n")
    assert read(source, 3) == b"OK\n"
    assert source.poll(0) is None


def test_a_new_connection_is_announced_before_its_first_bytes(server, connect, caplog):
    source = connect(server.address, b"hello")
    until(source, lambda parts: source.pollable is not None)
    first = server.accept()
    first.sendall(b"abc")
    assert read(source, 3) == b"abc"
    first.close()
    heard: list[list[bytes]] = []

    def new(parts: list[bytes] | None) -> bool:
        heard.extend([] if parts is None else [parts])
        return bool(heard)

    until(source, new)
    assert heard == [[]]
    second = server.accept()
    assert second.recv(100) == b"hello"
    second.sendall(b"def")
    assert read(source, 3) == b"def"
    assert caplog.text.count("the connection broke (") == 1


def test_what_is_not_asked_for_waits_at_the_sender(server, connect):
    source = connect(server.address)
    until(source, lambda parts: source.pollable is not None)
    peer = server.accept()
    peer.settimeout(0.5)
    sent = bytearray()
    while len(sent) < 1 << 28:
        block = bytes([len(sent) % 251]) * (1 << 20)
        try:
            sent += block[: peer.send(block)]
        except TimeoutError:
            break
    assert len(sent) < 1 << 28
    assert read(source, len(sent)) == sent


def test_a_peer_that_is_not_there_is_told_of_once_and_found_when_it_comes(connect, caplog, monkeypatch):
    monkeypatch.setattr(tcp, "PATIENCE_S", 0.0)
    monkeypatch.setattr(tcp, "BACK_OFF_S", 0.01)
    caplog.set_level(logging.INFO, "streamptycho")
    port = free_port()
    source = connect(f"tcp://127.0.0.1:{port}")
    until(source, lambda parts: source._back_off_s > 0.1)
    assert [record.getMessage() for record in caplog.records] == [
        f"tcp://127.0.0.1:{port}: no connection (Connection refused); trying again and again"
    ]
    server = Server(port)
    try:
        until(source, lambda parts: source.pollable is not None)
        server.accept().sendall(b"x")
        assert read(source, 1) == b"x"
    finally:
        server.close()
    assert caplog.records[1].getMessage() == f"tcp://127.0.0.1:{port}: connected"


def test_a_connection_that_is_there_at_last_is_said_to_be_though_nothing_comes(connect, caplog, monkeypatch):
    monkeypatch.setattr(tcp, "PATIENCE_S", 0.0)
    monkeypatch.setattr(tcp, "STANDS_S", 0.0)
    port = free_port()
    source = connect(f"tcp://127.0.0.1:{port}")
    until(source, lambda parts: bool(caplog.records))
    server = Server(port)
    try:
        until(source, lambda parts: source.pollable is not None)
        assert source.pollable is not None
        assert caplog.records[-1].getMessage() == f"tcp://127.0.0.1:{port}: connected"
        assert len(caplog.records) == 2, "once"
    finally:
        server.close()


def test_a_greeting_without_an_answer_is_told_once(server, connect, caplog, monkeypatch):
    monkeypatch.setattr(tcp, "ANSWER_S", 0.0)
    source = connect(server.address, b"XML FRAMED SCALED\n")
    for _ in range(2):
        until(source, lambda parts: source.pollable is not None)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"connected to {server.address}, but what is there does not answer: it is no peer of the test")


def test_an_answer_ends_the_wait_for_it(server, connect, caplog, monkeypatch):
    source = connect(server.address, b"XML FRAMED SCALED\n")
    until(source, lambda parts: source.pollable is not None)
    server.accept().sendall(b"OK\n")
    assert read(source, 3) == b"OK\n"
    monkeypatch.setattr(tcp, "ANSWER_S", 0.0)
    assert source.pollable is not None
    assert not caplog.records


def test_a_peer_that_hangs_up_at_once_is_not_beset(server, connect, caplog):
    source = connect(server.address)
    for _ in range(4):
        until(source, lambda parts: source.pollable is not None)
        server.accept().close()
        until(source, lambda parts: source.pollable is None)
    assert source._back_off_s == pytest.approx(16 * tcp.BACK_OFF_S)
    assert caplog.text.count("the connection broke") == 1


def test_a_name_that_cannot_be_one(connect, caplog, monkeypatch):
    monkeypatch.setattr(tcp, "PATIENCE_S", 0.0)
    source = connect(f"tcp://{'a' * 70}:5")
    until(source, lambda parts: bool(caplog.records))
    assert "no connection (" in caplog.text


def test_it_can_be_closed_at_any_time(server, connect):
    source = connect(server.address)
    source.close()
    source = connect(server.address)
    source.poll(0)
    source.close()
    source = connect(server.address)
    until(source, lambda parts: source.pollable is not None)
    source.close()
    assert source.pollable is None
