"""A probe to start from when none is known: its amplitude from the data, its defocus by trial.

A wrong defocus does not show in the Fourier error alone: object and probe conspire to fit the frames they were made from.
What cannot be faked is prediction. Each trial reconstructs two objects from two halves of the frames and asks how well
each explains the frames of the *other* half; the right defocus wins by a factor of about four on real and simulated scans.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Array, Backend
from streamptycho.solve.epie import far_field
from streamptycho.solve.rule_options import RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore

FOOTPRINTS = (0.06, 0.10, 0.16, 0.25, 0.40, 0.60)
"""Trial diameters of the defocused beam on the sample, fractions of the window; each with both signs of defocus."""
FAR_WINDOWS = 4
"""A frame takes no part in a search if it lies this many windows, and five times the usual, from the middle."""
SEARCH_PIXELS = 1 << 20
SEARCH_WINDOWS = 8
"""Pixels around all frames of a search at most, or so many windows if that is more: each candidate has two objects."""
LEVELS = ((12, 1), (6, 2), (3, 4))
"""Candidates kept and sweeps done at each level of the contest."""
TESTABLE_DOSE = 1.5
"""Dose from the other half, in units of one frame's own, from which a frame can be predicted."""
ENOUGH_TESTS = 6


def defocused_probe(mean_intensity: NDArray[np.float64], defocus_px2: float) -> NDArray[np.complex64]:
    """Square root of the mean pattern with a defocus phase, brought to the sample.

    Parameters
    ----------
    mean_intensity : (ny, nx) counts, zero frequency at [0, 0].
    defocus_px2 : D in exp(i pi D |k|^2), k in cycles per pixel.

    Returns
    -------
    (1, ny, nx) complex64, beam at the centre, sum |probe|^2 = sum of the mean pattern.
    """
    ky, kx = (np.fft.fftfreq(n) for n in mean_intensity.shape)
    phase = np.pi * defocus_px2 * (ky[:, None] ** 2 + kx[None] ** 2)
    pupil = np.sqrt(mean_intensity) * np.exp(1j * phase)
    probe: NDArray[np.complex64] = np.fft.fftshift(np.fft.ifft2(pupil, norm="ortho"))[None].astype(np.complex64)
    return probe


@dataclass(slots=True)
class Candidate:
    """One defocus under trial."""

    defocus_px2: float
    halves: tuple[Solver, Solver]
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    score: float = field(default=float("inf"))
    """Fourier error of predicted frames; inf while too few frames can be predicted."""
    tested: list[int] = field(default_factory=list)
    """Frames that could be predicted."""

    @property
    def tests(self) -> int:
        """Number of frames that could be predicted."""
        return len(self.tested)

    def sweep(self, random: np.random.Generator) -> Iterator[int]:
        """One pass of each half over its frames, in steps of bounded length."""
        for solver, rows in zip(self.halves, self.rows, strict=True):
            order = random.permutation(rows)
            for i in range(0, len(order), 20):
                solver.sweep(order[i : i + 20])
                yield len(order[i : i + 20])

    def judge(self) -> None:
        """Let each half predict the other's frames."""
        misfit = power = 0.0
        self.tested = []
        for solver, rows in ((self.halves[0], self.rows[1]), (self.halves[1], self.rows[0])):
            weight = (abs(solver.probe) ** 2).sum(0)
            footprint = weight / weight.max()
            own = float((footprint * weight).sum())
            for row in rows:
                corner = (int(solver.store.corners[row, 0]), int(solver.store.corners[row, 1]))
                at = solver.canvas.window(corner, solver.store.shape)
                if float((solver.canvas.dose[at] * weight).sum()) < TESTABLE_DOSE * own:
                    continue
                misfit += predicted_misfit(solver, row, at)
                power += solver.store.power[row]
                self.tested.append(int(row))
        self.score = misfit / power if self.tests >= ENOUGH_TESTS and power > 0 else float("inf")


def predicted_misfit(solver: Solver, row: int, at: tuple[slice, slice]) -> float:
    """Sum of (|model| - amplitude)^2 of a frame that the solver has not used."""
    field_ = far_field(solver.backend, solver.probe * solver.canvas.object[at])
    amplitude: Array = solver.store.amplitudes[row] / solver.store.flux[row]
    modulus = solver.backend.xp.sqrt((field_.real**2 + field_.imag**2).sum(0))
    return float((((modulus - amplitude) * (amplitude >= 0)) ** 2).sum())


