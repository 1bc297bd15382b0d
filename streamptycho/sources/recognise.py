"""Which format are these messages in? Every built-in dialect is tried on them."""

from collections.abc import Iterator, Sequence

from streamptycho.dialects.door import Interpreter, built_in
from streamptycho.errors import BEGAN_BEFORE, ConfigError, ProtocolError
from streamptycho.messages.facts import Fact, Frames, Remark, Samples, Stored
from streamptycho.messages.stream import Frame, Positions
from streamptycho.sources.options import USUAL
from streamptycho.wire.codec import Part
from streamptycho.wire.endpoint import SocketKind

FEW, _FEW_BYTES = 4, 64 << 20
"""Messages after which a stream is judged of which nothing was understood, and what of them is kept."""
_DATA = (Frame, Positions, Frames, Samples, Stored)


def recognise(messages: Sequence[Sequence[Part]], *, connection: bool) -> list[str]:
    """Names of the formats that these messages may be in, the likeliest first; empty if they are in none.

    Parameters
    ----------
    connection : they are pieces of a plain TCP connection, and not ZeroMQ messages.
    """
    if not messages:
        return []
    scores: dict[str, tuple[int, int]] = {}
    for name in built_in():
        if (USUAL.get(name) is SocketKind.STREAM) is not connection:
            continue
        try:
            dialect = Interpreter(name)
        except ConfigError:  # it must be told more than we know
            continue
        scores[name] = _score([fact for at, parts in enumerate(messages) for fact in dialect.feed(parts, float(at))])
    best = max(scores.values(), default=(0, 0))
    if best <= (0, 0):
        return []
    return [name for name, score in scores.items() if score == best]


def _score(facts: Sequence[Fact]) -> tuple[int, int]:
    """Data understood, and other facts less what was not understood; nothing if most was not."""
    wrong = sum(_is_wrong(fact) for fact in facts)
    data = sum(isinstance(fact, _DATA) for fact in facts)
    return (data, len(facts) - 2 * wrong) if 2 * wrong < len(facts) else (0, 0)


def _is_wrong(fact: Fact) -> bool:
    return isinstance(fact, ProtocolError) and fact.reason != BEGAN_BEFORE


class Misread:
    """Says once that nothing of what comes is understood, and which format it is in.

    Parameters
    ----------
    format : what the endpoint is set to.
    """

    def __init__(self, format: str, *, connection: bool = False) -> None:
        self._format, self._connection = format, connection
        self._kept: list[list[bytes]] = []
        self._refused, self._room = 0, _FEW_BYTES
        self.over = False
        """Whether something was understood, or it has been said."""

    def hear(self, parts: Sequence[Part], facts: Iterator[Fact]) -> Iterator[Fact]:
        """The same facts, which follow from `parts`."""
        if self.over:
            yield from facts
            return
        told = list(facts)
        self.over = any(not _is_wrong(fact) for fact in told)
        if not self.over:
            self._refused += bool(told)
            self._room -= sum(map(len, parts))
            self._kept += [list(map(bytes, parts))] if self._room >= 0 else []
            # what is large and says nothing yet, such as the tables of a start, is no sign of another format
            if self._refused >= FEW or (self._refused and self._room < 0):
                self.over = True
                yield Remark(self._judge())
        if self.over:
            self._kept.clear()
        yield from told

    def _judge(self) -> str:
        found = [name for name in recognise(self._kept, connection=self._connection) if name != self._format]
        said = f"nothing of what comes first is understood as {self._format}"
        if found:
            return f"{said}; it looks like {' or '.join(found)}: set format = '{found[0]}' there"
        return f"{said}, or as any other format that is known; or its beginning was missed"
