"""Live quality: one rule and one schedule against the others, at equal numbers of updates and at equal computing time.

    python tests/bench/quality.py [--budgets 4 8 40 100] [--seeds 3] [--rules NAME ...] [--paths raster spiral star]
                                  [--updates-only]

Markdown tables on standard output, progress on standard error. Simulated scans: error against the truth, smaller is better.
Star: detail correlation with the reference, larger is better. Budget: updates per arriving frame.
"""

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from courses import Course, Draw, Plan, Scan, adaptive, load_scan, run_live
from numpy.typing import NDArray

from streamptycho.solve.solver import RuleOptions, Solver

COLUMNS = ("live", "50", "75", "100", "+1", "+5")
RECENT = 100


def passes(solver: Solver) -> Draw:
    """Whole random passes over all frames received, as peers do."""
    random, left = np.random.default_rng(0), np.zeros(0, np.int64)

    def draw(count: int, _live: bool) -> NDArray[np.int64]:
        nonlocal left
        while len(left) < count:
            left = np.concatenate([left, random.permutation(len(solver.store))])
        taken, left = left[:count], left[count:]
        return taken

    return draw


def window(size: int) -> Plan:
    """Random passes over the newest `size` frames only; over all of them after the last."""

    def plan(solver: Solver) -> Draw:
        random = np.random.default_rng(0)

        def draw(count: int, live: bool) -> NDArray[np.int64]:
            frames = len(solver.store)
            newest = min(size, frames) if live else frames
            whole = [frames - 1 - random.permutation(newest) for _ in range(count // newest + 1)]
            return np.concatenate(whole)[:count]

        return draw

    return plan


def halves(solver: Solver) -> Draw:
    """Half from the newest frames, half from all in turn: the schedule of the notes."""
    random, everything = np.random.default_rng(0), passes(solver)

    def draw(count: int, live: bool) -> NDArray[np.int64]:
        frames = len(solver.store)
        if not live or frames <= RECENT:
            return everything(count, live)
        recent = frames - 1 - random.choice(RECENT, count // 2, replace=count // 2 > RECENT)
        return random.permutation(np.concatenate([recent, everything(count - count // 2, live)]))

    return draw


NEVER: dict[str, Any] = {"anneal_visits": 1e9, "settled_object_step": 1.0, "given_probe_step": 1.0}
RULES: dict[str, tuple[RuleOptions, Plan]] = {
    "ePIE, newest 10": (RuleOptions(algorithm="epie"), window(10)),
    "ePIE, window of 200": (RuleOptions(algorithm="epie"), window(200)),
    "ePIE, whole passes": (RuleOptions(algorithm="epie"), passes),
    "ePIE 1/0.1, half/half": (RuleOptions(algorithm="epie", probe_step=0.1, given_probe_step=0.1), halves),
    "rPIE 0.2, half/half": (RuleOptions(momentum=False, correction=False, **NEVER), halves),
    "+ momentum": (RuleOptions(correction=False, **NEVER), halves),
    "+ correction": (RuleOptions(correction_visits=8, **NEVER), halves),
    "annealed, half/half": (RuleOptions(given_probe_step=0.1), halves),
    "streamptycho, no correction": (RuleOptions(correction=False), adaptive),
    "**streamptycho**": (RuleOptions(), adaptive),
}
PLAIN = "ePIE, whole passes"


@dataclass(frozen=True)
class Line:
    """Means over seeds."""

    values: NDArray[np.float64]
    seconds_per_update: float


def measure(scans: list[Scan], budget: float, rule: RuleOptions, plan: Plan) -> Line:
    """One rule at one budget on every seed of a path."""
    runs = [run_live(scan, budget, rule, plan) for scan in scans]
    values = np.array([columns(run) for run in runs]).mean(0)
    return Line(values, min(run.seconds_per_update for run in runs))


def columns(run: Course) -> list[float]:
    return [run.live, *(run.moments[name] for name in COLUMNS[1:])]


def table(title: str, lines: dict[str, Line]) -> str:
    """One row per rule; the live columns also relative to plain ePIE in whole passes."""
    plain = lines.get(PLAIN)
    rows = [f"\n{title}\n", f"| rule | {' | '.join(COLUMNS)} | live, last / ePIE's | us per update |", "|---" * 9 + "|"]
    for name, line in lines.items():
        ratio = "" if plain is None else f"{line.values[0] / plain.values[0]:.2f}, {line.values[3] / plain.values[3]:.2f}"
        cells = " | ".join(f"{value:.3f}" for value in line.values)
        rows.append(f"| {name} | {cells} | {ratio} | {1e6 * line.seconds_per_update:.0f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=float, nargs="+", default=[4, 8, 40, 100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--paths", nargs="+", choices=["raster", "spiral", "star"], default=["raster", "spiral", "star"])
    parser.add_argument("--updates-only", action="store_true", help="skip the tables at equal computing time")
    chosen = parser.parse_args()
    for path in chosen.paths:
        scans = [load_scan(path, seed) for seed in range(1 if path == "star" else chosen.seeds)]
        for budget in chosen.budgets:
            lines: dict[str, Line] = {}
            for name in chosen.rules:
                print(f"{path}, budget {budget:g}: {name}", file=sys.stderr, flush=True)
                lines[name] = measure(scans, budget, *RULES[name])
            print(table(f"{path}, {budget:g} updates per frame", lines), flush=True)
            if chosen.updates_only or PLAIN not in lines:
                continue
            seconds = budget * lines[PLAIN].seconds_per_update
            timed = {name: measure(scans, seconds / line.seconds_per_update, *RULES[name]) for name, line in lines.items()}
            print(table(f"{path}, the time of {budget:g} updates of plain ePIE per frame", timed), flush=True)


if __name__ == "__main__":
    main()
