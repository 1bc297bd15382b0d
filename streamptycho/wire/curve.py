"""Who may connect: CURVE keys on every TCP socket, and a line in the log about each peer that is refused.

A :class:`Context` carries the keys of its program. Whoever opens a socket in it calls :func:`secure` before the socket binds
or connects; what binds is the server in the sense of CURVE. A thread of the context decides about peers (ZAP, RFC 27) and
hears from libzmq of handshakes that failed, on both sides.
"""

import logging
import math
import os
import queue
import socket as sockets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Final

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from streamptycho.wire.endpoint import Endpoint
from streamptycho.wire.keys import Keys, load_keys, load_public_key, public_keys
from streamptycho.wire.security import NO_KEYS, SecurityOptions, leaves_the_machine
from streamptycho.wire.watch import ATTEMPTS, TOLD, Watch

log = logging.getLogger(__name__)

PATIENCE_S = 3.0
"""How long a connection is tried in vain before that is said: the peer may be about to start, or to end."""
HANDSHAKE_S = 3.0
"""Time for two peers to accept each other; one whose key is refused tries again after it, and may be allowed by then."""
RENEW_S = 1.0
"""Time after which a connection that libzmq has given up is tried again."""
RECENT_S = 5.0
"""How long the newest reason that libzmq gave counts."""
MAX_NAMED = 256
"""Refused peers that are named, each by address and reason."""
_POLL_MS = 500
_ZAP: Final = "inproc://zeromq.zap.01"
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_BINDS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _FAILED | zmq.EVENT_MONITOR_STOPPED
_GIVEN_UP = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
"""After these, libzmq does not connect again."""
_CONNECTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | _GIVEN_UP | zmq.EVENT_MONITOR_STOPPED
_OTHER_MECHANISM: Final = zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
_WRONG_KEY: Final = zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC
_names = count()
_FIRST: Final = threading.Lock()
"""Held while a context gets its guard: services that are threads of one process open their sockets at the same time."""


class Context(zmq.Context[zmq.Socket[bytes]]):
    """A context whose sockets have the keys of one program."""

    keys: Keys | None = None
    guard: "Guard | None" = None
    open_to_all: frozenset[str] = frozenset()
    """Addresses whose openness has been said."""

    def watched(self) -> "Guard":
        """The guard of this context, which runs from now on; threads that share the context share it."""
        with _FIRST:
            if self.guard is None:
                self.guard = Guard(self, self.keys)
            return self.guard

    def term(self) -> None:
        """End, once all sockets are closed."""
        self._dismiss()
        super().term()

    def destroy(self, linger: int | None = None) -> None:
        """Close all sockets and end."""
        self._dismiss()
        super().destroy(linger)

    def _dismiss(self) -> None:
        if self.guard is not None:
            self.guard.stop()
            self.guard = None


def new_context(security: SecurityOptions = NO_KEYS) -> Context:
    """A context for all sockets of one process. Raises :class:`~streamptycho.errors.ConfigError` for unusable key files."""
    context = Context()
    try:
        context.keys = load_keys(security)
    except BaseException:
        context.term()
        raise
    return context


def secure(socket: Any, endpoint: Endpoint) -> "Watch":
    """Give a socket the keys of its :class:`Context`; to be called before it binds or connects to the endpoint's address.

    Warns if it will be open to a network without keys. The owner of a socket that connects calls the watch's ``renew`` now
    and then. Raises :class:`~streamptycho.errors.ConfigError` if `endpoint.server_key` cannot be used.
    """
    context: Context = socket.context
    watch = Watch(socket, endpoint)
    if not endpoint.address.startswith("tcp://"):
        return watch
    keys = context.keys if endpoint.curve else None
    if endpoint.bind and keys is None:
        if leaves_the_machine(endpoint.address) and endpoint.address not in context.open_to_all:
            context.open_to_all |= {endpoint.address}
            log.warning(
                "%s is open to everyone who reaches it: set security.secret_key, or keep it on a network you trust",
                endpoint.address,
            )
        return watch
    guard = context.watched()
    path = endpoint.server_key
    key = "security.server_key" if path is None else f"server_key of this address ({path})"
    if keys is not None:
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_S * 1000))
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        if endpoint.bind:
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.ZAP_DOMAIN, endpoint.address.encode()[:255])  # by which refusals are told
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a guard nobody gets in
        else:
            server = keys.server if path is None else load_public_key(path, f"server_key of {endpoint.address}")
            socket.setsockopt(zmq.CURVE_SERVERKEY, server)
    watch.keyed = keys is not None
    name = f"inproc://guard-{next(_names)}"
    connects = _CONNECTS | (ATTEMPTS if endpoint.socket in TOLD else 0)
    socket.monitor(name, _BINDS if endpoint.bind else connects)
    guard.watch(
        name, Refusals(endpoint.address, guard.name_once) if endpoint.bind else Tries(watch, curve=keys is not None, key=key)
    )
    return watch


