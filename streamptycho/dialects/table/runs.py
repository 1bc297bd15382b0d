"""Runs of positions from senders that say little about them: rows of index, x and y."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError, ConfigError, ProtocolError
from streamptycho.messages.facts import Began, Ended, ForeignFact, Learned, Samples, StartParts
from streamptycho.messages.reasons import EndReason

Facts: TypeAlias = Iterator[ForeignFact | ProtocolError]
MAX_LINE_BYTES = 64 << 10
"""Of a stream without a line's end nothing can be understood."""
_LARGEST = float(1 << 53)
_NO_INDEX = (
    "positions carry no index: the first row is taken for frame 0, and a lost message shifts all that follow; "
    "send one, and name its field in options.index"
)


def check_names(x: str, y: str) -> None:
    """Refuse names of fields that cannot be told apart."""
    if not x or not y or x == y:
        raise ConfigError(f"options.x: {x!r} and options.y: {y!r} must be the names of two fields")


class Runs:
    """What is known of the run that is open; `has_start` and `has_end`: the sender says when one begins and ends."""

    def __init__(self, x: str, y: str, unit: str, *, has_start: bool, has_end: bool) -> None:
        self._x, self._y = x, y
        self._has_start, self._has_end = has_start, has_end
        self.units: dict[str, str] = dict.fromkeys((x, y), unit) if unit else {}
        """Of x and y, as far as it is known."""
        self._run: str | None = None
        self._rows = 0
        self._nan_told = False
        self._units_told: dict[str, str] = {}

    def begin(self, run: str, *, said: bool = True) -> Facts:
        """A run begins; `said`: the sender says so."""
        yield from self._supersede()
        self._run, self._rows, self._nan_told, self._units_told = run, 0, False, dict(self.units)
        parts = StartParts(columns=(self._y, self._x), units=dict(self.units))
        yield Began(run=run, parts=parts, in_middle=self._has_start and not said)

    def rows(
        self, run: str | None, number: NDArray[np.float64] | None, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> Facts:
        """Rows (n,) of the run of this name, or of the one that is open; x and y as sent, NaN where there is none."""
        if len(x) != len(y) or (number is not None and len(number) != len(x)):
            sizes = f"{len(x)} of x and {len(y)} of y" + (f" for {len(number)} indices" if number is not None else "")
            raise CodecError("table", f"{sizes}; each position needs one of each")
        opened = self._run
        if opened is None or (run is not None and run != opened):
            opened = run or ""
            yield from self.begin(opened, said=False)
        if self.units != self._units_told:
            self._units_told = dict(self.units)
            yield Learned(run=opened, parts=StartParts(units=dict(self.units)))
        if number is None and not self._rows:
            yield Learned(run=opened, parts=StartParts(doubts=(_NO_INDEX,)))
        numbers = None
        if number is not None:
            whole = (number == np.floor(number)) & (np.abs(number) < _LARGEST)
            if not whole.all():
                bad = number[~whole]
                yield CodecError("table.index", f"{len(bad)} of {len(number)} are no whole numbers, as {bad[0]}: left out")
            numbers, x, y = number[whole].astype(np.int64), x[whole], y[whole]
        if not len(x):
            return
        first, self._rows = self._rows, self._rows + len(x)
        yield Samples(run=opened, first=first, columns={self._y: y, self._x: x}, number=numbers)
        empty = np.flatnonzero(~(np.isfinite(x) & np.isfinite(y)))
        if len(empty) and not self._nan_told:
            self._nan_told = True
            at = first + int(empty[0]) if numbers is None else int(numbers[empty[0]])
            text = f"{len(empty)} of {len(x)} rows have no position, the first of them number {at} (told once)"
            yield Learned(run=opened, parts=StartParts(doubts=(text,)))

    def end(self, count: int | None) -> Facts:
        """The sender says that the run is over, and how many rows it has sent."""
        run, self._run = self._run, None
        if run is None:
            raise CodecError("table", "the end of a run of which nothing else has come; start the receiver earlier")
        yield Ended(run=run, count=count)

    def _supersede(self) -> Facts:
        run, self._run = self._run, None
        if run is None:
            return
        if self._has_end:
            yield Ended(run=run, reason=EndReason.INCOMPLETE, detail="another run began before its end")
        else:
            yield Ended(run=run)


class Lines:
    """Text cut into lines; of a `stream`, the last one waits for its end, else every message ends one."""

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream
        self._rest = b""

    def __call__(self, part: bytes | memoryview) -> list[str]:
        """Lines that are complete, without those that are empty."""
        text = bytes(part)
        if self._stream:
            complete, ended, rest = text.rpartition(b"\n")
            text, self._rest = (self._rest + complete, rest) if ended else (b"", self._rest + rest)
            if len(self._rest) > MAX_LINE_BYTES:
                self._rest = b""
                raise CodecError("table", f"no end of line in {MAX_LINE_BYTES} bytes; end each row with a line feed")
        return [line for line in text.decode(errors="replace").split("\n") if line.strip()]

    def restart(self) -> None:
        """What was begun on a connection that broke will not be continued."""
        self._rest = b""
