"""The update of :mod:`~streamptycho.solve.equations.pie` as one compiled loop over frames, the transform inside it.

Same arithmetic as the readable form, to rounding: float32 throughout, three passes over the pixels per update (product,
modulus, fused object and probe update), no allocation, no Python, and no interpreter lock, so that streams keep flowing.
Rows of complex pixels are handled as interleaved float32, which is what the compiler can vectorise. It does so only while a
loop touches few arrays (each pair needs a check that they do not overlap): hence the scratch rows, and loops of their own
for a single mode. Several threads may walk through the same frames together, see :mod:`share`.
"""

from typing import Any

import numpy as np
from rocket_fft import c2c

from streamptycho.solve.compiled.atomic import call_transform, prefetch
from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.compiled.modulus import intensity

LINE = 16
"""Numbers of float32 in a line of the cache."""
TINY = np.float32(1e-12)
"""Added to the unnormalised intensity, so that darkness in the model divides by no zero."""


@jit
def _product_one(psi, probe, obj, y0, x0, tops):
    """Exit wave P O of the window at (y0, x0); `tops` (2 nx) takes each column's maxima of |P|^2 and |O|^2, interleaved."""
    ny, width = probe.shape[1], probe.shape[2]
    for x in range(width):
        tops[x] = 0
    for y in range(ny):
        p, o, q = probe[0, y], obj[y0 + y, 2 * x0 : 2 * x0 + width], psi[0, y]
        for x in range(width // 2):
            pr, pi, a, b = p[2 * x], p[2 * x + 1], o[2 * x], o[2 * x + 1]
            q[2 * x] = pr * a - pi * b
            q[2 * x + 1] = pr * b + pi * a
            own, there = pr * pr + pi * pi, a * a + b * b
            tops[2 * x] = own if own > tops[2 * x] else tops[2 * x]
            tops[2 * x + 1] = there if there > tops[2 * x + 1] else tops[2 * x + 1]


@jit
def _product(psi, probe, obj, y0, x0, tops, power):
    """:func:`_product_one` for several modes; `power` (ny, nx) takes the sum over modes of |P|^2."""
    modes, ny, width = probe.shape
    nx = width // 2
    for x in range(width):
        tops[x] = 0
    for y in range(ny):
        o, w = obj[y0 + y, 2 * x0 : 2 * x0 + width], power[y]
        for x in range(nx):
            w[x] = 0
        for m in range(modes):
            p, q = probe[m, y], psi[m, y]
            for x in range(nx):
                pr, pi, a, b = p[2 * x], p[2 * x + 1], o[2 * x], o[2 * x + 1]
                q[2 * x] = pr * a - pi * b
                q[2 * x + 1] = pr * b + pi * a
                w[x] += pr * pr + pi * pi
        for x in range(nx):
            own, there = w[x], o[2 * x] * o[2 * x] + o[2 * x + 1] * o[2 * x + 1]
            tops[2 * x] = own if own > tops[2 * x] else tops[2 * x]
            tops[2 * x + 1] = there if there > tops[2 * x + 1] else tops[2 * x + 1]


@jit
def _announce(rows, y0, x0, ny, width):
    """Prefetch the next window of `rows` while this frame is computed."""
    for y in range(y0, y0 + ny):
        row = rows[y]
        for x in range(x0, x0 + width, LINE):
            prefetch(row, x)


@jit
def _compared(a, power, inverse):
    """A / |field| - 1 where valid, and there its square times the power, the power, and A times the modulus."""
    reciprocal = np.float32(1) / np.sqrt(power + TINY)
    valid = np.float32(1) if a >= 0 else np.float32(0)
    excess = (a * inverse * reciprocal - np.float32(1)) * valid
    known = power * valid
    return excess, excess * excess * power, known, a * known * reciprocal


@jit
def _soften(a, psi, background, y, square, inverse, floor, line):
    """Set `line` to the factors of row y, with `floor` counts added to measurement and model."""
    intensity(psi, background, y, square, line)
    more = floor / square
    for x in range(len(line)):
        valid = np.float32(1) if a[x] >= 0 else np.float32(0)
        measured = a[x] * inverse
        line[x] = (np.sqrt((measured * measured + more) / (line[x] + more)) - np.float32(1)) * valid * square


@jit
def _modulus(psi, amplitude, flux, background, floor, frequency, line, figures):
    """Field times (A / |field| - 1) where valid, 0 elsewhere; returns the misfit and leaves the figures of the model.

    The transforms are unnormalised, which is made up for here. `frequency` (nx,) are signed frequencies, `line` is a scratch
    row.
    """
    modes, ny = psi.shape[0], psi.shape[1]
    nx = amplitude.shape[1]
    nothing: Any = 0.0
    misfit = total = moment_y = moment_x = product = nothing
    norm = np.float32(1 / np.sqrt(ny * nx))
    square, inverse = norm * norm, np.float32(1) / (flux * norm)
    for y in range(ny):
        a, q = amplitude[y], psi[0, y]
        row_misfit = row_total = row_moment = row_product = np.float32(0)
        if modes == 1 and not background.size:
            for x in range(nx):
                power = q[2 * x] * q[2 * x] + q[2 * x + 1] * q[2 * x + 1]
                excess, off, known, both = _compared(a[x], power, inverse)
                row_misfit += off
                row_total += known
                row_moment += known * frequency[x]
                row_product += both
                q[2 * x] *= excess * square
                q[2 * x + 1] *= excess * square
        else:
            intensity(psi, background, y, square, line)
            for x in range(nx):
                excess, off, known, both = _compared(a[x], line[x], inverse)
                row_misfit += off
                row_total += known
                row_moment += known * frequency[x]
                row_product += both
                line[x] = excess * square
            if floor > 0 and modes > 1:
                _soften(a, psi, background, y, square, inverse, floor, line)
            for m in range(modes):
                q = psi[m, y]
                for x in range(nx):
                    q[2 * x] *= line[x]
                    q[2 * x + 1] *= line[x]
        misfit += row_misfit
        total += row_total
        moment_y += row_total * np.float32(y if y < (ny + 1) // 2 else y - ny)
        moment_x += row_moment
        product += row_product
    figures[0] = moment_y / total if total > 0 else 0.0
    figures[1] = moment_x / total if total > 0 else 0.0
    figures[2] = product * norm
    figures[3] = total * square
    return misfit * square


@jit
def _apply_one(psi, probe, obj, y0, x0, slopes):
    """:func:`_apply` for a single mode and a probe that changes: one pass."""
    ny, width = probe.shape[1], probe.shape[2]
    object_slope, object_floor, probe_slope, probe_floor = slopes
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
def _apply_object(psi, probe, obj, y0, x0, slopes):
    """:func:`_apply` for a single mode and a probe that stays."""
    ny, width = probe.shape[1], probe.shape[2]
    for y in range(ny):
        p, d, o = probe[0, y], psi[0, y], obj[y0 + y, 2 * x0 : 2 * x0 + width]
        for x in range(width // 2):
            pr, pi, dr, di = p[2 * x], p[2 * x + 1], d[2 * x], d[2 * x + 1]
            weight = np.float32(1) / (slopes[0] * (pr * pr + pi * pi) + slopes[1])
            o[2 * x] += weight * (pr * dr + pi * di)
            o[2 * x + 1] += weight * (pr * di - pi * dr)


@jit
def _apply(psi, probe, obj, y0, x0, slopes, power, gain, line):
    """Add the changes to object and probe, both from their old values; `power` is the old probe's.

    Weights are 1 / (slope |.|^2 + floor); a negative floor of the probe leaves it alone.
    """
    modes, ny, width = probe.shape
    nx = width // 2
    object_slope, object_floor, probe_slope, probe_floor = slopes
    moving = probe_floor >= 0
    for y in range(ny):
        o, w = obj[y0 + y, 2 * x0 : 2 * x0 + width], power[y]
        for x in range(nx):
            line[x] = np.float32(1) / (probe_slope * (o[2 * x] * o[2 * x] + o[2 * x + 1] * o[2 * x + 1]) + probe_floor)
            gain[2 * x] = 0
            gain[2 * x + 1] = 0
        for m in range(modes):
            p, d = probe[m, y], psi[m, y]
            if moving:
                for x in range(nx):
                    pr, pi, dr, di, a, b = p[2 * x], p[2 * x + 1], d[2 * x], d[2 * x + 1], o[2 * x], o[2 * x + 1]
                    gain[2 * x] += pr * dr + pi * di
                    gain[2 * x + 1] += pr * di - pi * dr
                    p[2 * x] = pr + line[x] * (a * dr + b * di)
                    p[2 * x + 1] = pi + line[x] * (a * di - b * dr)
            else:
                for x in range(nx):
                    pr, pi, dr, di = p[2 * x], p[2 * x + 1], d[2 * x], d[2 * x + 1]
                    gain[2 * x] += pr * dr + pi * di
                    gain[2 * x + 1] += pr * di - pi * dr
        for x in range(nx):
            weight = np.float32(1) / (object_slope * w[x] + object_floor)
            o[2 * x] += weight * gain[2 * x]
            o[2 * x + 1] += weight * gain[2 * x + 1]


@jit
def _slopes(alpha, beta, gamma_object, gamma_probe, tops):
    """Slope and floor of the object's weight, slope and floor of the probe's; floor -1 where the probe stays."""
    one, probe_top, object_top = np.float32(1), np.float32(0), np.float32(0)
    for x in range(len(tops) // 2):
        probe_top, object_top = max(probe_top, tops[2 * x]), max(object_top, tops[2 * x + 1])
    probe_slope, probe_floor = np.float32(0), np.float32(-1)
    if beta > 0:
        probe_slope, probe_floor = (one - gamma_probe) / beta, gamma_probe * object_top / beta
    return (one - gamma_object) / alpha, gamma_object * probe_top / alpha, probe_slope, probe_floor


@jit
def _transform(field, axes, forward, plans):
    """Unnormalised transform in place: by rocket-fft, or by the foreign library of `plans`."""
    if plans[0] != 0:
        call_transform(plans[0], plans[1] if forward else plans[2], field.ctypes.data)
    else:
        c2c(field, field, axes, forward, np.float32(1), 1)  # type: ignore[arg-type]


@jit
def update_one(o, p, amplitude, here, then, step, flux, background, floor, figures, field, power, lines, axes, plans):
    """One frame: object and probe, as float32 rows, in place; returns the misfit. `then` is the next frame's corner."""
    psi, ny, nx = field.view(np.float32), field.shape[1], field.shape[2]
    y0, x0 = here[0], here[1]
    tops, gain, line = lines[0], lines[1], lines[2, :nx]
    several = len(field) > 1
    if several:
        _product(psi, p, o, y0, x0, tops, power)
    else:
        _product_one(psi, p, o, y0, x0, tops)
    slopes = _slopes(step[0], step[1], step[2], step[3], tops)
    _transform(field, axes, True, plans)
    misfit = _modulus(psi, amplitude, flux, background, floor, lines[3], line, figures)
    _announce(o, then[0], 2 * then[1], ny, 2 * nx)
    _transform(field, axes, False, plans)
    if several:
        _apply(psi, p, o, y0, x0, slopes, power, gain, line)
    elif slopes[3] >= 0:
        _apply_one(psi, p, o, y0, x0, slopes)
    else:
        _apply_object(psi, p, o, y0, x0, slopes)
    return misfit


@jit
def sweep(
    obj, probe, amplitudes, corners, rows, flux, background, steps, misfit, figures, floor, field, power, lines, plans
):  # fmt: skip
    """:func:`streamptycho.solve.equations.pie.sweep`.

    `floor` is the float32 count floor. `field` (modes, ny, nx) complex64, `power` (ny, nx) and `lines` (4, 2 nx) float32 are
    scratch; the last line begins with the signed frequencies of x. `plans` (3,) int64: see :mod:`transforms`.
    """
    o, p, axes = obj.view(np.float32), probe.view(np.float32), np.array([1, 2])
    for k in range(len(rows)):
        row, step, here, then = rows[k], steps[k], corners[k], corners[min(k + 1, len(rows) - 1)]
        misfit[row] = update_one(
            o, p, amplitudes[row], here, then, step, flux[row], background, floor, figures[k], field, power, lines, axes,
            plans,
        )  # fmt: skip
