"""What a pattern says about its window's place (:mod:`positions_kernels`), as one compiled loop over frames."""

import numpy as np
from numpy.typing import NDArray
from rocket_fft import c2c

from streamptycho.solve.backend import Array
from streamptycho.solve.compiled_model import TINY, exit_waves
from streamptycho.solve.epie import Workspace
from streamptycho.solve.jit import jit


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
    for y in range(ny):
        for c in range(3):
            for x in range(nx):
                line[c, x] = 0
        for c in range(3):
            for m in range(modes):
                f, q = psi[m, y], psi[c * modes + m, y]
                for x in range(nx):
                    line[c, x] += f[2 * x] * q[2 * x] + f[2 * x + 1] * q[2 * x + 1]
        force_y, force_x, misfit = np.float32(0), np.float32(0), np.float32(0)
        yy, yx, xx = np.float32(0), np.float32(0), np.float32(0)
        for x in range(nx):
            valid = np.float32(1) if amplitude[y, x] >= 0 else np.float32(0)
            power = line[0, x] * norm * norm
            if background.size > 0:
                power += background[y, x]
            modulus = np.sqrt(power)
            residual = (amplitude[y, x] / flux - modulus) * valid
            weight = valid / (modulus + TINY) * norm * norm
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
    for i in range(6):
        out[i] = total[i]


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


def shift_sums(
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
    """:func:`streamptycho.solve.positions_kernels.shift_sums`, compiled."""
    field = np.empty((3 * len(probe), *probe.shape[1:]), np.complex64)
    _walk(obj, probe, amplitudes, corners, rows, flux, background, sums, field)
