"""The update of object and probe from one diffraction pattern. Arrays in, arrays changed in place.

Sources: Maiden & Rodenburg, Ultramicroscopy 109, 1256 (2009) for ePIE; Maiden, Johnson & Li, Optica 4, 736 (2017) for the
regularised weights (rPIE, `gamma` < 1); Thibault & Menzel, Nature 494, 68 (2013) for the modes.

This is the readable form of the update and the oracle for every faster one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend


@dataclass(frozen=True, slots=True)
class Step:
    """Strength of one update."""

    alpha: float
    """Object step, 0 to 1."""
    beta: float
    """Probe step, 0 to 1; 0 leaves the probe alone."""
    gamma_object: float
    """Regularisation of the object's weight, 0 to 1; 1 is ePIE."""
    gamma_probe: float
    """The same for the probe."""


def far_field(backend: Backend, exit_wave: Array) -> Array:
    """Propagate to the detector: orthonormal Fourier transform, zero frequency at [0, 0]. Unitary."""
    return backend.fft2(exit_wave)


def near_field(backend: Backend, field: Array) -> Array:
    """Adjoint, and inverse, of :func:`far_field`."""
    return backend.ifft2(field)


class Workspace:
    """Buffers of one update, kept from one to the next: fresh memory for each would cost a third of the time."""

    def __init__(self, backend: Backend, probe_shape: tuple[int, int, int]) -> None:
        xp = backend.xp
        self.field: Array = xp.empty(probe_shape, xp.complex64)
        self.gain: Array = xp.empty(probe_shape, xp.complex64)
        self.old: Array = xp.empty(probe_shape[1:], xp.complex64)
        self.power: Array = xp.empty(probe_shape, xp.float32)
        self.square: Array = xp.empty(probe_shape, xp.float32)
        self.modulus: Array = xp.empty(probe_shape[1:], xp.float32)
        self.residual: Array = xp.empty(probe_shape[1:], xp.float32)
        self.figures: Array = xp.zeros(4, xp.float32)
        """Centre of mass (y, x), sum A |model| and sum |model|^2 of the last update."""
        self.frequencies = frequencies(xp, (probe_shape[1], probe_shape[2]))
        self.floor = 0.0
        """Counts added to measurement and model alike before their amplitudes are compared; see :func:`update`."""

    def intensity(self, xp: Array, field: Array) -> Array:
        """Sum over modes of |field|^2, (ny, nx) in a buffer of the workspace; abs() of complex64 is several times slower."""
        power, square = self.power[: len(field)], self.square[: len(field)]
        xp.multiply(field.real, field.real, out=power)
        xp.multiply(field.imag, field.imag, out=square)
        power += square
        return power[0] if len(power) == 1 else power.sum(0)


def sweep(
    backend: Backend,
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
    work: "Workspace",
) -> None:
    """One update from each of `rows` in order, in place; nothing waits for the device.

    Parameters
    ----------
    obj : (H, W) complex64 canvas.
    probe : (modes, ny, nx) complex64.
    amplitudes : (capacity, ny, nx) float32, see :func:`update`.
    corners : (k, 2) windows on the canvas.
    rows : (k,) rows of `amplitudes` and `misfit`.
    steps : (k, 4) float32: alpha, beta, gamma_object, gamma_probe.
    flux : (capacity,) float32, amplitude of each frame relative to the usual one; the measured one is divided by it.
    background : (ny, nx) float32, incoherent intensity beside the model's, zero frequency first; (0, 0) for none.
    misfit : (capacity,) float32, written: sum of (|model| - A)^2 before the update.
    figures : (k, 4) float32, written, all over valid pixels: centre of mass (y, x) of the model's intensity in signed
        frequencies, sum of (undivided) amplitude times model modulus, sum of the model's intensity.
    """
    ny, nx = probe.shape[1:]
    for k, (row, (y, x)) in enumerate(zip(rows.tolist(), corners.tolist(), strict=True)):
        window = obj[y : y + ny, x : x + nx]
        step = Step(*(float(value) for value in steps[k]))
        misfit[row] = update(backend, probe, window, amplitudes[row], step, work, flux[row], background)
        figures[k] = work.figures


