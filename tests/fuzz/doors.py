"""Where things are thrown: sockets of right and wrong kinds at every address, raw connections, requests and viewers."""

import socket
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from random import Random
from typing import Any

import zmq
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_viewer

from streamptycho.documents.history import QUESTION
from streamptycho.errors import CodecError
from streamptycho.wire.codec import Part
from streamptycho.wire.hello import read_mark
from tests.fuzz.mutations import DETECTOR_KINDS, Mutations, Parts
from tests.fuzz.raw import connect, throw
from tests.fuzz.rig import DETECTOR, TOKEN, Rig
from tests.hostile import GOOD

PEERS = {
    "frames": (zmq.PUSH, zmq.DEALER, zmq.PUB, zmq.REQ),
    "positions": (zmq.XPUB, zmq.PUB, zmq.PUSH),
    "control": (zmq.PUSH, zmq.DEALER, zmq.REQ),
    "catch_up": (zmq.REQ, zmq.DEALER, zmq.ROUTER),
    "writer": (zmq.DEALER, zmq.REQ, zmq.ROUTER, zmq.PULL, zmq.SUB, zmq.PAIR),
    "engine": (zmq.DEALER, zmq.REQ, zmq.PULL),
    "results": (zmq.DEALER, zmq.PULL, zmq.SUB),
    "display_receive": (zmq.XSUB, zmq.SUB, zmq.PULL),
    "display_reconstruct": (zmq.XSUB, zmq.PULL),
    "display_write": (zmq.XSUB, zmq.DEALER),
    "documents": (zmq.XSUB, zmq.SUB),
}
"""Kinds of sockets that come to each address; the first is what belongs there."""
LINKS = ("writer", "engine", "results")
RENEW = 2000
"""Messages after which a socket gives way to a new one, so that connections come and go."""
SILENT = 8
"""Connections that say nothing, or not all, and stay open."""
WAIT_MS = 20_000
BRIEF_S = 0.3


class StalledError(Exception):
    """A service takes nothing any more."""


class Peer:
    """One socket at one address."""

    def __init__(self, context: zmq.Context[Any], address: str, kind: int, *, lasts: bool = False) -> None:
        """With `lasts`, its connection stays, and it waits for room."""
        self.address, self.kind, self.lasts = address, kind, lasts
        self._context = context
        self._used = 0
        self.session = 0
        """Of the sender at the other end of a link, once that has said it."""
        self._open()

    def _open(self) -> None:
        self.socket: zmq.Socket[Any] = self._context.socket(self.kind)
        self.socket.setsockopt(zmq.LINGER, 1000)
        if self.kind == zmq.SUB:
            self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        if self.kind in (zmq.PUB, zmq.XPUB):
            self.socket.setsockopt(zmq.SNDHWM, 100_000)
        if self.kind == zmq.REQ:
            self.socket.setsockopt(zmq.REQ_RELAXED, 1)
        self.socket.connect(self.address)

    def send(self, parts: Sequence[Part]) -> bool:
        """Send if the socket can. What has come back is read, so that it does not pile up."""
        self._used += 1
        if self._used % RENEW == 0 and not self.lasts:
            self.close()
            self._open()
        self._listen()
        try:
            if self.lasts and not self.socket.poll(WAIT_MS, zmq.POLLOUT):
                raise StalledError(f"{self.address} has taken nothing for {WAIT_MS / 1000:g} s")
            if self.kind in (zmq.SUB, zmq.XSUB):
                self._subscribe(parts)
            elif self.kind != zmq.PULL:
                self.socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:  # a socket of the wrong kind never gets a peer
            return False
        return True

    def _subscribe(self, parts: Sequence[Part]) -> None:
        if self.kind == zmq.XSUB:
            first = b"\x01" if self._used % 3 else b"\x00"
            self.socket.send(first + bytes(parts[0][:2000]), zmq.NOBLOCK)
            if self._used % 5 == 0:
                self.socket.send_multipart(parts, zmq.NOBLOCK)

    def _listen(self) -> None:
        with suppress(zmq.ZMQError):
            for _ in range(8):
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
                with suppress(CodecError):
                    self.session = read_mark(parts[0]).session

    def close(self) -> None:
        self.socket.close(0)


