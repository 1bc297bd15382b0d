"""Threads that help with one compiled function at a time.

Work is divided while they run (:mod:`atomic`): a thread whose core is busy delays the others by one piece of work, and one
that finds no core before all is done is not waited for.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from queue import SimpleQueue
from threading import Thread

import numpy as np

from streamptycho.solve.compiled.atomic import fetch_add, give_way
from streamptycho.solve.compiled.jit import jit

PATIENCE = 5000
"""Times a thread gives way while it waits for the last pieces of the others."""


def together(work: Callable[[int], None], threads: int) -> None:
    """Run ``work(me)``, 0 in this thread and the rest in free helpers, until all have ended; raises the first error."""
    if threads < 2:
        work(0)
        return
    ended = np.zeros(threads, np.int64)

    def help_out(me: int) -> None:
        try:
            work(me)
        finally:
            ended[me] = 1

    helpers = [_pool().submit(help_out, me) for me in range(1, threads)]
    try:
        work(0)
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        _wait(ended, len(begun))
        for helper in begun:
            helper.result()


@jit
def _wait(ended, helpers):
    """Until so many have ended, or for some milliseconds; a thread that sleeps would be woken too late."""
    for _ in range(PATIENCE):
        count = 0
        for me in range(len(ended)):
            count += fetch_add(ended, me, 0)
        if count >= helpers:
            break
        give_way()


class Pool:
    """Helping threads that end with the process, unlike those of :mod:`concurrent.futures`; started on demand."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Future[None], Callable[[int], None], int]] = SimpleQueue()
        self._threads = 0

    def submit(self, task: Callable[[int], None], argument: int) -> Future[None]:
        """Run ``task(argument)`` in some thread; the future can be cancelled until one has taken it."""
        if self._threads < argument:
            self._threads += 1
            Thread(target=self._serve, name=f"streamptycho-helper-{self._threads}", daemon=True).start()
        future: Future[None] = Future()
        self._tasks.put((future, task, argument))
        return future

    def _serve(self) -> None:
        while True:
            future, task, argument = self._tasks.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                task(argument)
            except BaseException as error:  # noqa: BLE001 - raised where the future is waited for
                future.set_exception(error)
            else:
                future.set_result(None)


@cache
def _pool() -> Pool:
    return Pool()


os.register_at_fork(after_in_child=_pool.cache_clear)
