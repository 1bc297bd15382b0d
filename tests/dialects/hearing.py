"""What dialects make of single messages."""

from streamptycho.dialects.door import Dialect
from streamptycho.errors import ProtocolError
from streamptycho.messages.facts import Fact


def told(dialect: Dialect, *messages: bytes) -> list[Fact]:
    """Facts of messages of one part, and what is wrong with those that are refused."""
    facts: list[Fact] = []
    for message in messages:
        try:
            facts += dialect.feed([memoryview(message)], 0.0)
        except ProtocolError as error:
            facts.append(error)
    return facts
