"""Exit wave, modulus and misfit as compiled steps: what the refiners' loops are made of. Same arithmetic as :mod:`model`.

Complex rows are interleaved float32; each loop writes one array and reads few, else the compiler does not vectorise it.
"""

from typing import Any

import numpy as np
from rocket_fft import c2c

from streamptycho.solve.jit import jit

TINY = np.float32(1e-9)


@jit
def exit_waves(out, probe, obj, y0, x0):
    """Compute out_m = P_m O under the window at (y0, x0); float32 views."""
    modes, ny, width = probe.shape
    for m in range(modes):
        for y in range(ny):
            p, o, q = probe[m, y], obj[y0 + y, 2 * x0 : 2 * x0 + width], out[m, y]
            for x in range(width // 2):
                pr, pi, a, b = p[2 * x], p[2 * x + 1], o[2 * x], o[2 * x + 1]
                q[2 * x] = pr * a - pi * b
                q[2 * x + 1] = pr * b + pi * a


@jit
def _residual_row(line, a, brightness, norm):
    """Turn a row of unnormalised intensity into A / modulus - 1, normalised for two transforms; returns its misfit."""
    misfit = np.float32(0)
    for x in range(len(line)):
        valid = np.float32(1) if a[x] >= 0 else np.float32(0)
        modulus = np.sqrt(line[x]) * norm
        residual = (a[x] * brightness - modulus) * valid
        line[x] = residual / (modulus + TINY) * norm * norm
        misfit += residual * residual
    return misfit


@jit
def modulus(psi, amplitude, flux, background, line):
    """Unnormalised field times (A / |field| - 1) where valid, 0 elsewhere; returns the likelihood."""
    modes, ny = psi.shape[0], psi.shape[1]
    nx = amplitude.shape[1]
    norm = np.float32(1 / np.sqrt(ny * nx))
    misfit: Any = 0.0
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
        misfit += _residual_row(line, amplitude[y], np.float32(1) / flux, norm)
        for m in range(modes):
            q = psi[m, y]
            for x in range(nx):
                q[2 * x] *= line[x]
                q[2 * x + 1] *= line[x]
    return misfit


@jit
def change(field, amplitude, flux, background, line):
    """:func:`model.change` in place of the exit waves `field` (modes, ny, nx) complex64; returns the likelihood."""
    axes, one = np.array([1, 2]), np.float32(1)
    c2c(field, field, axes, True, one, 1)  # type: ignore[arg-type]
    misfit = modulus(field.view(np.float32), amplitude, flux, background, line)
    c2c(field, field, axes, False, one, 1)  # type: ignore[arg-type]
    return misfit


@jit
def measure(obj, probe, amplitudes, corners, rows, flux, background, misfit):
    """:func:`model.measure`, compiled."""
    o, p = obj.view(np.float32), probe.view(np.float32)
    field, line = np.empty_like(probe), np.empty(probe.shape[2], np.float32)
    psi, axes = field.view(np.float32), np.array([1, 2])
    for k in range(len(rows)):
        row = rows[k]
        exit_waves(psi, p, o, corners[k, 0], corners[k, 1])
        c2c(field, field, axes, True, np.float32(1), 1)  # type: ignore[arg-type]
        misfit[row] = modulus(psi, amplitudes[row], flux[row], background, line)


@jit
def probe_power(power, probe):
    """Set power (ny, nx) = sum over modes of |P_m|^2; returns its maximum."""
    modes, ny, width = probe.shape
    top = np.float32(0)
    for y in range(ny):
        w = power[y]
        for x in range(width // 2):
            w[x] = 0
        for m in range(modes):
            p = probe[m, y]
            for x in range(width // 2):
                w[x] += p[2 * x] * p[2 * x] + p[2 * x + 1] * p[2 * x + 1]
        top = max(top, w.max())
    return top


@jit
def add_object_gain(gain, waves, probe, y0, x0):
    """Gain += sum_m conj(P_m) waves_m under the window."""
    modes, ny, width = probe.shape
    for m in range(modes):
        for y in range(ny):
            g, p, d = gain[y0 + y, 2 * x0 : 2 * x0 + width], probe[m, y], waves[m, y]
            for x in range(width // 2):
                pr, pi, dr, di = p[2 * x], p[2 * x + 1], d[2 * x], d[2 * x + 1]
                g[2 * x] += pr * dr + pi * di
                g[2 * x + 1] += pr * di - pi * dr


@jit
def add_probe_gain(gain, weight, waves, obj, y0, x0):
    """Gain_m += conj(O) waves_m and weight += |O|^2, O under the window."""
    modes, ny, width = gain.shape
    for y in range(ny):
        o, w = obj[y0 + y, 2 * x0 : 2 * x0 + width], weight[y]
        for m in range(modes):
            g, d = gain[m, y], waves[m, y]
            for x in range(width // 2):
                a, b, dr, di = o[2 * x], o[2 * x + 1], d[2 * x], d[2 * x + 1]
                g[2 * x] += a * dr + b * di
                g[2 * x + 1] += a * di - b * dr
        for x in range(width // 2):
            w[x] += o[2 * x] * o[2 * x] + o[2 * x + 1] * o[2 * x + 1]


@jit
def add_weight(weight, power, y0, x0, factor):
    """Weight += factor power under the window."""
    ny, nx = power.shape
    for y in range(ny):
        w, p = weight[y0 + y, x0 : x0 + nx], power[y]
        for x in range(nx):
            w[x] += factor * p[x]
