"""Frames and positions on their way to the writer, joined: a block costs both ends little more than one of them."""

from collections.abc import Iterator
from typing import Any, TypeAlias

from streamptycho.messages.kinds import Message
from streamptycho.messages.stream import Frame, Positions

BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 64
"""What is joined, at most: the queues of a link hold as many messages, whatever their size. A sender's own block may have
more rows, up to as many as a message can carry: nothing is joined to that."""

_Rows: TypeAlias = Frame | Positions


class Blocks:
    """Holds frames and positions until there is a block of them, or something else to be sent.

    Frames and positions do not keep their order against each other, which the join and the file do not need; all else does.
    """

    def __init__(self) -> None:
        self._frames, self._positions = _Held(), _Held()

    def add(self, message: Message) -> Iterator[Message]:
        """What is to be sent now that `message` is due."""
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

    def flush(self) -> Iterator[Message]:
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
        return not isinstance(message, Frame) or (first.dark is message.dark and first.payload.form == message.payload.form)

    def put(self, message: _Rows) -> None:
        """Hold it."""
        self._parts.append(message)
        self._last = message.index.item(-1)
        self.rows += len(message)
        if isinstance(message, Frame):
            self.size_bytes += message.payload.nbytes

    def let_go(self) -> Iterator[Message]:
        """The block, if there is anything to be one."""
        if self._parts:
            parts, self._parts = self._parts, []
            self.rows = self.size_bytes = 0
            yield parts[0] if len(parts) == 1 else parts[0].joined(parts)
