"""Exit wave, modulus and misfit as compiled steps, with the arithmetic of :mod:`streamptycho.solve.equations.modulus`.

Complex rows are interleaved float32; each loop writes one array and reads few, else the compiler does not vectorise it.
"""

from typing import Any

import numpy as np
from rocket_fft import c2c

from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.devices.backend import Array
from streamptycho.solve.equations.modulus import TINY as READABLE_TINY
from streamptycho.solve.frames import Frames, Model

TINY = np.float32(READABLE_TINY)


def arrays(model: Model, frames: Frames) -> tuple[Array, ...]:
    """The arguments with which compiled loops over frames begin."""
    return (
        model.object, model.probe, frames.amplitudes, frames.corners, frames.rows, frames.flux, frames.background,
    )  # fmt: skip


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
def intensity(psi, background, y, square, line):
    """Set `line` to row y of the sum over modes of |psi|^2 and the background, unnormalised; `square` normalises it."""
    modes, nx = psi.shape[0], len(line)
    q = psi[0, y]
    for x in range(nx):
        line[x] = q[2 * x] * q[2 * x] + q[2 * x + 1] * q[2 * x + 1]
    for m in range(1, modes):
        q = psi[m, y]
        for x in range(nx):
            line[x] += q[2 * x] * q[2 * x] + q[2 * x + 1] * q[2 * x + 1]
    if background.size:
        b, scale = background[y], np.float32(1) / square
        for x in range(nx):
            line[x] += b[x] * scale


@jit
def compared(a, power, brightness, norm):
    """Valid (1 or 0), modulus, and residual A / flux - modulus at one pixel; `power` is the model's, unnormalised."""
    valid = np.float32(1) if a >= 0 else np.float32(0)
    modulus = np.sqrt(power) * norm
    return valid, modulus, (a * brightness - modulus) * valid


@jit
def _excess_row(line, a, brightness, norm):
    """Turn a row of unnormalised intensity into A / modulus - 1, normalised for two transforms; returns its misfit."""
    misfit = np.float32(0)
    for x in range(len(line)):
        _, modulus, residual = compared(a[x], line[x], brightness, norm)
        line[x] = residual / (modulus + TINY) * norm * norm
        misfit += residual * residual
    return misfit


@jit
def project(psi, amplitude, flux, background, line):
    """Unnormalised field times (A / |field| - 1) where valid, 0 elsewhere; returns the likelihood."""
    modes, ny = psi.shape[0], psi.shape[1]
    nx = amplitude.shape[1]
    norm = np.float32(1 / np.sqrt(ny * nx))
    misfit: Any = 0.0
    for y in range(ny):
        intensity(psi, background, y, norm * norm, line)
        misfit += _excess_row(line, amplitude[y], np.float32(1) / flux, norm)
        for m in range(modes):
            q = psi[m, y]
            for x in range(nx):
                q[2 * x] *= line[x]
                q[2 * x + 1] *= line[x]
    return misfit


@jit
def change(field, amplitude, flux, background, line):
    """Turn exit waves `field` (modes, ny, nx) complex64 into their change, in place; returns the likelihood."""
    axes, one = np.array([1, 2]), np.float32(1)
    c2c(field, field, axes, True, one, 1)  # type: ignore[arg-type]
    misfit = project(field.view(np.float32), amplitude, flux, background, line)
    c2c(field, field, axes, False, one, 1)  # type: ignore[arg-type]
    return misfit


@jit
def _measure(obj, probe, amplitudes, corners, rows, flux, background, misfits):
    o, p = obj.view(np.float32), probe.view(np.float32)
    field, line = np.empty_like(probe), np.empty(probe.shape[2], np.float32)
    psi, axes = field.view(np.float32), np.array([1, 2])
    for k in range(len(rows)):
        row = rows[k]
        exit_waves(psi, p, o, corners[k, 0], corners[k, 1])
        c2c(field, field, axes, True, np.float32(1), 1)  # type: ignore[arg-type]
        misfits[k] = project(psi, amplitudes[row], flux[row], background, line)


def measure(model: Model, frames: Frames) -> Array:
    """:func:`streamptycho.solve.equations.modulus.measure`, compiled."""
    misfits = np.empty(len(frames), np.float32)
    _measure(*arrays(model, frames), misfits)
    return misfits


@jit
def probe_power(power, probe):
    """Set power (ny, nx) = sum over modes of |P_m|^2; returns its maximum."""
    modes, ny, width = probe.shape
    top = np.float32(0)
    for y in range(ny):
        w = power[y]
        w[:] = 0
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
