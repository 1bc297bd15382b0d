"""LSQ-ML: likelihood gradients over batches of frames, each with the step lengths that suit it best.

Source: Odstrcil, Menzel & Guizar-Sicairos, Opt. Express 26, 3108 (2018). For a batch of frames j with windows W_j, modes m
and chi_jm the change of the exit waves that the amplitude likelihood asks for (:func:`modulus.change`):

    D   = sum_jm W_j^T conj(P_m) chi_jm  / (w + d_O max p)      p = sum_m |P_m|^2,  w = sum_j W_j^T p
    E_m = sum_j conj(W_j O) chi_jm       / (v + d_P max v)      v = sum_j |W_j O|^2
    a_j, b_j minimise  sum_m |chi_jm - a P_m W_j D - b E_m W_j O|^2                        (2 x 2 per frame)
    O += damping D sum_j W_j^T (a_j p) / w          P_m += damping E_m mean_j b_j

This is the readable form, over NumPy or CuPy, and the oracle of :mod:`streamptycho.solve.compiled.lsqml`.
"""

from dataclasses import dataclass

from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations.modulus import change, intensity
from streamptycho.solve.frames import Frames, Model

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


class Workspace:
    """Buffers of one batch: chi, and on the canvas the numerator of D, w, and the sum of a_j p."""

    def __init__(self, backend: Backend, probe_shape: tuple[int, int, int], canvas: tuple[int, int], size: int) -> None:
        xp = backend.xp
        self.changes: Array = xp.empty((size, *probe_shape), xp.complex64)
        self.gain: Array = xp.zeros(canvas, xp.complex64)
        self.weight: Array = xp.zeros(canvas, xp.float32)
        self.total: Array = xp.zeros(canvas, xp.float32)


def sweep(backend: Backend, model: Model, frames: Frames, step: BatchStep, misfit: Array, work: Workspace) -> Array:
    """One step from each batch of the frames in order, in place; nothing waits for the device.

    Writes the misfit of each frame at its row of `misfit` (capacity,) float32, and returns (k, 2) float32: a_j and b_j.
    """
    lengths = []
    for first in range(0, len(frames), step.size):
        batch = range(first, min(first + step.size, len(frames)))
        windows = [frames.window(k) for k in batch]
        for i, (k, at) in enumerate(zip(batch, windows, strict=True)):
            found, misfit[int(frames.rows[k])] = change(backend, model.probe * model.object[at], frames.frame(k))
            work.changes[i] = found
        lengths.append(_apply(backend, model, windows, step, work))
    return backend.xp.concatenate(lengths)


def _apply(backend: Backend, model: Model, windows: list[tuple[slice, slice]], step: BatchStep, work: Workspace) -> Array:
    """Change object and probe by the batch whose chi are in `work`; returns the (k, 2) step lengths."""
    xp, obj, probe = backend.xp, model.object, model.probe
    power = intensity(probe)
    for canvas in (work.gain, work.weight, work.total):
        for at in windows:
            canvas[at] = 0
    pull, seen = xp.zeros_like(probe), xp.zeros_like(power)
    for k, at in enumerate(windows):
        work.gain[at] += (probe.conj() * work.changes[k]).sum(0)
        work.weight[at] += power
        pull += obj[at].conj() * work.changes[k]
        seen += intensity(obj[at][None])
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
