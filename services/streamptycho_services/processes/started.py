"""A process that another one of ours has started: its first steps, and how it hears of the end."""

import faulthandler
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamptycho.errors import StreamPtychoError
from streamptycho_services.processes.host import name_process
from streamptycho_services.processes.interrupt import SIGNALS
from streamptycho_services.processes.logs import configure_logging
from streamptycho_services.processes.memory import memory_given_back
from streamptycho_services.processes.runtime import Control

log = logging.getLogger(__name__)

BESIDE = 5
"""Niceness of what runs beside the services: the reconstruction goes first."""
MISCONFIGURED = 2
"""Exit code of what cannot run with this configuration on this machine."""
ORPHAN_S = 30.0
"""How long a process whose parent is gone may take to end."""
FINISH, KILL, BEAT = b"f", b"k", b"."
"""What is said between the two."""
BEAT_S = 0.5
LENGTH_BYTES = 8
"""Size of the length that comes before the work."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a process does."""

    name: str
    function: Callable[..., None]
    """Called with `arguments` and a :class:`Control`; it and they travel by pickle."""
    arguments: tuple[Any, ...] = ()
    descriptors: tuple[int, ...] = ()
    """Open files that the process inherits, under the same numbers."""
    niceness: int = 0
    needed: bool = True
    """False for what may be absent: everything else goes on without it."""
    orphaned_s: float = 0.0
    """If the parent is gone: how long to wait before finishing, so that those who send can do so first."""


class _Parent:
    """The parent, seen from the child: its words become events, its end an orderly one of ours."""

    def __init__(self, descriptor: int) -> None:
        self._link = socket.socket(fileno=descriptor)
        self._next_s = 0.0
        length = int.from_bytes(self._link.recv(LENGTH_BYTES, socket.MSG_WAITALL))
        self.work, self.logs, restarts = pickle.loads(self._link.recv(length, socket.MSG_WAITALL))
        self.control = Control(finish=threading.Event(), kill=threading.Event(), beat=self.beat, restarts=restarts)

    def beat(self) -> None:
        """Say that the loop of this process turns."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + BEAT_S
        try:
            self._link.send(BEAT, socket.MSG_DONTWAIT)
        except OSError as error:  # the parent is stopped, or gone, which `listen` notices
            log.debug("the parent does not listen: %s", error)

    def listen(self) -> None:
        """Hear the parent; for a thread of its own. A process that hangs when its parent has gone is ended."""
        while (word := self._hear()) == FINISH:
            self.control.finish.set()
        if word == KILL:
            self.control.kill.set()
        else:
            time.sleep(self.work.orphaned_s)
            self.control.finish.set()
        time.sleep(ORPHAN_S)
        os._exit(1)

    def _hear(self) -> bytes:
        try:
            return self._link.recv(1)
        except ConnectionResetError:
            return b""


def main() -> None:
    """The process: do the work it is sent, leaving signals to the parent."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    faulthandler.enable()
    name_process(sys.argv[1])
    parent = _Parent(int(sys.argv[2]))
    work = parent.work
    threading.Thread(target=parent.listen, name="parent", daemon=True).start()
    os.nice(work.niceness)
    configure_logging(parent.logs, work.name)
    try:
        with memory_given_back():
            work.function(*work.arguments, parent.control)
    except StreamPtychoError as error:
        log.error("%s", error)  # noqa: TRY400 - a mistake of the user's, not a bug: one line is enough
        raise SystemExit(MISCONFIGURED) from None


if __name__ == "__main__":
    main()
