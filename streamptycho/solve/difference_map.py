"""Difference map: all exit waves at once, between what was measured and what one object and one probe can make.

Source: Thibault, Dierolf, Bunk, Menzel & Pfeiffer, Ultramicroscopy 109, 338 (2009); relaxed as in Luke, Inverse Problems 21,
37 (2005). With pi_jm = P_m W_j O and Pi_F the projection onto the measured modulus, one iteration is

    psi_j <- psi_j + Pi_F(2 pi_j - psi_j) - pi_j        = pi_j + change(2 pi_j - psi_j)
    psi_j <- relaxation times that + (1 - relaxation) pi_j

followed by the overlap projection, the object before the probe, each given a little inertia e where hardly any light fell:

    O = (sum_jm W_j^T conj(P_m) psi_jm + e O) / (sum_jm W_j^T |P_m|^2 + e)        P_m likewise with the new O

The smooth phase is slow in every method that moves all frames together, so the smooth part of the object's change is carried
on from one iteration to the next (as by :mod:`smooth`), and the exit waves follow it.

This is the readable form, over NumPy or CuPy, and the oracle of :mod:`compiled_difference_map`.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.canvas import Canvas, bilinear, block_mean
from streamptycho.solve.model import change
from streamptycho.solve.smooth import carried_on, momentum_trust

CARRY_DECAY = 0.9
"""Part of the smooth velocity kept from one iteration to the next, unless it then points backwards."""
CARRY_GAIN = 0.9
DIM = 0.05
"""Transmission, squared, below which exit waves do not follow the smooth change: their phase there means nothing."""


def project(
    backend: Backend,
    obj: Array,
    probe: Array,
    amplitudes: Array,
    corners: NDArray[np.int64],
    rows: NDArray[np.int64],
    relaxation: float,
    flux: Array,
    background: Array,
    waves: Array,
    ratio: Array,
    gain: Array,
    weight: Array,
    *,
    fresh: bool,
) -> None:
    """Move the exit waves of `rows` and add up what they say of the object.

    Parameters
    ----------
    obj, probe, amplitudes, corners, rows, flux, background : as in :func:`epie.sweep`.
    waves : (frames, modes, ny, nx) complex64, changed in `rows`.
    ratio : (H, W) complex64, factor by which the object was changed beside the projections; the waves take it on first.
    gain, weight : (H, W) complex64 and float32, added to: sum conj(P) psi and sum |P|^2.
    fresh : True if `waves` holds nothing yet; they then begin as P W O.
    """
    ny, nx = probe.shape[1:]
    power = (probe.real**2 + probe.imag**2).sum(0)
    for row, (y, x) in zip(rows.tolist(), corners.tolist(), strict=True):
        at = (slice(y, y + ny), slice(x, x + nx))
        model = probe * obj[at]
        reflected = model.copy() if fresh else 2 * model - waves[row] * ratio[at]
        found, _ = change(backend, reflected, amplitudes[row], flux[row], background)
        waves[row] = model + relaxation * found
        gain[at] += (probe.conj() * waves[row]).sum(0)
        weight[at] += power


def add_probe(
    backend: Backend,
    obj: Array,
    corners: NDArray[np.int64],
    rows: NDArray[np.int64],
    waves: Array,
    gain: Array,
    weight: Array,
) -> None:
    """Add up what the exit waves of `rows` say of the probe: gain (modes, ny, nx), weight (ny, nx)."""
    ny, nx = weight.shape
    for row, (y, x) in zip(rows.tolist(), corners.tolist(), strict=True):
        window = obj[y : y + ny, x : x + nx]
        gain += window.conj() * waves[row]
        weight += window.real**2 + window.imag**2


def divide(target: Array, gain: Array, weight: Array, inertia: float) -> None:
    """Take `target` to the weighted least squares solution, in place."""
    keep = inertia * weight.max()
    target[...] = (gain + keep * target) / (weight + keep)


def carry_on(canvas: Canvas, backend: Backend, box: tuple[slice, slice], ratio: Array) -> None:
    """Carry the smooth change of the object since the last time on, and leave the factor it makes in `ratio`."""
    xp = backend.xp
    cells = canvas.cells(box)
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