def update(
    backend: Backend,
    probe: Array,
    window: Array,
    amplitude: Array,
    step: Step,
    work: Workspace,
    flux: Array = 1.0,
    background: Array | None = None,
) -> Array:
    """One update of `probe` and `window` in place.

    Parameters
    ----------
    probe : (modes, ny, nx) complex64.
    window : (ny, nx) complex64, a view into the object where the probe stood.
    amplitude : (ny, nx) float32, square root of the counts, zero frequency at [0, 0]; negative where masked, which leaves
        the model free there.
    step : strengths.
    work : buffers for this shape of probe; its `figures` are written. With `work.floor` c > 0 the field is multiplied by
        sqrt((A^2 + c) / (|model|^2 + c)) instead of A / |model|: the square root of few counts is smaller in the mean than
        the root of their expectation, which would starve what fills the dark of a pattern, such as weak modes.
    flux : amplitude of this frame relative to the usual one.
    background : (ny, nx) float32 incoherent intensity, zero frequency at [0, 0]; none if empty.

    Returns
    -------
    scalar float32 : sum of (|model| - amplitude)^2 over valid pixels, before the update, on the device.
    """
    xp = backend.xp
    # modulus projection: the model takes the measured amplitude and keeps its phase; change = projected - model
    field = far_field(backend, xp.multiply(probe, window, out=work.field))
    power = work.intensity(xp, field)
    if background is not None and background.size:
        power += background
    modulus = xp.sqrt(power, out=work.modulus)
    residual = xp.divide(amplitude, flux, out=work.residual)
    residual -= modulus
    valid = amplitude >= 0
    residual *= valid
    power = power * valid
    work.figures[:2] = centre_of_mass(xp, power, work.frequencies)
    work.figures[2] = ((residual + modulus * valid) * modulus).sum() * flux
    work.figures[3] = power.sum()
    if work.floor > 0 and len(probe) > 1:
        measured = (residual + modulus * valid) ** 2
        factor = (xp.sqrt((measured + work.floor) / (modulus * modulus + work.floor)) - 1) * valid
        field *= factor.astype(xp.float32)
    else:
        modulus += TINY
        field *= xp.divide(residual, modulus, out=modulus)
    change = near_field(backend, field)

    old = xp.conj(window, out=work.old)
    weight = work.intensity(xp, probe)
    top = weight.max()
    weight *= (1 - step.gamma_object) / step.alpha
    weight += top * (step.gamma_object / step.alpha)
    gain = xp.conj(probe, out=work.gain)
    gain *= change
    total = gain[0] if len(gain) == 1 else gain.sum(0)
    total /= weight
    window += total
    if step.beta > 0:
        weight = work.intensity(xp, old[None])
        top = weight.max()
        if step.gamma_probe < 1:
            weight *= (1 - step.gamma_probe) / step.beta
            weight += top * (step.gamma_probe / step.beta)
            old /= weight
        else:
            old *= step.beta / top
        change *= old
        probe += change
    residual *= residual
    return residual.sum()


def frequencies(xp: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Signed frequency samples of both axes, zero first; float32."""
    y, x = (xp.asarray((np.fft.fftfreq(n) * n).astype(np.float32)) for n in shape)
    return y, x


def centre_of_mass(xp: Array, power: Array, frequencies: tuple[Array, Array]) -> Array:
    """(2,) float32 mean frequency (y, x), weighted by `power` (ny, nx); 0 for an empty pattern."""
    rows, columns = power.sum(1), power.sum(0)
    total = xp.maximum(rows.sum(), TINY)
    return xp.stack([(rows * frequencies[0]).sum() / total, (columns * frequencies[1]).sum() / total])


TINY = 1e-9
"""Keeps 0/0 away where model and measurement are both dark; amplitudes are of order 1 to 1000."""
