"""The passes of :mod:`difference_map` as compiled loops, the transform inside. Same arithmetic, to rounding."""

import numpy as np

from streamptycho.solve import compiled_model as model
from streamptycho.solve.jit import jit


@jit
def _reflect(out, psi, probe, obj, ratio, y0, x0):
    """Set out = 2 pi - ratio psi, and psi = pi, with pi_m = P_m O under the window."""
    modes, ny, width = probe.shape
    for m in range(modes):
        for y in range(ny):
            q, s, r = out[m, y], psi[m, y], ratio[y0 + y, 2 * x0 : 2 * x0 + width]
            for x in range(width // 2):
                sr, si, a, b = s[2 * x], s[2 * x + 1], r[2 * x], r[2 * x + 1]
                q[2 * x] = -(sr * a - si * b)
                q[2 * x + 1] = -(sr * b + si * a)
    model.exit_waves(psi, probe, obj, y0, x0)
    for m in range(modes):
        for y in range(ny):
            q, s = out[m, y], psi[m, y]
            for x in range(width):
                q[x] += 2 * s[x]


@jit
def _add(psi, change, factor):
    modes, ny, width = psi.shape
    for m in range(modes):
        for y in range(ny):
            s, d = psi[m, y], change[m, y]
            for x in range(width):
                s[x] += factor * d[x]


@jit
def _project(obj, probe, amplitudes, corners, rows, relaxation, flux, background, waves, ratio, gain, weight, fresh):
    ny, nx = probe.shape[1], probe.shape[2]
    o, p, r, g = obj.view(np.float32), probe.view(np.float32), ratio.view(np.float32), gain.view(np.float32)
    field, line, power = np.empty_like(probe), np.empty(nx, np.float32), np.empty((ny, nx), np.float32)
    q = field.view(np.float32)
    model.probe_power(power, p)
    for k in range(len(rows)):
        row, y0, x0 = rows[k], corners[k, 0], corners[k, 1]
        psi = waves[row].view(np.float32)
        if fresh:
            model.exit_waves(psi, p, o, y0, x0)
            q[:] = psi
        else:
            _reflect(q, psi, p, o, r, y0, x0)
        model.change(field, amplitudes[row], flux[row], background, line)
        _add(psi, q, relaxation)
        model.add_object_gain(g, psi, p, y0, x0)
        model.add_weight(weight, power, y0, x0, np.float32(1))


@jit
def _add_probe(obj, corners, rows, waves, gain, weight):
    o, g = obj.view(np.float32), gain.view(np.float32)
    for k in range(len(rows)):
        model.add_probe_gain(g, weight, waves[rows[k]].view(np.float32), o, corners[k, 0], corners[k, 1])


def project(obj, probe, amplitudes, corners, rows, relaxation, flux, background, waves, ratio, gain, weight, *, fresh):
    """:func:`difference_map.project` without its backend, compiled."""
    _project(
        obj, probe, amplitudes, corners, rows, np.float32(relaxation), flux, background, waves, ratio, gain, weight, fresh
    )


def add_probe(obj, corners, rows, waves, gain, weight):
    """:func:`difference_map.add_probe` without its backend, compiled."""
    _add_probe(obj, corners, rows, waves, gain, weight)
