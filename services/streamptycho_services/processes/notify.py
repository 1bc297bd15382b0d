"""Words to systemd: ready, alive, stopping. See sd_notify(3); does nothing where systemd did not start this process."""

import os
import socket
import time
from collections.abc import Callable

EVERY_S = 1.0
"""Time between two signs of life."""


class Notifier:
    """Tells systemd that this process is ready, at the first beat, and then that it lives."""

    def __init__(self, address: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.address = address
        self._clock = clock
        self._next_s = float("-inf")
        self.ready = False
        """Whether it has been told."""

    @classmethod
    def of_environment(cls) -> "Notifier":
        """At the address that systemd has put into the environment; the processes started by this one do not get it."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None))

    def beat(self) -> None:
        """Say so, at most once a second."""
        now_s = self._clock()
        if self.address is not None and now_s >= self._next_s:
            self._next_s = now_s + EVERY_S
            self.ready |= self._say(self.address, "WATCHDOG=1" if self.ready else "READY=1\nWATCHDOG=1")

    def stopping(self) -> None:
        """Say that the end has begun."""
        if self.address is not None:
            self._say(self.address, "STOPPING=1")

    @staticmethod
    def _say(address: str, words: str) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            try:
                out.sendto(words.encode(), "\0" + address[1:] if address.startswith("@") else address)
            except OSError:  # systemd is busy or starts anew: it hears the next word
                return False
        return True
