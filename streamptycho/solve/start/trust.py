"""How far a probe can be trusted: the part of each half of the frames that the other half fails to predict.

The Fourier error does not show a wrong probe, and the error of a prediction alone depends on specimen and dose. Two figures
from the data set the scale: the error of the *mean pattern* as a prediction, which needs neither object nor probe (1 on this
scale), and the counting noise, which no model can predict (0).
"""

from collections.abc import Iterator
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.equations.noise import root_count_variance
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.start.search import ENOUGH_TESTS, Candidate, candidate_of, central_rows
from streamptycho.solve.store import FrameStore

CONFIDENT = 0.6
"""Below it the picture was right in every scan tried, and no wrong start came near it (ADR 13)."""
HOPELESS = 0.9
"""Above it the probe predicts no better than the mean pattern does."""
CHECK_FRAMES = 64
"""Frames of a check, the most central ones."""
CHECK_SWEEPS = 2
FEWEST_PATTERNS = 0.1
"""Least share of the mean pattern's error that is more than noise; with less, patterns hardly differ and nothing tells."""


class Trust(StrEnum):
    """What prediction says about the probe in use."""

    CONFIDENT = "confident"
    UNCERTAIN = "uncertain"
    """Not checked yet, or too little overlap or contrast to tell."""
    FAILED = "failed"
    """The picture is most likely wrong."""


def trust_in(unexplained: float) -> Trust:
    """The verdict on a figure of :func:`unexplained`; uncertain for inf and NaN."""
    if not np.isfinite(unexplained):
        return Trust.UNCERTAIN
    if unexplained < CONFIDENT:
        return Trust.CONFIDENT
    return Trust.FAILED if unexplained > HOPELESS else Trust.UNCERTAIN


def unexplained(candidate: Candidate) -> float:
    """Part of the differences between patterns that the halves fail to predict of each other: 0 none, 1 as the mean pattern.

    Returns inf where too few frames can be predicted, NaN where the patterns hardly differ from their mean.
    """
    store = candidate.halves[0].store
    if len(candidate.tested) < ENOUGH_TESTS:
        return float("inf")
    mean = store.mean_intensity(np.concatenate(candidate.rows))
    null = noise = power = 0.0
    for row in candidate.tested:
        amplitude = store.backend.to_host(store.amplitudes[row])
        valid = amplitude >= 0
        expected = mean[valid] * (store.power[row] / max(mean[valid].sum(), 1e-12))
        null += float(((np.sqrt(expected) - amplitude[valid]) ** 2).sum())
        noise += float(root_count_variance(expected).sum())
        power += float(store.power[row])
    own = power * float(np.mean([solver.error() for solver in candidate.halves]))
    noise = min(noise, own)  # amplitudes in other units than counts would seem noisier than they are
    if not null - noise > FEWEST_PATTERNS * null:
        return float("nan")
    return (candidate.score * power - noise) / (null - noise)


class Check:
    """A short contest of a probe with the mean pattern, in small steps: about a hundred updates."""

    def __init__(self, store: FrameStore, probe: NDArray[np.complex64], rule: RuleOptions, seed: int) -> None:
        rows = central_rows(store, CHECK_FRAMES)
        self.frames = len(rows)
        self.unexplained = float("inf")
        """See :func:`unexplained`; inf before the end."""
        self._random = np.random.default_rng(seed)
        self._candidate = candidate_of(store, rows, probe, rule, poor=False)

    def run(self) -> Iterator[int]:
        """Sweep, then judge; yields the number of updates after each small step."""
        yield from self._candidate.trial(CHECK_SWEEPS, self._random)
        self.unexplained = unexplained(self._candidate)
