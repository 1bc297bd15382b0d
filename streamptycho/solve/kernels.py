"""Which implementation of the costly steps a backend uses: the readable one, or the same arithmetic compiled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from streamptycho.solve import epie, gradient, smooth
from streamptycho.solve.backend import Backend


@dataclass(frozen=True, slots=True)
class Kernels:
    """The seam between the engine and the hardware; arguments as in the modules of the readable forms."""

    sweep: Callable[..., None]
    """:func:`epie.sweep` without its backend."""
    momentum: Callable[..., None]
    """:func:`smooth.momentum`."""
    correct: Callable[..., None]
    """:func:`gradient.correct`."""
    warm_fill: Callable[..., None]
    """:func:`smooth.warm_fill`."""


def warm_up(backend: Backend) -> None:
    """Compile, or load from the cache, what the first frames would otherwise wait for."""
    from streamptycho.solve.solver import RuleOptions, Solver
    from streamptycho.solve.store import FrameStore

    store = FrameStore(backend, (16, 16))
    solver = Solver(backend, store, np.ones((1, 16, 16), np.complex64), RuleOptions(), poor_probe=True)
    for i in range(4):
        solver.admit(store.append(np.ones((16, 16), np.float32), (i, i)))
    solver.sweep(np.arange(64) % 4)


def kernels_for(backend: Backend) -> Kernels:
    """Compiled on the CPU; on a GPU CUDA kernels for the updates, and the readable forms of what happens between them."""
    if backend.name == "cpu":
        from streamptycho.solve import compiled_fill, compiled_smooth, sweeper  # numba takes a second to import

        sweep = sweeper.Sweeper(backend.threads, backend.fft)
        return Kernels(sweep, compiled_smooth.momentum, compiled_smooth.correct, compiled_fill.warm_fill)
    if backend.cuda is not None:
        from streamptycho.solve.cuda.sweep import CudaSweep

        return Kernels(CudaSweep(backend, backend.cuda), smooth.momentum, gradient.correct, smooth.warm_fill)
    return Kernels(partial(epie.sweep, backend), smooth.momentum, gradient.correct, smooth.warm_fill)
