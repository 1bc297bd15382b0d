"""What happens to the canvas under new frames, compiled: the dose, and the warm fill (:mod:`fill`). Same arithmetic."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import BLOCK, KNOWN_DOSE, Canvas
from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.compiled.modulus import probe_power
from streamptycho.solve.equations.fill import fill_boxes, fill_sigma


@jit
def _amounts(obj, dose, cell_dose, cells):
    """(3, ny, nx) per cell: mean dose, and mean of dose times object, real and imaginary."""
    ny, nx = cells[1] - cells[0], cells[3] - cells[2]
    result = np.empty((3, ny, nx), np.float32)
    line = np.empty(2 * nx * BLOCK, np.float32)
    first, share = cells[2] * BLOCK, np.float32(1 / (BLOCK * BLOCK))
    for cy in range(ny):
        line[:] = 0
        for y in range((cells[0] + cy) * BLOCK, (cells[0] + cy + 1) * BLOCK):
            o, d = obj[y, 2 * first : 2 * first + len(line)], dose[y, first : first + nx * BLOCK]
            for x in range(nx * BLOCK):
                line[2 * x] += d[x] * o[2 * x]
                line[2 * x + 1] += d[x] * o[2 * x + 1]
        for cx in range(nx):
            real, imag = np.float32(0), np.float32(0)
            for x in range(cx * BLOCK, (cx + 1) * BLOCK):
                real += line[2 * x]
                imag += line[2 * x + 1]
            result[0, cy, cx] = cell_dose[cells[0] + cy, cells[2] + cx]
            result[1, cy, cx] = real * share
            result[2, cy, cx] = imag * share
    return result


@jit
def _blurred(planes, kernel):
    """Each plane convolved along both axes, reflected at the edges as scipy.ndimage does."""
    count, ny, nx = planes.shape
    radius = len(kernel) // 2
    result = np.zeros_like(planes)
    line = np.empty(nx + 2 * radius, np.float32)
    for c in range(count):
        for y in range(ny):
            line[:] = 0
            middle = line[radius : radius + nx]
            for k in range(len(kernel)):
                source, part = planes[c, _reflected(y + k - radius, ny)], kernel[k]
                for x in range(nx):
                    middle[x] += part * source[x]
            for x in range(radius):
                line[radius - 1 - x] = middle[_reflected(-1 - x, nx)]
                line[radius + nx + x] = middle[_reflected(nx + x, nx)]
            out = result[c, y]
            for k in range(len(kernel)):
                part = kernel[k]
                for x in range(nx):
                    out[x] += part * line[x + k]
    return result


@jit
def _reflected(i, n):
    """Index of i in a sequence of n mirrored at its ends, the end elements repeated."""
    i = i % (2 * n)
    return i if i < n else 2 * n - 1 - i


@jit
def _unknown(dose, least):
    """Bounds of the cells with a pixel of too little dose, in a strip of `BLOCK` rows; `least` is a scratch row."""
    width = dose.shape[1]
    least[:width] = KNOWN_DOSE
    for y in range(BLOCK):
        d = dose[y]
        for x in range(width):
            least[x] = d[x] if d[x] < least[x] else least[x]
    first, end = 0, width
    while first < width and least[first] >= np.float32(KNOWN_DOSE):
        first += 1
    while end > first and least[end - 1] >= np.float32(KNOWN_DOSE):
        end -= 1
    return first // BLOCK, (end + BLOCK - 1) // BLOCK if end > first else 0


@jit
def _mean(amounts):
    """(ny, nx, 2) object from dose and dose times object; 1 where there is no dose."""
    ny, nx = amounts.shape[1], amounts.shape[2]
    mean = np.empty((ny, nx, 2), np.float32)
    for y in range(ny):
        for x in range(nx):
            known = amounts[0, y, x] > np.float32(1e-6)
            mean[y, x, 0] = amounts[1, y, x] / amounts[0, y, x] if known else np.float32(1)
            mean[y, x, 1] = amounts[2, y, x] / amounts[0, y, x] if known else np.float32(0)
    return mean


@jit
def _stretched(coarse, y, line, row):
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
def _fill(obj, cell_object, dose, cell_dose, inner, cells, kernel):
    """Blend the blurred surroundings (`cells`) into pixels of little dose (of the cells `inner`); float32 rows."""
    left, width = inner[2] * BLOCK, (inner[3] - inner[2]) * BLOCK
    ny, wide = inner[1] - inner[0], cells[3] - cells[2]
    line, row = np.empty((2, wide * BLOCK), np.float32), np.empty(wide, np.float32)
    added, share = np.zeros(2 * width, np.float32), np.float32(1 / (BLOCK * BLOCK))
    ends = np.empty((ny, 2), np.int64)
    needed = 0
    for cy in range(ny):
        top = (inner[0] + cy) * BLOCK
        ends[cy] = _unknown(dose[top : top + BLOCK, left : left + width], line[0])
        needed = max(needed, ends[cy, 1])
    if needed == 0:
        return
    mean = _mean(_blurred(_amounts(obj, dose, cell_dose, cells), kernel))
    shift = left - cells[2] * BLOCK
    real, imag = line[0, shift : shift + width], line[1, shift : shift + width]
    for y in range(ny * BLOCK):
        start, end = ends[y // BLOCK, 0] * BLOCK, ends[y // BLOCK, 1] * BLOCK
        if end == 0:
            continue
        at = inner[0] * BLOCK + y
        _stretched(mean, at - cells[0] * BLOCK, line, row)
        o, d = obj[at, 2 * left : 2 * (left + width)], dose[at, left : left + width]
        for x in range(start, end):
            blend = max(np.float32(1) - d[x] * np.float32(1 / KNOWN_DOSE), np.float32(0))
            a, b = blend * (real[x] - o[2 * x]), blend * (imag[x] - o[2 * x + 1])
            o[2 * x] += a
            o[2 * x + 1] += b
            added[2 * x] += a
            added[2 * x + 1] += b
        if y % BLOCK == BLOCK - 1:  # what was filled in has not changed
            known = cell_object[inner[0] + y // BLOCK, 2 * inner[2] : 2 * inner[3]]
            for x in range(2 * start, 2 * end):
                known[2 * (x // (2 * BLOCK)) + x % 2] += share * added[x]
                added[x] = 0


@jit
def _expose(dose, cell_dose, corners, probe):
    """:meth:`Canvas.add_dose`; `corners` (k, 2) are relative to the canvas."""
    ny, nx = probe.shape[1:]
    power = np.empty((ny, nx), np.float32)
    power *= np.float32(1) / probe_power(power, probe.view(np.float32))
    for k in range(len(corners)):
        y0, x0 = corners[k, 0], corners[k, 1]
        first, end = x0 // BLOCK, (x0 + nx - 1) // BLOCK + 1
        line = np.zeros((end - first) * BLOCK, np.float32)
        for cy in range(y0 // BLOCK, (y0 + ny - 1) // BLOCK + 1):
            line[:] = 0
            for y in range(cy * BLOCK, (cy + 1) * BLOCK):
                if y0 <= y < y0 + ny:
                    d, p = dose[y, x0 : x0 + nx], power[y - y0]
                    for x in range(nx):
                        d[x] += p[x]
                d = dose[y, first * BLOCK : end * BLOCK]
                for x in range(len(line)):
                    line[x] += d[x]
            for cx in range(first, end):
                total = np.float32(0)
                for x in range((cx - first) * BLOCK, (cx - first + 1) * BLOCK):
                    total += line[x]
                cell_dose[cy, cx] = total * np.float32(1 / (BLOCK * BLOCK))


def add_dose(canvas: Canvas, corners: NDArray[np.int64], probe: NDArray[np.complex64]) -> None:
    """:meth:`Canvas.add_dose`, compiled."""
    _expose(canvas.dose, canvas.cell_dose, corners - np.array(canvas.origin), probe)


def warm_fill(canvas: Canvas, corners: NDArray[np.int64], shape: tuple[int, int]) -> None:
    """:func:`streamptycho.solve.equations.fill.warm_fill`, compiled."""
    kernel = gaussian(fill_sigma(shape))
    for boxes in fill_boxes(canvas, corners, shape):
        inner, cells = ((y.start, y.stop, x.start, x.stop) for y, x in map(canvas.cells, boxes))
        rows = canvas.object.view(np.float32), canvas.cell_object.view(np.float32)
        _fill(*rows, canvas.dose, canvas.cell_dose, inner, cells, kernel)


def gaussian(sigma: float) -> NDArray[np.float32]:
    """Normalised kernel out to four sigma, as scipy.ndimage takes it."""
    radius = int(4 * sigma + 0.5)
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (x / sigma) ** 2)
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised
