"""A scan that arrives frame by frame, reconstructed with so many updates per frame, and judged on the way.

As measured in the engine's notes: frames come in chunks of ten, `budget` updates per frame follow each chunk, and the object
is compared with the truth at twelve moments; the star comes in chunks of six and is compared with its reference. Used by the
bench and by whoever works on the rule.
"""

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import Backend, cpu_backend
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore
from tests.bench.scans import BenchScan

MOMENTS = 12
EARLIEST = 50
"""Frames at the first of them: fewer cover too little to be judged."""
PARTS = {"50": 0.5, "75": 0.75, "100": 1.0}
"""Parts of the scan after which a picture is judged beside the twelve moments."""

PLAIN = RuleOptions(algorithm="epie")
"""ePIE as published, its probe step falling from 1 to 0.1; with 0.1 throughout its live error is a tenth larger."""


class Draws(Protocol):
    """Which frames to use next."""

    def draw(self, visits: NDArray[np.int64], corners: NDArray[np.int64], count: int, *, live: bool) -> NDArray[np.int64]:
        """The next `count` rows; `visits` and `corners` are of all frames so far, in order of arrival."""
        ...


class FullPasses:
    """Passes in random order over all frames that are there when a pass begins: what peers do."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._left = np.zeros(0, np.int64)

    def draw(self, visits: NDArray[np.int64], corners: NDArray[np.int64], count: int, *, live: bool) -> NDArray[np.int64]:
        """The next `count` rows."""
        del corners, live
        while len(self._left) < count:
            self._left = np.concatenate([self._left, self._random.permutation(len(visits))])
        taken, self._left = self._left[:count], self._left[count:]
        return taken


@dataclass(frozen=True)
class Course:
    """What came of one run: errors, or detail correlations of the star."""

    live: float
    """Mean over twelve moments of the scan."""
    moments: dict[str, float]
    """After 50, 75 and 100 % of the frames, and after the first and the last of the passes that follow: "50", "75", "100",
    "+1", "+5"."""
    cpu_us: float
    """CPU time per update during the scan, all of the rule and the schedule included."""

    @property
    def last(self) -> float:
        """When the last frame has had its updates."""
        return self.moments["100"]


def run_live(
    scan: BenchScan,
    budget: float,
    rule: RuleOptions | None = None,
    schedule: Draws | None = None,
    backend: Backend | None = None,
    passes: int = 0,
) -> Course:
    """Stream `scan` with `budget` updates per frame, then make `passes` over all of it.

    The rule and schedule are those of the engine unless others are given.
    """
    backend, draws, total = backend or cpu_backend(), schedule or Schedule(0), len(scan)
    store = FrameStore(backend, (scan.amplitudes.shape[1], scan.amplitudes.shape[2]), total)
    solver = Solver(backend, store, scan.probe, rule or RuleOptions(), poor_probe=not scan.given)
    twelve = {_arrived(scan, count) for count in np.linspace(min(EARLIEST, total), total, MOMENTS)}
    marks = {_arrived(scan, part * total): name for name, part in PARTS.items()}
    course: list[float] = []
    moments: dict[str, float] = {}
    spent = owed = 0.0
    for first in range(0, total, scan.chunk):
        seen = min(first + scan.chunk, total)
        for row in range(first, seen):
            solver.admit(store.append(scan.amplitudes[row], (int(scan.corners[row, 0]), int(scan.corners[row, 1]))))
        owed += budget * (seen - first)
        count, owed = int(owed), owed % 1
        began = time.process_time()
        if count:
            solver.sweep(draws.draw(*solver.coverage(), count, live=True))
        spent += time.process_time() - began
        if seen in twelve or seen in marks:
            value = scan.judged(solver, seen)
            course += [value] * (seen in twelve)
            moments |= {marks[seen]: value} if seen in marks else {}
    cpu_us = spent / max(solver.updates, 1) * 1e6
    for one in range(1, passes + 1):
        solver.sweep(draws.draw(*solver.coverage(), total, live=False))
        if one in (1, passes):
            moments[f"+{one}"] = scan.judged(solver)
    return Course(float(np.mean(course)), moments, cpu_us)


def _arrived(scan: BenchScan, count: float) -> int:
    """Frames that are there with the last chunk before `count`; the whole scan at its end."""
    return len(scan) if count >= len(scan) else max(int(count) // scan.chunk, 1) * scan.chunk
