"""A probe to start from when none is known: its amplitude from the data, its defocus by trial.

The Fourier error alone does not show a wrong defocus: object and probe together fit the frames they were made from. A
prediction does. Each trial reconstructs two objects from two halves of the frames and measures how well each explains the
frames of the *other* half; the right defocus wins by a factor of about four on real and simulated scans.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import Array
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore

FOOTPRINTS = (0.06, 0.10, 0.16, 0.25, 0.40, 0.60)
"""Trial diameters of the defocused beam on the sample, fractions of the window; each with both signs of defocus."""
FAR_WINDOWS = 4
"""Distance from the middle, in windows, beyond which a frame takes no part in a search (nor beyond five times the usual)."""
SEARCH_PIXELS = 1 << 20
SEARCH_WINDOWS = 8
"""Pixels around all frames of a search, at most, or this many windows if that is more: each candidate has two objects."""
LEVELS = ((12, 1), (6, 2), (3, 4))
"""Candidates kept and sweeps done at each level of the contest."""
TESTABLE_DOSE = 1.5
"""Dose from the other half, in units of one frame's own, from which a frame can be predicted."""
ENOUGH_TESTS = 6


def defocused_probe(mean_intensity: NDArray[np.float64], defocus_px2: float) -> NDArray[np.complex64]:
    """(1, ny, nx) root of the mean pattern with a defocus phase, at the sample: centred, its power the pattern's sum.

    `mean_intensity` (ny, nx) begins with zero frequency; `defocus_px2` is D in exp(i pi D |k|^2), k in cycles per pixel.
    """
    ky, kx = (np.fft.fftfreq(n) for n in mean_intensity.shape)
    phase = np.pi * defocus_px2 * (ky[:, None] ** 2 + kx[None] ** 2)
    pupil = np.sqrt(mean_intensity) * np.exp(1j * phase)
    return np.fft.fftshift(np.fft.ifft2(pupil, norm="ortho"))[None].astype(np.complex64)


@dataclass(slots=True)
class Candidate:
    """One defocus under trial."""

    defocus_px2: float
    halves: tuple[Solver, Solver]
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    score: float = math.inf
    """Fourier error of predicted frames; inf while too few frames can be predicted."""
    tested: list[int] = field(default_factory=list)

    def trial(self, sweeps: int, random: np.random.Generator) -> Iterator[int]:
        """Passes of each half over its frames, in steps of bounded length, then :meth:`judge`; yields updates."""
        for _ in range(sweeps):
            for solver, rows in zip(self.halves, self.rows, strict=True):
                order = random.permutation(rows)
                for i in range(0, len(order), 20):
                    solver.sweep(order[i : i + 20])
                    yield len(order[i : i + 20])
        self.judge()

    def judge(self) -> None:
        """Let each half predict the other's frames."""
        misfit = power = 0.0
        self.tested = []
        for solver, rows in ((self.halves[0], self.rows[1]), (self.halves[1], self.rows[0])):
            weight = (abs(solver.probe) ** 2).sum(0)
            footprint = weight / weight.max()
            own = float((footprint * weight).sum())
            fair = [row for row in rows.tolist() if self._dose(solver, row, weight) >= TESTABLE_DOSE * own]
            misfit += solver.misfits(np.array(fair, np.int64)).sum()
            power += solver.store.power[fair].sum()
            self.tested += fair
        self.score = misfit / power if len(self.tested) >= ENOUGH_TESTS and power > 0 else math.inf

    @staticmethod
    def _dose(solver: Solver, row: int, weight: Array) -> float:
        y, x = solver.store.corners[row].tolist()
        return float((solver.canvas.dose[solver.canvas.window((y, x), solver.store.shape)] * weight).sum())


