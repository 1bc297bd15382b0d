"""LSQ-ML: likelihood gradients over batches of frames, each with the step lengths that suit it best.

Source: Odstrcil, Menzel & Guizar-Sicairos, Opt. Express 26, 3108 (2018). For a batch of frames j with windows W_j, modes m
and chi_jm the change of the exit waves that the amplitude likelihood asks for (:func:`model.change`):

    D   = sum_jm W_j^T conj(P_m) chi_jm  / (w + d_O max p)      p = sum_m |P_m|^2,  w = sum_j W_j^T p
    E_m = sum_j conj(W_j O) chi_jm       / (v + d_P max v)      v = sum_j |W_j O|^2
    a_j, b_j minimise  sum_m |chi_jm - a P_m W_j D - b E_m W_j O|^2                        (2 x 2 per frame)
    O += damping D sum_j W_j^T (a_j p) / w          P_m += damping E_m mean_j b_j

This is the readable form, over NumPy or CuPy, and the oracle of :mod:`compiled_lsqml`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.model import change

RIDGE = 1e-6
"""Relative addition to the determinant: object and probe may ask for the same change."""
NOTHING = 1e-20
"""Power below which nothing is divided by it."""


@dataclass(frozen=True, slots=True)
class BatchStep:
    """How a batch changes object and probe."""

    size: int
    """Frames per batch."""
    object_floor: float
    """d_O."""
    probe_floor: float
    """d_P."""
    object_damping: float
    probe_damping: float
    """0 keeps the probe."""


class LsqmlWorkspace:
    """Buffers of one batch.

    Attributes
    ----------
    changes : (size, modes, ny, nx) complex64, chi.
    gain : (H, W) complex64, numerator of D. weight : (H, W) float32, w. total : (H, W) float32, sum of a_j p.
    """

    def __init__(self, backend: Backend, probe_shape: tuple[int, int, int], canvas: tuple[int, int], size: int) -> None:
        xp = backend.xp
        self.changes: Array = xp.empty((size, *probe_shape), xp.complex64)
        self.gain: Array = xp.zeros(canvas, xp.complex64)
        self.weight: Array = xp.zeros(canvas, xp.float32)
        self.total: Array = xp.zeros(canvas, xp.float32)


def sweep(
    backend: Backend,
    obj: Array,
    probe: Array,
    amplitudes: Array,
    corners: NDArray[np.int64],
    rows: NDArray[np.int64],
    step: BatchStep,
    flux: Array,
    background: Array,
    misfit: Array,
    lengths: Array,
    work: LsqmlWorkspace,
) -> None:
    """One step from each batch of `rows` in order, in place; nothing waits for the device.

    Parameters
    ----------
    obj, probe, amplitudes, corners, rows, flux, background, misfit : as in :func:`epie.sweep`.
    lengths : (k, 2) float32, written: a_j and b_j.
    """
    for first in range(0, len(rows), step.size):
        part = slice(first, first + step.size)
        windows = [(slice(y, y + probe.shape[1]), slice(x, x + probe.shape[2])) for y, x in corners[part].tolist()]
        for k, (row, at) in enumerate(zip(rows[part].tolist(), windows, strict=True)):
            found, misfit[row] = change(backend, probe * obj[at], amplitudes[row], flux[row], background)
            work.changes[k] = found
        lengths[part] = _apply(backend, obj, probe, windows, step, work)


def _apply(
    backend: Backend, obj: Array, probe: Array, windows: list[tuple[slice, slice]], step: BatchStep, work: LsqmlWorkspace
) -> Array:
    """Change object and probe by the batch whose chi are in `work`; returns the (k, 2) step lengths."""
    xp = backend.xp
    power = (probe.real**2 + probe.imag**2).sum(0)
    for canvas in (work.gain, work.weight, work.total):
        for at in windows:
            canvas[at] = 0
    pull, seen = xp.zeros_like(probe), xp.zeros_like(power)
    for k, at in enumerate(windows):
        work.gain[at] += (probe.conj() * work.changes[k]).sum(0)
        work.weight[at] += power
        pull += obj[at].conj() * work.changes[k]
        seen += obj[at].real ** 2 + obj[at].imag ** 2
    floor = step.object_floor * power.max()
    pull /= seen + step.probe_floor * seen.max()
    lengths = []
    for k, at in enumerate(windows):
        direction = work.gain[at] / (work.weight[at] + floor)
        found = step_lengths(xp, probe * direction, pull * obj[at], work.changes[k], probe_moves=step.probe_damping > 0)
        lengths.append(found)
        work.total[at] += step.object_damping * found[0] * power
    for at in windows:
        obj[at] += work.gain[at] / (work.weight[at] + floor) * (work.total[at] / (work.weight[at] + NOTHING))
        work.total[at] = 0  # windows overlap: what is applied is gone
    made = xp.stack(lengths)
    probe += step.probe_damping * made[:, 1].mean() * pull
    return made


def step_lengths(xp: Array, by_object: Array, by_probe: Array, wanted: Array, *, probe_moves: bool) -> Array:
    """(2,) float32: a, b >= 0 for which a `by_object` + b `by_probe` comes closest to `wanted`; b = 0 for a fixed probe."""

    def inner(a: Array, b: Array) -> Array:
        return (a.real * b.real + a.imag * b.imag).sum(dtype=xp.float64)

    oo, ow = inner(by_object, by_object), inner(by_object, wanted)
    if not probe_moves:
        return xp.stack([xp.maximum(ow / (oo + NOTHING), 0), xp.zeros_like(ow)]).astype(xp.float32)
    op, pp, pw = inner(by_object, by_probe), inner(by_probe, by_probe), inner(by_probe, wanted)
    determinant = oo * pp * (1 + RIDGE) - op * op + NOTHING
    a, b = (ow * pp - pw * op) / determinant, (pw * oo - ow * op) / determinant
    return xp.maximum(xp.stack([a, b]), 0).astype(xp.float32)
