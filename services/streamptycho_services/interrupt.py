"""Ctrl-C: once to finish in order, twice to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible(on_second: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one calls `on_second` and raises KeyboardInterrupt."""
    asked = threading.Event()

    def ask(*_: Any) -> None:
        if asked.is_set():
            on_second()
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