class ProbeSearch:
    """A contest between defocus values, in small steps so that the stream is not kept waiting."""

    def __init__(
        self, store: FrameStore, rule: RuleOptions, seed: int, limit: int, present: NDArray[np.complex64] | None = None
    ) -> None:
        self._store, self._rule = store, rule
        self.best: Candidate | None = None
        """The leading candidate so far; None before the first verdict."""
        self.present: Candidate | None = None
        """The probe in use, if it takes part, after as many sweeps as the winner."""
        self._present = present
        self.rival = math.inf
        """Score of the best candidate of another kind: other sign, or a clearly different footprint."""
        self._random = np.random.default_rng(seed)
        self.limit = limit
        """Frames used at most: those whose windows lie closest together."""
        self._rows = central_rows(store, limit)
        self.frames = len(self._rows)
        self._mean = store.mean_intensity(self._rows)
        if not self._mean.any():  # dark frames: any probe will do
            self._mean += 1

    @property
    def confident(self) -> bool:
        """True if the winner predicts clearly better than any candidate of another kind."""
        return self.best is not None and np.isfinite(self.best.score) and self.best.score < 0.6 * self.rival

    def run(self) -> Iterator[int]:
        """Carry the contest out; yields the number of updates after each small step."""
        contest = [self._candidate(d) for d in self._defoci()]
        verdicts: dict[float, float] = {}
        for keep, sweeps in LEVELS:
            contest = contest[:keep]
            for candidate in contest:
                yield from candidate.trial(sweeps, self._random)
                verdicts[candidate.defocus_px2] = candidate.score
            contest.sort(key=_rank)
            self.best = contest[0]
        total = sum(sweeps for _, sweeps in LEVELS)
        for factor in (0.8, 1.25):
            candidate = self._candidate(contest[0].defocus_px2 * factor)
            yield from candidate.trial(total, self._random)
            if _rank(candidate) < _rank(self.best or candidate):
                self.best = candidate
        if self._present is not None:
            self.present = candidate_of(self._store, self._rows, self._present, self._rule, poor=True)
            yield from self.present.trial(total, self._random)
        leader = contest[0].defocus_px2
        others = [s for d, s in verdicts.items() if d * leader < 0 or not 0.5 < d / leader < 2]
        self.rival = min(others, default=math.inf)

    def _defoci(self) -> list[float]:
        """Defocus of each trial footprint: diameter = 2 D k for a beam that converges with |k| cycles per pixel."""
        ky, kx = (np.fft.fftfreq(n) for n in self._store.shape)
        k = np.sqrt(ky[:, None] ** 2 + kx[None] ** 2)
        total = self._mean.sum()
        k_mean = float((self._mean * k).sum() / total) if total > 0 else 0.0
        k_mean = k_mean or 0.25  # all light in one pixel, or none
        return [sign * f * min(self._store.shape) / (2 * k_mean) for f in FOOTPRINTS for sign in (-1, 1)]

    def _candidate(self, defocus_px2: float) -> Candidate:
        probe = defocused_probe(self._mean, defocus_px2)
        return candidate_of(self._store, self._rows, probe, self._rule, poor=True, defocus_px2=defocus_px2)


def candidate_of(
    store: FrameStore, rows: NDArray[np.int64], probe: Array, rule: RuleOptions, *, poor: bool, defocus_px2: float = math.nan
) -> Candidate:
    """Two reconstructions from `probe`, of the even and of the odd ones of `rows`."""
    one, two = (Solver(store.backend, store, probe, rule, poor_probe=poor) for _ in range(2))
    for solver, own in ((one, rows[0::2]), (two, rows[1::2])):
        for y, x in store.corners[rows].tolist():  # room for the other half's windows too
            solver.canvas.ensure((y, x), store.shape)
        for row in own:
            solver.admit(int(row))
    return Candidate(defocus_px2, (one, two), (rows[0::2], rows[1::2]))


def _rank(candidate: Candidate) -> tuple[float, float]:
    """By prediction; where too few frames overlap for that, by the plain Fourier error."""
    halves = zip(candidate.halves, candidate.rows, strict=True)
    return candidate.score, sum(solver.error(rows) for solver, rows in halves if len(rows))


def central_rows(store: FrameStore, limit: int) -> NDArray[np.int64]:
    """Up to `limit` rows whose windows lie closest together, in order of arrival.

    A window far from all others, as while a stage still moves, overlaps none and would need a large canvas.
    """
    corners = store.corners[: len(store)].astype(np.float64)
    distance = np.hypot(*(corners - np.median(corners, axis=0)).T)
    order = np.argsort(distance, kind="stable")[:limit]
    near = order[distance[order] <= FAR_WINDOWS * max(store.shape) + 5 * np.median(distance)]
    window = np.array(store.shape)
    extents = np.maximum.accumulate(corners[near]) - np.minimum.accumulate(corners[near]) + window
    near = near[extents.prod(1) <= max(SEARCH_PIXELS, SEARCH_WINDOWS * window.prod())]
    return np.sort(near)