class Refusals:
    """Handshakes that fail at a socket that binds."""

    def __init__(self, address: str, name_once: Callable[[str, str, str], None]) -> None:
        self._address = address
        self._name_once = name_once
        self._peers: dict[int, str] = {}
        """Address of each peer by the descriptor of its connection."""
        self._failed: str | None = None

    def hear(self, event: int, value: int) -> None:
        """Take in an event of the socket: a failure is followed by the end of its connection, which tells whose it was."""
        if event == zmq.EVENT_ACCEPTED:
            self._peers[value] = _peer(value)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._failed = _REFUSED.get(value, "it does not speak ZeroMQ with CURVE")
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:  # a peer without a key may be the first to notice
            self._failed = "it broke off before it had shown a key: does it have one?"
        elif event == zmq.EVENT_DISCONNECTED:
            peer = self._peers.pop(value, _UNKNOWN)
            if self._failed is not None:
                self._name_once(peer, self._address, self._failed)
                self._failed = None

    def tick(self, now_s: float) -> None:
        """Nothing is due."""


_UNKNOWN: Final = "a peer that has gone"
_REFUSED: dict[int, str] = {
    _OTHER_MECHANISM: "it has no key: set its security.secret_key and security.server_key",
    _WRONG_KEY: "its server key is not ours: set its security.server_key to our public key",
}


class Tries:
    """Handshakes of a socket that connects."""

    def __init__(self, watch: Watch, *, curve: bool, key: str) -> None:
        self._watch = watch
        self._curve = curve
        self._key = key
        """The setting that has the key of the peer."""
        self._begin()

    def _begin(self) -> None:
        self._failures = 0
        self._since_s: float | None = None
        self._renew_s: float | None = None
        self._mismatch_s = -math.inf
        self._said: str | None = None

    def hear(self, event: int, value: int) -> None:
        """Take in an event of the socket."""
        self._watch.hear(event)
        if event & ATTEMPTS:
            # of a peer whose socket does not fit libzmq takes leave for good, as of one whose key does not
            left = event == zmq.EVENT_DISCONNECTED and self._watch.breaks_off
            self._renew_s = time.monotonic() + RENEW_S if left else None
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._begin()
            return
        now_s = time.monotonic()
        self._failures += 1
        self._since_s = self._since_s if self._since_s is not None else now_s
        if event & _GIVEN_UP:
            self._renew_s = now_s + RENEW_S
            if value == _OTHER_MECHANISM:
                self._mismatch_s = now_s

    def _reason(self, now_s: float) -> str | None:
        """Why there is no connection; None if keys have no part in it."""
        if now_s - self._mismatch_s < RECENT_S:
            return "it uses no keys" if self._curve else "it takes only peers with a key: set security.secret_key"
        # one failure may be that of a peer which was just ending
        if self._curve and self._failures > 1:
            return f"its key is not the one in {self._key}, or it does not allow ours: its log says which"
        return None

    def tick(self, now_s: float) -> None:
        """Say what has gone on for too long; let the owner try again."""
        if self._renew_s is not None and now_s >= self._renew_s:
            self._renew_s, self._watch.given_up = None, True
        if self._since_s is not None and now_s - self._since_s >= PATIENCE_S:
            reason = self._reason(now_s)
            if reason is not None and reason != self._said:
                self._said = reason
                log.warning("no connection to %s: %s", self._watch.address, reason)


