"""Intensity of each frame: beam current, shutter and monochromator make it jump, which must not enter the object.

A frame's amplitude factor c (intensity c^2) is that of least squares against its model, sum A M / sum M^2. The counts alone
would take an absorbing object for a weak beam; hence it is estimated only where neighbours have been used already. It is
predicted before the first use of a frame whose counts differ from the usual (later probe and object, which change quickly at
first, have adapted to the error), and estimated again at every visit. Predictions within a few per cent of 1 are
discarded: each would build on the one before, and the factor would drift along the scan. A common factor of frames and probe
is undetermined; it is fixed by a geometric mean of 1.
"""

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import Array
from streamptycho.solve.equations.modulus import intensity
from streamptycho.solve.solver import Estimate, Solver

FAINTEST, BRIGHTEST = 0.02, 50.0
"""Bounds of the factor."""
FAINT = 0.3
"""Factor below which a frame's weight falls with its square: there was hardly any beam, and it is mostly noise."""
GLARING = 3.0
"""Factor above which the weight falls with the inverse square: no beam is as bright, the counts have another cause."""
DAMPING = 0.5
"""Part of the way to a new estimate."""
UNUSUAL = 0.05
"""A frame is predicted if the root of its counts differs from the usual by this in the logarithm."""
BELIEVED = 0.05
"""Logarithm of the factor from which a prediction is used."""
ENOUGH_NEIGHBOURS = 2
MEMORY = 20
"""Frames over which the usual counts are remembered."""


class FluxEstimate(Estimate):
    """Amplitude factors of the frames of one solver; writes `store.flux`, and waits for the device once per slice."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._logarithm = np.zeros(len(solver.store.corners))
        self._known = np.zeros(len(self._logarithm), np.bool_)
        """Frames whose factor has been predicted or found usual."""
        self._usual: float | None = None
        """Logarithm of the root of the counts at a factor of 1."""
        self._last = (-np.inf, 0.0)
        """Logarithms of the root of the counts and of the factor of the frame before."""
        self._seen: Counter[tuple[int, int]] = Counter()
        """Frames used in each square of the scan."""
        self._visited = np.zeros(len(self._logarithm), np.bool_)
        self._side = _square_side(solver.probe)
        self._since_gauge = 0

    def predict(self, rows: NDArray[np.int64]) -> None:
        """Predict the factors of frames that have not been used yet."""
        self._grow()
        with np.errstate(divide="ignore"):
            root = np.log(self._solver.store.power[rows]) / 2
        if self._usual is None and np.isfinite(root).any():
            self._usual = float(np.median(root[np.isfinite(root)]))
        known = self._trust(rows) == 1
        odd = known & (abs(root - (self._usual or 0.0)) > UNUSUAL)
        estimate = np.zeros(len(rows))
        if odd.any():
            estimate[odd] = self._estimate(self._solver.look(rows[odd]))
        estimate[abs(estimate) < BELIEVED] = 0
        for k, height in enumerate(root.tolist()):
            if not known[k] and abs(height - self._last[0]) < UNUSUAL:
                estimate[k] = self._last[1]
            self._last = (height, float(estimate[k]))
        self._logarithm[rows] = estimate
        self._known[rows] = True
        self._publish(rows)
        bright = (known | (rows < MEMORY)) & (estimate > np.log(FAINT)) & np.isfinite(root)
        for value in (root - estimate)[bright].tolist():
            self._usual = value if self._usual is None else self._usual + (value - self._usual) / MEMORY

    def learn(self, rows: NDArray[np.int64], figures: Array) -> None:
        """Take in the figures of a slice; `figures` (k, 4) as in :class:`Outcome`."""
        rows, last = np.unique(rows[::-1], return_index=True)
        latest = self._solver.backend.to_host(figures)[::-1][last]
        new = rows[~self._visited[rows]]
        self._seen.update(self._squares(new))
        self._visited[new] = True
        change = self._estimate(latest) - self._logarithm[rows]
        self._logarithm[rows] += DAMPING * self._trust(rows) * change
        self._publish(rows)
        self._since_gauge += len(rows)
        if self._solver.rule.probe_step == 0:
            return  # a fixed probe settles the scale
        if self._since_gauge >= len(self._solver.store) / 16:  # so that the cost per update does not grow
            self._settle_gauge()

    def weight(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(k,) weight of the updates: 1, less for frames with hardly any light or far too much."""
        factor = np.exp(self._logarithm[rows])
        weight: NDArray[np.float32] = np.minimum(1, np.minimum(factor / FAINT, GLARING / factor) ** 2).astype(np.float32)
        return weight

    def _estimate(self, figures: Array) -> NDArray[np.float64]:
        host = self._solver.backend.to_host(figures).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(host[:, 3] > 0, host[:, 2] / host[:, 3], 1)
        logarithm: NDArray[np.float64] = np.log(np.clip(factor, FAINTEST, BRIGHTEST))
        return logarithm

    def _trust(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(k,) 0 to 1: number of other frames used close by, over `ENOUGH_NEIGHBOURS`."""
        around = [sum(self._seen[y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)) for y, x in self._squares(rows)]
        others = np.array(around, np.float64) - self._visited[rows]
        return np.clip(others / ENOUGH_NEIGHBOURS, 0, 1)  # a window may have left its square

    def _squares(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        places = self._solver.store.corners[rows] // self._side
        return [(y, x) for y, x in places.tolist()]

    def _settle_gauge(self) -> None:
        """Divide all factors by their geometric mean, faint frames left out, and give it to the probe."""
        self._since_gauge = 0
        solver, n = self._solver, len(self._solver.store)
        usual = self._known[:n] & (self._logarithm[:n] > np.log(FAINT))
        if not usual.any():
            return
        common = float(self._logarithm[:n][usual].mean())
        self._logarithm[:n][self._known[:n]] -= common
        solver.store.flux[:n] = solver.backend.to_device(np.exp(self._logarithm[:n]).astype(np.float32))
        solver.probe *= np.float32(np.exp(common))

    def _publish(self, rows: NDArray[np.int64]) -> None:
        backend = self._solver.backend
        self._solver.store.flux[backend.to_device(rows)] = backend.to_device(
            np.exp(self._logarithm[rows]).astype(np.float32)
        )

    def _grow(self) -> None:
        more = (0, max(len(self._solver.store.corners) - len(self._logarithm), 0))
        self._logarithm = np.pad(self._logarithm, more)
        self._known, self._visited = np.pad(self._known, more), np.pad(self._visited, more)


def _square_side(probe: Array) -> int:
    """A third of the probe's diameter, pixels: frames a square apart share half of their light or more."""
    power = intensity(probe)
    area = float(power.sum() ** 2 / (power * power).sum())
    return max(round(math.sqrt(4 * area / math.pi) / 3), 1)
