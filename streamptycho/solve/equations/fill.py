"""Warm fill: continue the known object smoothly into new area, on cells of `BLOCK` pixels."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import BLOCK, KNOWN_DOSE, Box, Canvas, bilinear, block_mean, surroundings


def warm_fill(canvas: Canvas, corners: NDArray[np.int64], shape: tuple[int, int]) -> None:
    """Fill the windows at `corners` (k, 2), before their frames are used.

    Pixels of a dose below `KNOWN_DOSE` take the dose-weighted Gaussian mean of their surroundings, sigma an eighth of the
    window; where nothing is known nearby they take 1.
    """
    backend, xp = canvas.backend, canvas.backend.xp
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
    """Windows, alone and with their surroundings; neighbours share a box where that is less work than one by one."""
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