class ProbeSearch:
    """A contest between defocus values, run in small steps so that the stream is never kept waiting.

    Attributes
    ----------
    best : the leading candidate so far; None before the first verdict.
    """

    def __init__(
        self,
        backend: Backend,
        store: FrameStore,
        rule: RuleOptions,
        seed: int,
        limit: int,
        present: NDArray[np.complex64] | None = None,
    ) -> None:
        self.backend = backend
        self.store = store
        self.rule = rule
        self.best: Candidate | None = None
        self.present: Candidate | None = None
        """The probe in use, if it takes part, after as many sweeps as the winner."""
        self._present = present
        self.rival = float("inf")
        """Score of the best candidate of another kind: other sign, or a clearly different footprint."""
        self._random = np.random.default_rng(seed)
        self.limit = limit
        """Frames used at most: those whose windows lie closest together."""
        self._rows = central_rows(store, limit)
        self.frames = len(self._rows)
        self._mean = store.mean_intensity(self._rows)
        if not self._mean.any():  # nothing but darkness: any probe will do
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
                for _ in range(sweeps):
                    yield from candidate.sweep(self._random)
                candidate.judge()
                verdicts[candidate.defocus_px2] = candidate.score
            contest.sort(key=_rank)
            self.best = contest[0]
        total = sum(sweeps for _, sweeps in LEVELS)
        for factor in (0.8, 1.25):
            candidate = self._candidate(contest[0].defocus_px2 * factor)
            for _ in range(total):
                yield from candidate.sweep(self._random)
            candidate.judge()
            if _rank(candidate) < _rank(self.best or candidate):
                self.best = candidate
        if self._present is not None:
            self.present = self._from(self._present, float("nan"))
            for _ in range(total):
                yield from self.present.sweep(self._random)
            self.present.judge()
        leader = contest[0].defocus_px2
        others = [s for d, s in verdicts.items() if d * leader < 0 or not 0.5 < d / leader < 2]
        self.rival = min(others, default=float("inf"))

    def _defoci(self) -> list[float]:
        """Defocus of each trial footprint: diameter = 2 D k for a beam that converges with |k| cycles per pixel."""
        ky, kx = (np.fft.fftfreq(n) for n in self.store.shape)
        k = np.sqrt(ky[:, None] ** 2 + kx[None] ** 2)
        total = self._mean.sum()
        k_mean = float((self._mean * k).sum() / total) if total > 0 else 0.25
        return [sign * f * min(self.store.shape) / (2 * k_mean) for f in FOOTPRINTS for sign in (-1, 1)]

    def _candidate(self, defocus_px2: float) -> Candidate:
        return self._from(defocused_probe(self._mean, defocus_px2), defocus_px2)

    def _from(self, probe: NDArray[np.complex64], defocus_px2: float) -> Candidate:
        halves = halves_of(self.backend, self.store, self._rows, probe, self.rule, poor=True)
        return Candidate(defocus_px2, halves, (self._rows[0::2], self._rows[1::2]))


def halves_of(
    backend: Backend, store: FrameStore, rows: NDArray[np.int64], probe: Array, rule: RuleOptions, *, poor: bool
) -> tuple[Solver, Solver]:
    """Two reconstructions from `probe`, of the even and of the odd ones of `rows`."""
    one, two = (Solver(backend, store, probe, rule, poor_probe=poor) for _ in range(2))
    for solver, own in ((one, rows[0::2]), (two, rows[1::2])):
        for row in rows:  # room for the other half's windows too
            corner = store.corners[row]
            solver.canvas.ensure((int(corner[0]), int(corner[1])), store.shape)
        for row in own:
            solver.admit(int(row))
    return one, two


def _rank(candidate: Candidate) -> tuple[float, float]:
    """By prediction; where too few frames overlap for that, by the plain Fourier error."""
    halves = zip(candidate.halves, candidate.rows, strict=True)
    return candidate.score, sum(solver.error(rows) for solver, rows in halves if len(rows))


def central_rows(store: FrameStore, limit: int) -> NDArray[np.int64]:
    """Up to `limit` rows whose windows lie closest together, in order of arrival.

    A window far from all others, say from a stage still on its way, tells nothing and would need a large canvas.
    """
    corners = store.corners[: len(store)].astype(np.float64)
    distance = np.hypot(*(corners - np.median(corners, axis=0)).T)
    order = np.argsort(distance, kind="stable")[:limit]
    near = order[distance[order] <= FAR_WINDOWS * max(store.shape) + 5 * np.median(distance)]
    window = np.array(store.shape)
    extents = np.maximum.accumulate(corners[near]) - np.minimum.accumulate(corners[near]) + window
    near = near[extents.prod(1) <= max(SEARCH_PIXELS, SEARCH_WINDOWS * window.prod())]
    rows: NDArray[np.int64] = np.sort(near)
    return rows
