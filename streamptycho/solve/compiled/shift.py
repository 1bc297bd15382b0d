"""What a pattern says about its window's place (:mod:`shift`), as one compiled loop over frames."""

import numpy as np
from rocket_fft import c2c

from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.compiled.modulus import TINY, arrays, compared, exit_waves, intensity
from streamptycho.solve.devices.backend import Array
from streamptycho.solve.frames import Frames, Model


@jit
def _slopes(psi, probe, obj, y0, x0):
    """P_m times the central differences of O along y and x, after the first `modes` planes of `psi`; 0 on the rim."""
    modes, ny, width = probe.shape
    half = np.float32(0.5)
    psi[modes:] = 0
    for m in range(modes):
        for y in range(1, ny - 1):
            before = obj[y0 + y - 1, 2 * x0 : 2 * x0 + width]
            here = obj[y0 + y, 2 * x0 : 2 * x0 + width]
            after = obj[y0 + y + 1, 2 * x0 : 2 * x0 + width]
            p, along_y, along_x = probe[m, y], psi[modes + m, y], psi[2 * modes + m, y]
            for x in range(1, width // 2 - 1):
                pr, pi = half * p[2 * x], half * p[2 * x + 1]
                a, b = after[2 * x] - before[2 * x], after[2 * x + 1] - before[2 * x + 1]
                along_y[2 * x] = pr * a - pi * b
                along_y[2 * x + 1] = pr * b + pi * a
                a, b = here[2 * x + 2] - here[2 * x - 2], here[2 * x + 3] - here[2 * x - 1]
                along_x[2 * x] = pr * a - pi * b
                along_x[2 * x + 1] = pr * b + pi * a


@jit
def _sums(psi, modes, amplitude, flux, background, norm, line, out):
    """Force, curvature and misfit from the transforms of exit wave and slopes."""
    ny, nx = amplitude.shape
    total = np.zeros(6)
    square, brightness = norm * norm, np.float32(1) / flux
    for y in range(ny):
        intensity(psi[:modes], background, y, square, line[0])
        for c in (1, 2):
            line[c] = 0
            for m in range(modes):
                f, q = psi[m, y], psi[c * modes + m, y]
                for x in range(nx):
                    line[c, x] += f[2 * x] * q[2 * x] + f[2 * x + 1] * q[2 * x + 1]
        force_y = force_x = misfit = yy = yx = xx = np.float32(0)
        for x in range(nx):
            valid, modulus, residual = compared(amplitude[y, x], line[0, x], brightness, norm)
            weight = valid / (modulus + TINY) * square
            a, b = line[1, x] * weight, line[2, x] * weight
            force_y += a * residual
            force_x += b * residual
            yy += a * a
            yx += a * b
            xx += b * b
            misfit += residual * residual
        total[0] += force_y
        total[1] += force_x
        total[2] += yy
        total[3] += yx
        total[4] += xx
        total[5] += misfit
    out[:] = total


@jit
def _walk(obj, probe, amplitudes, corners, rows, flux, background, sums, field):
    """Sums (k, 6) of every row; `field` (3 modes, ny, nx) complex64 scratch."""
    modes, ny, nx = probe.shape
    o, p, psi = obj.view(np.float32), probe.view(np.float32), field.view(np.float32)
    norm, one = np.float32(1 / np.sqrt(ny * nx)), np.float32(1)
    line, axes = np.empty((3, nx), np.float32), np.array([1, 2])
    for k in range(len(rows)):
        row, y0, x0 = rows[k], corners[k, 0], corners[k, 1]
        exit_waves(psi, p, o, y0, x0)
        _slopes(psi, p, o, y0, x0)
        c2c(field, field, axes, True, one, 1)  # type: ignore[arg-type]
        _sums(psi, modes, amplitudes[row], flux[row], background, norm, line, sums[k])


def shift_sums(model: Model, frames: Frames) -> Array:
    """:func:`streamptycho.solve.equations.shift.shift_sums`, compiled."""
    sums = np.zeros((len(frames), 6), np.float32)
    field = np.empty((3 * len(model.probe), *model.probe.shape[1:]), np.complex64)
    _walk(*arrays(model, frames), sums, field)
    return sums
