"""Rows of a PandA as JSON over ZeroMQ, in the two forms that are about; a message says itself which one it is.

HXN, one part each::

    {"msg_type": "start", "arm_time": ..., "start_time": ..., "hw_time_offset_ns": ...}
    {"msg_type": "data", "frame_number": k, "datasets": {"/INENC2.VAL.Value": {"starting_sample_number": s, "data": [...]}}}
    {"msg_type": "stop", "emitted_frames": k}

MAX IV::

    {"message_id": 1, "version": 1, "message_type": "series-start", "arm_time": ...}
    {"message_id": 2, "version": 1, "message_type": "data", "frame_number": k, "INENC3.VAL.Mean": [...]}
    {"message_id": 9, "version": 1, "message_type": "series-end"}

In the first, rows say their number. In the second they do not: `frame_number` counts messages at some senders and rows at
others, which the second message shows; after a loss, rows can be placed only where it counts rows. A message about rows that
cannot be placed is refused: positions in the wrong places are worse than none.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.dialects.values import epoch_ns, floats, json_value, whole
from streamptycho.errors import CodecError, ConfigError, ProtocolError
from streamptycho.messages.checks import Scalar
from streamptycho.messages.facts import Began, Ended, ForeignFact, Samples, StartParts
from streamptycho.messages.reasons import EndReason

_Facts: TypeAlias = Iterator[ForeignFact | ProtocolError]

MAX_COLUMNS = 256
_TIMES = ("arm_time", "start_time", "hw_time_offset_ns")
_HEAD = frozenset(("message_id", "version", "message_type", "frame_number"))
_KINDS = {"start": "start", "series-start": "start", "data": "data", "stop": "end", "series-end": "end"}


class PandaJson:
    """Dialects ``panda-json`` and ``panda-json-maxiv``; each message is one part of JSON.

    Options
    -------
    frame_number : what it counts in the MAX IV form, ``"rows"`` or ``"messages"``; by default the second message shows it.
    """

    def __init__(self, frame_number: str = "auto") -> None:
        if frame_number not in ("auto", "rows", "messages"):
            raise ConfigError(f"options.frame_number: {frame_number!r} is not one of auto, rows, messages")
        self._said = frame_number
        self._run: _Run | None = None

    def feed(self, parts: Sequence[bytes | memoryview], now_s: float) -> _Facts:
        """Rows, beginnings and ends of captures."""
        message = json_value(parts[-1] if parts else b"", "panda-json")
        if not isinstance(message, dict):
            raise CodecError("panda-json", f"a {type(message).__name__}, not an object")
        word = message.get("msg_type", message.get("message_type"))
        kind = _KINDS.get(word) if isinstance(word, str) else None
        if kind is None:
            raise CodecError("panda-json.msg_type", f"{str(word)[:40]!r} is not one of {', '.join(_KINDS)}")
        if kind == "start":
            yield from self._start(message)
        elif kind == "end":
            yield from self._end(message)
        elif "msg_type" in message:
            yield from self._datasets(message)
        else:
            yield from self._arrays(message)

    def tick(self, now_s: float) -> _Facts:
        """Nothing follows from silence."""
        yield from ()

    def _start(self, message: dict[str, Any]) -> _Facts:
        if self._run is not None:
            run, self._run = self._run, None
            yield Ended(run=run.name, reason=EndReason.INCOMPLETE, detail="another start came before its end")
        said = {key: message[key] for key in _TIMES if isinstance(message.get(key), str | int | float)}
        metadata: dict[str, Scalar] = {f"panda_{key}": str(value)[:64] for key, value in said.items()}
        time = str(said.get("start_time", said.get("arm_time", "")))[:64]
        started_ns = epoch_ns(time)
        doubts: tuple[str, ...] = ()
        if time and started_ns is None:
            doubts = (f"the PandA's clock says {time!r}: no start time is kept; set its clock (NTP)",)
        self._run = _Run(str(said.get("arm_time", time))[:64], self._said)
        self._run.last_id = _id(message)
        yield Began(run=self._run.name, parts=StartParts(started_ns=started_ns, metadata=metadata, doubts=doubts))

    def _opened(self) -> tuple["_Run", list[Began]]:
        """The open capture; one that is seen in its middle begins with it."""
        if self._run is not None:
            return self._run, []
        self._run = _Run("", self._said)
        return self._run, [Began(run="", in_middle=True)]

    def _datasets(self, message: dict[str, Any]) -> _Facts:
        """Rows in the HXN form."""
        datasets = message.get("datasets")
        if not isinstance(datasets, dict) or not 1 <= len(datasets) <= MAX_COLUMNS:
            raise CodecError("panda-json.datasets", f"must be an object of 1 to {MAX_COLUMNS} columns")
        columns: dict[str, NDArray[np.float64]] = {}
        firsts = set()
        for name, entry in datasets.items():
            field = f"panda-json.datasets[{name[:60]!r}]"
            if not isinstance(entry, dict):
                raise CodecError(field, f"a {type(entry).__name__}, not an object")
            firsts.add(whole(f"{field}.starting_sample_number", entry.get("starting_sample_number")))
            columns[name.removeprefix("/")] = floats(f"{field}.data", entry.get("data"))
        if len(firsts) != 1:
            raise CodecError(
                "panda-json.datasets", f"begin with the samples {sorted(firsts)[:5]}; all must begin with the same"
            )
        run, began = self._opened()
        yield from began
        run.messages += 1
        number = message.get("frame_number")
        run.last_number = number if isinstance(number, int) else -1
        yield from run.rows(firsts.pop(), columns)

    def _arrays(self, message: dict[str, Any]) -> _Facts:
        """Rows in the MAX IV form."""
        number = whole("panda-json.frame_number", message.get("frame_number"))
        columns = {
            name: floats(f"panda-json[{name[:60]!r}]", value)
            for name, value in list(message.items())[:MAX_COLUMNS]
            if name not in _HEAD and isinstance(value, list | int | float)
        }
        run, began = self._opened()
        yield from began
        rows = max((len(column) for column in columns.values()), default=0)
        yield from run.rows(run.place(number, rows, _id(message)), columns)

    def _end(self, message: dict[str, Any]) -> _Facts:
        run, self._run = self._run, None
        if run is None:
            raise CodecError("panda-json", "the end of a capture of which nothing else has come; start the receiver earlier")
        sent = message.get("emitted_frames")
        run.count_lost(_id(message))
        lost = sent - run.messages if isinstance(sent, int) else run.lost
        if lost <= 0 and not run.unplaced:
            yield Ended(run=run.name, count=run.next)
            return
        # rows that came after those that are lost say how many there are
        known = isinstance(sent, int) and run.last_number == sent - 1
        text = f"{max(lost, 0)} of its messages have not come; send over PUSH, or let the publisher queue more"
        yield Ended(run=run.name, reason=EndReason.INCOMPLETE, count=run.next if known else None, detail=text)


class _Run:
    """A capture that is open."""

    def __init__(self, name: str, counts: str) -> None:
        self.name = name
        self.next = 0
        """One more than the number of the latest row."""
        self.messages = 0
        self.last_number = -1
        """Of the latest message, as the sender counts."""
        self.last_id: int | None = None
        self.lost = 0
        """Messages that have not come, as their ids show."""
        self.unplaced = False
        """Rows have been refused because their numbers are not known."""
        self._counts = counts
        self._last_rows = 0
        self._intact = True
        self._singles = True
        """Every message has held one row: then messages and rows count the same."""

    def rows(self, first: int, columns: dict[str, NDArray[np.float64]]) -> _Facts:
        """Rows of which the first has this number."""
        sizes = {len(column) for column in columns.values()}
        if len(sizes) != 1:
            raise CodecError("panda-json.data", f"columns of {sorted(sizes)[:5]} rows; all must be as long")
        rows = sizes.pop()
        self.next = max(self.next, first + rows)
        if rows:
            yield Samples(run=self.name, first=first, columns=columns)

    def count_lost(self, identity: int | None) -> None:
        """Look at the id of a message."""
        if identity is not None and self.last_id is not None:
            self.lost += max(0, identity - self.last_id - 1)

    def place(self, number: int, rows: int, identity: int | None) -> int:
        """Number of the first of some rows, of a message with this number; raises :class:`CodecError` if it is not known."""
        step = number - self.last_number
        if self.last_number < 0:
            follows = number == 0
        elif identity is not None and self.last_id is not None:
            follows = identity == self.last_id + 1
        else:
            follows = step == 1
        if follows and self._counts == "auto" and self._last_rows > 1:
            self._counts = {1: "messages", self._last_rows: "rows"}.get(step, "auto")
        self.count_lost(identity)
        self._intact, self._singles = self._intact and follows, self._singles and rows == 1
        self.last_number, self.last_id, self._last_rows = number, identity, rows
        if self._counts == "rows" or self._singles:
            return number
        if self._intact:
            return self.next
        self.unplaced = True
        raise CodecError(
            "panda-json.frame_number",
            f"{number} after a loss of messages: its {rows} rows cannot be placed; send over PUSH, or, if frame_number "
            "counts rows, set options.frame_number to 'rows'",
        )


def _id(message: dict[str, Any]) -> int | None:
    identity = message.get("message_id")
    return identity if isinstance(identity, int) and not isinstance(identity, bool) else None
