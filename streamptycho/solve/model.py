"""What a model of one diffraction pattern lacks: shared by the refiners that work after the last frame.

Amplitude likelihood (Gaussian on the square root of the counts): L = sum over valid pixels of (s - A / flux)^2 with
s = sqrt(sum_m |F psi_m|^2 + background). Half its steepest descent with respect to the exit waves is :func:`change`, which
is also the difference between the exit waves and their projection onto the measured modulus.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.epie import far_field, near_field

TINY = 1e-9
"""Keeps 0/0 away where model and measurement are both dark."""


def change(backend: Backend, waves: Array, amplitude: Array, flux: Array, background: Array) -> tuple[Array, Array]:
    """Projected less present exit waves, and the likelihood.

    Parameters
    ----------
    waves : (modes, ny, nx) complex64 exit waves; may be overwritten.
    amplitude : (ny, nx) float32, square root of the counts, zero frequency at [0, 0]; negative where masked, which leaves
        the waves free there.
    flux : scalar, amplitude of this frame relative to the usual one.
    background : (ny, nx) float32 incoherent intensity, zero frequency at [0, 0]; none if empty.

    Returns
    -------
    (modes, ny, nx) complex64, and a float32 scalar on the device: sum over valid pixels of (s - A / flux)^2.
    """
    xp = backend.xp
    field = far_field(backend, waves)
    power = (field.real**2 + field.imag**2).sum(0)
    if background.size:
        power = power + background
    modulus = xp.sqrt(power)
    residual = (amplitude / flux - modulus) * (amplitude >= 0)
    return near_field(backend, field * (residual / (modulus + TINY))), (residual * residual).sum()


def measure(
    backend: Backend,
    obj: Array,
    probe: Array,
    amplitudes: Array,
    corners: NDArray[np.int64],
    rows: NDArray[np.int64],
    flux: Array,
    background: Array,
    misfit: Array,
) -> None:
    """Write the likelihood of each of `rows` into `misfit`; nothing else changes. Shapes as in :func:`epie.sweep`."""
    ny, nx = probe.shape[1:]
    for row, (y, x) in zip(rows.tolist(), corners.tolist(), strict=True):
        waves = probe * obj[y : y + ny, x : x + nx]
        misfit[row] = change(backend, waves, amplitudes[row], flux[row], background)[1]
