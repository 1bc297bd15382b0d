"""The passes of :mod:`difference_map` as compiled loops, the transform inside. Same arithmetic, to rounding."""

import numpy as np

from streamptycho.solve.compiled import modulus
from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.devices.backend import Array
from streamptycho.solve.equations.difference_map import Workspace
from streamptycho.solve.frames import Frames, Model


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
    modulus.exit_waves(psi, probe, obj, y0, x0)
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
def _project(obj, probe, amplitudes, corners, rows, flux, background, relaxation, waves, ratio, gain, weight, fresh):
    ny, nx = probe.shape[1], probe.shape[2]
    o, p, r, g = obj.view(np.float32), probe.view(np.float32), ratio.view(np.float32), gain.view(np.float32)
    field, line, power = np.empty_like(probe), np.empty(nx, np.float32), np.empty((ny, nx), np.float32)
    q = field.view(np.float32)
    modulus.probe_power(power, p)
    for k in range(len(rows)):
        row, y0, x0 = rows[k], corners[k, 0], corners[k, 1]
        psi = waves[row].view(np.float32)
        if fresh:
            modulus.exit_waves(psi, p, o, y0, x0)
            q[:] = psi
        else:
            _reflect(q, psi, p, o, r, y0, x0)
        modulus.change(field, amplitudes[row], flux[row], background, line)
        _add(psi, q, relaxation)
        modulus.add_object_gain(g, psi, p, y0, x0)
        modulus.add_weight(weight, power, y0, x0, np.float32(1))


@jit
def _add_probe(obj, corners, rows, waves, gain, weight):
    o, g = obj.view(np.float32), gain.view(np.float32)
    for k in range(len(rows)):
        modulus.add_probe_gain(g, weight, waves[rows[k]].view(np.float32), o, corners[k, 0], corners[k, 1])


def project(model: Model, frames: Frames, relaxation: float, work: Workspace, *, fresh: bool) -> None:
    """:func:`streamptycho.solve.equations.difference_map.project`, compiled."""
    arguments = modulus.arrays(model, frames)
    _project(*arguments, np.float32(relaxation), work.waves, work.ratio, work.gain, work.weight, fresh)


def add_probe(obj: Array, frames: Frames, work: Workspace) -> None:
    """:func:`streamptycho.solve.equations.difference_map.add_probe`, compiled."""
    _add_probe(obj, frames.corners, frames.rows, work.waves, work.probe_gain, work.probe_weight)
