"""What changes with time and not with place: neighbours on the sample that were taken at different times should agree."""

import numpy as np
from numpy.typing import NDArray

KNOTS = 16
"""Times between which a change is taken as linear."""
INDEPENDENT = 12.0
"""So many times fewer pairs are independent: they share frames, and frames share features of the sample."""
RIDGE = 1e-2
"""Weight of the change per interval against that of a pair: what no pair of frames tells is taken as zero."""


def change_in_time(
    first: NDArray[np.int64], second: NDArray[np.int64], time: NDArray[np.floating], values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What pairs of neighbours say of the slow change of `values` with time, apart from what differs with place.

    Parameters
    ----------
    first, second : (p,) rows of each pair. time : (k,) when each row was taken, any unit. values : (k, m).

    Returns
    -------
    (KNOTS, m) change at evenly spaced times, mean 0; (m,) standard error of the difference between its extremes.
    """
    low, high = float(time.min()), float(time.max())
    place = (time - low) / max(high - low, 1e-12) * (KNOTS - 1)
    design = _hats(place[second]) - _hats(place[first])
    normal = design.T @ design
    between = np.diff(np.eye(KNOTS), axis=0)
    normal += RIDGE * len(first) * between.T @ between / KNOTS + 1e-9 * len(first) * np.eye(KNOTS)
    difference = values[second] - values[first]
    # where the beam was lost for a while, and so on: single pairs do not decide
    limit = 4 * np.median(np.abs(difference), axis=0) + 1e-12
    difference = np.clip(difference, -limit, limit)
    change: NDArray[np.float64] = np.linalg.solve(normal, design.T @ difference)
    rest = ((difference - design @ change) ** 2).mean(0)
    extremes = np.eye(KNOTS)[change.argmax(0)] - np.eye(KNOTS)[change.argmin(0)]
    error = np.sqrt(INDEPENDENT * rest * (extremes * np.linalg.solve(normal, extremes.T).T).sum(1))
    change -= change.mean(0)
    return change, np.asarray(error)


def _hats(place: NDArray[np.floating]) -> NDArray[np.float64]:
    """(p, KNOTS) weights of linear interpolation."""
    weights: NDArray[np.float64] = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(KNOTS)))
    return weights