class Guard:
    """A thread that decides who may connect to the sockets of a context, and says who may not."""

    def __init__(self, context: Context, keys: Keys | None) -> None:
        self._context = context
        self._keys = keys
        self._named: set[tuple[str, str]] = set()
        self._complaints: set[str] = set()
        self._new: queue.SimpleQueue[tuple[Any, Refusals | Tries]] = queue.SimpleQueue()
        self._watched: dict[Any, Refusals | Tries] = {}
        self._stop = threading.Event()
        self._awake, self._wake = sockets.socketpair()
        self._zap = context.socket(zmq.REP)
        self._zap.setsockopt(zmq.LINGER, 0)
        self._zap.bind(_ZAP)  # before any socket binds that needs it
        # a context that is never closed must not keep its process from ending
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)
        self._thread.start()

    def watch(self, address: str, events: Refusals | Tries) -> None:
        """Hear of the events of a socket that is monitored at this address."""
        monitor = self._context.socket(zmq.PAIR)
        monitor.setsockopt(zmq.LINGER, 0)
        monitor.connect(address)
        self._new.put((monitor, events))
        self._wake.send(b"w")

    def stop(self) -> None:
        """End the thread and close what it has."""
        self._stop.set()
        self._wake.send(b"s")
        self._thread.join()
        for end in (self._awake, self._wake):
            end.close()

    def name_once(self, peer: str, address: str, reason: str) -> None:
        """Say why a peer is refused, once for each of its addresses and reasons."""
        if (peer, reason) in self._named or len(self._named) > MAX_NAMED:
            return
        self._named.add((peer, reason))
        if len(self._named) > MAX_NAMED:
            log.warning("more than %d peers were refused; further ones are not named", MAX_NAMED)
        else:
            log.warning("%s is refused at %s: %s", peer, address, reason)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._awake.fileno(), zmq.POLLIN)
        poller.register(self._zap, zmq.POLLIN)
        while not self._stop.is_set():
            ready = dict(poller.poll(_POLL_MS))
            if self._awake.fileno() in ready:
                self._awake.recv(64)
            while not self._new.empty():
                monitor, events = self._new.get()
                self._watched[monitor] = events
                poller.register(monitor, zmq.POLLIN)
            if self._zap in ready:
                self._decide()
            for monitor in list(self._watched):
                if monitor in ready and not self._hear(monitor):
                    poller.unregister(monitor)
                    self._watched.pop(monitor)
                    monitor.close()
            now_s = time.monotonic()
            for events in self._watched.values():
                events.tick(now_s)
        while not self._new.empty():
            self._new.get()[0].close()
        for monitor in (self._zap, *self._watched):
            monitor.close()

    def _hear(self, monitor: Any) -> bool:
        """Take in what has happened at a socket; False once it is closed."""
        with suppress(zmq.Again):
            while True:
                event = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
                if event["event"] == zmq.EVENT_MONITOR_STOPPED:
                    return False
                self._watched[monitor].hear(event["event"], event["value"])
        return True

    def _decide(self) -> None:
        """Answer one question of libzmq about a peer."""
        version, request, domain, peer, _, mechanism, *credentials = self._zap.recv_multipart()
        # 300, not 400: after the latter a peer would never come back, even when its key has been allowed meanwhile
        status, text = b"200", b"OK"
        if mechanism == b"CURVE":
            key = z85.encode(credentials[0])
            if self._keys is None or key not in self._allowed(self._keys):
                status, text = b"300", b"key not allowed"
                self.name_once(
                    peer.decode(),
                    domain.decode(),
                    f"its key {key.decode()} is not allowed: copy its public key file into security.allowed_keys",
                )
        self._zap.send_multipart([version, request, status, text, b"", b""])

    def _allowed(self, keys: Keys) -> set[bytes]:
        others = public_keys(keys.allowed, self._complaints) if keys.allowed is not None else set()
        return {keys.public} | others


def _peer(descriptor: int) -> str:
    """Address of the other end of a connection, without its port, which differs from try to try."""
    try:
        with sockets.socket(fileno=os.dup(descriptor)) as connection:
            return str(connection.getpeername()[0])
    except OSError:  # it has gone meanwhile
        return _UNKNOWN
