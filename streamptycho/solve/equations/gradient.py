"""Coarse correction of the object's phase from the centres of mass of the patterns.

The centre of mass of a pattern is the illumination-weighted mean phase gradient of the exit wave, which is what differential
phase contrast imaging uses. Measured less modelled, it is the gradient still missing under the probe. A few frames' worth
of missing gradients, laid out on a grid of `BLOCK` pixels and integrated by least squares, mend the smooth phase that
single updates are slowest to find.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import BLOCK, Box, Canvas, block_mean
from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations.modulus import intensity

GAIN = 0.3
"""Part of the missing phase applied at once; 0.7 is unstable."""
LARGEST_TURN = 1.0
"""Phase by which a cell is turned at once at most, rad; usual are some hundredths."""
STIFFNESS = 0.3
"""Weight, relative to the best covered cell, with which the phase stays as it is where nothing was measured."""
ANCHOR = 1e-4
"""Relative weight of the phase itself, which fixes the constant."""
SCALE_SPREAD = 0.01
"""Relative difference of scale between a pattern and its model from which the pattern is not believed."""
ITERATIONS = 10
"""Conjugate gradient steps; the remainder is taken up by the next correction."""
NOTHING = 1e-30
"""No step where there is nothing to correct."""


def scale_trust(backend: Backend, figures: Array) -> Array:
    """(k,) 0 to 1 for frames as bright as their models; `figures` (k, 4) as in :class:`Outcome`.

    Where the beam has jumped, or the object's amplitude is still wrong, the centre of mass shows that and not the
    phase: a gradient of amplitude under a curved wave moves it as well.
    """
    xp = backend.xp
    scale = xp.maximum(figures[:, 2], NOTHING) / xp.maximum(figures[:, 3], NOTHING)
    return xp.exp(-((xp.log(scale) / SCALE_SPREAD) ** 2)).astype(xp.float32)


def footprint(probe: Array) -> Array:
    """(ny / BLOCK, nx / BLOCK) float32, share of the probe's intensity in each cell; sum 1."""
    power = intensity(probe)
    ny, nx = (n - n % BLOCK for n in power.shape)
    coarse = block_mean(power[:ny, :nx])
    return coarse / coarse.sum()


@dataclass(frozen=True, slots=True)
class Deflections:
    """Centres of mass of k frames beside those of their models."""

    corners: NDArray[np.int64]
    """(k, 2) absolute, of the windows."""
    measured: Array
    """(k, 2) centres of mass of the patterns, frequency samples (y, x)."""
    figures: Array
    """(k, 4) of their models, see :class:`Outcome`."""
    fresh: NDArray[np.float32]
    """(k,) 1 for new frames, towards 0 for those used often."""


def phase_step(canvas: Canvas, box: Box, probe: Array, seen: Deflections) -> Array:
    """Phase by which to turn the object: `GAIN` times the potential of the missing gradients, float32 rad per cell of `box`.

    Frames count little that were used often, that no other covers, or whose brightness differs from their model's. `box` is
    aligned to the coarse grid, a cell wider than the windows; `probe` (modes, ny, nx).
    """
    backend, xp = canvas.backend, canvas.backend.xp
    share = footprint(probe)
    covered = xp.clip((overlap(backend, canvas, share, seen.corners) - 1) / 2, 0, 1)
    trust = backend.to_device(seen.fresh) * covered * scale_trust(backend, seen.figures)
    per_cell = xp.asarray(2 * np.pi * BLOCK / np.array(probe.shape[1:]))  # phase that a sample of frequency stands for
    missing = ((seen.measured - seen.figures[:, :2]) * per_cell * trust[:, None]).astype(xp.float32)
    relative = seen.corners - np.array(canvas.origin) - np.array([box[0].start, box[1].start])
    cells = (box[0].stop - box[0].start) // BLOCK, (box[1].stop - box[1].start) // BLOCK
    weight, slope_y, slope_x = _deposit(xp, share, backend.to_device(relative), missing, cells)
    return xp.clip(GAIN * _integrate(xp, weight, slope_y, slope_x), -LARGEST_TURN, LARGEST_TURN)


