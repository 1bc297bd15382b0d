"""Which implementation of the costly steps a backend uses: the readable one, or the same arithmetic compiled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from streamptycho.solve.canvas import Canvas
from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations import difference_map, fill, gradient, lsqml, modulus, pie, shift, smooth
from streamptycho.solve.frames import Frames, Model, Outcome, Steps

Sweep = Callable[[Model, Frames, Steps, Outcome], None]


@dataclass(frozen=True, slots=True)
class Kernels:
    """The seam between the engine and the hardware: the functions of `equations` of these names, without their backend."""

    sweep: Sweep
    """:func:`pie.sweep`, or :func:`batch.sweep` on a GPU."""
    lsqml: Callable[..., Array]
    """:func:`lsqml.sweep`."""
    project: Callable[..., None]
    add_probe: Callable[..., None]
    add_dose: Callable[..., None]
    warm_fill: Callable[..., None]
    phase_step: Callable[..., Array]
    advance: Callable[..., None]
    measure: Callable[[Model, Frames], Array]
    shift_sums: Callable[[Model, Frames], Array]


def kernels_for(backend: Backend) -> Kernels:
    """Compiled on the CPU; on a GPU CUDA kernels for the updates, and the readable forms of the rest."""
    if backend.name == "cpu":
        return _compiled(backend)
    sweep: Sweep = partial(pie.sweep, backend)
    if backend.cuda is not None:
        from streamptycho.solve.cuda.batch import CudaSweep

        sweep = CudaSweep(backend, backend.cuda)
    return Kernels(
        sweep=sweep,
        lsqml=partial(lsqml.sweep, backend),
        project=partial(difference_map.project, backend),
        add_probe=difference_map.add_probe,
        add_dose=Canvas.add_dose,
        warm_fill=fill.warm_fill,
        phase_step=gradient.phase_step,
        advance=smooth.advance,
        measure=partial(modulus.measure, backend),
        shift_sums=partial(shift.shift_sums, backend),
    )


def _compiled(backend: Backend) -> Kernels:
    from streamptycho.solve.compiled import difference_map, fill, gradient, lsqml, modulus, shift, smooth
    from streamptycho.solve.compiled.sweeper import Sweeper

    return Kernels(
        sweep=Sweeper(backend.threads, backend.fft),
        lsqml=lsqml.sweep,
        project=difference_map.project,
        add_probe=difference_map.add_probe,
        add_dose=fill.add_dose,
        warm_fill=fill.warm_fill,
        phase_step=gradient.phase_step,
        advance=smooth.advance,
        measure=modulus.measure,
        shift_sums=shift.shift_sums,
    )
