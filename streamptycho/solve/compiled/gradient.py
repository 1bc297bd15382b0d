"""The correction from the centres of mass (:mod:`gradient`), compiled. Same arithmetic."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import BLOCK, Box, Canvas
from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.equations import gradient as readable


@jit
def _footprint(probe):
    modes = len(probe)
    ny, nx = probe.shape[1] // BLOCK, probe.shape[2] // BLOCK
    share = np.zeros((ny, nx), np.float32)
    line = np.empty(nx * BLOCK, np.float32)
    total = np.float32(0)
    for cy in range(ny):
        line[:] = 0
        for m in range(modes):
            for y in range(cy * BLOCK, (cy + 1) * BLOCK):
                p = probe[m, y]
                for x in range(nx * BLOCK):
                    line[x] += p[x].real * p[x].real + p[x].imag * p[x].imag
        for cx in range(nx):
            amount = np.float32(0)
            for x in range(cx * BLOCK, (cx + 1) * BLOCK):
                amount += line[x]
            share[cy, cx] = amount
            total += amount
    return share / total


@jit
def _missing(cell_dose, shape, share, corners, measured, figures, fresh):
    """(k, 2) float32 gradients still missing, as much as they are trusted; `corners` relative to the canvas."""
    height, width = share.shape
    ny, nx = cell_dose.shape
    own, top = np.float32(0), np.float32(0)
    for y in range(height):
        for x in range(width):
            own += share[y, x] * share[y, x]
            top = max(top, share[y, x])
    missing, nothing = np.empty((len(corners), 2), np.float32), np.float32(readable.NOTHING)
    for k in range(len(corners)):
        first_y, first_x = (corners[k, 0] + BLOCK // 2) // BLOCK, (corners[k, 1] + BLOCK // 2) // BLOCK
        total = np.float32(0)
        for y in range(height):
            dose = cell_dose[min(first_y + y, ny - 1)]
            for x in range(width):
                total += dose[min(first_x + x, nx - 1)] * share[y, x]
        covered = min(max((total * top / own - 1) / 2, 0), 1)
        scale = max(figures[k, 2], nothing) / max(figures[k, 3], nothing)
        trust = fresh[k] * covered * np.exp(-((np.log(scale) / readable.SCALE_SPREAD) ** 2))
        for axis in range(2):
            cell = 2 * np.pi * BLOCK / shape[axis]
            missing[k, axis] = (measured[k, axis] - figures[k, axis]) * cell * trust
    return missing


@jit
def _deposit(share, relative, gradient, cells):
    """(3, ny, nx) float32: sums over frames of the footprint, alone and times both gradients; see `gradient._deposit`."""
    sums = np.zeros((3, cells[0], cells[1]), np.float32)
    height, width = share.shape
    line = np.zeros(width + 1, np.float32)
    for k in range(len(relative)):
        y0, x0 = relative[k, 0] // BLOCK, relative[k, 1] // BLOCK
        fy = np.float32(relative[k, 0] - y0 * BLOCK) / np.float32(BLOCK)
        fx = np.float32(relative[k, 1] - x0 * BLOCK) / np.float32(BLOCK)
        gy, gx = gradient[k, 0], gradient[k, 1]
        reach = min(width + 1, cells[1] - x0)
        for y in range(min(height + 1, cells[0] - y0)):
            line[:] = 0
            if y < height:
                for x in range(width):
                    line[x] += (1 - fy) * (1 - fx) * share[y, x]
                    line[x + 1] += (1 - fy) * fx * share[y, x]
            if y > 0:
                for x in range(width):
                    line[x] += fy * (1 - fx) * share[y - 1, x]
                    line[x + 1] += fy * fx * share[y - 1, x]
            weight, down, right = sums[0, y0 + y, x0:], sums[1, y0 + y, x0:], sums[2, y0 + y, x0:]
            for x in range(reach):
                weight[x] += line[x]
                down[x] += line[x] * gy
                right[x] += line[x] * gx
    return sums


@jit
def _integrate(sums):
    """Phase of least squares by conjugate gradients, (ny, nx) float32; see `gradient._integrate`."""
    weight, slope_y, slope_x = sums[0], sums[1], sums[2]
    ny, nx = weight.shape
    top = weight.max()
    anchor, stiff, half = np.float32(readable.ANCHOR) * top, np.float32(readable.STIFFNESS) * top, np.float32(0.5)
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
    for _ in range(readable.ITERATIONS):
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


@jit
def _phase_step(cell_dose, probe, corners, start, cells, measured, figures, fresh):
    share = _footprint(probe)
    missing = _missing(cell_dose, probe.shape[1:], share, corners, measured, figures, fresh)
    phase = _integrate(_deposit(share, corners - start, missing, cells))
    gain, top = np.float32(readable.GAIN), np.float32(readable.LARGEST_TURN)
    for y in range(cells[0]):
        for x in range(cells[1]):
            phase[y, x] = min(max(gain * phase[y, x], -top), top)
    return phase


def phase_step(canvas: Canvas, box: Box, probe: NDArray[np.complex64], seen: readable.Deflections) -> NDArray[np.float32]:
    """:func:`streamptycho.solve.equations.gradient.phase_step`, compiled."""
    start = np.array([box[0].start, box[1].start])
    cells = (box[0].stop - box[0].start) // BLOCK, (box[1].stop - box[1].start) // BLOCK
    corners, found = seen.corners - np.array(canvas.origin), (seen.measured, seen.figures, seen.fresh)
    phase: NDArray[np.float32] = _phase_step(canvas.cell_dose, probe, corners, start, cells, *found)
    return phase
