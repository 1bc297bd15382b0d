"""Several frames used at once, all on the same object and probe: the readable form of what a GPU does.

For frames b of a batch, with D_b the change of each exit wave in the modulus projection and W = sum_b |P|^2 the light that a
pixel of the object gets from all of them (S = sum_b |O_b|^2 for the probe):

    O   += sum_b alpha_b sum_m conj(P_m) D_bm / ((1 - gamma_b) W + gamma_b max W)
    P_m += sum_b beta_b conj(O_b) D_bm / ((1 - gamma_b) S + gamma_b max S)

A batch of one is :func:`streamptycho.solve.epie.update`. Without the sum over the batch in the denominator it would diverge.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.epie import TINY, Workspace, centre_of_mass, far_field, near_field


def sweep(
    backend: Backend,
    batch: int,
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
    work: Workspace,
) -> None:
    """Use `rows` in order, `batch` at a time; all else as in :func:`streamptycho.solve.epie.sweep`."""
    xp = backend.xp
    ny, nx = probe.shape[1:]
    for first in range(0, len(rows), batch):
        some = slice(first, first + batch)
        windows = [(slice(y, y + ny), slice(x, x + nx)) for y, x in corners[some].tolist()]
        old = xp.stack([obj[window] for window in windows])
        change = []
        for k, (row, window) in enumerate(zip(rows[some].tolist(), old, strict=True), first):
            field = far_field(backend, probe * window)
            misfit[row] = _project(xp, field, amplitudes[row], flux[row], background, figures[k], work)
            change.append(near_field(backend, field))
        alpha, beta, gamma_object, gamma_probe = steps[some].T
        cover, top = _cover(xp, obj, windows, (abs(probe) ** 2).sum(0))
        strength = (abs(old) ** 2).sum(0)
        gains = [(xp.conj(probe) * d).sum(0) for d in change]
        for b, d in enumerate(change):
            probe += xp.conj(old[b]) * d * _weight(xp, beta[b], gamma_probe[b], strength, strength.max())
        for b, (window, gain) in enumerate(zip(windows, gains, strict=True)):
            obj[window] += gain * _weight(xp, alpha[b], gamma_object[b], cover[window], top)


def _project(
    xp: Array, field: Array, amplitude: Array, flux: Array, background: Array, figures: Array, work: Workspace
) -> Array:
    """Turn the far fields (modes, ny, nx) into their change, in place; returns the misfit, writes the frame's figures."""
    valid = amplitude >= 0
    power = (abs(field) ** 2).sum(0)
    if background.size:
        power = power + background
    modulus = xp.sqrt(power)
    residual = (amplitude / flux - modulus) * valid
    power = power * valid
    figures[:2] = centre_of_mass(xp, power, work.frequencies)
    figures[2] = (amplitude * modulus * valid).sum()
    figures[3] = power.sum()
    field *= residual / (modulus + TINY)
    return (residual**2).sum()


def _cover(xp: Array, obj: Array, windows: list[tuple[slice, slice]], power: Array) -> tuple[Array, Array]:
    """Light on each pixel of the object from the whole batch, and its maximum."""
    cover = xp.zeros(obj.shape, xp.float32)
    for window in windows:
        cover[window] += power
    return cover, cover.max()


def _weight(xp: Array, step: float, gamma: float, amount: Array, top: Array) -> Array:
    """Step / ((1 - gamma) amount + gamma top), 0 where all is dark."""
    denominator = (1 - gamma) * amount + gamma * top
    return xp.where(denominator > 0, step / xp.maximum(denominator, 1e-30), 0)
