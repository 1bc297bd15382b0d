"""Acceleration of the smooth part of the object: momentum on a coarse grid.

The update of a single pattern is quick at fine detail and slow at phase that varies over many windows. Momentum acts on
cells of `BLOCK` pixels only: on the full grid it is unstable.
"""

from streamptycho.solve.canvas import KNOWN_DOSE, Box, Canvas, bilinear, block_mean
from streamptycho.solve.devices.backend import Array, Backend

DECAY = 0.8
GAIN = 0.7


def advance(canvas: Canvas, box: Box, phase: Array | None, fade: float | None) -> None:
    """Turn the object within `box`, and carry its smooth change since the last time on where the coverage is good; in place.

    `box` is aligned to the coarse grid. `phase` is float32 rad per cell of it, or None. `fade` is the momentum: 1 for fresh
    frames, towards 0 for those visited often, since it would build on the model errors of real data; None for none.
    """
    backend, xp, cells = canvas.backend, canvas.backend.xp, canvas.cells(box)
    target, mean = canvas.object[box], block_mean(canvas.object[box])
    if phase is not None:
        mean = mean * xp.exp(1j * phase)
        target *= xp.exp(1j * bilinear(phase, backend)).astype(xp.complex64)
    if fade is not None:
        trust = momentum_trust(canvas.cell_dose[cells], backend)
        velocity = carried_on(canvas.velocity[cells], trust * (mean - canvas.cell_object[cells]), backend)
        canvas.velocity[cells] = velocity
        target += (GAIN * fade) * bilinear((trust * velocity).astype(xp.complex64), backend)
    canvas.cell_object[cells] = block_mean(target)


def momentum_trust(dose: Array, backend: Backend) -> Array:
    """0 to 1 in each cell: how well it is covered against the usual."""
    xp = backend.xp
    return xp.clip((dose / _usual_dose(dose, xp) - 0.1) / 0.4, 0, 1).astype(xp.float32)


def carried_on(velocity: Array, change: Array, backend: Backend) -> Array:
    """The velocity once the object has changed by `change`."""
    return DECAY * velocity + _binomial(_binomial(change, backend.xp), backend.xp)


def _usual_dose(dose: Array, xp: Array) -> Array:
    covered = dose > KNOWN_DOSE / 10
    ordered = xp.sort(xp.where(covered, dose, 0).ravel())
    count = covered.sum()
    return xp.maximum(ordered[dose.size - 1 - (count // 4)], KNOWN_DOSE)


def _binomial(a: Array, xp: Array) -> Array:
    """[1 2 1] / 4 along both axes, edges repeated."""
    for axis in (0, 1):
        n = a.shape[axis]
        before = a.take(xp.maximum(xp.arange(n) - 1, 0), axis)
        after = a.take(xp.minimum(xp.arange(n) + 1, n - 1), axis)
        a = (before + 2 * a + after) / 4
    return a
