"""The steps on coarse grids, compiled: momentum (:mod:`smooth`) and correction (:mod:`gradient`). Same arithmetic."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Backend
from streamptycho.solve.canvas import BLOCK, Canvas
from streamptycho.solve.gradient import ANCHOR, ITERATIONS, STIFFNESS, reach
from streamptycho.solve.gradient import GAIN as CORRECTION_GAIN
from streamptycho.solve.jit import jit
from streamptycho.solve.smooth import GAIN, carried_on, momentum_trust


@jit
def block_change(target, last, trust):
    """Trust times the mean of target - last in each cell; interleaved float32 rows in, complex64 cells out."""
    ny, nx = trust.shape
    result = np.zeros((ny, nx), np.complex64)
    line = np.empty(2 * nx * BLOCK, np.float32)
    for cy in range(ny):
        for i in range(len(line)):
            line[i] = 0
        for y in range(cy * BLOCK, (cy + 1) * BLOCK):
            t, q = target[y], last[y]
            for i in range(len(line)):
                line[i] += t[i] - q[i]
        for cx in range(nx):
            real, imag = np.float32(0), np.float32(0)
            for x in range(cx * BLOCK, (cx + 1) * BLOCK):
                real += line[2 * x]
                imag += line[2 * x + 1]
            share = trust[cy, cx] / np.float32(BLOCK * BLOCK)
            result[cy, cx] = complex(real * share, imag * share)
    return result


@jit
def stretched(coarse, y, line, row):
    """Row y of the bilinear interpolation of `coarse` (ny, nx, channels) into `line` (channels, nx * BLOCK).

    Cell centres lie at BLOCK * (i + 1/2) - 1/2; beyond the outermost the value stays.
    """
    ny, nx, channels = coarse.shape
    half = BLOCK // 2
    at = (y - half + np.float32(0.5)) / np.float32(BLOCK)
    low = max(int(np.floor(at)), 0)
    high = min(low + 1, ny - 1)
    part = np.float32(max(at - low, np.float32(0)))
    for c in range(channels):
        for x in range(nx):
            row[x] = coarse[low, x, c] * (1 - part) + coarse[high, x, c] * part
        out = line[c]
        for i in range(half):
            out[i] = row[0]
            out[nx * BLOCK - 1 - i] = row[nx - 1]
        for x in range(nx - 1):
            value, slope = row[x], (row[x + 1] - row[x]) / np.float32(BLOCK)
            for i in range(BLOCK):
                out[x * BLOCK + half + i] = value + slope * (np.float32(i) + np.float32(0.5))


@jit
def add_smooth(target, last, coarse):
    """Add the interpolated `coarse` (ny, nx, 2) to `target`, and remember the sum in `last`; float32 rows."""
    ny, nx = coarse.shape[0] * BLOCK, coarse.shape[1] * BLOCK
    line, row = np.empty((2, nx), np.float32), np.empty(coarse.shape[1], np.float32)
    for y in range(ny):
        stretched(coarse, y, line, row)
        t, q, real, imag = target[y], last[y], line[0], line[1]
        for x in range(nx):
            a, b = t[2 * x] + real[x], t[2 * x + 1] + imag[x]
            t[2 * x] = a
            t[2 * x + 1] = b
            q[2 * x] = a
            q[2 * x + 1] = b


@jit
def turn_phase(target, phase):
    """Multiply `target` (float32 rows) by exp(i phase), `phase` (ny, nx, 1) interpolated; small angles, sixth order."""
    ny, nx = phase.shape[0] * BLOCK, phase.shape[1] * BLOCK
    line, row = np.empty((1, nx), np.float32), np.empty(phase.shape[1], np.float32)
    for y in range(ny):
        stretched(phase, y, line, row)
        t, angle = target[y], line[0]
        for x in range(nx):
            p = angle[x]
            s = p * p
            cosine = np.float32(1) - s * (np.float32(0.5) - s * (np.float32(1 / 24) - s * np.float32(1 / 720)))
            sine = p * (np.float32(1) - s * (np.float32(1 / 6) - s * (np.float32(1 / 120) - s * np.float32(1 / 5040))))
            a, b = t[2 * x], t[2 * x + 1]
            t[2 * x] = a * cosine - b * sine
            t[2 * x + 1] = a * sine + b * cosine


@jit
def deposit(share, relative, gradient, cells):
    """(3, ny, nx) float32: sums over frames of the footprint, alone and times both gradients; see `gradient._deposit`."""
    sums = np.zeros((3, cells[0], cells[1]), np.float32)
    height, width = share.shape
    for k in range(len(relative)):
        y0, x0 = relative[k, 0] // BLOCK, relative[k, 1] // BLOCK
        fy = np.float32(relative[k, 0] - y0 * BLOCK) / np.float32(BLOCK)
        fx = np.float32(relative[k, 1] - x0 * BLOCK) / np.float32(BLOCK)
        gy, gx = gradient[k, 0], gradient[k, 1]
        for dy in range(2):
            for dx in range(2):
                part = (fy if dy else 1 - fy) * (fx if dx else 1 - fx)
                for y in range(min(height, cells[0] - y0 - dy)):
                    for x in range(min(width, cells[1] - x0 - dx)):
                        amount = part * share[y, x]
                        sums[0, y0 + dy + y, x0 + dx + x] += amount
                        sums[1, y0 + dy + y, x0 + dx + x] += amount * gy
                        sums[2, y0 + dy + y, x0 + dx + x] += amount * gx
    return sums


@jit
def integrate(sums):
    """Phase of least squares by conjugate gradients, (ny, nx) float32; see `gradient._integrate`."""
    weight, slope_y, slope_x = sums[0], sums[1], sums[2]
    ny, nx = weight.shape
    top = weight.max()
    anchor, stiff, half = np.float32(ANCHOR) * top, np.float32(STIFFNESS) * top, np.float32(0.5)
    edge_y, edge_x = np.zeros((ny, nx), np.float32), np.zeros((ny, nx), np.float32)
    residual, diagonal = np.zeros((ny, nx), np.float32), np.full((ny, nx), anchor, np.float32)
    for y in range(ny):
        for x in range(nx):
            if y + 1 < ny:
                edge = half * (weight[y, x] + weight[y + 1, x]) + stiff
                flow = half * (slope_y[y, x] + slope_y[y + 1, x])
                edge_y[y, x] = edge
                diagonal[y, x] += edge
                diagonal[y + 1, x] += edge
                residual[y, x] -= flow
                residual[y + 1, x] += flow
            if x + 1 < nx:
                edge = half * (weight[y, x] + weight[y, x + 1]) + stiff
                flow = half * (slope_x[y, x] + slope_x[y, x + 1])
                edge_x[y, x] = edge
                diagonal[y, x] += edge
                diagonal[y, x + 1] += edge
                residual[y, x] -= flow
                residual[y, x + 1] += flow
    phase = np.zeros((ny, nx), np.float32)
    direction = residual / diagonal
    image = np.empty((ny, nx), np.float32)
    power = (residual * direction).sum()
    for _ in range(ITERATIONS):
        curvature = np.float32(0)
        for y in range(ny):
            for x in range(nx):
                value = diagonal[y, x] * direction[y, x]
                if y + 1 < ny:
                    value -= edge_y[y, x] * direction[y + 1, x]
                if y > 0:
                    value -= edge_y[y - 1, x] * direction[y - 1, x]
                if x + 1 < nx:
                    value -= edge_x[y, x] * direction[y, x + 1]
                if x > 0:
                    value -= edge_x[y, x - 1] * direction[y, x - 1]
                image[y, x] = value
                curvature += value * direction[y, x]
        if not curvature > 0:
            break
        step, previous, power = power / curvature, power, np.float32(0)
        for y in range(ny):
            for x in range(nx):
                phase[y, x] += step * direction[y, x]
                residual[y, x] -= step * image[y, x]
                power += residual[y, x] * residual[y, x] / diagonal[y, x]
        ratio = power / previous if previous > 0 else np.float32(0)
        for y in range(ny):
            for x in range(nx):
                direction[y, x] = residual[y, x] / diagonal[y, x] + ratio * direction[y, x]
    return phase


def momentum(canvas: Canvas, backend: Backend, corners: NDArray[np.int64], shape: tuple[int, int], fade: float) -> None:
    """:func:`streamptycho.solve.smooth.momentum`, compiled."""
    box = canvas.box(corners, shape)
    cells = canvas.cells(box)
    target, last = _rows(canvas.object, box), _rows(canvas.last, box)
    trust = momentum_trust(canvas.cell_dose[cells], backend)
    velocity = carried_on(canvas.velocity[cells], block_change(target, last, trust), backend)
    canvas.velocity[cells] = velocity
    step = np.ascontiguousarray((GAIN * fade) * trust * velocity, np.complex64)
    add_smooth(target, last, step.view(np.float32).reshape(*step.shape, 2))


def correct(
    canvas: Canvas, backend: Backend, share: NDArray[np.float32], corners: NDArray[np.int64], missing: NDArray[np.float32]
) -> None:
    """:func:`streamptycho.solve.gradient.correct`, compiled."""
    box, relative, cells = reach(canvas, share, corners)
    phase = integrate(deposit(share, relative, missing, cells))
    turn_phase(_rows(canvas.object, box), np.float32(CORRECTION_GAIN) * phase[:, :, None])


def _rows(array: NDArray[np.complex64], box: tuple[slice, slice]) -> NDArray[np.float32]:
    """A box of a complex canvas as rows of interleaved float32; a view."""
    columns = slice(2 * box[1].start, 2 * box[1].stop)
    return array.view(np.float32)[box[0], columns]
