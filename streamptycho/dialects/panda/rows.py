"""The rows of a PandA capture, numbered from its beginning whatever connection they come on."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.dialects.panda.header import COUNTS, MEANS, Header
from streamptycho.errors import CodecError, ProtocolError
from streamptycho.messages.facts import ForeignFact, Learned, Samples, StartParts

Facts: TypeAlias = Iterator[ForeignFact | ProtocolError]


class Capture:
    """One run of a PandA, which several connections may tell of: a new one repeats what the server still has."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.rows = 0
        """Rows that have come on this connection."""
        self._told = header.missed
        """Rows below this number have been passed on, or are lost."""
        self._empty_told = False

    def goes_on_with(self, header: Header) -> bool:
        """Whether a header is that of the same capture, sent again."""
        return bool(header.run) and (self.header.run, self.header.fields) == (header.run, header.fields)

    def resume(self, header: Header) -> Facts:
        """Go on with a new connection."""
        self.header, self.rows = header, 0
        if header.missed > self._told:
            lost = f"rows {self._told} to {header.missed - 1} were lost while there was no connection"
            yield Learned(run=header.run, parts=StartParts(doubts=(lost,)))

    def binary(self, body: bytes) -> Facts:
        """Rows as bytes."""
        table = np.frombuffer(body, self.header.row)
        table = table[self._repeated(len(table)) :]
        yield from self._samples(lambda i: table[f"f{i}"], len(table))

    def text(self, lines: Sequence[bytes]) -> Facts:
        """Rows as text, a line each; one that cannot be read is NaN, so that those that follow keep their number."""
        wide = len(self.header.fields)
        lines = lines[self._repeated(len(lines)) :]
        rows = [_numbers(line, wide) for line in lines]
        bad = [line for line, row in zip(lines, rows, strict=True) if row is None]
        if bad:
            yield CodecError(
                "panda.row", f"{len(bad)} of {len(lines)} are not {wide} numbers, as {bad[0][:60]!r}: left empty"
            )
        table = np.array([[np.nan] * wide if row is None else row for row in rows], np.float64)
        yield from self._samples(lambda i: table[:, i], len(lines))

    def _repeated(self, rows: int) -> int:
        """Count rows; how many of them have come on an earlier connection."""
        first, self.rows = self.header.missed + self.rows, self.rows + rows
        return max(0, self._told - first)

    def _samples(self, raw: Callable[[int], NDArray[Any]], rows: int) -> Facts:
        if not rows:
            return
        first = self.header.missed + self.rows - rows
        self._told = first + rows
        with np.errstate(all="ignore"):
            table, empty = _columns(self.header, raw)
        if table:
            yield Samples(run=self.header.run, first=first, columns=table)
        if empty and not self._empty_told:
            self._empty_told = True
            text = f"{empty} of the rows {first} to {self._told - 1} have no mean, for PCAP.GATE was shut (told once)"
            yield Learned(run=self.header.run, parts=StartParts(doubts=(text,)))


def _columns(header: Header, raw: Callable[[int], NDArray[Any]]) -> tuple[dict[str, NDArray[np.float64]], int]:
    """Columns of some rows in the units of the header, and the number of rows without a mean.

    `raw(i)` gives field number i of the rows, (n,), as sent. Where a mean is made of nothing it is NaN, whatever the server
    sends.
    """
    table: dict[str, NDArray[np.float64]] = {}
    at = {field.column: i for i, field in reversed(list(enumerate(header.fields)))}
    counted = next((raw(at[name]) for name in COUNTS if name in at), None)
    empty = None if counted is None or not (counted == 0).any() else counted == 0
    means = False
    for i, field in enumerate(header.fields):
        if field.column in table or field.column in header.left_out:
            continue
        values = raw(i).astype(np.float64)
        if field.capture in MEANS:
            means = True
            if header.process == "raw" and counted is not None:
                values /= np.where(counted == 0, 1, counted)
        if header.process != "scaled" and field.scale is not None:
            values *= field.scale
            values += field.offset
        if field.capture in MEANS and empty is not None:
            values[empty] = np.nan
        table[field.column] = values
    return table, int(empty.sum()) if means and empty is not None else 0


def _numbers(line: bytes, wide: int) -> list[float] | None:
    try:
        row = [float(text) for text in line.split()]
    except ValueError:
        return None
    return row if len(row) == wide else None
