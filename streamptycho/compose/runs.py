"""The runs of one role: those that wait for a scan, and those that are remembered."""

from streamptycho.compose.identity import Run
from streamptycho.compose.options import Role

_KEPT = 100
"""Runs that are remembered; the oldest goes."""


class Runs:
    """Runs by their names, the newest of a name first."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.waiting: dict[Run, None] = {}
        """Those that have joined no scan, oldest first."""
        self._all: list[Run] = []

    def of(self, key: str) -> Run | None:
        """The latest run of this name; without a name, the latest of all."""
        for run in reversed(self._all):
            if run.key == key or not key:
                return run
        return None

    def add(self, run: Run) -> Run | None:
        """Know a run; the one that is forgotten for it and has joined no scan."""
        self._all.append(run)
        if run.scan is None:
            self.waiting[run] = None
        if len(self._all) <= _KEPT:
            return None
        oldest = self._all.pop(0)
        return oldest if oldest in self.waiting else None

    def remove(self, run: Run) -> None:
        """Forget a run."""
        self.waiting.pop(run, None)
        if run in self._all:
            self._all.remove(run)
