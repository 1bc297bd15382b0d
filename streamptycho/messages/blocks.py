"""Frames and positions on their way, joined: a block costs who handles, sends and receives it little more than one row."""

from collections.abc import Iterator
from typing import Any, Generic, TypeAlias, TypeVar

from streamptycho.messages.stream import Frame, Positions

BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 64
"""What is joined, at most: the queues of a link hold as many messages, whatever their size. A sender's own block may have
more rows, up to as many as a message can carry: nothing is joined to that."""

_Rows: TypeAlias = Frame | Positions
_Item = TypeVar("_Item")


class Blocks(Generic[_Item]):
    """Holds frames and positions until there is a block of them, or something else to be passed on.

    Frames and positions do not keep their order against each other, which the join and the file do not need; all else does.
    """

    def __init__(self) -> None:
        self._frames, self._positions = _Held(), _Held()

    def add(self, message: _Item) -> Iterator[_Item]:
        """What is to be passed on now that `message` is due."""
        if not isinstance(message, _Rows):
            yield from self.flush()
            yield message
            return
        held = self._frames if isinstance(message, Frame) else self._positions
        if not held.joins(message):
            yield from held.let_go()
        held.put(message)
        if held.rows >= BLOCK_ROWS or held.size_bytes >= BLOCK_BYTES:
            yield from held.let_go()

    def flush(self) -> Iterator[_Item]:
        """All that is held."""
        yield from self._frames.let_go()
        yield from self._positions.let_go()


class _Held:
    """What is to be one block."""

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._last = -1
        self.rows = self.size_bytes = 0

    def joins(self, message: _Rows) -> bool:
        """Whether it can be of the same block: of the same scan and form, with rising indices, and not too many."""
        if not self._parts:
            return True
        first = self._parts[0]
        if self.rows + len(message) > BLOCK_ROWS or first.scan_id != message.scan_id:
            return False
        if self._last >= message.index.item(0):
            return False
        return not isinstance(message, Frame) or _form(first) == _form(message)

    def put(self, message: _Rows) -> None:
        """Hold it."""
        self._parts.append(message)
        self._last = message.index.item(-1)
        self.rows += len(message)
        if isinstance(message, Frame):
            self.size_bytes += message.payload.nbytes

    def let_go(self) -> Iterator[Any]:
        """The block, if there is anything to be one."""
        if self._parts:
            parts, self._parts = self._parts, []
            self.rows = self.size_bytes = 0
            yield parts[0] if len(parts) == 1 else parts[0].joined(parts)


def _form(frame: Frame) -> tuple[object, ...]:
    """What the frames of one block have in common."""
    return frame.dark, frame.taken_yx_m is None, frame.payload.form


def pieces(frame: Frame) -> Iterator[Frame]:
    """A block as blocks that are no larger than what is joined, or single frames."""
    first, size_bytes = 0, 0
    for row, chunk in enumerate(frame.payload.chunks):
        if row > first and (row - first >= BLOCK_ROWS or size_bytes + chunk.nbytes > BLOCK_BYTES):
            yield frame.select(range(first, row))
            first, size_bytes = row, 0
        size_bytes += chunk.nbytes
    yield frame if first == 0 else frame.select(range(first, len(frame)))