def overlap(backend: Backend, canvas: Canvas, share: Array, corners: NDArray[np.int64]) -> Array:
    """(k,) dose under each window, to the nearest cell, weighted by the probe, in units of what one frame brings itself."""
    xp = backend.xp
    first = (corners - np.array(canvas.origin) + BLOCK // 2) // BLOCK
    rows = xp.asarray(first[:, 0])[:, None, None] + xp.arange(share.shape[0])[None, :, None]
    columns = xp.asarray(first[:, 1])[:, None, None] + xp.arange(share.shape[1])[None, None, :]
    limit = canvas.cell_dose.shape
    dose = canvas.cell_dose[xp.minimum(rows, limit[0] - 1), xp.minimum(columns, limit[1] - 1)]
    own = (share * share).sum() / share.max()
    return (dose * share).sum((1, 2)) / own


def _deposit(
    xp: Array, share: Array, relative: Array, gradient: Array, cells: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Sums over frames of the footprint, alone and times the gradient; windows between cells are split bilinearly."""
    fraction = (relative / BLOCK).astype(xp.float32)
    first = xp.floor(fraction).astype(xp.int64)
    fraction = fraction - first
    size = cells[0] * cells[1]
    rows, columns = xp.arange(share.shape[0])[None, :, None], xp.arange(share.shape[1])[None, None, :]
    sums = [xp.zeros(size) for _ in range(3)]
    for dy in (0, 1):
        for dx in (0, 1):
            part = xp.abs(1 - dy - fraction[:, 0]) * xp.abs(1 - dx - fraction[:, 1])
            y = first[:, 0, None, None] + dy + rows
            x = first[:, 1, None, None] + dx + columns
            inside = (y < cells[0]) & (x < cells[1])
            index = xp.where(inside, y * cells[1] + x, 0).ravel()
            amount = part[:, None, None] * share * inside
            for i, factor in enumerate((None, gradient[:, 0], gradient[:, 1])):
                values = amount if factor is None else amount * factor[:, None, None]
                sums[i] += xp.bincount(index, weights=values.ravel(), minlength=size)
    weight, slope_y, slope_x = (s.reshape(cells).astype(xp.float32) for s in sums)
    return weight, slope_y, slope_x


def _integrate(xp: Array, weight: Array, slope_y: Array, slope_x: Array) -> Array:
    """Phase that minimises sum over edges of (w + s)(d phase - g)^2 + a phase^2, by conjugate gradients.

    s = `STIFFNESS` max w; where s acts alone the wanted gradient is none. The slopes are already weighted.
    """
    top = weight.max()
    edge_y = (weight[1:] + weight[:-1]) / 2 + STIFFNESS * top
    edge_x = (weight[:, 1:] + weight[:, :-1]) / 2 + STIFFNESS * top
    anchor = ANCHOR * top

    def pull(flow_y: Array, flow_x: Array) -> Array:
        """Adjoint of the difference along both axes."""
        result = xp.zeros_like(weight)
        result[1:] += flow_y
        result[:-1] -= flow_y
        result[:, 1:] += flow_x
        result[:, :-1] -= flow_x
        return result

    def operator(phase: Array) -> Array:
        return pull(edge_y * (phase[1:] - phase[:-1]), edge_x * (phase[:, 1:] - phase[:, :-1])) + anchor * phase

    diagonal = xp.full_like(weight, 0) + anchor
    diagonal[1:] += edge_y
    diagonal[:-1] += edge_y
    diagonal[:, 1:] += edge_x
    diagonal[:, :-1] += edge_x
    residual = pull((slope_y[1:] + slope_y[:-1]) / 2, (slope_x[:, 1:] + slope_x[:, :-1]) / 2)
    phase = xp.zeros_like(weight)
    scaled = residual / diagonal
    direction = scaled.copy()
    power = (residual * scaled).sum()
    for _ in range(ITERATIONS):
        image = operator(direction)
        step = power / ((direction * image).sum() + NOTHING)
        phase += step * direction
        residual -= step * image
        scaled = residual / diagonal
        previous, power = power, (residual * scaled).sum()
        direction = scaled + (power / (previous + NOTHING)) * direction
    return phase
