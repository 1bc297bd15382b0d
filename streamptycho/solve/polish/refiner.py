"""What every method of polishing is: passes over all frames, in slices of bounded length."""

from abc import ABC, abstractmethod
from importlib import import_module

from streamptycho.solve.polish.options import METHODS, PolishOptions
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import Solver


class Refiner(ABC):
    """Improves object and probe after the last frame; raises :class:`MemoryBoundError` before it allocates too much."""

    lead = 10
    """Passes before which its progress is not judged."""
    own_error = True
    """It leaves each frame's Fourier error in the solver as it goes."""
    movable = True
    """Windows may move, and the canvas grow, between its steps."""
    turns = True
    """The modes may be rotated among themselves between its passes."""
    closing_passes = 0
    """Passes of the live rule that end it; if any, none of its own pictures is kept as the best."""

    def __init__(self, solver: Solver, schedule: Schedule, options: PolishOptions) -> None:
        self._solver = solver
        self._schedule = schedule
        self._options = options
        self._done = 0
        self.passes = 0

    @abstractmethod
    def step(self, count: int) -> int:
        """Do about `count` updates' work, never beyond the end of a pass; returns the updates done."""

    def _used(self, count: int) -> int:
        """Count frames of this pass, and the pass with the last; returns `count`."""
        self._done += count
        if self._done >= len(self._solver.store):
            self._done = 0
            self.passes += 1
        return count

    def _rest(self) -> None:
        """Let no smooth change from before be taken for a motion of the object."""
        self._solver.prepare()
        self._solver.canvas.rebase()
        self._solver.canvas.velocity[...] = 0


def begin(solver: Solver, schedule: Schedule, options: PolishOptions) -> Refiner:
    """The refiner of the method that the options choose."""
    module, name = METHODS[options.polish].refiner.split(".")
    refiner: Refiner = getattr(import_module(f"streamptycho.solve.polish.{module}"), name)(solver, schedule, options)
    return refiner
