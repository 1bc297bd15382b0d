"""Sweeps of the compiled kernel in one thread or several.

One thread is the sequential rule, and the same result every time. Several share the frames of a sweep as they come free, so
that a thread whose core is busy with something else delays the others by one frame at most; what they make depends on
timing, within the spread between two orders of the same frames.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve import compiled, compiled_share
from streamptycho.solve.backend import Array
from streamptycho.solve.epie import Workspace
from streamptycho.solve.threads import together
from streamptycho.solve.transforms import plans_for

WORTH_SHARING = 1 << 18
"""Pixels of all modes and frames from which a sweep is shared: less is done before a second thread has begun."""
ALIGNMENT = 64
"""Bytes; FFTW's plans hold for arrays aligned like those they were made for, and so do the widest loads."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Memory of one thread for one shape of probe."""

    field: NDArray[np.complex64]
    power: NDArray[np.float32]
    lines: NDArray[np.float32]
    copies: NDArray[np.complex64]

    @classmethod
    def of(cls, shape: tuple[int, int, int], *, alone: bool) -> "Scratch":
        """Scratch for a probe of `shape` (modes, ny, nx); `alone` leaves out the copies that several threads need."""
        _, ny, nx = shape
        lines = np.zeros((4, 2 * nx), np.float32)
        lines[3, :nx] = np.fft.fftfreq(nx) * nx
        return cls(
            field=aligned(shape),
            power=np.empty((ny, nx), np.float32),
            lines=lines,
            copies=np.empty((0 if alone else 2, *shape), np.complex64),
        )


def aligned(shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """Zeros of `shape`, complex64, at a multiple of `ALIGNMENT` bytes."""
    size = int(np.prod(shape)) * 8
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    array: NDArray[np.complex64] = memory[start : start + size].view(np.complex64).reshape(shape)
    return array


class Sweeper:
    """:func:`streamptycho.solve.epie.sweep` without its backend, compiled.

    Parameters
    ----------
    threads : how many walk through the frames together.
    library : what transforms, see :mod:`transforms`.
    """

    def __init__(self, threads: int = 1, library: str = "rocket") -> None:
        self.threads = threads
        self.library = library
        self._scratch: list[Scratch] = []
        self._plans = np.zeros(3, np.int64)

    def __call__(
        self,
        obj: Array,
        probe: Array,
        amplitudes: Array,
        corners: NDArray[np.int64],
        rows: NDArray[np.int64],
        steps: NDArray[np.float32],
        flux: Array,
        background: Array,
        misfit: Array,
        figures: Array,
        work: Workspace | None,
    ) -> None:
        """Arguments as of :func:`streamptycho.solve.epie.sweep`."""
        self._prepare(probe.shape)
        floor = np.float32(work.floor if work is not None else 0)  # the buffers of `work` are those of the readable form
        arguments = (obj, probe, amplitudes, corners, rows, steps, flux, background, misfit, figures, floor)
        threads = min(self.threads, len(rows)) if len(rows) * probe.size >= WORTH_SHARING else 1
        if threads < 2:
            s = self._scratch[0]
            compiled.sweep(*arguments, s.field, s.power, s.lines, self._plans)
            return
        tickets = np.zeros(1 + threads, np.int64)
        order, starts = strips(corners, threads)

        def work_on(me: int) -> None:
            s = self._scratch[me]
            compiled_share.share(*arguments, s.field, s.power, s.lines, self._plans, s.copies, order, starts, tickets, me)

        together(work_on, threads)

    def _prepare(self, shape: tuple[int, int, int]) -> None:
        if self._scratch and self._scratch[0].field.shape == shape:
            return
        self._scratch = [Scratch.of(shape, alone=self.threads == 1) for _ in range(self.threads)]
        self._plans = plans_for(self.library, shape)


def strips(corners: NDArray[np.int64], threads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames divided among threads so that each keeps to its own part of the object, which stays in the cache of its core.

    Parameters
    ----------
    corners : (k, 2) windows on the canvas.

    Returns
    -------
    order : (k,) int64 indices; those of a part stay in their order.
    starts : (threads + 1,) int64, where each part begins in `order`, and its length.
    """
    axis = int(np.ptp(corners, 0).argmax())
    order = np.argsort(corners[:, axis], kind="stable")
    starts = np.linspace(0, len(order), threads + 1).astype(np.int64)
    for first, end in pairwise(starts):
        order[first:end].sort()
    return order, starts
