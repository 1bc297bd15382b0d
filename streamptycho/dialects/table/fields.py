"""Positions from home-made senders: lines of numbers, or JSON, over ZeroMQ or TCP; options say which field is what.

Which frame number stands for frame 0, a common unit and how many rows there are for each frame are settings of the scan.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.dialects.table.runs import Facts, Lines, Runs, check_names
from streamptycho.dialects.values import MAX_TEXT_BYTES, floats, json_value, whole
from streamptycho.errors import CodecError, ConfigError, ProtocolError


class _Table:
    """What both have in common."""

    def __init__(self, runs: Runs, *, stream: bool) -> None:
        self._runs = runs
        self._lines = Lines(stream=stream)

    def tick(self, now_s: float) -> Facts:
        """Nothing follows from silence."""
        yield from ()

    def restarted(self, now_s: float) -> Facts:
        """The line that was begun is lost."""
        self._lines.restart()
        yield from ()


class TableCsv(_Table):
    """Dialect ``table-csv``: a line for each position, with a header line or names in the options.

    Options
    -------
    columns : names of the columns, ``"index,x,y"``; by default those of the header line, which has x and y among them, and
        units in brackets: ``x [um]``.
    index, x, y : columns of the frame number and of the position; without `index` it is the one of this name, if there is
        one.
    unit : of x and y.
    run : column of what tells runs apart.
    start, end : words with which a line begins that begins or ends a run; the name of the run and the number of rows may
        follow.
    delimiter : between columns; empty for white space.
    stream : a row may be cut by the end of a message, as over TCP.
    """

    def __init__(
        self,
        columns: str = "",
        *,
        x: str = "x",
        y: str = "y",
        index: str = "",
        unit: str = "",
        run: str = "",
        start: str = "",
        end: str = "",
        delimiter: str = ",",
        stream: bool = False,
    ) -> None:
        check_names(x, y)
        super().__init__(Runs(x, y, unit, has_start=bool(start), has_end=bool(end)), stream=stream)
        self._x, self._y, self._index, self._run = x, y, index, run
        self._start, self._end, self._delimiter = start, end, delimiter or None
        self._unit = unit
        self._names: list[str] | None = None
        if columns:
            self._names = [name.strip() for name in columns.split(",")]
            for option, name in (("x", x), ("y", y), ("index", index), ("run", run)):
                if name and name not in self._names:
                    raise ConfigError(f"options.columns: {columns!r} has no column {name!r}; correct it or options.{option}")

    def feed(self, parts: Sequence[bytes | memoryview], now_s: float) -> Facts:
        """Rows, and the lines between them that say something."""
        part = parts[-1] if parts else b""  # what is before it is a topic
        if len(part) > MAX_TEXT_BYTES:
            raise CodecError("table", f"{len(part)} bytes; at most {MAX_TEXT_BYTES} are accepted: send it in pieces")
        for kind, lines in groupby(self._lines(part), self._kind):
            try:
                yield from self._group(kind, list(lines))
            except ProtocolError as error:  # of these lines, which does not cost those that follow
                yield error

    def _group(self, kind: str, lines: list[str]) -> Facts:
        """Lines of a kind."""
        if kind == "row":
            yield from self._rows([self._cells(line) for line in lines])
            return
        for line in lines:
            if kind == "start":
                yield from self._runs.begin(_behind(line, self._start)[:64])
            elif kind == "end":
                count = _behind(line, self._end)
                yield from self._runs.end(int(count) if count.isdecimal() and len(count) < 19 else None)
            elif kind == "header":
                self._read_header(line)

    def _kind(self, line: str) -> str:
        line = line.strip()
        for word, kind in ((self._start, "start"), (self._end, "end")):
            if word and line.startswith(word):
                return kind
        if line.startswith("#") or not (line[0].isdigit() or line[0] in "+-."):
            names = {_bare(name)[0] for name in self._cells(line.lstrip("# "))}
            if {self._x, self._y} <= names:
                return "header"
        return "comment" if line.startswith("#") else "row"

    def _cells(self, line: str) -> list[str]:
        return [cell.strip().strip('"') for cell in line.strip().split(self._delimiter)]

    def _read_header(self, line: str) -> None:
        named = [_bare(name) for name in self._cells(line.strip().lstrip("# "))]
        self._names = [name for name, _ in named]
        if not self._unit:
            self._runs.units = {name: unit for name, unit in named if name in (self._x, self._y) and unit}

    def _rows(self, rows: list[list[str]]) -> Facts:
        names = self._names
        if names is None:
            first = ",".join(rows[0])[:60]
            raise CodecError(
                "table", f"{first!r} has come before any header line; send one, or set options.columns = 'index,x,y'"
            )
        for option, name in (("index", self._index), ("run", self._run)):
            if name and name not in names:
                raise CodecError(
                    f"table.{option}", f"no column {name!r} in {', '.join(names)[:80]!r}; correct options.{option}"
                )
        index = self._index or ("index" if "index" in names else "")
        short = [row for row in rows if len(row) != len(names)]
        if short:
            example = ",".join(short[0])[:60]
            yield CodecError(
                "table", f"{len(short)} of {len(rows)} rows have not {len(names)} columns, as {example!r}: not used"
            )
            # a row without an index keeps its place all the same
            rows = (
                [row for row in rows if len(row) == len(names)]
                if index
                else [row if len(row) == len(names) else [""] * len(names) for row in rows]
            )
        of_runs = groupby(rows, lambda row: row[names.index(self._run)]) if self._run else iter([(None, iter(rows))])
        for run, group in of_runs:
            table = list(zip(*group, strict=True))
            if not table:
                continue
            found: dict[str, NDArray[np.float64]] = {}
            for name in (self._x, self._y, *([index] if index else [])):
                found[name], bad = _numbers(table[names.index(name)])
                if bad:
                    yield CodecError(
                        f"table.{name}", f"{len(bad)} of {len(table[0])} are no numbers, as {bad[0][:40]!r}: left empty"
                    )
            yield from self._runs.rows(run, found.get(index), found[self._x], found[self._y])


class TableJson(_Table):
    """Dialect ``table-json``: an object for each position, or with lists of many, or a list of objects.

    Options
    -------
    x, y, index : fields of the position and of the frame number; ``a.b`` is b of the object a. Without `index` it is the
        one of this name, if there is one.
    unit : of x and y; unit_field : where the sender says it.
    run : field of what tells runs apart.
    kind : field that says what a message is, with the values `start` and `end` of those that begin and end a run.
    count : field of the number of rows, in the message that ends a run.
    stream : an object on each line, and a line may be cut by the end of a message, as over TCP.
    """

    def __init__(
        self,
        *,
        x: str = "x",
        y: str = "y",
        index: str = "",
        unit: str = "",
        unit_field: str = "",
        run: str = "",
        kind: str = "",
        start: str = "start",
        end: str = "end",
        count: str = "",
        stream: bool = False,
    ) -> None:
        check_names(x, y)
        super().__init__(Runs(x, y, unit, has_start=bool(kind), has_end=bool(kind)), stream=stream)
        self._x, self._y, self._index, self._run = x, y, index, run
        self._unit_field, self._kind, self._start, self._end, self._count = unit_field, kind, start, end, count
        self._stream = stream

    def feed(self, parts: Sequence[bytes | memoryview], now_s: float) -> Facts:
        """Rows, beginnings and ends."""
        for text in self._texts(parts[-1] if parts else b""):
            try:
                yield from self._value(json_value(text, "table"))
            except ProtocolError as error:  # of a line, which does not cost those that follow
                yield error

    def _texts(self, part: bytes | memoryview) -> Iterator[bytes | memoryview]:
        if self._stream:
            yield from (line.encode() for line in self._lines(part))
        else:
            yield part

    def _value(self, value: Any) -> Facts:
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, dict):
                raise CodecError("table", f"a {type(item).__name__}, not an object with fields")
            yield from self._message(item)

    def _message(self, message: dict[str, Any]) -> Facts:
        said = _find(message, self._run) if self._run else None
        run = None if said is None else str(said)[:64]
        unit = _find(message, self._unit_field) if self._unit_field else None
        if isinstance(unit, str) and unit:
            self._runs.units = dict.fromkeys((self._x, self._y), unit[:20])
        kind = _find(message, self._kind) if self._kind else None
        if kind is not None and str(kind) == self._start:
            yield from self._runs.begin(run or "")
        elif kind is not None and str(kind) == self._end:
            count = _find(message, self._count) if self._count else None
            yield from self._runs.end(None if count is None else whole(f"table.{self._count}", count))
        else:
            x, y = (
                floats(f"table.{name}", self._needed(message, name, at)) for at, name in (("x", self._x), ("y", self._y))
            )
            number = self._needed(message, self._index, "index") if self._index else _find(message, "index")
            yield from self._runs.rows(run, None if number is None else floats("table.index", number), x, y)

    def _needed(self, message: dict[str, Any], name: str, option: str) -> Any:
        value = _find(message, name)
        if value is None and name not in message:
            has = ", ".join(message)[:100]
            raise CodecError(
                f"table.{option}", f"no field {name!r}; it has {has!r}: correct options.{option} or options.kind"
            )
        return value


def _behind(line: str, word: str) -> str:
    """What follows the word with which a line begins."""
    return line.strip()[len(word) :].strip(" ,:;=\t")


def _bare(name: str) -> tuple[str, str]:
    """A name and its unit: ``x [um]``."""
    for opening, closing in ("[]", "()"):
        if name.endswith(closing) and opening in name:
            bare, _, unit = name[:-1].rpartition(opening)
            return bare.strip(), unit.strip()
    return name, ""


def _find(message: dict[str, Any], name: str) -> Any:
    """The value of a field; None if there is none. A dot goes into an object, unless it belongs to the name."""
    if name in message or "." not in name:
        return message.get(name)
    first, _, rest = name.partition(".")
    inner = message.get(first)
    return _find(inner, rest) if isinstance(inner, dict) else None


def _numbers(cells: Sequence[str]) -> tuple[NDArray[np.float64], list[str]]:
    """Numbers, NaN for an empty cell, and the cells that are neither."""
    try:
        return np.array(cells, np.float64), []
    except ValueError:
        pass
    values, bad = [], []
    for cell in cells:
        try:
            values.append(float(cell) if cell else np.nan)
        except ValueError:
            values.append(np.nan)
            bad.append(cell)
    return np.array(values), bad
