"""Freed memory goes back to the system.

The C library keeps what lies between pieces that are in use, in an arena for each thread that has asked for some: a process
that lives for weeks would hold more and more beside what it needs.
"""

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_S = 5.0
SHARE = 0.01
"""Largest part of the time that giving back may take: meanwhile others may wait for memory."""


@contextmanager
def memory_given_back(every_s: float = EVERY_S) -> Iterator[None]:
    """Give back what is free from time to time while the block runs; nothing is done where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        yield
        return
    over = threading.Event()

    def give_back() -> None:
        wait_s = every_s
        while not over.wait(wait_s):
            begun_s = time.monotonic()
            trim(0)
            wait_s = max(every_s, (time.monotonic() - begun_s) / SHARE)

    thread = threading.Thread(target=give_back, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
