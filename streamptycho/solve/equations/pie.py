"""The update of object and probe from one diffraction pattern. Arrays in, arrays changed in place.

Sources: Maiden & Rodenburg, Ultramicroscopy 109, 1256 (2009) for ePIE; Maiden, Johnson & Li, Optica 4, 736 (2017) for the
regularised weights (rPIE, `gamma` < 1); Thibault & Menzel, Nature 494, 68 (2013) for the modes.

This is the readable form of the update and the oracle for every faster one. With O the window of the object, P the probe and
D_m the change of the exit wave of mode m in the modulus projection, all from before the update:

    O   += alpha sum_m conj(P_m) D_m / ((1 - gamma_O) sum_m |P_m|^2 + gamma_O max sum_m |P_m|^2)
    P_m += beta conj(O) D_m          / ((1 - gamma_P) |O|^2         + gamma_P max |O|^2)
"""

from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations.modulus import Comparison, compare, far_field, intensity, near_field
from streamptycho.solve.frames import Frame, Frames, Model, Outcome, Step, Steps


def sweep(backend: Backend, model: Model, frames: Frames, steps: Steps, outcome: Outcome) -> None:
    """One update from each frame in order, in place; nothing waits for the device."""
    for k, row in enumerate(frames.rows.tolist()):
        seen = update(backend, model.probe, model.object[frames.window(k)], frames.frame(k), steps.step(k))
        outcome.misfit[row] = seen.misfit
        outcome.figures[k] = seen.figures(backend.xp)


def update(backend: Backend, probe: Array, window: Array, frame: Frame, step: Step) -> Comparison:
    """Update `probe` (modes, ny, nx) and `window` (ny, nx) in place; returns the frame beside its model from before."""
    xp = backend.xp
    field = far_field(backend, probe * window)
    seen = compare(backend, field, frame)
    softened = step.count_floor > 0 and len(probe) > 1
    field *= seen.excess_above(xp, step.count_floor) if softened else seen.excess()
    change = near_field(backend, field)

    light, transmission = intensity(probe), intensity(window[None])
    gain, pull = (probe.conj() * change).sum(0), window.conj() * change
    window += gain * weight(xp, step.alpha, step.gamma_object, light, light.max())
    probe += pull * weight(xp, step.beta, step.gamma_probe, transmission, transmission.max())
    return seen


def weight(xp: Array, step: float, gamma: float, amount: Array, top: Array) -> Array:
    """Step / ((1 - gamma) amount + gamma top); finite where all is dark, and nothing comes of it."""
    return step / xp.maximum((1 - gamma) * amount + gamma * top, 1e-30)
