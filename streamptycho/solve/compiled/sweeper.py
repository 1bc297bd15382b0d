"""Sweeps of the compiled kernel in one thread or several.

One thread is the sequential rule, and reproducible. Several take the frames of a sweep one by one, so that a thread whose
core is busy elsewhere delays the others by one frame at most; their result depends on timing, within the spread between two
orders of the same frames.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.compiled import pie, share
from streamptycho.solve.compiled.modulus import arrays
from streamptycho.solve.compiled.threads import together
from streamptycho.solve.compiled.transforms import aligned, plans_for
from streamptycho.solve.frames import Frames, Model, Outcome, Steps

WORTH_SHARING = 1 << 18
"""Pixels of all modes and frames from which a sweep is shared: smaller ones end before a second thread has begun."""


class Scratch:
    """Memory of one thread for a probe of `shape` (modes, ny, nx); `alone`: without the copies that several threads need."""

    def __init__(self, shape: tuple[int, int, int], *, alone: bool) -> None:
        _, ny, nx = shape
        self.field = aligned(shape)
        self.power = np.empty((ny, nx), np.float32)
        self.lines = np.zeros((4, 2 * nx), np.float32)
        self.lines[3, :nx] = np.fft.fftfreq(nx) * nx
        self.copies = np.empty((0 if alone else 2, *shape), np.complex64)


class Sweeper:
    """:func:`pie.sweep` without its backend, compiled, in so many threads; `library` transforms, see :mod:`transforms`."""

    def __init__(self, threads: int = 1, library: str = "rocket") -> None:
        self.threads = threads
        self.library = library
        self._scratch: list[Scratch] = []
        self._plans = np.zeros(3, np.int64)

    def __call__(self, model: Model, frames: Frames, steps: Steps, outcome: Outcome) -> None:
        """:func:`streamptycho.solve.equations.pie.sweep`."""
        self._prepare(model.probe.shape)
        floor = np.float32(steps.count_floor)
        arguments = (*arrays(model, frames), steps.strengths, outcome.misfit, outcome.figures, floor)
        threads = min(self.threads, len(frames)) if len(frames) * model.probe.size >= WORTH_SHARING else 1
        if threads < 2:
            s = self._scratch[0]
            pie.sweep(*arguments, s.field, s.power, s.lines, self._plans)
            return
        tickets = np.zeros(1 + threads, np.int64)
        order, starts = strips(frames.corners, threads)

        def work_on(me: int) -> None:
            s = self._scratch[me]
            share.share(*arguments, s.field, s.power, s.lines, self._plans, s.copies, order, starts, tickets, me)

        together(work_on, threads)

    def _prepare(self, shape: tuple[int, int, int]) -> None:
        if self._scratch and self._scratch[0].field.shape == shape:
            return
        self._scratch = [Scratch(shape, alone=self.threads == 1) for _ in range(self.threads)]
        self._plans = plans_for(self.library, shape)


def strips(corners: NDArray[np.int64], threads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames divided among threads so that each keeps to its own part of the object, which stays in the cache of its core.

    Returns (k,) indices into `corners` (k, 2), those of a part in their order, and the (threads + 1,) bounds of the parts.
    """
    axis = int(np.ptp(corners, 0).argmax())
    order = np.argsort(corners[:, axis], kind="stable")
    starts = np.linspace(0, len(order), threads + 1).astype(np.int64)
    for first, end in pairwise(starts):
        order[first:end].sort()
    return order, starts
