"""Difference map: all exit waves at once, between the measured moduli and the products of one object and one probe.

Source: Thibault, Dierolf, Bunk, Menzel & Pfeiffer, Ultramicroscopy 109, 338 (2009); relaxed as in Luke, Inverse Problems 21,
37 (2005). With pi_jm = P_m W_j O and Pi_F the projection onto the measured modulus, one iteration is

    psi_j <- psi_j + Pi_F(2 pi_j - psi_j) - pi_j        = pi_j + change(2 pi_j - psi_j)
    psi_j <- relaxation times that + (1 - relaxation) pi_j

followed by the overlap projection, the object before the probe, each given a little inertia e where hardly any light fell:

    O = (sum_jm W_j^T conj(P_m) psi_jm + e O) / (sum_jm W_j^T |P_m|^2 + e)        P_m likewise with the new O

The smooth phase is slow in every method that moves all frames together, so the smooth part of the object's change is carried
on from one iteration to the next (as by :mod:`smooth`), and the exit waves follow it.

This is the readable form, over NumPy or CuPy, and the oracle of :mod:`streamptycho.solve.compiled.difference_map`.
"""

from streamptycho.solve.canvas import Box, Canvas, bilinear, block_mean
from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations.modulus import change, intensity
from streamptycho.solve.equations.smooth import carried_on, momentum_trust
from streamptycho.solve.frames import Frames, Model

CARRY_DECAY = 0.9
"""Part of the smooth velocity kept from one iteration to the next, unless it then points backwards."""
CARRY_GAIN = 0.9
DIM = 0.05
"""Transmission, squared, below which exit waves do not follow the smooth change: their phase there means nothing."""


class Workspace:
    """The exit waves of all frames, and the sums of an iteration, which begin at zero.

    `gain` and `weight` are sum conj(P) psi and sum |P|^2, those of the probe likewise. `ratio` is the factor by which the
    object was changed beside the projections; the waves take it on first.
    """

    def __init__(self, backend: Backend, probe_shape: tuple[int, int, int], canvas: tuple[int, int], frames: int) -> None:
        xp = backend.xp
        self.waves: Array = xp.empty((frames, *probe_shape), xp.complex64)
        self.ratio: Array = xp.ones(canvas, xp.complex64)
        self.gain: Array = xp.zeros(canvas, xp.complex64)
        self.weight: Array = xp.zeros(canvas, xp.float32)
        self.probe_gain: Array = xp.zeros(probe_shape, xp.complex64)
        self.probe_weight: Array = xp.zeros(probe_shape[1:], xp.float32)

    def clear(self) -> None:
        """Begin the sums of the next iteration."""
        for array in (self.gain, self.weight, self.probe_gain, self.probe_weight):
            array[...] = 0


def project(backend: Backend, model: Model, frames: Frames, relaxation: float, work: Workspace, *, fresh: bool) -> None:
    """Move the exit waves of `frames`, or begin them as P W O (`fresh`), and add up their gains of the object."""
    probe, power = model.probe, intensity(model.probe)
    for k, row in enumerate(frames.rows.tolist()):
        at = frames.window(k)
        modelled = probe * model.object[at]
        reflected = modelled.copy() if fresh else 2 * modelled - work.waves[row] * work.ratio[at]
        found, _ = change(backend, reflected, frames.frame(k))
        work.waves[row] = modelled + relaxation * found
        work.gain[at] += (probe.conj() * work.waves[row]).sum(0)
        work.weight[at] += power


def add_probe(obj: Array, frames: Frames, work: Workspace) -> None:
    """Add up the probe's gains from the exit waves of `frames`, for the object `obj` (H, W)."""
    for k, row in enumerate(frames.rows.tolist()):
        window = obj[frames.window(k)]
        work.probe_gain += window.conj() * work.waves[row]
        work.probe_weight += intensity(window[None])


def divide(target: Array, gain: Array, weight: Array, inertia: float) -> None:
    """Take `target` to the weighted least squares solution, in place."""
    keep = inertia * weight.max()
    target[...] = (gain + keep * target) / (weight + keep)


def carry_on(canvas: Canvas, box: Box, ratio: Array) -> None:
    """Carry the smooth change of the object since the last time on, and leave the factor it makes in `ratio`."""
    backend, xp, cells = canvas.backend, canvas.backend.xp, canvas.cells(box)
    target, velocity = canvas.object[box], canvas.velocity[cells]
    trust = momentum_trust(canvas.cell_dose[cells], backend)
    moved = carried_on(xp.zeros_like(velocity), trust * (block_mean(target) - canvas.cell_object[cells]), backend)
    forward = (moved.real * velocity.real + moved.imag * velocity.imag).sum() >= 0
    velocity = (CARRY_DECAY * forward * velocity + moved).astype(xp.complex64)
    canvas.velocity[cells] = velocity
    before = target.copy()
    target += CARRY_GAIN * bilinear((trust * velocity).astype(xp.complex64), backend)
    canvas.cell_object[cells] = block_mean(target)
    power = before.real**2 + before.imag**2
    bright = power > DIM
    ratio[box] = xp.where(bright, target * before.conj() / xp.where(bright, power, 1), 1)
