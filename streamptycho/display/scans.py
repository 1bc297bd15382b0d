"""The runs that a display knows, and which of them a message belongs to."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from streamptycho.display.known import Known
from streamptycho.messages.run import RunId

K = TypeVar("K", bound=Known)


class Scans(Generic[K]):
    """Runs in the order in which they began, one without a beginning where it came. Each display bounds their number."""

    def __init__(self, make: Callable[[RunId], K]) -> None:
        """Of a new run, `make` gives what is known."""
        self._make = make
        self._runs: dict[RunId, K] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._runs.values()))

    @property
    def newest(self) -> K | None:
        """The run that began last."""
        return next(reversed(self._runs.values()), None)

    def find(self, run: RunId) -> K | None:
        """The run that a message which names `run` belongs to: without a beginning, the newest of the id."""
        if run.started_ns:
            return self._runs.get(run)
        return next((known for other, known in reversed(self._runs.items()) if run.may_be(other)), None)

    def add(self, run: RunId) -> K:
        """A new run, in its place."""
        self._runs[run] = made = self._make(run)
        places, last = [], 0
        for place, known in enumerate(self):
            last = known.run.started_ns or last
            places.append((last, place, known))
        self._runs = {known.run: known for _, _, known in sorted(places, key=lambda item: item[:2])}
        return made

    def remove(self, run: RunId) -> None:
        """Forget a run."""
        self._runs.pop(run, None)

    def keep_newest(self, count: int) -> None:
        """Forget the oldest ones until so many are left."""
        while len(self._runs) > count:
            del self._runs[next(iter(self._runs))]
