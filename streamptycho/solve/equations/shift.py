"""What a diffraction pattern says about where its window stands: the readable form.

Sources: Guizar-Sicairos & Fienup, Opt. Express 16, 7264 (2008) for the derivative of the misfit with the window's shift;
Odstrcil, Menzel & Guizar-Sicairos, Opt. Express 26, 3108 (2018) for its use with a least-squares step.

A shift s of the window changes the exit wave by P (s . grad O), and hence the modulus at the detector by s . J with

    J_a = Re sum over modes conj(Psi) F(P d_a O) / modulus.

Force F_a = sum J_a (A - modulus) is minus the derivative of the misfit sum (A - modulus)^2 / 2, K_ab = sum J_a J_b its
curvature (Gauss-Newton). The cheaper curvature of the exit wave, sum |P|^2 |grad O|^2, is 3 to 6 times too large, by a
factor that depends on the object: windows then stop short of the next pixel.
"""

import numpy as np

from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations.modulus import TINY, compare, far_field
from streamptycho.solve.frames import Frames, Model


def shift_sums(backend: Backend, model: Model, frames: Frames) -> Array:
    """(k, 6) float32: F_y, F_x per px, K_yy, K_yx, K_xx per px^2 of each frame, and its misfit."""
    xp, probe = backend.xp, model.probe
    sums = xp.zeros((len(frames), 6), np.float32)
    for k in range(len(frames)):
        window = model.object[frames.window(k)]
        field = far_field(backend, probe * window)
        seen = compare(backend, field, frames.frame(k))
        phase = field.conj() / (seen.modulus + TINY) * seen.valid
        slopes = [(phase * far_field(backend, probe * slope)).real.sum(0) for slope in _slopes(xp, window)]
        for a in (0, 1):
            sums[k, a] = (slopes[a] * seen.residual).sum()
            for b in range(a, 2):
                sums[k, 2 + a + b] = (slopes[a] * slopes[b]).sum()
        sums[k, 5] = seen.misfit
    return sums


def _slopes(xp: Array, window: Array) -> tuple[Array, Array]:
    """Central differences along y and x, none on the rim, where no probe is."""
    slope_y, slope_x = xp.zeros_like(window), xp.zeros_like(window)
    slope_y[1:-1, 1:-1] = (window[2:, 1:-1] - window[:-2, 1:-1]) / 2
    slope_x[1:-1, 1:-1] = (window[1:-1, 2:] - window[1:-1, :-2]) / 2
    return slope_y, slope_x
