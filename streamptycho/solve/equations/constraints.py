"""Constraints on any object and probe, imposed between passes at little cost.

Object and probe may exchange a phase ramp (a shift of the beam on the detector) and a common shift without any change of the
model: unconstrained, the phase wraps, or the picture is displaced against the positions. And at the rim of the scan, where
there is next to no light, single pixels may run away and spoil the scale of the picture.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.canvas import BLOCK, Canvas, block_mean
from streamptycho.solve.devices.backend import Array, Backend

RAMP_RAD = 0.05
"""Phase of a ramp across the covered area below which it is left alone."""
WELL_COVERED = 1.0
"""Dose from which amplitudes count as usual."""
RIM_DOSE = 0.5
"""Dose below which amplitudes are limited."""
SMALLEST_DOSE = 1e-3
RUNAWAY = 2.0
"""Limit, in units of the root mean square of the usual amplitudes."""
OFF_CENTRE = 1 / 16
"""Distance of a probe from the middle of its window, as a part of the window, from which it is centred."""
INTERVAL = 150
"""Updates between two calls per window's area of canvas."""


def interval(canvas: Canvas, shape: tuple[int, int]) -> int:
    """Updates between two calls of :func:`impose`, so that it costs about a hundredth of them; `shape` of a window."""
    return INTERVAL * canvas.area // (shape[0] * shape[1])


def impose(canvas: Canvas, probe: Array, backend: Backend, *, keep_probe: bool = False) -> None:
    """Keep the object level, and its rim within bounds; in place.

    `probe` (modes, ny, nx) takes the ramp; with `keep_probe` it is held fixed, and the ramp stays where it is.
    """
    box = canvas.reached(RIM_DOSE)
    if box is None:
        return
    slope = phase_slope(canvas.object[box], canvas.dose[box], backend)
    extent = np.array([side.stop - side.start for side in box])
    if not keep_probe and float(np.abs(slope * extent).max()) > RAMP_RAD:
        exchange_ramp(canvas, probe, slope, box, backend)
    limit_rim(canvas, backend)


def phase_slope(obj: Array, dose: Array, backend: Backend) -> NDArray[np.float64]:
    """(2,) mean phase gradient (y, x) in rad per pixel of `obj` (ny, nx), weighted by power and `dose` up to 1."""
    xp = backend.xp
    weight = xp.minimum(dose, 1)
    down = (weight[1:] * obj[1:] * obj[:-1].conj()).sum()
    right = (weight[:, 1:] * obj[:, 1:] * obj[:, :-1].conj()).sum()
    slope: NDArray[np.float64] = np.angle(backend.to_host(xp.stack([down, right]))).astype(np.float64)
    return slope


def exchange_ramp(
    canvas: Canvas, probe: Array, slope: NDArray[np.float64], box: tuple[slice, slice], backend: Backend
) -> None:
    """Move a phase ramp of `slope` (y, x) rad per pixel from the object to the probe; phases stay in the middle of `box`.

    The model changes by a constant phase per frame, which is not measured. Pixels without dose stay as they are.
    """
    xp = backend.xp
    middle = [(side.start + side.stop - 1) / 2 for side in box]
    ramp = _ramp(canvas.shape, -slope, middle, 1, backend)
    ramp = xp.where(canvas.dose > 0, ramp, xp.ones_like(ramp))
    cell_ramp = _ramp(canvas.velocity.shape, -slope, middle, BLOCK, backend)
    change = block_mean(canvas.object) - canvas.cell_object
    canvas.object *= ramp
    canvas.rebase()
    canvas.cell_object -= cell_ramp * change
    canvas.velocity *= cell_ramp
    shape = (int(probe.shape[1]), int(probe.shape[2]))
    probe *= _ramp(shape, slope, [(n - 1) / 2 for n in shape], 1, backend)


def _ramp(shape: tuple[int, int], slope: NDArray[np.float64], middle: list[float], scale: int, backend: Backend) -> Array:
    """exp(i slope (r - middle)) at the centres of cells of `scale` pixels, complex64."""
    y, x = (
        np.exp(1j * s * (scale * np.arange(n) + (scale - 1) / 2 - m)).astype(np.complex64)
        for n, s, m in zip(shape, slope, middle, strict=True)
    )
    return backend.to_device(y)[:, None] * backend.to_device(x)[None]


def limit_rim(canvas: Canvas, backend: Backend) -> None:
    """Scale runaway pixels of little dose back to `RUNAWAY` times the usual amplitude; their phases stay."""
    box = canvas.reached(SMALLEST_DOSE)
    if box is None:
        return
    xp = backend.xp
    obj, dose = canvas.object[box], canvas.dose[box]
    power = obj.real**2 + obj.imag**2
    well = dose >= WELL_COVERED
    usual = (power * well).sum() / xp.maximum(well.sum(), 1)
    limit = xp.where(usual > 0, RUNAWAY**2 * usual, np.inf)
    excess = (dose > 0) & (dose < RIM_DOSE) & (power > limit)
    obj *= xp.where(excess, xp.sqrt(limit / xp.maximum(power, _TINY)), 1).astype(xp.float32)


def centred(probe: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """`probe` (modes, ny, nx) rolled so that its centre of mass lies in the middle, if it lies well off it.

    The centre is the one on a ring, so that a probe wrapped around the edges of its window comes out whole.
    """
    power = (abs(probe.astype(np.complex128)) ** 2).sum(0)
    moves = []
    for axis, n in enumerate(power.shape):
        turn = np.exp(2j * np.pi * np.arange(n) / n)
        at = float(np.angle((power.sum(1 - axis) * turn).sum())) * n / (2 * np.pi)
        move = (n // 2 - at + n / 2) % n - n / 2
        moves.append(round(move) if abs(move) > OFF_CENTRE * n else 0)
    return np.roll(probe, moves, (1, 2)) if any(moves) else probe


_TINY = 1e-30
