"""Columns whose values are in files: each is announced by itself, and rows are of use once all are there."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import replace

from streamptycho.errors import CodecError, ProtocolError
from streamptycho.messages.facts import Place, Stored

_MAX_WAITING = 10_000
"""Announcements of a column that wait for those of the others."""


class Joint:
    """The columns of one stream of one run."""

    def __init__(self, run: str, columns: Collection[str]) -> None:
        self._run = run
        self._waiting: dict[str, deque[tuple[int, int, Place]]] = {column: deque() for column in columns}

    def add(self, column: str, first: int, count: int, place: Place) -> Iterator[Stored | ProtocolError]:
        """`count` rows of `column`, whose first has the number `first`; what is complete with them."""
        mine = self._waiting[column]
        mine.append((first, count, place))
        if len(mine) > _MAX_WAITING:
            yield self._lost(column)
        while all(self._waiting.values()):
            low = max(waiting[0][0] for waiting in self._waiting.values())
            behind = [name for name, waiting in self._waiting.items() if sum(waiting[0][:2]) <= low]
            if behind:  # its rows have no partner: the others begin later
                yield from (self._lost(name) for name in behind)
                continue
            for name, waiting in self._waiting.items():
                if waiting[0][0] < low:
                    yield self._alone(name, waiting[0][0], low - waiting[0][0], waiting[0][2])
            count = min(sum(waiting[0][:2]) for waiting in self._waiting.values()) - low
            yield Stored(
                run=self._run, first=low, count=count, columns={n: self._take(n, low, count) for n in self._waiting}
            )

    def rest(self) -> Iterator[ProtocolError]:
        """What has remained without the other columns, at the end."""
        for name, waiting in self._waiting.items():
            while waiting:
                yield self._lost(name)

    def _take(self, column: str, low: int, count: int) -> Place:
        first, rows, place = self._waiting[column].popleft()
        skipped = low - first
        if rows > skipped + count:
            rest = replace(place, row=place.row + skipped + count)
            self._waiting[column].appendleft((low + count, rows - skipped - count, rest))
        return replace(place, row=place.row + skipped)

    def _lost(self, column: str) -> ProtocolError:
        return self._alone(column, *self._waiting[column].popleft())

    def _alone(self, column: str, first: int, count: int, place: Place) -> ProtocolError:
        others = ", ".join(name for name in self._waiting if name != column)
        return CodecError(
            "stream_datum", f"rows {first} to {first + count - 1} of {column} ({place.path}) came without those of {others}"
        )
