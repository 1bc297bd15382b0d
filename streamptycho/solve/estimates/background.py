"""Incoherent intensity that is in every frame: air scatter, stray light, a dark current that was not subtracted.

The model's intensity is |Psi|^2 + B. B is the mean over frames of the intensity that the beam does not explain,
A^2 / c^2 - |Psi|^2, per detector pixel, weighted by the inverse of the counts' variance |Psi|^2 + B + 1, smoothed, and never
negative. One frame in `INTERVAL` updates is sampled from all that have been used often enough, not from those just used,
which agree with any B. For the same reason old samples are soon forgotten: a model that was fitted beside a B too small
explains part of it, and returns it step by step.
"""

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import Array, Backend
from streamptycho.solve.equations.modulus import compare, far_field, intensity
from streamptycho.solve.frames import Frame
from streamptycho.solve.solver import Estimate, Solver

INTERVAL = 20
"""Updates per sampled frame."""
VISITS = 3
"""Uses of a frame before it is sampled."""
FIRST_SAMPLES = 20
"""Samples before there is an estimate."""
MEMORY, MEMORY_SHARE = 10, 0.1
"""Samples over which the mean is taken: the first, later the second as a part of all."""
SMOOTHNESS = 3.0
"""Width of the Gaussian over the detector, pixels."""


class BackgroundEstimate(Estimate):
    """Background of one solver; writes `solver.background`. Nothing waits for the device."""

    def __init__(self, solver: Solver) -> None:
        xp, shape = solver.backend.xp, solver.store.shape
        self._solver = solver
        self._sum: Array = xp.zeros(shape, xp.float32)
        """Weighted running mean of the unexplained intensity."""
        self._weight: Array = xp.zeros(shape, xp.float32)
        self._samples = 0
        self._due = 0
        self._random = np.random.default_rng(0)

    def learn(self, rows: NDArray[np.int64], figures: Array) -> None:
        """Sample the frames that are due after this many updates more."""
        self._due += len(rows)
        count, self._due = divmod(self._due, INTERVAL)
        solver, visits = self._solver, self._solver.visits
        drawn = self._random.integers(0, len(solver.store), count)
        drawn = drawn[drawn < len(visits)]
        drawn = drawn[visits[drawn] >= VISITS]
        frames = solver.frames(drawn)
        for k in range(len(drawn)):
            window = solver.canvas.object[frames.window(k)]
            left, weight = unexplained(solver.backend, solver.probe, window, frames.frame(k))
            self._samples += 1
            share = 1 / min(self._samples, max(MEMORY, MEMORY_SHARE * self._samples))
            self._sum += (left * weight - self._sum) * share
            self._weight += (weight - self._weight) * share
        if len(drawn) and self._samples >= FIRST_SAMPLES:
            solver.background = self._smoothed()

    def _smoothed(self) -> Array:
        """The estimate in counts; pixels that are always masked take their surroundings."""
        backend, xp = self._solver.backend, self._solver.backend.xp
        # the detector's middle is at the corners of these arrays, hence the wrapping
        total, weight = (backend.gaussian_filter(a, SMOOTHNESS, mode="wrap") for a in (self._sum, self._weight))
        return xp.where(weight > 0, xp.maximum(total, 0) / xp.where(weight > 0, weight, 1), 0).astype(xp.float32)


def unexplained(backend: Backend, probe: Array, window: Array, frame: Frame) -> tuple[Array, Array]:
    """Measured less modelled intensity and noise, and its weight; both (ny, nx) float32, zero frequency at [0, 0].

    `probe` (modes, ny, nx) and `window` (ny, nx), the object under it, complex64; `frame` with the background as known so
    far. The weight is 0 where masked.
    """
    field = far_field(backend, probe * window)
    seen = compare(backend, field, frame)
    measured = (frame.amplitude / frame.flux) ** 2
    return measured - intensity(field) - root_variance(seen.modulus), seen.valid / (seen.power + 1)


def root_variance(mean: Array) -> Array:
    """Variance of the square root of a Poisson count as a function of that root's `mean`; 1/4 for large ones.

    The model is fitted to the roots, and so lies below the mean counts by this; without it a quarter of a count in every lit
    pixel would be taken for background. A rational fit, within 0.013.
    """
    return mean * (1 - 0.2044 * mean + 0.2773 * mean**2) / (1 + 0.5498 * mean + 1.1092 * mean**3)
