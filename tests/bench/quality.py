"""Live quality: one rule and one schedule against the others, at equal numbers of updates and at equal computing time.

    python -m tests.bench.quality [--budgets 4 8 40 100] [--seeds 3] [--rules NAME ...] [--paths raster spiral star]
                                  [--updates-only]

Markdown tables on standard output, progress on standard error. Simulated scans: error against the truth, smaller is better.
Star: detail correlation with the reference, larger is better. Budget: updates per arriving frame.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import RuleOptions
from tests.bench.live import PLAIN, Course, Draws, FullPasses, run_live
from tests.bench.scans import BenchScan, load, tool

COLUMNS = ("live", "50", "75", "100", "+1", "+5")
PASSES = 5
RECENT = 100


class Window:
    """Random passes over the newest `size` frames only; over all of them after the last."""

    def __init__(self, size: int) -> None:
        self._size, self._random = size, np.random.default_rng(0)

    def draw(self, visits: NDArray[np.int64], corners: NDArray[np.int64], count: int, *, live: bool) -> NDArray[np.int64]:
        del corners
        frames = len(visits)
        newest = min(self._size, frames) if live else frames
        whole = [frames - 1 - self._random.permutation(newest) for _ in range(count // newest + 1)]
        return np.concatenate(whole)[:count]


class Halves:
    """Half from the newest frames, half from all in turn: the schedule of the notes."""

    def __init__(self) -> None:
        self._random, self._passes = np.random.default_rng(0), FullPasses()

    def draw(self, visits: NDArray[np.int64], corners: NDArray[np.int64], count: int, *, live: bool) -> NDArray[np.int64]:
        frames = len(visits)
        if not live or frames <= RECENT:
            return self._passes.draw(visits, corners, count, live=live)
        recent = frames - 1 - self._random.choice(RECENT, count // 2, replace=count // 2 > RECENT)
        others = self._passes.draw(visits, corners, count - count // 2, live=live)
        return self._random.permutation(np.concatenate([recent, others]))


def adaptive() -> Draws:
    """The engine's own schedule."""
    return Schedule(0)


NEVER: dict[str, Any] = {"anneal_visits": 1e9, "settled_object_step": 1.0, "given_probe_step": 1.0}
RULES: dict[str, tuple[RuleOptions, Callable[[], Draws]]] = {
    "ePIE, newest 10": (PLAIN, lambda: Window(10)),
    "ePIE, window of 200": (PLAIN, lambda: Window(200)),
    "ePIE, whole passes": (PLAIN, FullPasses),
    "ePIE 1/0.1, half/half": (RuleOptions(algorithm="epie", probe_step=0.1, given_probe_step=0.1), Halves),
    "rPIE 0.2, half/half": (RuleOptions(momentum=False, correction=False, **NEVER), Halves),
    "+ momentum": (RuleOptions(correction=False, **NEVER), Halves),
    "+ correction": (RuleOptions(correction_visits=8, **NEVER), Halves),
    "annealed, half/half": (RuleOptions(given_probe_step=0.1), Halves),
    "streamptycho, no correction": (RuleOptions(correction=False), adaptive),
    "**streamptycho**": (RuleOptions(), adaptive),
}
BASE = "ePIE, whole passes"


@dataclass(frozen=True)
class Line:
    """Means over seeds."""

    values: NDArray[np.float64]
    cpu_us: float
    """Per update."""


def measure(scans: list[BenchScan], budget: float, rule: RuleOptions, schedule: Callable[[], Draws]) -> Line:
    """One rule at one budget on every seed of a path."""
    runs = [run_live(scan, budget, rule, schedule(), passes=PASSES) for scan in scans]
    values = np.array([columns(run) for run in runs]).mean(0)
    return Line(values, min(run.cpu_us for run in runs))


def columns(run: Course) -> list[float]:
    return [run.live, *(run.moments[name] for name in COLUMNS[1:])]


def table(title: str, lines: dict[str, Line]) -> str:
    """One row per rule; the live columns also relative to plain ePIE in whole passes."""
    plain = lines.get(BASE)
    rows = [f"\n{title}\n", f"| rule | {' | '.join(COLUMNS)} | live, last / ePIE's | us per update |", "|---" * 9 + "|"]
    for name, line in lines.items():
        ratio = "" if plain is None else f"{line.values[0] / plain.values[0]:.2f}, {line.values[3] / plain.values[3]:.2f}"
        cells = " | ".join(f"{value:.3f}" for value in line.values)
        rows.append(f"| {name} | {cells} | {ratio} | {line.cpu_us:.0f} |")
    return "\n".join(rows)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=float, nargs="+", default=[4, 8, 40, 100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--paths", nargs="+", choices=["raster", "spiral", "star"], default=["raster", "spiral", "star"])
    parser.add_argument("--updates-only", action="store_true", help="skip the tables at equal computing time")
    chosen = parser.parse_args(given)
    if tool("benchmark_scan") is None:
        print("no ../shared/tools: scans of the own simulator, not those of docs/performance.md", file=sys.stderr)
    for path in chosen.paths:
        scans = [load(path, seed) for seed in range(1 if path == "star" else chosen.seeds)]
        for budget in chosen.budgets:
            lines: dict[str, Line] = {}
            for name in chosen.rules:
                print(f"{path}, budget {budget:g}: {name}", file=sys.stderr, flush=True)
                lines[name] = measure(scans, budget, *RULES[name])
            print(table(f"{path}, {budget:g} updates per frame", lines), flush=True)
            if chosen.updates_only or BASE not in lines:
                continue
            spent = budget * lines[BASE].cpu_us
            timed = {name: measure(scans, spent / line.cpu_us, *RULES[name]) for name, line in lines.items()}
            print(table(f"{path}, the time of {budget:g} updates of plain ePIE per frame", timed), flush=True)


if __name__ == "__main__":
    main()
