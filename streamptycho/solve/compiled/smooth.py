"""The momentum on a coarse grid (:mod:`smooth`), compiled, in one thread or several. Same arithmetic."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import BLOCK, Box, Canvas
from streamptycho.solve.compiled.atomic import fetch_add, give_way
from streamptycho.solve.compiled.jit import jit
from streamptycho.solve.compiled.threads import together
from streamptycho.solve.equations.smooth import DECAY, GAIN, momentum_trust

WORTH_SHARING = 2500
"""Cells from which several threads are faster than one: 400 x 400 pixels."""
KNOWN, GIVEN_UP = 1, 1 << 32


@jit
def _add_cells(row, line):
    """Add a row of interleaved float32 pixels to the sums of its row of cells."""
    for i in range(len(line)):
        line[i] += row[i]


@jit
def _close_cells(line, out):
    """Means of a row of cells, interleaved, from the sums of its rows of pixels; which begin anew."""
    share = np.float32(1 / (BLOCK * BLOCK))
    for cx in range(len(out) // 2):
        real, imag = np.float32(0), np.float32(0)
        for x in range(cx * BLOCK, (cx + 1) * BLOCK):
            real += line[2 * x]
            imag += line[2 * x + 1]
        out[2 * cx] = real * share
        out[2 * cx + 1] = imag * share
    line[:] = 0


@jit
def _mean_row(target, cy, line, out):
    for y in range(cy * BLOCK, (cy + 1) * BLOCK):
        _add_cells(target[y], line)
    _close_cells(line, out)


@jit
def _widened(coarse, cy, angle, step):
    """Row cy of `coarse` (3, ny, nx) interpolated along x: the phase into `angle`, the rest interleaved into `step`."""
    nx, half = coarse.shape[2], BLOCK // 2
    phase, real, imag = coarse[0, cy], coarse[1, cy], coarse[2, cy]
    for i in range(half):
        for x, at in ((0, i), (nx - 1, nx * BLOCK - 1 - i)):
            angle[at] = phase[x]
            step[2 * at] = real[x]
            step[2 * at + 1] = imag[x]
    for x in range(nx - 1):
        slope = (phase[x + 1] - phase[x]) / np.float32(BLOCK)
        slope_r, slope_i = (real[x + 1] - real[x]) / np.float32(BLOCK), (imag[x + 1] - imag[x]) / np.float32(BLOCK)
        for i in range(BLOCK):
            way, at = np.float32(i) + np.float32(0.5), x * BLOCK + half + i
            angle[at] = phase[x] + way * slope
            step[2 * at] = real[x] + way * slope_r
            step[2 * at + 1] = imag[x] + way * slope_i


@jit
def _factor(low, high, part, turn):
    """exp(i angle) between two rows of angles; small ones, to sixth order."""
    for x in range(len(low)):
        p = low[x] + part * (high[x] - low[x])
        s = p * p
        turn[2 * x] = np.float32(1) - s * (np.float32(0.5) - s * (np.float32(1 / 24) - s * np.float32(1 / 720)))
        turn[2 * x + 1] = p * (
            np.float32(1) - s * (np.float32(1 / 6) - s * (np.float32(1 / 120) - s * np.float32(1 / 5040)))
        )


@jit
def _between(low, high, part, out):
    for i in range(len(out)):
        out[i] = low[i] + part * (high[i] - low[i])


@jit
def _change(pixels, turn, step):
    for x in range(len(pixels) // 2):
        a, b, c, s = pixels[2 * x], pixels[2 * x + 1], turn[2 * x], turn[2 * x + 1]
        pixels[2 * x] = a * c - b * s + step[2 * x]
        pixels[2 * x + 1] = a * s + b * c + step[2 * x + 1]


@jit
def _change_row(target, cy, coarse, angles, steps, line, out):
    """Turn one row of cells by the phase of `coarse` (3, ny, nx), interpolated, add the rest of it, and take the means."""
    ny = coarse.shape[1]
    for k in range(3):
        _widened(coarse, min(max(cy + k - 1, 0), ny - 1), angles[k], steps[k])
    step, turn = steps[3], steps[4]
    for i in range(BLOCK):
        k = 0 if i < BLOCK // 2 else 1
        part = (np.float32(i) + np.float32(0.5)) / np.float32(BLOCK) + np.float32(0.5 - k)
        _factor(angles[k], angles[k + 1], part, turn)
        _between(steps[k], steps[k + 1], part, step)
        pixels = target[cy * BLOCK + i]
        _change(pixels, turn, step)
        _add_cells(pixels, line)
    _close_cells(line, out)


@jit
def _binomial(a, down):
    """[1 2 1] / 4 along both axes of `a` (ny, nx), edges repeated, in place; `down` of its shape is scratch."""
    ny, nx = a.shape
    quarter, half = np.float32(0.25), np.float32(0.5)
    for y in range(ny):
        for x in range(nx):
            down[y, x] = quarter * (a[max(y - 1, 0), x] + a[min(y + 1, ny - 1), x]) + half * a[y, x]
    for y in range(ny):
        for x in range(nx):
            a[y, x] = quarter * (down[y, max(x - 1, 0)] + down[y, min(x + 1, nx - 1)]) + half * down[y, x]


@jit
def _carry(means, before, trust, velocity, fade, coarse, change):
    """New velocity from the means (ny, 2 nx) now and `before`; into `coarse` (3, ny, nx), whose phase is given, the step."""
    ny, nx = trust.shape
    for y in range(ny):
        for x in range(nx):
            turn = np.complex64(complex(np.cos(coarse[0, y, x]), np.sin(coarse[0, y, x])))
            mean = np.complex64(complex(means[y, 2 * x], means[y, 2 * x + 1]))
            change[0, y, x] = trust[y, x] * (mean * turn - before[y, x])
    _binomial(change[0], change[1])
    _binomial(change[0], change[1])
    for y in range(ny):
        for x in range(nx):
            carried = np.float32(DECAY) * velocity[y, x] + change[0, y, x]
            velocity[y, x] = carried
            step = (np.float32(GAIN) * fade * trust[y, x]) * carried
            coarse[1, y, x] = step.real
            coarse[2, y, x] = step.imag


@jit
def _advance(target, cell_object, trust, velocity, fade, coarse, means, change, tickets, me, line, angles, steps, out):
    """One thread's share: means of rows of cells, then their change; thread 0 does the step between.

    Nothing is allocated here, so that nothing fails while others wait. The last four are scratch of this thread, see
    :func:`_scratch`. `tickets` (4,) int64, zeros at first: rows of cells taken, and done, for the means; `KNOWN` once it is
    clear what to change, or `GIVEN_UP`; rows taken for that.
    """
    ny, nx = coarse.shape[1:]
    if fade >= 0:
        cy = fetch_add(tickets, 0, 1)
        while cy < ny:
            _mean_row(target, cy, line, means[cy])
            fetch_add(tickets, 1, 1)
            cy = fetch_add(tickets, 0, 1)
    if me == 0:
        if fade >= 0:
            while fetch_add(tickets, 1, 0) < ny and fetch_add(tickets, 2, 0) == 0:
                give_way()
            _carry(means, cell_object, trust, velocity, fade, coarse, change)
        fetch_add(tickets, 2, KNOWN)
    while fetch_add(tickets, 2, 0) == 0:
        give_way()
    if fetch_add(tickets, 2, 0) >= GIVEN_UP:
        return
    cy = fetch_add(tickets, 3, 1)
    while cy < ny:
        _change_row(target, cy, coarse, angles, steps, line, out)
        for cx in range(nx):
            cell_object[cy, cx] = complex(out[2 * cx], out[2 * cx + 1])
        cy = fetch_add(tickets, 3, 1)


def _scratch(nx: int) -> tuple[NDArray[np.float32], ...]:
    """Memory of one thread for a box of `nx` cells: sums of a row of cells, phases, steps, means."""
    sizes = (2 * nx * BLOCK,), (3, nx * BLOCK), (5, 2 * nx * BLOCK), (2 * nx,)
    return tuple(np.zeros(size, np.float32) for size in sizes)


def advance(canvas: Canvas, box: Box, phase: NDArray[np.float32] | None, fade: float | None) -> None:
    """:func:`streamptycho.solve.equations.smooth.advance`, compiled."""
    backend, cells = canvas.backend, canvas.cells(box)
    cell_object, velocity = canvas.cell_object[cells], canvas.velocity[cells]
    ny, nx = cell_object.shape
    trust = momentum_trust(canvas.cell_dose[cells], backend) if fade is not None else canvas.cell_dose[cells]
    coarse, means = np.zeros((3, ny, nx), np.float32), np.empty((ny, 2 * nx), np.float32)
    change = np.empty((2, ny, nx), np.complex64)
    if phase is not None:
        coarse[0] = phase
    target = canvas.object.view(np.float32)[box[0], 2 * box[1].start : 2 * box[1].stop]
    strength, tickets = np.float32(-1 if fade is None else fade), np.zeros(4, np.int64)
    threads = backend.threads if ny * nx >= WORTH_SHARING else 1
    scratch = [_scratch(nx) for _ in range(threads)]

    def work(me: int) -> None:
        try:
            _advance(target, cell_object, trust, velocity, strength, coarse, means, change, tickets, me, *scratch[me])
        except BaseException:
            tickets[2] = GIVEN_UP  # or the others would wait for ever
            raise

    together(work, threads)
