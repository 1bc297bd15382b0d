"""ePIE, rPIE, or the live rule going on, in random passes."""

from streamptycho.solve.polish.options import PolishOptions
from streamptycho.solve.polish.refiner import Refiner
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import Solver


class PieRefiner(Refiner):
    """Single-frame updates (:mod:`equations.pie`) by the chosen rule or a plain one."""

    def __init__(self, solver: Solver, schedule: Schedule, options: PolishOptions) -> None:
        super().__init__(solver, schedule, options)
        chosen, method = solver.chosen_rule, options.polish
        solver.follow(chosen if method == "rule" else chosen.model_copy(update={"algorithm": method}))

    def step(self, count: int) -> int:
        """Sweep over the next frames of the pass."""
        count = min(count, len(self._solver.store) - self._done)
        self._solver.sweep(self._schedule.draw(*self._solver.coverage(), count, live=False))
        return self._used(count)
