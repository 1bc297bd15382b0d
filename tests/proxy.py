"""A TCP proxy in a thread that can cut, stall and refuse the connections through it, as networks do."""

import select
import socket
import struct
import threading
from collections import deque

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST and drops what was under way."""
CHUNK_BYTES = 1 << 16


class Proxy:
    """Passes bytes between `port` of this machine, chosen by the system, and the TCP port `target`.

    ::

        with Proxy(5561) as proxy:
            ... # connect to proxy.address
            proxy.cut()
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.connections = 0
        """Connections that were accepted so far."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._refusing = self._stalled = False
        self._wake, self._woken = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="proxy")
        self._thread.start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended = True
        self._call()
        self._thread.join()
        self.cut()
        for one in (self._listener, self._wake, self._woken):
            one.close()

    def cut(self, *, refuse: bool = False, reset: bool = True) -> None:
        """End all connections, with RST or in order; with `refuse`, new ones too until :meth:`accept`."""
        with self._lock:
            self._refusing = refuse
            for pair in self._pairs:
                pair.close(reset=reset)
            self._pairs.clear()
        self._call()

    def accept(self) -> None:
        """Take connections again."""
        self._refusing = False

    def stall(self) -> None:
        """Pass no bytes on; connections stay."""
        self._stalled = True
        self._call()

    def go_on(self) -> None:
        """Pass bytes on again, also those that have come meanwhile."""
        self._stalled = False
        self._call()

    def _call(self) -> None:
        self._wake.send(b"!")

    def _work(self) -> None:
        while not self._ended:
            with self._lock:
                pairs = list(self._pairs)
            reading = [side for pair in pairs for side in pair.readable()] if not self._stalled else []
            writing = [side for pair in pairs for side in pair.writable()] if not self._stalled else []
            try:
                ready, free, _ = select.select([self._listener, self._woken, *reading], writing, [], 1.0)
            except (OSError, ValueError):  # closed by another thread a moment ago
                continue
            if self._woken in ready:
                self._woken.recv(CHUNK_BYTES)
            if self._listener in ready:
                self._take_in()
            with self._lock:
                for pair in list(self._pairs):
                    if not pair.move(ready, free):
                        pair.close(reset=False)
                        self._pairs.remove(pair)

    def _take_in(self) -> None:
        peer, _ = self._listener.accept()
        if self._refusing:
            peer.close()
            return
        try:
            there = socket.create_connection(("127.0.0.1", self.target), timeout=1)
        except OSError:  # nobody listens there now
            peer.close()
            return
        with self._lock:
            self._pairs.append(_Pair(peer, there))
            self.connections += 1


class _Pair:
    """Two connections, and the bytes from each that the other has not taken yet."""

    def __init__(self, *sides: socket.socket) -> None:
        self._other = {sides[0]: sides[1], sides[1]: sides[0]}
        self._to: dict[socket.socket, deque[bytes]] = {side: deque() for side in sides}
        self._over: set[socket.socket] = set()
        """Sides that have nothing more to say."""
        for side in sides:
            side.setblocking(False)

    def readable(self) -> list[socket.socket]:
        return [side for side, other in self._other.items() if side not in self._over and len(self._to[other]) < 4]

    def writable(self) -> list[socket.socket]:
        return [side for side, waiting in self._to.items() if waiting]

    def move(self, ready: list[socket.socket], free: list[socket.socket]) -> bool:
        """Pass on what can be; False once either side has said its last word, or broken off."""
        try:
            for side, other in self._other.items():
                if side in ready:
                    data = side.recv(CHUNK_BYTES)
                    if data:
                        self._to[other].append(data)
                    else:
                        self._over.add(side)
                if side in free:
                    data = self._to[side].popleft()
                    sent = side.send(data)
                    if sent < len(data):
                        self._to[side].appendleft(data[sent:])
        except OSError:
            return False
        return not any(not self._to[self._other[side]] for side in self._over)

    def close(self, *, reset: bool) -> None:
        for side in self._other:
            if reset:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            side.close()
