"""Offsets that many frames share: their local mean, its removal from positions and object together, and earlier drift."""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import BLOCK, Canvas, bilinear
from streamptycho.solve.devices.backend import Array, Backend

LEAST_KNOWN = 50
"""Offsets that determine a line, at least."""
CAUTION = 2.0
"""Factor of a line's standard error, since neighbouring offsets share their errors."""
REACH = 2.5
"""How far back a drift is followed, in units of the frames in which it was observed."""


def shortened(vectors: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    """(k, 2) cut to a length."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    cut: NDArray[np.float64] = vectors * np.minimum(1, longest / np.maximum(length, 1e-12))
    return cut


def inside(canvas: Canvas, corners: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Absolute `corners` (k, 2), moved so that the windows lie on the canvas."""
    first = np.array(canvas.origin)
    return np.clip(corners, first, first + np.array(canvas.shape) - np.array(shape))


def local_mean(
    canvas: Canvas, backend: Backend, centres: NDArray[np.float64], values: NDArray[np.float64], sigma_px: float
) -> Array:
    """(2, ny, nx) float32 Gaussian mean, on the canvas's coarse grid, of `values` (n, 2) at absolute `centres` (n, 2)."""
    xp = backend.xp
    shape = canvas.cell_dose.shape
    cells = np.clip((centres - np.array(canvas.origin)) // BLOCK, 0, np.array(shape) - 1).astype(np.int64)
    index = cells[:, 0] * shape[1] + cells[:, 1]

    def spread(weights: NDArray[np.float64]) -> Array:
        laid = np.bincount(index, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)
        return backend.gaussian_filter(backend.to_device(laid.astype(np.float32)), sigma_px / BLOCK, mode="constant")

    count = spread(np.ones(len(values)))
    count = xp.maximum(count, 0.02 * count.max())
    return xp.stack([spread(values[:, 0]) / count, spread(values[:, 1]) / count])


def level(canvas: Canvas, backend: Backend, centres: NDArray[np.float64], mean: Array) -> NDArray[np.float64]:
    """Move the object by -`mean`; returns `mean` at the `centres` (n, 2) of the frames, to be taken from their offsets."""
    xp = backend.xp
    shift_y, shift_x = bilinear(mean[0], backend), bilinear(mean[1], backend)
    canvas.object[...] = _drawn(xp, canvas.object, shift_y, shift_x)
    canvas.rebase()
    at = np.clip(np.rint(centres).astype(np.int64) - np.array(canvas.origin), 0, np.array(canvas.shape) - 1)
    y, x = (backend.to_device(at[:, axis]) for axis in (0, 1))
    common: NDArray[np.float64] = backend.to_host(xp.stack([shift_y[y, x], shift_x[y, x]], axis=1)).astype(np.float64)
    return common


def _drawn(xp: Array, image: Array, shift_y: Array, shift_x: Array) -> Array:
    """image(y + shift_y, x + shift_x), bilinear, the rim repeated; updates soon undo the blur."""
    ny, nx = image.shape
    y = xp.clip(xp.arange(ny, dtype=xp.float32)[:, None] + shift_y, 0, ny - 1)
    x = xp.clip(xp.arange(nx, dtype=xp.float32)[None, :] + shift_x, 0, nx - 1)
    top, left = xp.minimum(y.astype(xp.int64), ny - 2), xp.minimum(x.astype(xp.int64), nx - 2)
    v, u = (y - top).astype(xp.float32), (x - left).astype(xp.float32)
    upper = image[top, left] * (1 - u) + image[top, left + 1] * u
    lower = image[top + 1, left] * (1 - u) + image[top + 1, left + 1] * u
    return (upper * (1 - v) + lower * v).astype(image.dtype)


def path_before(offsets: NDArray[np.float64], known: NDArray[np.bool_], count: int) -> NDArray[np.float64] | None:
    """(count, 2) where the drift seen in the `known` of the `offsets` (n, 2) comes from, `count` frames before.

    It is a straight line as far back as `REACH` allows, and stands still before. None if it is not clearly known: its
    error, taken twice as large as independent offsets would make it, exceeds half of how far it is from their mean.
    """
    at = np.flatnonzero(known).astype(np.float64)
    if len(at) < LEAST_KNOWN:
        return None
    offsets = offsets[known]
    centre, mean = at.mean(), offsets.mean(0)
    power = ((at - centre) ** 2).sum()
    slope = ((at - centre)[:, None] * (offsets - mean)).sum(0) / power
    variance = CAUTION**2 * ((offsets - mean - (at - centre)[:, None] * slope) ** 2).mean(0).sum()
    before = np.maximum(np.arange(-count, 0), -REACH * len(known)) - centre
    reach = (before**2).mean()
    if variance * (1 / len(at) + reach / power) > (slope**2).sum() * reach / 4:
        return None
    path: NDArray[np.float64] = mean + before[:, None] * slope
    return path
