"""Whether the centres of mass are slopes of something: right frames in right places have no curl.

The centre of mass of a pattern is the mean phase slope under the beam, and slopes have no curl. Mirrored, transposed or
turned patterns, or patterns in wrong places, give a field that has. As in 4D-STEM, where this finds the rotation of the
detector; only a half-turn, which makes the negative of the phase, cannot be detected.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.neighbours import Neighbours

AS_IS, MIRRORED, TRANSPOSED, TURNED = range(4)
LAGS = np.concatenate([np.arange(1, 13), [16, 20, 25, 32, 40, 50, 64, 100]])
"""Shifts of the frames' index that are tried, in both directions."""
INDEPENDENT = 9
"""Points whose slopes share neighbours: so many times fewer of them are independent."""
OUTLIERS = 0.98
"""Curls beyond this quantile of all count as at it."""


@dataclass(frozen=True, slots=True, eq=False)
class Curls:
    """Mean square curl of the field under several assumptions, in units of what unrelated slopes have."""

    classes: NDArray[np.float64]
    """(4,) as it is, mirrored, transposed, turned by a quarter; each stands for two orientations a half-turn apart."""
    certainty: NDArray[np.float64]
    """(4,) standard errors by which each lies below as it is."""
    lag: int
    """The shift of the index, other than 0, with the least curl."""
    lagged: float
    """Its curl as it is."""
    lag_certainty: float
    """Standard errors by which that lies below the curl without a shift."""

    @property
    def best(self) -> int:
        """Class of least curl."""
        return int(np.argmin(self.classes))


def curls(near: Neighbours, index: NDArray[np.int64], slopes: NDArray[np.floating], *, shifts: bool = True) -> Curls:
    """Of centres of mass that stand for phase slopes; `index` (k,), `slopes` (k, 2), one unit along both axes.

    Without `shifts` the index is taken as right.
    """
    field = near.slopes(slopes)
    energy = _energies(field)
    scale = float(energy.mean()) or 1.0
    certainty = np.array([_certainty(energy[:, 0], energy[:, c]) for c in range(4)])
    best, lagged, lag_certainty = 0, float("inf"), 0.0
    order = np.argsort(index)
    for lag in np.concatenate([LAGS, -LAGS]).tolist() if shifts else ():
        rows, there = _shifted(index, order, near.rows, lag)
        if there.sum() < len(there) / 2:
            continue
        other = _energies(near.slopes(slopes, rows))[there, 0]
        if other.mean() / scale < lagged:
            best, lagged = lag, float(other.mean()) / scale
            lag_certainty = _certainty(energy[there, 0], other)
    return Curls(energy.mean(0) / scale, certainty, best, lagged, lag_certainty)


def _energies(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """(c, 4) squared curls of slopes (c, 2, 2): [:, i, j] is the derivative of component j along axis i."""
    (yy, yx), (xy, xx) = field[:, 0].T, field[:, 1].T  # yx: of x along y
    energy: NDArray[np.float64] = np.stack([xy - yx, xy + yx, yy - xx, yy + xx], 1) ** 2
    return np.minimum(energy, np.quantile(energy, OUTLIERS, axis=0))


def _certainty(here: NDArray[np.float64], there: NDArray[np.float64]) -> float:
    """Standard errors by which the mean of `there` lies below that of `here`."""
    difference = here - there
    error = float(difference.std()) / np.sqrt(max(len(difference) / INDEPENDENT, 1))
    return float(difference.mean()) / error if error > 0 else 0.0


def _shifted(
    index: NDArray[np.int64], order: NDArray[np.int64], rows: NDArray[np.int64], lag: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows (c, 9) of the frames `lag` later than `rows`, and (c,) whether all of them are there."""
    wanted = index[rows] + lag
    at = np.minimum(np.searchsorted(index, wanted, sorter=order), len(index) - 1)
    found: NDArray[np.int64] = order[at]
    return found, (index[found] == wanted).all(1)
