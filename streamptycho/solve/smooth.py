"""Acceleration of the smooth part of the object: warm fill of new area, and momentum on a coarse grid.

The update of a single pattern is quick at fine detail and slow at phase that varies over many windows. Both steps here act
on cells of `BLOCK` pixels only: momentum on the full grid is unstable.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.canvas import BLOCK, Box, Canvas, bilinear, block_mean, surroundings

KNOWN_DOSE = 0.1
"""Dose from which a pixel counts as known."""
DECAY = 0.8
GAIN = 0.7


def warm_fill(canvas: Canvas, backend: Backend, corners: NDArray[np.int64], shape: tuple[int, int]) -> None:
    """Continue what is known smoothly into the windows at `corners` (k, 2), before their frames are used.

    Pixels of a dose below `KNOWN_DOSE` take the dose-weighted Gaussian mean of their surroundings, sigma an eighth of the
    window; where nothing is known nearby they take 1.
    """
    xp = backend.xp
    sigma = fill_sigma(shape)
    for inner, box in fill_boxes(canvas, corners, shape):
        amount = block_mean(canvas.dose[box] * canvas.object[box])
        weight = backend.gaussian_filter(canvas.cell_dose[canvas.cells(box)], sigma)
        amount = backend.gaussian_filter(amount.real, sigma) + 1j * backend.gaussian_filter(amount.imag, sigma)
        known = weight > 1e-6
        mean = bilinear(xp.where(known, amount / xp.where(known, weight, 1), 1).astype(xp.complex64), backend)
        mean = mean[tuple(slice(i.start - b.start, i.stop - b.start) for i, b in zip(inner, box, strict=True))]
        dose, target = canvas.dose[inner], canvas.object[inner]
        filled = xp.clip(1 - dose / KNOWN_DOSE, 0, 1) * (mean - target)
        target += filled
        canvas.cell_object[canvas.cells(inner)] += block_mean(filled)  # what was filled in has not changed


def fill_sigma(shape: tuple[int, int]) -> float:
    """Width of the mean, in cells."""
    return max(shape) / 8 / BLOCK


def fill_boxes(canvas: Canvas, corners: NDArray[np.int64], shape: tuple[int, int]) -> list[tuple[Box, Box]]:
    """Windows, and the same with the surroundings they are filled from.

    Neighbours come in one box where that is less work than one by one.
    """
    margin = surroundings(shape) - BLOCK
    height, width = shape[0] + 2 * margin, shape[1] + 2 * margin
    groups: list[tuple[int, int, int, int]] = []
    area = 0
    for y, x in corners.tolist():
        if groups:
            top, bottom, left, right = groups[-1]
            together = (min(top, y), max(bottom, y), min(left, x), max(right, x))
            joint = (together[1] - together[0] + height) * (together[3] - together[2] + width)
            if joint <= area + height * width:
                groups[-1], area = together, joint
                continue
        groups.append((y, y, x, x))
        area = height * width
    extremes = (np.array([[top, left], [bottom, right]]) for top, bottom, left, right in groups)
    return [(canvas.box(pair, shape), canvas.box(pair, shape, margin)) for pair in extremes]


def advance(canvas: Canvas, backend: Backend, box: Box, phase: Array | None, fade: float | None) -> None:
    """Turn the object, and carry its smooth change since the last time on where the coverage is good; in place.

    Parameters
    ----------
    box : aligned to the coarse grid; only this part of the canvas is touched.
    phase : float32 rad in each cell of the box by which to turn, or None.
    fade : momentum, 1 for fresh frames, towards 0 as frames have been visited often: real data have model errors, on which
        it would build; None: no momentum.
    """
    xp = backend.xp
    cells = canvas.cells(box)
    target, mean = canvas.object[box], block_mean(canvas.object[box])
    if phase is not None:
        mean = mean * xp.exp(1j * phase)
        target *= xp.exp(1j * bilinear(phase, backend)).astype(xp.complex64)
    if fade is not None:
        trust = momentum_trust(canvas.cell_dose[cells], backend)
        velocity = carried_on(canvas.velocity[cells], trust * (mean - canvas.cell_object[cells]), backend)
        canvas.velocity[cells] = velocity
        target += (GAIN * fade) * bilinear((trust * velocity).astype(xp.complex64), backend)
    canvas.cell_object[cells] = block_mean(target)


def momentum_trust(dose: Array, backend: Backend) -> Array:
    """0 to 1 in each cell: how well it is covered against the usual."""
    xp = backend.xp
    return xp.clip((dose / _usual_dose(dose, xp) - 0.1) / 0.4, 0, 1).astype(xp.float32)


def carried_on(velocity: Array, change: Array, backend: Backend) -> Array:
    """The velocity once the object has changed by `change`."""
    return DECAY * velocity + _binomial(_binomial(change, backend.xp), backend.xp)


def _usual_dose(dose: Array, xp: Array) -> Array:
    """75th percentile of the covered cells."""
    covered = dose > KNOWN_DOSE / 10
    ordered = xp.sort(xp.where(covered, dose, 0).ravel())
    count = covered.sum()
    return xp.maximum(ordered[dose.size - 1 - (count // 4)], KNOWN_DOSE)


def _binomial(a: Array, xp: Array) -> Array:
    """[1 2 1] / 4 along both axes, edges repeated."""
    for axis in (0, 1):
        n = a.shape[axis]
        before = a.take(xp.maximum(xp.arange(n) - 1, 0), axis)
        after = a.take(xp.minimum(xp.arange(n) + 1, n - 1), axis)
        a = (before + 2 * a + after) / 4
    return a
