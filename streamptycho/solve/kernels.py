"""Which implementation of the costly steps a backend uses: the readable one, or the same arithmetic compiled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from streamptycho.solve import difference_map, epie, gradient, lsqml, model, positions_kernels, smooth
from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.canvas import Canvas


@dataclass(frozen=True, slots=True)
class Kernels:
    """The seam between the engine and the hardware; arguments as in the modules of the readable forms."""

    sweep: Callable[..., None]
    """:func:`epie.sweep` without its backend."""
    add_dose: Callable[..., None]
    """:meth:`Canvas.add_dose`."""
    warm_fill: Callable[..., None]
    """:func:`smooth.warm_fill`."""
    phase_step: Callable[..., Array]
    """:func:`gradient.phase_step`."""
    advance: Callable[..., None]
    """:func:`smooth.advance`."""
    shift_sums: Callable[..., None]
    """:func:`positions_kernels.shift_sums` without its backend."""


@dataclass(frozen=True, slots=True)
class Refining:
    """The same for what refines after the last frame."""

    lsqml: Callable[..., None]
    """:func:`lsqml.sweep` without its backend."""
    dm_project: Callable[..., None]
    """:func:`difference_map.project` without its backend."""
    dm_probe: Callable[..., None]
    """:func:`difference_map.add_probe` without its backend."""
    measure: Callable[..., None]
    """:func:`model.measure` without its backend."""


def warm_up(backend: Backend) -> None:
    """Compile, or load from the cache, what the first frames would otherwise wait for."""
    from streamptycho.solve.compiled_sums import pattern_sums
    from streamptycho.solve.rule_options import RuleOptions
    from streamptycho.solve.solver import Solver
    from streamptycho.solve.store import FrameStore

    n = 128 if backend.threads > 1 else 16  # small sweeps are not shared, and sharing is to be compiled as well
    store = FrameStore(backend, (n, n))
    solver = Solver(backend, store, np.ones((1, n, n), np.complex64), RuleOptions(), poor_probe=True)
    for i in range(4):
        solver.admit(store.append(np.ones((n, n), np.float32), (i, i)))
    solver.sweep(np.arange(64) % 4)
    rows = np.arange(4)
    corners = store.corners[rows] - np.array(solver.canvas.origin)
    refining(backend).measure(
        solver.canvas.object, solver.probe, store.amplitudes, corners, rows, store.flux, solver.background, solver.misfit
    )
    solver.shift_sums(rows)
    solver.misfits_at(rows, store.corners[rows])
    pattern_sums(np.ones((n, n), np.float32), np.ones((n, n), np.float32), *epie.frequencies(np, (n, n)))


def kernels_for(backend: Backend) -> Kernels:
    """Compiled on the CPU; on a GPU CUDA kernels for the updates, and the readable forms of what happens between them."""
    if backend.name == "cpu":
        from streamptycho.solve import compiled_fill, compiled_gradient, compiled_positions, compiled_smooth, sweeper

        return Kernels(
            sweeper.Sweeper(backend.threads, backend.fft),
            compiled_fill.add_dose,
            compiled_fill.warm_fill,
            compiled_gradient.phase_step,
            compiled_smooth.advance,
            compiled_positions.shift_sums,
        )
    sweep: Callable[..., None] = partial(epie.sweep, backend)
    if backend.cuda is not None:
        from streamptycho.solve.cuda.sweep import CudaSweep

        sweep = CudaSweep(backend, backend.cuda)
    return Kernels(
        sweep,
        Canvas.add_dose,
        smooth.warm_fill,
        gradient.phase_step,
        smooth.advance,
        partial(positions_kernels.shift_sums, backend),
    )


def refining(backend: Backend) -> Refining:
    """Compiled on the CPU, readable elsewhere."""
    if backend.name == "cpu":
        from streamptycho.solve import compiled_difference_map, compiled_lsqml, compiled_model

        return Refining(
            compiled_lsqml.sweep_frames,
            compiled_difference_map.project,
            compiled_difference_map.add_probe,
            compiled_model.measure,
        )
    parts = (lsqml.sweep, difference_map.project, difference_map.add_probe, model.measure)
    return Refining(*(partial(part, backend) for part in parts))
