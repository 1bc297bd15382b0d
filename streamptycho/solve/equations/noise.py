"""What counting statistics do to amplitudes."""

import numpy as np
from numpy.typing import NDArray


def root_count_variance(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of the square root of Poisson counts with these expectations: from 0 over 0.4 near one to 1/4."""
    return np.interp(counts, _EXPECTED, _VARIANCE)


def _root_count_variances(expected: NDArray[np.float64]) -> NDArray[np.float64]:
    term, mean_root = np.exp(-expected), np.zeros_like(expected)
    for count in range(1, 120):
        term = term * expected / count
        mean_root += np.sqrt(count) * term
    return expected - mean_root**2


_EXPECTED = np.concatenate([np.linspace(0, 4, 81), np.linspace(4.5, 40, 72)])
_VARIANCE = _root_count_variances(_EXPECTED)
