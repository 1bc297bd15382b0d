"""Frames and positions on their way, joined: a block costs who handles, sends and receives it little more than one row."""

from collections.abc import Iterator
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamptycho.messages.facts import Frames
from streamptycho.messages.stream import Frame, Positions

BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 64
"""What is joined, at most: the queues of a link hold as many messages, whatever their size. A sender's own block may have
more rows, up to as many as a message can carry: nothing is joined to that."""

_Rows: TypeAlias = Frame | Positions | Frames
_Item = TypeVar("_Item")


class Blocks(Generic[_Item]):
    """Holds frames and positions until there is a block of them, or something else to be passed on.

    Frames and positions do not keep their order against each other, which the join and the file do not need; all else does.
    """

    def __init__(self) -> None:
        self._held: dict[type, _Held] = {kind: _Held() for kind in (Frame, Positions, Frames)}

    def add(self, message: _Item) -> Iterator[_Item]:
        """What is to be passed on now that `message` is due."""
        if not isinstance(message, Frame | Positions | Frames):
            yield from self.flush()
            yield message
            return
        held = self._held[type(message)]
        if not held.joins(message):
            yield from held.let_go()
        held.put(message)
        if held.rows >= BLOCK_ROWS or held.size_bytes >= BLOCK_BYTES:
            yield from held.let_go()

    def flush(self) -> Iterator[_Item]:
        """All that is held."""
        for held in self._held.values():
            yield from held.let_go()


class _Held:
    """What is to be one block."""

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._form: tuple[object, ...] = ()
        self._last = -1
        self.rows = self.size_bytes = 0

    def joins(self, message: _Rows) -> bool:
        """Whether it can be of the same block: of the same scan and form, with rising indices, and not too many."""
        if not self._parts:
            return True
        fits = self.rows + len(message) <= BLOCK_ROWS and self.size_bytes + _bytes(message) <= BLOCK_BYTES
        return fits and self._last < _index(message).item(0) and self._form == _form(message)

    def put(self, message: _Rows) -> None:
        """Hold it."""
        if not self._parts:
            self._form = _form(message)
        self._parts.append(message)
        self._last = _index(message).item(-1)
        self.rows += len(message)
        self.size_bytes += _bytes(message)

    def let_go(self) -> Iterator[Any]:
        """The block, if there is anything to be one."""
        if self._parts:
            parts, self._parts = self._parts, []
            self.rows = self.size_bytes = 0
            yield parts[0] if len(parts) == 1 else parts[0].joined(parts)


def _bytes(message: _Rows) -> int:
    return 0 if isinstance(message, Positions) else message.payload.nbytes


def _index(message: _Rows) -> NDArray[np.int64]:
    return message.number if isinstance(message, Frames) else message.index


def _form(message: _Rows) -> tuple[object, ...]:
    """What the rows of one block have in common."""
    match message:
        case Frame():
            return message.scan_id, message.dark, message.taken_yx_m is None, message.payload.form
        case Frames():
            return message.run, message.dark, message.payload.form
        case Positions():
            return (message.scan_id,)


def pieces(frame: Frame) -> Iterator[Frame]:
    """A block as blocks that are no larger than what is joined, or single frames."""
    first, size_bytes = 0, 0
    for row, chunk in enumerate(frame.payload.chunks):
        if row > first and (row - first >= BLOCK_ROWS or size_bytes + chunk.nbytes > BLOCK_BYTES):
            yield frame.select(range(first, row))
            first, size_bytes = row, 0
        size_bytes += chunk.nbytes
    yield frame if first == 0 else frame.select(range(first, len(frame)))
