"""Incoherent intensity that is in every frame: air scatter, stray light, a dark current that was not subtracted.

The model's intensity is |Psi|^2 + B. B is the mean over frames of what the beam does not explain, A^2 / c^2 - |Psi|^2, per
detector pixel, weighted by the inverse of the counts' variance |Psi|^2 + B + 1, smoothed, and never negative. Frames are
looked at one in `INTERVAL` updates, drawn from all that have been used often enough, not from those just used: these agree
with whatever B is. For the same reason old looks are soon forgotten: a model that was fitted beside a B too small explains
part of it, and gives it back step by step.
"""

from typing import TYPE_CHECKING

import numpy as np

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.epie import far_field

if TYPE_CHECKING:
    from streamptycho.solve.solver import Solver

INTERVAL = 20
"""Updates per look at a frame."""
VISITS = 3
"""Uses of a frame before it is looked at."""
FIRST_LOOKS = 20
"""Looks before anything is believed."""
MEMORY, MEMORY_SHARE = 10, 0.1
"""Looks over which the mean is taken: so many, and later this part of all."""
SMOOTHNESS = 3.0
"""Width of the Gaussian over the detector, pixels."""


class BackgroundEstimate:
    """Background of one solver; writes `solver.background`. Nothing waits for the device."""

    def __init__(self, solver: "Solver") -> None:
        xp, shape = solver.backend.xp, solver.store.shape
        self._solver = solver
        self._sum: Array = xp.zeros(shape, xp.float32)
        """Weighted running mean of what is left over."""
        self._weight: Array = xp.zeros(shape, xp.float32)
        self._looks = 0
        self._due = 0
        self._random = np.random.default_rng(0)

    def learn(self, updates: int) -> None:
        """Look at as many frames as so many more `updates` allow."""
        self._due += updates
        count, self._due = divmod(self._due, INTERVAL)
        visits = self._solver.visits
        rows = self._random.integers(0, len(self._solver.store), count)
        rows = rows[rows < len(visits)]
        rows = rows[visits[rows] >= VISITS]
        for row in rows.tolist():
            self._look(row)
        if len(rows) and self._looks >= FIRST_LOOKS:
            self._solver.background = self._smoothed()

    def _look(self, row: int) -> None:
        solver = self._solver
        corner = (int(solver.store.corners[row, 0]), int(solver.store.corners[row, 1]))
        window = solver.canvas.object[solver.canvas.window(corner, solver.store.shape)]
        left, weight = unexplained(
            solver.backend, solver.probe, window, solver.store.amplitudes[row], solver.store.flux[row], solver.background
        )
        self._looks += 1
        share = 1 / min(self._looks, max(MEMORY, MEMORY_SHARE * self._looks))
        self._sum += (left * weight - self._sum) * share
        self._weight += (weight - self._weight) * share

    def _smoothed(self) -> Array:
        """The estimate in counts; pixels that are always masked take their surroundings."""
        backend, xp = self._solver.backend, self._solver.backend.xp
        # the detector's middle is at the corners of these arrays, hence the wrapping
        total, weight = (backend.gaussian_filter(a, SMOOTHNESS, mode="wrap") for a in (self._sum, self._weight))
        return xp.where(weight > 0, xp.maximum(total, 0) / xp.where(weight > 0, weight, 1), 0).astype(xp.float32)


def unexplained(
    backend: Backend, probe: Array, window: Array, amplitude: Array, flux: Array, background: Array
) -> tuple[Array, Array]:
    """Measured less modelled intensity and noise, and its weight; both (ny, nx) float32, zero frequency at [0, 0].

    Parameters
    ----------
    probe : (modes, ny, nx) complex64.
    window : (ny, nx) complex64, object under the probe.
    amplitude : (ny, nx) float32, negative where masked; the weight is 0 there.
    flux : amplitude of this frame relative to the usual one.
    background : (ny, nx) float32 as known so far, or empty.
    """
    field = far_field(backend, probe * window)
    model = (field.real**2 + field.imag**2).sum(0)
    expected = model + background if background.size else model
    noise = root_variance(backend.xp.sqrt(expected))
    return (amplitude / flux) ** 2 - model - noise, (amplitude >= 0) / (expected + 1)


def root_variance(mean: Array) -> Array:
    """Variance of the square root of a Poisson count as a function of that root's `mean`; 1/4 for large ones.

    The model is fitted to the roots, and so lies below the mean counts by this; left out, a quarter of a count in every lit
    pixel would be taken for background. A rational fit, within 0.013.
    """
    return mean * (1 - 0.2044 * mean + 0.2773 * mean**2) / (1 + 0.5498 * mean + 1.1092 * mean**3)