class Doors:
    """All ways in; :meth:`throw` takes one at random."""

    def __init__(self, context: zmq.Context[Any], rig: Rig) -> None:
        self.rig = rig
        self.counts: Counter[str] = Counter()
        """Things that were thrown, by way."""
        self.peers = {
            name: [
                Peer(context, rig.addresses[name], kind, lasts=name in DETECTOR and i == 0) for i, kind in enumerate(kinds)
            ]
            for name, kinds in PEERS.items()
        }
        self._silent: deque[socket.socket] = deque()
        self._viewer: ClientConnection | None = None
        self._leaving = ExitStack()
        self._listened = False

    def close(self) -> None:
        """Close all connections."""
        for peers in self.peers.values():
            for peer in peers:
                peer.close()
        while self._silent:
            self._silent.popleft().close()
        self._leave()

    def detector(self) -> tuple[Peer, Peer]:
        """The sockets for frames and for positions that are those of a detector, once both are listened to."""
        frames, positions = (self.peers[name][0] for name in DETECTOR)
        if not (frames.socket.poll(WAIT_MS, zmq.POLLOUT) and (self._listened or positions.socket.poll(WAIT_MS, zmq.POLLIN))):
            raise StalledError("nobody listens to the detector")
        self._listened = True
        return frames, positions

    def throw(self, random: Random, made: Mutations) -> None:
        """One thing at one address."""
        way = random.choices(_WAYS, _WEIGHTS)[0]
        self.counts[way] += 1
        match way:
            case "detector":
                self._detector(random, made)
            case "links":
                peer = self._peer(random, random.choice(LINKS))
                peer.send(made.hello(peer.session) if random.random() < 0.8 else made.message())
            case "commands":
                self._peer(random, "control").send(made.command())
            case "displays":
                name = random.choice(("display_receive", "display_reconstruct", "display_write", "documents"))
                self._peer(random, name).send(made.message())
            case "questions":
                parts: Parts = random.choice(([QUESTION], [QUESTION] * 3, made.message(("end",))))
                self._peer(random, "catch_up").send(parts)
            case "raw":
                with suppress(OSError):  # nobody is there: the campaign looks who has died
                    self._raw(random, made.raw())
            case "requests":
                with suppress(OSError):
                    self._request(random, made.http(TOKEN))
            case "viewers":
                self._view(random, made)

    def _peer(self, random: Random, name: str) -> Peer:
        first, *others = self.peers[name]
        return first if random.random() < 0.8 else random.choice(others)

    def _detector(self, random: Random, made: Mutations) -> None:
        name = "frames" if random.random() < 0.8 else "positions"
        kinds = DETECTOR_KINDS if random.random() < 0.8 else tuple(GOOD)
        self._peer(random, name).send(made.message(kinds))

    def _raw(self, random: Random, data: bytes) -> None:
        address = self.rig.addresses[random.choice(list(self.rig.addresses))]
        if random.random() < 0.2:
            self._hold(connect(address), data[: random.randrange(len(data) + 1)])
        else:
            throw(address, data, BRIEF_S)

    def _hold(self, connection: socket.socket, data: bytes) -> None:
        connection.setblocking(False)
        with suppress(OSError):
            connection.send(data)
        self._silent.append(connection)
        if len(self._silent) > SILENT:
            self._silent.popleft().close()

    def _request(self, random: Random, data: bytes) -> None:
        address = f"tcp://127.0.0.1:{self.rig.page}"
        if random.random() < 0.05:
            self._hold(connect(address), data[: random.randrange(len(data) + 1)])
        elif random.random() < 0.1:
            throw(address, _UPGRADE + random.randbytes(random.choice((2, 100, 10_000))), BRIEF_S)
        else:
            throw(address, data, BRIEF_S)

    def _view(self, random: Random, made: Mutations) -> None:
        try:
            if self._viewer is None:
                with_token = random.random() < 0.7
                address = f"ws://127.0.0.1:{self.rig.page}/ws" + (f"?token={TOKEN}" if with_token else "")
                connecting = connect_viewer(address, max_size=None, compression=None, close_timeout=0.1)
                self._viewer = self._leaving.enter_context(connecting)
            self._viewer.send(made.viewer())
            with suppress(TimeoutError):
                self._viewer.recv(timeout=0)
            if random.random() < 0.02:
                self._leave()
        except (WebSocketException, UnicodeEncodeError, OSError):
            self._leave()

    def _leave(self) -> None:
        self._viewer = None
        self._leaving.close()


_CHANCES = {
    "detector": 62,
    "links": 15,
    "commands": 8,
    "displays": 8,
    "questions": 3,
    "raw": 1.5,
    "requests": 1,
    "viewers": 1.5,
}
_WAYS, _WEIGHTS = list(_CHANCES), list(_CHANCES.values())
_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
