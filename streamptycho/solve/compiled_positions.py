"""What a pattern says about its window's place (:mod:`positions_kernels`), as one compiled loop over frames."""

import numpy as np
from numpy.typing import NDArray
from rocket_fft import c2c

from streamptycho.solve.backend import Array
from streamptycho.solve.compiled import _product
from streamptycho.solve.epie import Workspace
from streamptycho.solve.jit import jit
from streamptycho.solve.positions_kernels import SEEN

TINY = np.float32(1e-9)


@jit
def _residual(psi, amplitude, flux, background, norm, line):
    """Field times (A / modulus - 1) where valid, 0 elsewhere, scaled for the unnormalised way back; returns the misfit."""
    modes, ny = psi.shape[0], psi.shape[1]
    nx = amplitude.shape[1]
    misfit = 0.0
    for y in range(ny):
        for x in range(nx):
            line[x] = 0
        for m in range(modes):
            q = psi[m, y]
            for x in range(nx):
                line[x] += q[2 * x] * q[2 * x] + q[2 * x + 1] * q[2 * x + 1]
        total = np.float32(0)
        for x in range(nx):
            power = line[x] * norm * norm
            if background.size > 0:
                power += background[y, x]
            modulus = np.sqrt(power)
            valid = np.float32(1) if amplitude[y, x] >= 0 else np.float32(0)
            residual = (amplitude[y, x] / flux - modulus) * valid
            total += residual * residual
            line[x] = residual / (modulus + TINY) * norm * norm
        misfit += total
        for m in range(modes):
            q = psi[m, y]
            for x in range(nx):
                q[2 * x] *= line[x]
                q[2 * x + 1] *= line[x]
    return misfit


@jit
def _sums(obj, probe, change, y0, x0, out):
    """Sums over the window without its rim, in two real channels per complex pixel."""
    modes, ny, width = probe.shape
    force_y, force_x, turn_y, turn_x, total = 0.0, 0.0, 0.0, 0.0, 0.0
    yy, yx, xx = 0.0, 0.0, 0.0
    for y in range(1, ny - 1):
        before = obj[y0 + y - 1, 2 * x0 : 2 * x0 + width]
        here = obj[y0 + y, 2 * x0 : 2 * x0 + width]
        after = obj[y0 + y + 1, 2 * x0 : 2 * x0 + width]
        row_fy, row_fx, row_ty, row_tx, row_total = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        row_yy, row_yx, row_xx = np.float32(0), np.float32(0), np.float32(0)
        for x in range(1, width // 2 - 1):
            power, pull_r, pull_i = np.float32(0), np.float32(0), np.float32(0)
            for m in range(modes):
                pr, pi = probe[m, y, 2 * x], probe[m, y, 2 * x + 1]
                dr, di = change[m, y, 2 * x], change[m, y, 2 * x + 1]
                power += pr * pr + pi * pi
                pull_r += pr * dr + pi * di
                pull_i += pr * di - pi * dr
            a, b = here[2 * x], here[2 * x + 1]
            ar, ai = np.float32(0.5) * (after[2 * x] - before[2 * x]), np.float32(0.5) * (after[2 * x + 1] - before[2 * x + 1])
            br, bi = np.float32(0.5) * (here[2 * x + 2] - here[2 * x - 2]), np.float32(0.5) * (here[2 * x + 3] - here[2 * x - 1])
            row_fy += ar * pull_r + ai * pull_i
            row_fx += br * pull_r + bi * pull_i
            row_ty += power * (ai * a - ar * b)
            row_tx += power * (bi * a - br * b)
            row_total += power * (a * a + b * b)
            row_yy += power * (ar * ar + ai * ai)
            row_yx += power * (ar * br + ai * bi)
            row_xx += power * (br * br + bi * bi)
        force_y += row_fy
        force_x += row_fx
        turn_y += row_ty
        turn_x += row_tx
        total += row_total
        yy += row_yy
        yx += row_yx
        xx += row_xx
    total += TINY
    out[0], out[1] = force_y, force_x
    out[2] = SEEN * (yy - turn_y * turn_y / total)
    out[3] = SEEN * (yx - turn_y * turn_x / total)
    out[4] = SEEN * (xx - turn_x * turn_x / total)


@jit
def _walk(obj, probe, amplitudes, corners, rows, flux, background, sums, out, field):
    """Both readable forms: with `sums` (k, 6) all of them, with an empty one the misfits alone into `out` (k,)."""
    ny, nx = probe.shape[1], probe.shape[2]
    o, p, psi = obj.view(np.float32), probe.view(np.float32), field.view(np.float32)
    norm, one = np.float32(1 / np.sqrt(ny * nx)), np.float32(1)
    line, axes = np.empty(nx, np.float32), np.array([1, 2])
    for k in range(len(rows)):
        row, y0, x0 = rows[k], corners[k, 0], corners[k, 1]
        _product(psi, p, o, y0, x0)
        c2c(field, field, axes, True, one, 1)  # type: ignore[arg-type]
        misfit = _residual(psi, amplitudes[row], flux[row], background, norm, line)
        if len(sums):
            c2c(field, field, axes, False, one, 1)  # type: ignore[arg-type]
            _sums(o, p, psi, y0, x0, sums[k])
            sums[k, 5] = misfit
        else:
            out[k] = misfit


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
    _walk(obj, probe, amplitudes, corners, rows, flux, background, sums, np.empty(0, np.float32), work.field)


def misfits(
    obj: Array,
    probe: Array,
    amplitudes: Array,
    corners: NDArray[np.int64],
    rows: NDArray[np.int64],
    flux: Array,
    background: Array,
    out: Array,
    work: Workspace,
) -> None:
    """:func:`streamptycho.solve.positions_kernels.misfits`, compiled."""
    _walk(obj, probe, amplitudes, corners, rows, flux, background, np.empty((0, 6), np.float32), out, work.field)
