"""Which format are these messages in? Every built-in dialect is tried on them."""

from collections.abc import Sequence

from streamptycho.dialects.door import Interpreter, built_in
from streamptycho.errors import ConfigError, ProtocolError
from streamptycho.messages.facts import Fact, Frames, Samples, Stored
from streamptycho.messages.stream import Frame, Positions
from streamptycho.sources.options import USUAL
from streamptycho.wire.codec import Part
from streamptycho.wire.endpoint import SocketKind

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
    wrong = sum(isinstance(fact, ProtocolError) for fact in facts)
    data = sum(isinstance(fact, _DATA) for fact in facts)
    return (data, len(facts) - 2 * wrong) if 2 * wrong < len(facts) else (0, 0)
