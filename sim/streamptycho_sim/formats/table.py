"""Which format each stream of a publisher is in, by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from streamptycho.messages.reasons import Stream
from streamptycho.wire.codec import Part
from streamptycho.wire.codec import encode as encode_message
from streamptycho_sim.formats.bluesky import BlueskyPositions
from streamptycho_sim.formats.dectris_v1 import DectrisV1, DectrisV1Options
from streamptycho_sim.formats.dectris_v2 import DectrisV2, DectrisV2Options
from streamptycho_sim.formats.panda_json import PandaJson
from streamptycho_sim.formats.table_text import TableCsv, TableJson
from streamptycho_sim.stream import Item, Raw

FramesFormat = Literal["streamptycho", "dectris-v1", "dectris-v2"]
PositionsFormat = Literal["streamptycho", "panda-json", "bluesky", "table-csv", "table-json"]


class Encoder(Protocol):
    """Turns the items of scans into messages of one stream."""

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """Parts of each message that an item becomes, none for an item that this stream does not tell."""
        ...


@dataclass(frozen=True)
class Ours:
    """Our own format."""

    stream: Stream

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """The message itself."""
        if item.stream is self.stream and not isinstance(item.message, Raw):
            yield encode_message(item.message)


def frames_encoder(name: FramesFormat) -> Encoder:
    """What the frames are sent with."""
    match name:
        case "dectris-v1":
            return DectrisV1(DectrisV1Options())
        case "dectris-v2":
            return DectrisV2(DectrisV2Options())
    return Ours(Stream.FRAMES)


def positions_encoder(name: PositionsFormat) -> Encoder:
    """What the positions are sent with."""
    match name:
        case "panda-json":
            return PandaJson()
        case "bluesky":
            return BlueskyPositions()
        case "table-csv":
            return TableCsv()
        case "table-json":
            return TableJson()
    return Ours(Stream.POSITIONS)
