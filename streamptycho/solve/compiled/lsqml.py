"""The batches of :mod:`lsqml` as one compiled loop, the transform inside it. Same arithmetic, to rounding."""

from typing import Any

import numpy as np

from streamptycho.solve.compiled import modulus
from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.devices.backend import Array
from streamptycho.solve.equations.lsqml import NOTHING, RIDGE, BatchStep, Workspace
from streamptycho.solve.frames import Frames, Model


@jit
def _divide_probe_gain(gain, weight, share):
    """Divide gain_m by weight + share max weight."""
    modes, ny, width = gain.shape
    floor = share * weight.max()
    for m in range(modes):
        for y in range(ny):
            g, w = gain[m, y], weight[y]
            for x in range(width // 2):
                factor = np.float32(1) / (w[x] + floor)
                g[2 * x] *= factor
                g[2 * x + 1] *= factor


@jit
def _products(chi, probe, obj, gain, weight, floor, pull, y0, x0):
    """Real inner products of u = P D, v = E O and chi: <u,u>, <u,v>, <v,v>, <u,chi>, <v,chi>."""
    modes, ny, width = probe.shape
    nx = width // 2
    nothing: Any = 0.0
    uu = uv = vv = uc = vc = nothing
    for m in range(modes):
        for y in range(ny):
            p, e, c = probe[m, y], pull[m, y], chi[m, y]
            o, g, w = obj[y0 + y, 2 * x0 : 2 * (x0 + nx)], gain[y0 + y, 2 * x0 : 2 * (x0 + nx)], weight[y0 + y, x0 : x0 + nx]
            row_uu = row_uv = row_vv = row_uc = row_vc = np.float32(0)
            for x in range(nx):
                factor = np.float32(1) / (w[x] + floor)
                ur = (p[2 * x] * g[2 * x] - p[2 * x + 1] * g[2 * x + 1]) * factor
                ui = (p[2 * x] * g[2 * x + 1] + p[2 * x + 1] * g[2 * x]) * factor
                vr = e[2 * x] * o[2 * x] - e[2 * x + 1] * o[2 * x + 1]
                vi = e[2 * x] * o[2 * x + 1] + e[2 * x + 1] * o[2 * x]
                row_uu += ur * ur + ui * ui
                row_uv += ur * vr + ui * vi
                row_vv += vr * vr + vi * vi
                row_uc += ur * c[2 * x] + ui * c[2 * x + 1]
                row_vc += vr * c[2 * x] + vi * c[2 * x + 1]
            uu += row_uu
            uv += row_uv
            vv += row_vv
            uc += row_uc
            vc += row_vc
    return uu, uv, vv, uc, vc


@jit
def _lengths(products, probe_moves, out):
    """Step lengths of object and probe, neither negative."""
    uu, uv, vv, uc, vc = products
    if probe_moves:
        determinant = uu * vv * (1 + RIDGE) - uv * uv + NOTHING
        out[0] = max((uc * vv - vc * uv) / determinant, 0.0)
        out[1] = max((vc * uu - uc * uv) / determinant, 0.0)
    else:
        out[0] = max(uc / (uu + NOTHING), 0.0)
        out[1] = 0


@jit
def _move_object(obj, gain, weight, total, floor, y0, x0, ny, nx):
    """O += D total / w under the window; `total` is used up, since windows overlap."""
    for y in range(y0, y0 + ny):
        o, g = obj[y, 2 * x0 : 2 * (x0 + nx)], gain[y, 2 * x0 : 2 * (x0 + nx)]
        w, t = weight[y, x0 : x0 + nx], total[y, x0 : x0 + nx]
        for x in range(nx):
            t[x] /= (w[x] + floor) * (w[x] + np.float32(NOTHING))
        for x in range(nx):
            o[2 * x] += t[x] * g[2 * x]
            o[2 * x + 1] += t[x] * g[2 * x + 1]
        t[:] = 0


@jit
def _gather(obj, probe, amplitudes, corners, rows, flux, background, misfit, changes, gain, weight, pull, seen, power, line):
    ny, nx = power.shape
    o, p, g = obj.view(np.float32), probe.view(np.float32), gain.view(np.float32)
    for k in range(len(rows)):
        y0, x0 = corners[k, 0], corners[k, 1]
        gain[y0 : y0 + ny, x0 : x0 + nx] = 0
        weight[y0 : y0 + ny, x0 : x0 + nx] = 0
    pull[:] = 0
    seen[:] = 0
    for k in range(len(rows)):
        row, y0, x0, chi = rows[k], corners[k, 0], corners[k, 1], changes[k]
        waves = chi.view(np.float32)
        modulus.exit_waves(waves, p, o, y0, x0)
        misfit[row] = modulus.change(chi, amplitudes[row], flux[row], background, line)
        modulus.add_object_gain(g, waves, p, y0, x0)
        modulus.add_probe_gain(pull, seen, waves, o, y0, x0)
        modulus.add_weight(weight, power, y0, x0, np.float32(1))


@jit
def _batch(obj, probe, amplitudes, corners, rows, flux, background, strengths, misfit, lengths, buffers, scratch):
    """One batch; `strengths` are the floors and dampings of :class:`lsqml.BatchStep`."""
    changes, gain, weight, total = buffers
    pull, seen, power, line = scratch
    o, p, g = obj.view(np.float32), probe.view(np.float32), gain.view(np.float32)
    ny, nx = power.shape
    floor = np.float32(strengths[0] * modulus.probe_power(power, p))
    _gather(obj, probe, amplitudes, corners, rows, flux, background, misfit, changes, gain, weight, pull, seen, power, line)
    _divide_probe_gain(pull, seen, strengths[1])
    mean: Any = 0.0
    for k in range(len(rows)):
        y0, x0 = corners[k, 0], corners[k, 1]
        _lengths(_products(changes[k].view(np.float32), p, o, g, weight, floor, pull, y0, x0), strengths[3] > 0, lengths[k])
        mean += lengths[k, 1] / len(rows)
        modulus.add_weight(total, power, y0, x0, np.float32(strengths[2] * lengths[k, 0]))
    for k in range(len(rows)):
        _move_object(o, g, weight, total, floor, corners[k, 0], corners[k, 1], ny, nx)
    p += np.float32(strengths[3] * mean) * pull


@jit
def _sweep(obj, probe, amplitudes, corners, rows, flux, background, size, strengths, misfit, lengths, buffers):
    modes, ny, nx = probe.shape
    scratch = (
        np.empty((modes, ny, 2 * nx), np.float32),
        np.empty((ny, nx), np.float32),
        np.empty((ny, nx), np.float32),
        np.empty(nx, np.float32),
    )
    for first in range(0, len(rows), size):
        last = min(first + size, len(rows))
        _batch(
            obj, probe, amplitudes, corners[first:last], rows[first:last], flux, background, strengths, misfit,
            lengths[first:last], buffers, scratch,
        )  # fmt: skip


def sweep(model: Model, frames: Frames, step: BatchStep, misfit: Array, work: Workspace) -> Array:
    """:func:`streamptycho.solve.equations.lsqml.sweep`, compiled."""
    strengths = np.array([step.object_floor, step.probe_floor, step.object_damping, step.probe_damping], np.float32)
    buffers = (work.changes, work.gain, work.weight, work.total)
    lengths = np.empty((len(frames), 2), np.float32)
    _sweep(*modulus.arrays(model, frames), step.size, strengths, misfit, lengths, buffers)
    return lengths
