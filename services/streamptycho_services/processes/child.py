"""A process of this machine that leaves signals to the one that started it: asked to stop, and heard, over a socket.

No semaphores and no shared memory: they need ``/dev/shm``, which containers may lack. The other end is in `started.py`.
"""

import logging
import pickle
import signal
import socket
import subprocess
import sys

from streamptycho_services.processes import started
from streamptycho_services.processes.interrupt import SIGNALS
from streamptycho_services.processes.logs import NO_FILE, Logs
from streamptycho_services.processes.started import FINISH, KILL, LENGTH_BYTES, Work

log = logging.getLogger(__name__)

START_S = 10.0
"""How long a new process may take to accept its work."""


class Child:
    """One process, which runs from here on."""

    def __init__(self, work: Work, *, logs: Logs = NO_FILE, restarts: int = 0) -> None:
        self.name = work.name
        self._link, theirs = socket.socketpair()
        with theirs:
            # a child inherits the mask, so that no signal can meet it before it has begun to ignore it
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                self._process = subprocess.Popen(
                    _command(work.name, theirs.fileno()), pass_fds=(theirs.fileno(), *work.descriptors)
                )
            except OSError:
                self._link.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        what = pickle.dumps((work, logs.beside(work.name), restarts))
        self._link.settimeout(START_S)
        self._tell(len(what).to_bytes(LENGTH_BYTES) + what)
        self._link.setblocking(False)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def heard(self) -> bool:
        """Whether it has beaten since the last call."""
        try:
            return self._link.recv(4096) != b""
        except (BlockingIOError, ConnectionResetError):
            return False

    def finish(self) -> None:
        """Ask it to end in order."""
        self._tell(FINISH)

    def kill(self) -> None:
        """Ask it to stop at once."""
        self._tell(KILL)

    def destroy(self) -> None:
        """Stop it without asking."""
        self._process.kill()

    def wait(self, seconds: float) -> bool:
        """Wait for its end; True if it has come."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Let go of it, after its end."""
        self._link.close()

    def _tell(self, words: bytes) -> None:
        try:
            self._link.sendall(words)
        except OSError as error:  # it has died, which its exit code says, or hangs, which its silence says
            log.debug("%s does not listen: %s", self.name, error)


def _command(name: str, descriptor: int) -> list[str]:
    safe = ["-P"] if sys.flags.safe_path else []
    return [sys.executable, *safe, "-m", started.__name__, name, str(descriptor)]
