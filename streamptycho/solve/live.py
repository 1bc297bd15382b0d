"""Passes while frames arrive."""

from streamptycho.solve.estimates.modes import ModeGrowth
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import Solver

FEWEST_UPDATES = 50
"""Updates in a live pass, at least: of a few frames there would be thousands of passes."""


class LivePasses:
    """Slices while frames arrive, in passes of as many updates as there are frames; `history` takes their errors."""

    def __init__(self, schedule: Schedule, history: list[float]) -> None:
        self._schedule = schedule
        self._history = history
        self._updates = 0

    def step(self, solver: Solver, modes: ModeGrowth, count: int) -> int:
        """Sweep over `count` frames, or as many as are left of the pass; returns the updates done."""
        whole = max(len(solver.store), FEWEST_UPDATES)
        count = min(count, max(whole - self._updates, 1))
        solver.sweep(self._schedule.draw(*solver.coverage(), count, live=True))
        modes.grow(solver)
        self._updates += count
        if self._updates >= whole:
            self._updates = 0
            solver.settle()
            self._history.append(solver.error())
        return count
