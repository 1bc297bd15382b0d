"""Several frames used at once, all on the same object and probe: the readable form of what a GPU does.

For frames b of a batch, with D_b the change of each exit wave in the modulus projection and W = sum_b |P|^2 the light that a
pixel of the object gets from all of them (S = sum_b |O_b|^2 for the probe):

    O   += sum_b alpha_b sum_m conj(P_m) D_bm / ((1 - gamma_b) W + gamma_b max W)
    P_m += sum_b beta_b conj(O_b) D_bm / ((1 - gamma_b) S + gamma_b max S)

A batch of one is :func:`pie.update`. Without the sum over the batch in the denominator it would diverge.
"""

from streamptycho.solve.devices.backend import Backend
from streamptycho.solve.equations.modulus import compare, far_field, intensity, near_field
from streamptycho.solve.equations.pie import weight
from streamptycho.solve.frames import Frames, Model, Outcome, Steps


def sweep(backend: Backend, model: Model, frames: Frames, steps: Steps, outcome: Outcome, size: int) -> None:
    """Use frames in order, `size` at a time, without a floor of counts; else as :func:`pie.sweep`."""
    xp, obj, probe = backend.xp, model.object, model.probe
    for first in range(0, len(frames), size):
        batch = range(first, min(first + size, len(frames)))
        windows = [frames.window(k) for k in batch]
        old = xp.stack([obj[window] for window in windows])
        changes = []
        for k, window in zip(batch, old, strict=True):
            field = far_field(backend, probe * window)
            seen = compare(backend, field, frames.frame(k))
            outcome.misfit[int(frames.rows[k])] = seen.misfit
            outcome.figures[k] = seen.figures(xp)
            changes.append(near_field(backend, field * seen.excess()))
        alpha, beta, gamma_object, gamma_probe = steps.strengths[first : batch.stop].T
        cover, power = xp.zeros(obj.shape, xp.float32), intensity(probe)
        for window in windows:
            cover[window] += power
        top, strength = cover.max(), intensity(old)
        gains = [(xp.conj(probe) * change).sum(0) for change in changes]
        for b, change in enumerate(changes):
            probe += xp.conj(old[b]) * change * weight(xp, beta[b], gamma_probe[b], strength, strength.max())
        for b, (window, gain) in enumerate(zip(windows, gains, strict=True)):
            obj[window] += gain * weight(xp, alpha[b], gamma_object[b], cover[window], top)
