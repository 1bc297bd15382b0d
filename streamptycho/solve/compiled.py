"""The update of :mod:`~streamptycho.solve.epie` as one compiled loop over frames, the transform inside it.

Same arithmetic as the readable form, to rounding: float32 throughout, three passes over the pixels per update (product,
modulus, fused object and probe update), no allocation, no Python, and no interpreter lock, so that streams keep flowing.
Rows of complex pixels are handled as interleaved float32, which is what the compiler can vectorise.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rocket_fft import c2c

from streamptycho.solve.backend import Array
from streamptycho.solve.epie import Workspace
from streamptycho.solve.jit import jit

TINY = np.float32(1e-9)


@jit
def _product(psi, probe, obj, y0, x0):
    """psi_m = P_m O under the window at (y0, x0)."""
    modes, ny, width = probe.shape
    for m in range(modes):
        for y in range(ny):
            p, o, q = probe[m, y], obj[y0 + y, 2 * x0 : 2 * x0 + width], psi[m, y]
            for x in range(width // 2):
                pr, pi, a, b = p[2 * x], p[2 * x + 1], o[2 * x], o[2 * x + 1]
                q[2 * x] = pr * a - pi * b
                q[2 * x + 1] = pr * b + pi * a


@jit
def _modulus(psi, amplitude, flux, background, norm, line, figures):
    """Field times (A / |field| - 1) where valid, 0 elsewhere; returns the misfit and leaves the figures of the model.

    `norm` makes the unnormalised transforms orthonormal; `line` is a scratch row.
    """
    modes, ny = psi.shape[0], psi.shape[1]
    nx = amplitude.shape[1]
    misfit: Any = np.float32(0)
    total: Any = 0.0
    moment_y: Any = 0.0
    moment_x: Any = 0.0
    product: Any = 0.0
    brightness = np.float32(1) / flux
    for y in range(ny):
        for x in range(nx):
            line[x] = 0
        for m in range(modes):
            q = psi[m, y]
            for x in range(nx):
                line[x] += q[2 * x] * q[2 * x] + q[2 * x + 1] * q[2 * x + 1]
        if background.size:
            for x in range(nx):
                line[x] += background[y, x] / (norm * norm)
        a = amplitude[y]
        row_misfit, row_total, row_moment, row_product = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for x in range(nx):
            valid = np.float32(1) if a[x] >= 0 else np.float32(0)
            frequency = np.float32(x) if x < (nx + 1) // 2 else np.float32(x - nx)
            power = line[x] * valid
            row_total += power
            row_moment += power * frequency
            modulus = np.sqrt(line[x]) * norm
            measured = a[x] * brightness
            residual = (measured - modulus) * valid
            row_product += measured * modulus * valid
            line[x] = residual / (modulus + TINY) * norm * norm
            row_misfit += residual * residual
        misfit += row_misfit
        total += row_total
        moment_y += row_total * np.float32(y if y < (ny + 1) // 2 else y - ny)
        moment_x += row_moment
        product += row_product
        for m in range(modes):
            q = psi[m, y]
            for x in range(nx):
                q[2 * x] *= line[x]
                q[2 * x + 1] *= line[x]
    figures[0] = moment_y / total if total > 0 else 0.0
    figures[1] = moment_x / total if total > 0 else 0.0
    figures[2] = product * flux
    figures[3] = total * norm * norm
    return misfit


@jit
def _largest_power(waves, y0, x0, ny, nx, line):
    """Maximum over the pixels of a window of the sum over modes of |wave|^2; column by column, which vectorises."""
    for x in range(nx):
        line[x] = 0
    for y in range(y0, y0 + ny):
        if waves.shape[0] == 1:
            w = waves[0, y, 2 * x0 : 2 * (x0 + nx)]
            for x in range(nx):
                power = w[2 * x] * w[2 * x] + w[2 * x + 1] * w[2 * x + 1]
                line[x] = power if power > line[x] else line[x]
        else:
            for x in range(nx):
                power = np.float32(0)
                for m in range(waves.shape[0]):
                    power += waves[m, y, 2 * x] ** 2 + waves[m, y, 2 * x + 1] ** 2
                line[x] = power if power > line[x] else line[x]
    return line.max()


@jit
def _apply_one(psi, probe, obj, y0, x0, object_slope, object_floor, probe_slope, probe_floor):
    """:func:`_apply` for a single mode and a probe that changes: one pass, three times as fast."""
    ny, width = probe.shape[1], probe.shape[2]
    for y in range(ny):
        p, d, o = probe[0, y], psi[0, y], obj[y0 + y, 2 * x0 : 2 * x0 + width]
        for x in range(width // 2):
            pr, pi, dr, di, a, b = p[2 * x], p[2 * x + 1], d[2 * x], d[2 * x + 1], o[2 * x], o[2 * x + 1]
            object_weight = np.float32(1) / (object_slope * (pr * pr + pi * pi) + object_floor)
            probe_weight = np.float32(1) / (probe_slope * (a * a + b * b) + probe_floor)
            o[2 * x] = a + object_weight * (pr * dr + pi * di)
            o[2 * x + 1] = b + object_weight * (pr * di - pi * dr)
            p[2 * x] = pr + probe_weight * (a * dr + b * di)
            p[2 * x + 1] = pi + probe_weight * (a * di - b * dr)


@jit
def _apply(psi, probe, obj, y0, x0, object_slope, object_floor, probe_slope, probe_floor, scratch):
    """Add the changes to object and probe, both from their old values.

    Weights are 1 / (slope |.|^2 + floor); a negative `probe_floor` leaves the probe alone.
    """
    modes, ny, width = probe.shape
    nx = width // 2
    for y in range(ny):
        o, gain, power = obj[y0 + y, 2 * x0 : 2 * x0 + width], scratch[0], scratch[1]
        for x in range(nx):
            gain[2 * x] = 0
            gain[2 * x + 1] = 0
            power[x] = 0
        for m in range(modes):
            p, d = probe[m, y], psi[m, y]
            for x in range(nx):
                pr, pi, dr, di = p[2 * x], p[2 * x + 1], d[2 * x], d[2 * x + 1]
                gain[2 * x] += pr * dr + pi * di
                gain[2 * x + 1] += pr * di - pi * dr
                power[x] += pr * pr + pi * pi
            if probe_floor >= 0:
                for x in range(nx):
                    a, b, dr, di = o[2 * x], o[2 * x + 1], d[2 * x], d[2 * x + 1]
                    weight = np.float32(1) / (probe_slope * (a * a + b * b) + probe_floor)
                    p[2 * x] += weight * (a * dr + b * di)
                    p[2 * x + 1] += weight * (a * di - b * dr)
        for x in range(nx):
            weight = np.float32(1) / (object_slope * power[x] + object_floor)
            o[2 * x] += weight * gain[2 * x]
            o[2 * x + 1] += weight * gain[2 * x + 1]


@jit
def sweep(obj, probe, amplitudes, corners, rows, steps, flux, background, misfit, figures, field):
    """Update `obj` and `probe` from each of `rows` in order, in place.

    Parameters
    ----------
    obj : (H, W) complex64 canvas.
    probe : (modes, ny, nx) complex64.
    amplitudes : (capacity, ny, nx) float32, zero frequency first, negative where masked.
    corners : (k, 2) int64, windows on the canvas.
    rows : (k,) int64 of `amplitudes` and `misfit`.
    steps : (k, 4) float32: alpha, beta, gamma_object, gamma_probe.
    flux : (capacity,) float32, amplitude of each frame relative to the usual one; the measured one is divided by it.
    background : (ny, nx) float32, incoherent intensity beside the model's, zero frequency first; (0, 0) for none.
    misfit : (capacity,) float32, written: sum of (|model| - A)^2 before the update.
    figures : (k, 4) float32, written, all over valid pixels: centre of mass (y, x) of the model's intensity in signed
        frequencies, sum of (undivided) amplitude times model modulus, sum of the model's intensity.
    field : (modes, ny, nx) complex64 scratch.
    """
    modes, ny, nx = probe.shape
    o, p, psi = obj.view(np.float32), probe.view(np.float32), field.view(np.float32)
    objects = o.reshape((1, o.shape[0], o.shape[1]))
    norm = np.float32(1 / np.sqrt(ny * nx))
    line, scratch, axes = np.empty(nx, np.float32), np.empty((2, 2 * nx), np.float32), np.array([1, 2])
    one = np.float32(1)
    for k in range(len(rows)):
        row, y0, x0 = rows[k], corners[k, 0], corners[k, 1]
        alpha, beta, gamma_object, gamma_probe = steps[k, 0], steps[k, 1], steps[k, 2], steps[k, 3]
        _product(psi, p, o, y0, x0)
        c2c(field, field, axes, True, one, 1)  # type: ignore[arg-type]
        misfit[row] = _modulus(psi, amplitudes[row], flux[row], background, norm, line, figures[k])
        c2c(field, field, axes, False, one, 1)  # type: ignore[arg-type]
        probe_slope, probe_floor = np.float32(0), np.float32(-1)
        if beta > 0:
            probe_slope = (one - gamma_probe) / beta
            probe_floor = gamma_probe * _largest_power(objects, y0, x0, ny, nx, line) / beta
        object_slope = (one - gamma_object) / alpha
        object_floor = gamma_object * _largest_power(p, 0, 0, ny, nx, line) / alpha
        if modes == 1 and beta > 0:
            _apply_one(psi, p, o, y0, x0, object_slope, object_floor, probe_slope, probe_floor)
        else:
            _apply(psi, p, o, y0, x0, object_slope, object_floor, probe_slope, probe_floor, scratch)


def sweep_frames(
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
    work: Workspace,
) -> None:
    """:func:`streamptycho.solve.epie.sweep`, compiled."""
    sweep(obj, probe, amplitudes, corners, rows, steps, flux, background, misfit, figures, work.field)
