"""Signals: once to finish in order, twice to stop."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from streamptycho_services.processes.host import give_up_streams
from streamptycho_services.processes.notify import Notifier
from streamptycho_services.processes.runtime import Control

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, an orderly stop by others, and the end of the terminal."""
AGAIN_S = 1.0
"""A signal that follows another one sooner is the same: shells, ``timeout`` and systemd send to process and group."""
_SAID = b"finishing; again to stop at once\n"


@contextmanager
def interruptible(
    on_first: Callable[[], None] = lambda: None, on_second: Callable[[], None] = lambda: None
) -> Iterator[threading.Event]:
    """An event that the first signal sets, which also calls `on_first`; the second one calls `on_second` and interrupts.

    The second one, SIGINT or SIGTERM, raises KeyboardInterrupt. SIGHUP never counts as one, as no person insists with it;
    where it is ignored (``nohup``), it stays so.
    """
    asked = threading.Event()
    first_s = 0.0

    def ask(number: int, _: Any) -> None:
        nonlocal first_s
        if not asked.is_set():
            first_s = time.monotonic()
            asked.set()
            on_first()
            give_up_streams()
            with suppress(OSError):  # nobody can read it, and the end is worth more
                os.write(2, _SAID)
        elif number != signal.SIGHUP and time.monotonic() - first_s >= AGAIN_S:
            on_second()
            raise KeyboardInterrupt

    heeded = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heeded}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible_control() -> Iterator[Control]:
    """The same as a :class:`Control` for a process that was not started by another one of ours, but maybe by systemd."""
    kill, notifier = threading.Event(), Notifier.of_environment()
    with interruptible(notifier.stopping, kill.set) as finish:
        yield Control(finish=finish, kill=kill, beat=notifier.beat)
