"""Frames that are neighbours on the sample: what they have in common tells whether frames and positions belong together."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

NEIGHBOURS = 8
MOST_CENTRES = 400
"""Points whose neighbours are examined, evenly among those known."""
FLAT = 0.3
"""Neighbours lie along a line if they spread less than this across it, in units of the spread along it."""
FAR_LAG = 10
"""Difference of indices from which two frames count as taken at different times."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Some points with the eight nearest of each, and the planes through them."""

    rows: NDArray[np.int64]
    """(c, 9) rows of the points, each centre first."""
    slope: NDArray[np.float64]
    """(c, 2, 9) weights of the values that give the slope (y, x) of a plane fitted to them, per unit of the positions."""
    rest: NDArray[np.float64]
    """(c, 8) weights of the neighbours' values that give the plane through them at the centre."""
    step: float
    """Usual distance of points if they lay on a square grid, unit of the positions."""

    @classmethod
    def find(cls, yx: NDArray[np.float64]) -> Self | None:
        """Of (k, 2) points; None if there are too few, or if they lie along a line."""
        if len(yx) <= 2 * NEIGHBOURS:
            return None
        centres = np.unique(np.linspace(0, len(yx) - 1, MOST_CENTRES).astype(np.int64))
        distance, rows = cKDTree(yx).query(yx[centres], k=NEIGHBOURS + 1)
        rows[:, 0] = centres  # of points in one place it may find another first
        steps = np.sqrt(np.pi * distance[:, -1] ** 2 / (NEIGHBOURS + 1))
        good = ~(_along_a_line(yx[rows]) | _along_a_line(yx[rows[:, 1:]]))  # planes are laid through both
        if good.sum() <= 2 * NEIGHBOURS:
            return None
        rows, steps = rows[good].astype(np.int64), steps[good]
        around = yx[rows] - yx[rows[:, :1]]
        plane = np.concatenate([around, np.ones((*rows.shape, 1))], 2)
        return cls(rows, _fits(plane)[:, :2], _fits(plane[:, 1:])[:, 2], float(np.median(steps)))

    def slopes(self, values: NDArray[np.floating], rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """(c, 2) or (c, 2, m) slopes of `values` (k,) or (k, m)."""
        found: NDArray[np.float64] = np.einsum("cij,cj...->ci...", self.slope, values[self.rows if rows is None else rows])
        return found

    def residuals(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(c,) values (k,) of the centres less the plane through their neighbours, scaled to the spread of one value."""
        off = values[self.rows[:, 0]] - (self.rest * values[self.rows[:, 1:]]).sum(1)
        scaled: NDArray[np.float64] = off / np.sqrt(1 + (self.rest**2).sum(1))
        return scaled

    def incoherence(self, values: NDArray[np.floating]) -> float:
        """Mean square difference of neighbours over that of any two points: near 0 for a smooth map, 1 for no relation."""
        difference = values[self.rows[:, 0], None] - values[self.rows[:, 1:]]
        spread = 2 * float(np.var(values))
        return float((difference**2).mean() / spread) if spread > 0 else float("nan")

    def pairs(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Neighbours that were taken at different times: rows of the earlier ones, and of the later ones."""
        a, b = np.repeat(self.rows[:, 0], NEIGHBOURS), self.rows[:, 1:].ravel()
        first, second = np.where(index[a] < index[b], a, b), np.where(index[a] < index[b], b, a)
        apart = index[second] - index[first] >= FAR_LAG
        return first[apart], second[apart]


def _along_a_line(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(c,) True where the points (c, m, 2) hardly spread across the direction of their largest spread."""
    offsets = points - points.mean(1, keepdims=True)
    spread = np.linalg.eigvalsh(offsets.swapaxes(1, 2) @ offsets)
    return np.asarray(spread[:, 0] <= FLAT**2 * spread[:, 1])


def _fits(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """(c, 3, m) weights of the least-squares fit of planes (c, m, 3)."""
    turned = plane.swapaxes(1, 2)
    return np.asarray(np.linalg.solve(turned @ plane, turned))
