"""A stream of bytes over a TCP connection that we make, and make again when it breaks.

What comes is handed out as it comes, in messages of one part that are cut anywhere; a dialect puts them together. Nothing is
kept here: what is not asked for waits in the system's buffers, and then at the sender.
"""

import logging
import math
import socket
import threading
import time

from streamptycho.options import Closing
from streamptycho.sources.options import DetectorEndpoint, host_and_port
from streamptycho.wire.sockets import readable
from streamptycho.wire.watch import IDLE

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 << 10
"""As much is handed out at once."""
CONNECT_S = 5.0
"""How long one attempt may take, for each address that the name of the host has."""
BACK_OFF_S, MAX_BACK_OFF_S = 0.1, 5.0
"""Time before the next attempt: at first, and after many that gave no byte."""
STANDS_S = 1.0
"""How long a connection without a byte stands before it is said to be there: some peers hang up at once."""
ANSWER_S = 3.0
"""How long a greeting is without an answer before that is said."""
PATIENCE_S = 3.0
"""How long a connection is tried in vain before that is said: the peer may be about to start."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds and probes, where the system has them: a host that is gone is noticed after half a minute."""


class TcpSource(Closing):
    """Connects to `endpoint`, says `greeting` first, which a `peer` answers, and hands out what comes.

    The first connection that replaces one which broke is announced by a message without parts, before its first bytes.
    """

    def __init__(self, endpoint: DetectorEndpoint, greeting: bytes = b"", peer: str = "") -> None:
        self.address = endpoint.address
        self._greeting, self._peer = greeting, peer
        self._socket: socket.socket | None = None
        self._attempt: _Attempt | None = None
        self._broke = False
        """There was a connection before."""
        self._back_off_s = BACK_OFF_S
        self._next_s = self._since_s = time.monotonic()
        self._told = ""
        """Why there is no connection, or was none until a byte came, as the log has it."""
        self._why = ""
        """The same, as it is at present."""
        self._there, self._unanswered = True, not greeting
        """Whether it has been said since that there is one; and that it is not answered, or need not be."""
        self._made_s = math.inf
        """When the connection was made, as long as no byte has come."""

    @property
    def pollable(self) -> int | None:
        """The connection, if there is one."""
        if self._socket is None:
            return None
        stands_s = time.monotonic() - self._made_s
        if stands_s >= STANDS_S:
            self._say_it_is_there()
        if stands_s >= ANSWER_S and not self._unanswered:
            self._unanswered = True
            log.warning("%s", unanswered(self.address, self._peer))
        return self._socket.fileno()

    @property
    def standing(self) -> str:
        """How it stands with the connection, as long as nothing has come."""
        if self._socket is None:
            return f"{self.address}: {self._why}" if self._why else ""
        if self._greeting and self._unanswered:
            return unanswered(self.address, self._peer)
        return f"connected to {self.address}, {IDLE}"

    def _say_it_is_there(self) -> None:
        if not self._there:
            self._there = True
            log.warning("%s: connected", self.address)

    def poll(self, timeout_s: float) -> list[bytes] | None:
        """What has come, as one part; no part at all for a new connection; None if nothing comes in time."""
        if self._socket is None:
            return self._connect(timeout_s)
        if timeout_s > 0 and not readable([self._socket.fileno()], timeout_s):
            return None
        try:
            data = self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            self._lose(error.strerror or str(error))
            return None
        if not data:
            self._lose("the peer has closed it")
            return None
        self._say_it_is_there()
        self._back_off_s, self._told = BACK_OFF_S, ""
        self._made_s, self._unanswered = math.inf, not self._greeting
        return [data]

    def _connect(self, timeout_s: float) -> list[bytes] | None:
        """Go on with connecting; a message without parts if that has succeeded, and not for the first time."""
        now_s = time.monotonic()
        if self._attempt is None:
            if now_s < self._next_s:
                time.sleep(min(timeout_s, self._next_s - now_s))
                return None
            self._attempt = _Attempt(self.address, self._greeting)
        if not self._attempt.over.wait(timeout_s):
            return None
        attempt, self._attempt = self._attempt, None
        if attempt.made is None:
            self._later(attempt.problem)
            return None
        self._socket, self._made_s = attempt.made, now_s
        again, self._broke = self._broke, True
        return [] if again else None

    def _lose(self, why: str) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._since_s = time.monotonic()
        self._later(f"the connection broke ({why})", at_once=True)

    def _later(self, why: str, *, at_once: bool = False) -> None:
        """Try again after a while, and say why; a connection that breaks again and again without a byte is told of once."""
        now_s, self._why = time.monotonic(), why
        self._next_s = now_s + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, MAX_BACK_OFF_S)
        if why != self._told and (at_once or now_s - self._since_s > PATIENCE_S):
            self._told, self._there = why, False
            log.warning("%s: %s; trying again and again", self.address, why)

    def close(self) -> None:
        """Close the connection; what has not been handed out is dropped."""
        if self._attempt is not None:
            self._attempt.abandon()
            self._attempt = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def unanswered(address: str, peer: str) -> str:
    """What is to be said of a connection on which nobody answers the greeting."""
    return f"connected to {address}, but what is there does not answer: it is no {peer}; correct the address"


class _Attempt:
    """One attempt, in a thread of its own: looking a name up cannot be done without waiting."""

    def __init__(self, address: str, greeting: bytes) -> None:
        self.over = threading.Event()
        self.made: socket.socket | None = None
        self.problem = ""
        self._abandoned = False
        self._lock = threading.Lock()
        threading.Thread(target=self._run, args=(address, greeting), name=f"connect {address}", daemon=True).start()

    def _run(self, address: str, greeting: bytes) -> None:
        made: socket.socket | None = None
        try:
            made = socket.create_connection(host_and_port(address), CONNECT_S)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if hasattr(socket, name):
                    made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            made.sendall(greeting)
            made.setblocking(False)
        except (OSError, UnicodeError) as error:  # a name that cannot be one is not looked up
            self.problem = f"no connection ({getattr(error, 'strerror', None) or error})"
            if made is not None:
                made.close()
                made = None
        with self._lock:
            if self._abandoned and made is not None:
                made.close()
            else:
                self.made = made
        self.over.set()

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            self._abandoned = True
            if self.made is not None:
                self.made.close()
