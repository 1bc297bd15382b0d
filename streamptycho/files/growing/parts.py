"""The rows of a dataset that are in other files: behind links, in the sources of a virtual dataset, or in numbered files."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamptycho.files.growing.located import Numbered, Piece
from streamptycho.files.growing.names import ALL_MEMBERS, Members
from streamptycho.files.growing.series import Make, Series

if TYPE_CHECKING:
    from streamptycho.files.growing.follower import Follower


class Parts:
    """Which file has which rows.

    Parameters
    ----------
    sources : pieces, each in one file, and series of them.
    make : follower of a dataset in a file.
    members : which files belong to a series.
    """

    def __init__(self, sources: Sequence[Piece | Numbered], make: Make, members: Members = ALL_MEMBERS) -> None:
        followers = {(p.path, p.dataset): make(p.path, p.dataset) for p in sources if isinstance(p, Piece)}
        self._fixed = [(p, followers[p.path, p.dataset]) for p in sources if isinstance(p, Piece)]
        self._series = [Series(source, make, members) for source in sources if isinstance(source, Numbered)]
        self._all: list[tuple[Piece, Follower]] = list(self._fixed)
        self._found = self._all
        self.length = 0
        self.why = ""

    def refresh(self) -> bool:
        """Look again; False if there is nothing to read at the moment."""
        found = [(piece, part) for piece, part in self._fixed if part.refresh()]
        for series in self._series:
            series.refresh()
            found += series.parts
        self._found = found
        self._all = [*self._fixed, *(part for series in self._series for part in series.parts)]
        self.length = max((piece.rows(part.length) for piece, part in found), default=0)
        whys = [*(part.why for _, part in self._fixed), *(series.why for series in self._series)]
        self.why = next((why for why in whys if why), "")
        return bool(found)

    @property
    def generation(self) -> int:
        """How often members of series were replaced."""
        return sum(series.generation for series in self._series)

    @property
    def writing(self) -> bool | None:
        """Whether one is being written; None where that, or whether another will come, is not known."""
        said = [None for _ in self._series] + [part.writing for _, part in self._all]
        return True if True in said else None if None in said else False

    @property
    def first(self) -> "Follower":
        """One of those that can be read, as an example of all."""
        return self._found[0][1]

    def runs(self, first: int, stop: int) -> "Iterator[tuple[int, Follower, int, int]]":
        """Rows as runs of one source: offset from `first`, source, its first row, and how many."""
        rows = np.arange(first, stop)
        owner, source = np.full(len(rows), -1), np.zeros(len(rows), np.int64)
        for at, (piece, part) in enumerate(self._all):
            if piece.start >= stop or piece.rows(part.length) <= first:
                continue
            found = piece.source_rows(rows)
            ours = (owner < 0) & (found >= 0) & (found < part.length)
            owner[ours], source[ours] = at, found[ours]
        for begin, end in _pieces(owner, source):
            yield begin, self._all[owner[begin]][1], int(source[begin]), end - begin

    def close(self) -> None:
        """Close all files."""
        for _, part in self._fixed:
            part.close()
        for series in self._series:
            series.close()


def _pieces(owner: NDArray[np.int64], source: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Begin and end of what follows each other in one source."""
    if not len(owner):
        return
    breaks = np.flatnonzero((np.diff(owner) != 0) | (np.diff(source) != 1)) + 1
    edges = [0, *breaks.tolist(), len(owner)]
    for begin, end in pairwise(edges):
        if owner[begin] >= 0:
            yield begin, end
