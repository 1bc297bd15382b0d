"""The detector: propagation, the model's intensity, and its projection onto the measured modulus.

Amplitude likelihood (Gaussian on the square root of the counts): L = sum over valid pixels of (s - A / flux)^2 with
s = sqrt(sum_m |F psi_m|^2 + background). Half its steepest descent with respect to the exit waves is :func:`change`, which
is also the difference between the exit waves and their projection onto the measured modulus.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.frames import Frame, Frames, Model

TINY = 1e-9
"""Keeps 0/0 away where model and measurement are both dark; amplitudes are of order 1 to 1000."""


def far_field(backend: Backend, waves: Array) -> Array:
    """Propagate to the detector: orthonormal Fourier transform, zero frequency at [0, 0]. Unitary."""
    return backend.fft2(waves)


def near_field(backend: Backend, field: Array) -> Array:
    """Adjoint, and inverse, of :func:`far_field`."""
    return backend.ifft2(field)


def intensity(field: Array) -> Array:
    """(ny, nx) sum of |field|^2 over modes; abs() of complex64 is several times slower."""
    return (field.real**2 + field.imag**2).sum(0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A frame beside its model; all (ny, nx) float32."""

    frame: Frame
    valid: Array
    """1 or 0."""
    power: Array
    """Intensity of the model, background included."""
    modulus: Array
    """Its square root."""
    residual: Array
    """A / flux less the modulus where valid, 0 elsewhere."""

    @property
    def misfit(self) -> Array:
        """Likelihood L, a scalar on the device."""
        return (self.residual * self.residual).sum()

    def excess(self) -> Array:
        """Factor that turns the model's field into its change in the projection: A / (flux modulus) - 1 where valid."""
        return self.residual / (self.modulus + TINY)

    def excess_above(self, xp: Array, floor: float) -> Array:
        """The same with `floor` counts on either side, see :attr:`Step.count_floor`."""
        measured = (self.residual + self.modulus) ** 2
        return (xp.sqrt((measured + floor) / (self.power + floor)) - 1) * self.valid

    def figures(self, xp: Array) -> Array:
        """(4,) as in :class:`Outcome`."""
        power = self.power * self.valid
        y, x = centre_of_mass(xp, power, frequencies(xp, power.shape))
        return xp.stack([y, x, (self.frame.amplitude * self.modulus * self.valid).sum(), power.sum()])


def compare(backend: Backend, field: Array, frame: Frame) -> Comparison:
    """Compare the model's `field` (modes, ny, nx) at the detector with what was measured."""
    power = intensity(field)
    if frame.background.size:
        power = power + frame.background
    modulus = backend.xp.sqrt(power)
    valid = (frame.amplitude >= 0).astype(np.float32)
    return Comparison(frame, valid, power, modulus, (frame.amplitude / frame.flux - modulus) * valid)


def change(backend: Backend, waves: Array, frame: Frame) -> tuple[Array, Array]:
    """Projected less present exit waves `waves` (modes, ny, nx), which may be overwritten; and the likelihood."""
    field = far_field(backend, waves)
    seen = compare(backend, field, frame)
    return near_field(backend, field * seen.excess()), seen.misfit


def measure(backend: Backend, model: Model, frames: Frames) -> Array:
    """(k,) float32 likelihood of each frame."""
    misfits = backend.xp.zeros(len(frames), np.float32)
    for k in range(len(frames)):
        field = far_field(backend, model.probe * model.object[frames.window(k)])
        misfits[k] = compare(backend, field, frames.frame(k)).misfit
    return misfits


@cache
def frequencies(xp: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Signed frequency samples of both axes, zero first; float32."""
    y, x = (xp.asarray((np.fft.fftfreq(n) * n).astype(np.float32)) for n in shape)
    return y, x


def centre_of_mass(xp: Array, power: Array, frequencies: tuple[Array, Array]) -> Array:
    """(2,) float32 mean frequency (y, x), weighted by `power` (ny, nx); 0 for an empty pattern."""
    rows, columns = power.sum(1), power.sum(0)
    total = xp.maximum(rows.sum(), TINY)
    return xp.stack([(rows * frequencies[0]).sum() / total, (columns * frequencies[1]).sum() / total])
