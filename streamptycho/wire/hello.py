"""What the two ends of a link say to each other beside the messages: bytes and values. Pure: no socket, no clock.

The consumer says :class:`Hello`; the sender puts a :class:`Mark` in front of everything. ``docs/wire-protocol.md``, *Links*.
"""

import secrets
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum

import msgpack

from streamptycho.errors import CodecError
from streamptycho.wire.codec import Part
from streamptycho.wire.forms import Reader

LINK_VERSION = 1
MAX_HELLO_BYTES = 4096
MAX_RESUMED = 256
"""Messages that may come with a hello."""
UNDER_WAY = 64
"""Messages queued at each end of a connection: what a consumer finds without the sender's help."""
MAX_PART_BYTES = 1 << 30
"""Larger parts are not sent: a consumer that refused them would be sent them for ever."""
_LARGEST = (1 << 63) - 1
_MARK = struct.Struct("<BBQQ")
_NOTHING = 0
REPLACED = 1


def new_session() -> int:
    """A random number that is not 0."""
    return 1 + secrets.randbelow(_LARGEST)


class MarkKind(IntEnum):
    """What follows a mark."""

    MESSAGE = 0
    """The numbered parts of a message."""
    WELCOME = 1
    """Nothing: the sender names its session to one that did not know it."""
    INTRODUCTION = 2
    """The parts of a message without number, for a consumer that has begun anew."""
    BEGIN = 3
    """Nothing: the introduction is over, and the messages behind `number` follow."""
    BYE = 4
    """One part of UTF-8 text: why the consumer gets nothing; `number` is :data:`REPLACED` if another has taken its place."""


@dataclass(frozen=True, slots=True)
class Mark:
    """First part of everything that a sender sends."""

    kind: MarkKind
    session: int
    """A random number that the sender chose when it began."""
    number: int = _NOTHING

    def pack(self) -> bytes:
        """As bytes: version, kind, session and number, little-endian."""
        return _MARK.pack(LINK_VERSION, self.kind, self.session, self.number)


def read_mark(part: Part) -> Mark:
    """The mark in these bytes. Raises :class:`CodecError`."""
    if len(part) != _MARK.size:
        raise CodecError("mark", f"{len(part)} bytes instead of {_MARK.size}; is this the address of another service?")
    version, kind, session, number = _MARK.unpack(part)
    if version != LINK_VERSION:
        raise CodecError("mark.version", f"the sender speaks link version {version}, this program {LINK_VERSION}")
    if kind not in _KINDS:
        raise CodecError("mark.kind", f"{kind} is not known")
    return Mark(_KINDS[kind], session, number)


_KINDS = {int(kind): kind for kind in MarkKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who a consumer is, and how far it has come with one sender's messages."""

    service: str
    """What it does: ``write``, ``reconstruct``."""
    session: int
    """A random number that it chose when it began."""
    beat: int
    """Rises with each hello of a session: one that a lost connection has held up is known for it."""
    sender: int = _NOTHING
    """Session of the sender whose messages the numbers count; 0 while it knows none."""
    taken: int = 0
    """Number of the last message it has taken."""
    settled: int = 0
    """Number of the last message that is safe, and of which the sender may forget all up to it."""
    introduced: bool = False
    """Whether it knows what came before the messages that are still kept."""
    again: bool = False
    """Whether it misses messages behind `taken`."""


_read_hello = Reader(
    "hello",
    {"link": int, "service": str, "session": int, "beat": int, "sender": int, "taken": int, "settled": int}
    | {"introduced": bool, "again": bool, "resume": list},
)


def pack_hello(hello: Hello, resume: Sequence[Sequence[Part]] = ()) -> list[Part]:
    """Parts of a hello, with the parts of messages that are to arrive with it or not at all."""
    said = {"link": LINK_VERSION, **asdict(hello), "resume": [len(parts) for parts in resume]}
    return [msgpack.packb(said), *(part for parts in resume for part in parts)]


def read_hello(parts: Sequence[Part]) -> tuple[Hello, list[Sequence[Part]]]:
    """A hello and the messages that came with it. Raises :class:`CodecError` naming the field."""
    if not parts or len(parts[0]) > MAX_HELLO_BYTES:
        raise CodecError("hello", f"{len(parts[0]) if parts else 0} bytes; 1 to {MAX_HELLO_BYTES} are accepted")
    try:
        said = msgpack.unpackb(parts[0], max_array_len=MAX_RESUMED, max_map_len=64, max_str_len=256)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError("hello", f"not msgpack, or too long ({type(error).__name__})") from error
    if not isinstance(said, dict):
        raise CodecError("hello", f"a msgpack {type(said).__name__}, not a map")
    version = said.get("link")
    if type(version) is int and version != LINK_VERSION:
        raise CodecError("hello.link", f"the consumer speaks link version {version}, this program {LINK_VERSION}")
    read = _read_hello({key: value for key, value in said.items() if isinstance(key, str)})
    del read["link"]
    counts = read.pop("resume")
    for name, value in read.items():
        if type(value) is int and not 0 <= value <= _LARGEST:
            raise CodecError(f"hello.{name}", f"{value} is negative")
    if read["settled"] > read["taken"]:
        raise CodecError("hello.settled", f"{read['settled']} is more than the {read['taken']} taken")
    return Hello(**read), _split(parts[1:], counts)


def _split(parts: Sequence[Part], counts: list[object]) -> list[Sequence[Part]]:
    messages, first = [], 0
    for count in counts:
        if type(count) is not int or count < 1:
            raise CodecError("hello.resume", "must be a list of positive integers")
        messages.append(parts[first : first + count])
        first += count
    if first != len(parts):
        raise CodecError("hello.resume", f"{first} parts announced, {len(parts)} follow")
    return messages
