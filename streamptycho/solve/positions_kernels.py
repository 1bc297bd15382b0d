"""What a diffraction pattern says about where its window stands: readable forms.

Sources: Guizar-Sicairos & Fienup, Opt. Express 16, 7264 (2008) for the derivative of the misfit with the window's shift;
Odstrcil, Menzel & Guizar-Sicairos, Opt. Express 26, 3108 (2018) for its use with a least-squares step.

A shift s of the window changes the exit wave by P (s . grad O), and hence the modulus at the detector by s . J with

    J_a = Re sum over modes conj(Psi) F(P d_a O) / modulus.

Force F_a = sum J_a (A - modulus) is minus the derivative of the misfit sum (A - modulus)^2 / 2, K_ab = sum J_a J_b its
curvature (Gauss-Newton). The cheaper curvature of the exit wave, sum |P|^2 |grad O|^2, is 3 to 6 times too large, by a
factor that depends on the object: windows then stop short of the next pixel.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.epie import Workspace, far_field

_TINY = 1e-9


def shift_sums(
    backend: Backend,
    obj: Array,
    probe: Array,
    amplitudes: Array,
    corners: NDArray[np.int64],
    rows: NDArray[np.int64],
    flux: Array,
    background: Array,
    sums: Array,
    work: Workspace,
) -> None:
    """Force and curvature of the misfit of each of `rows` with a shift of its window; nothing else is changed.

    Parameters
    ----------
    obj : (H, W) complex64 canvas.
    probe : (modes, ny, nx) complex64.
    amplitudes : (capacity, ny, nx) float32, zero frequency first, negative where masked.
    corners : (k, 2) int64, windows on the canvas.
    rows : (k,) int64 of `amplitudes` and `flux`.
    flux : (capacity,) float32, amplitude of each frame relative to the usual one.
    background : (ny, nx) float32 incoherent intensity, zero frequency first, or (0, 0).
    sums : (k, 6) float32, written: F_y, F_x per px, K_yy, K_yx, K_xx per px^2, and the misfit.
    work : buffers.
    """
    xp = backend.xp
    ny, nx = probe.shape[1:]
    for k, (row, (y, x)) in enumerate(zip(rows.tolist(), corners.tolist(), strict=True)):
        window = obj[y : y + ny, x : x + nx]
        field, residual, modulus = _model(backend, probe, window, amplitudes[row] / flux[row], background, work)
        phase = field.conj() / (modulus + _TINY) * (amplitudes[row] >= 0)
        slopes = [(phase * far_field(backend, probe * slope)).real.sum(0) for slope in _slopes(xp, window)]
        for a in (0, 1):
            sums[k, a] = (slopes[a] * residual).sum()
            for b in range(a, 2):
                sums[k, 2 + a + b] = (slopes[a] * slopes[b]).sum()
        sums[k, 5] = (residual * residual).sum()


def _model(
    backend: Backend, probe: Array, window: Array, amplitude: Array, background: Array, work: Workspace
) -> tuple[Array, Array, Array]:
    """Field at the detector, A less its modulus where valid, and the modulus."""
    xp = backend.xp
    field = far_field(backend, xp.multiply(probe, window, out=work.field))
    power = work.intensity(xp, field)
    modulus = xp.sqrt(power + background) if background.size else xp.sqrt(power)
    return field, xp.where(amplitude >= 0, amplitude - modulus, 0), modulus


def _slopes(xp: Array, window: Array) -> tuple[Array, Array]:
    """Central differences along y and x, none on the rim, where no probe is."""
    slope_y, slope_x = xp.zeros_like(window), xp.zeros_like(window)
    slope_y[1:-1, 1:-1] = (window[2:, 1:-1] - window[:-2, 1:-1]) / 2
    slope_x[1:-1, 1:-1] = (window[1:-1, 2:] - window[1:-1, :-2]) / 2
    return slope_y, slope_x
