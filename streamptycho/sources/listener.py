"""Several sources as one stream of facts. The detector's streams come through here; our own services listen to each other
through :class:`streamptycho.wire.sockets.Receiver`.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streamptycho.compose.options import Role
from streamptycho.dialects.door import OURS, Interpreter
from streamptycho.dialects.hdf5 import Hdf5
from streamptycho.errors import ConfigError, ProtocolError
from streamptycho.messages.blocks import Blocks
from streamptycho.messages.facts import Fact
from streamptycho.options import Closing
from streamptycho.sources.growing import StoredReader
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.sources.recognise import Misread
from streamptycho.sources.tcp import TcpSource
from streamptycho.wire.codec import Part, decode
from streamptycho.wire.curve import Context
from streamptycho.wire.endpoint import SocketKind
from streamptycho.wire.sockets import AT_ONCE, Inlet, OpenSocket, Pollable, readable

TICK_S = 0.02
"""Time between two questions what follows from the silence of a stream."""
ASK_S = 0.02
"""How often a source is asked that cannot be waited for."""


class Source(Protocol):
    """Where messages come from: does the input and output, and never waits longer than it is told."""

    @property
    def pollable(self) -> Pollable | None:
        """What to wait for, at the moment; None if there is nothing, and the source is to be asked now and then."""
        ...

    @property
    def standing(self) -> str:
        """How it stands with the connection to the sender, as long as nothing has come; empty where there is none."""
        ...

    def poll(self, timeout_s: float) -> Sequence[Part] | None:
        """The parts of the next message, or None if none comes in time; no parts at all if a connection has broken and there
        is a new one.

        Raises :class:`~streamptycho.errors.ProtocolError` for what cannot be read; the next call goes on behind it.
        """
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class Files(Protocol):
    """What reads files, and tells what is in them as facts."""

    def through(self, facts: Iterable[Fact]) -> Iterator[Fact]:
        """`facts` and those of the files, without those that only name files; never waits."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class Heard(NamedTuple):
    """A fact, and the role of the stream that told it: the name of its endpoint in the configuration."""

    role: Role
    fact: Fact

    @property
    def scan_id(self) -> str | None:
        """The scan that the fact names, if it is one of ours."""
        return getattr(self.fact, "scan_id", None)

    @property
    def started_ns(self) -> int:
        """Beginning of that run; 0 where the fact does not say it."""
        return getattr(self.fact, "started_ns", 0)


@dataclass(eq=False)
class Stream:
    """A source, the dialect of its messages, and what is left of those that it may read in this turn."""

    role: Role
    source: Source
    dialect: Interpreter
    taken: int = field(default=0, init=False)
    """Facts that have been taken in this turn."""
    heard_s: float | None = field(default=None, init=False)
    """When the latest message came; None before the first."""
    files: Files = field(default_factory=StoredReader)
    """What reads the files that these facts name."""
    misread: Misread | None = None
    _facts: Iterator[Fact] = field(default=iter(()), init=False)

    _ticked_s: float = field(default=-math.inf, init=False)

    def begin(self, *, waiting: bool) -> bool:
        """Turn to the next messages, or to the silence if none is `waiting`.

        False if there is nothing to be taken: no message, and the silence was asked a moment ago.
        """
        if not waiting:
            now_s = time.monotonic()
            if now_s - self._ticked_s < TICK_S:
                return False
            self._ticked_s = now_s
        self._facts = self.files.through(_joined(self._read(waiting=waiting)))
        self.taken = 0
        return True

    def take(self) -> Fact | None:
        """The next fact of this turn; None if there is no other."""
        fact = next(self._facts, None)
        self.taken += fact is not None
        return fact

    def close(self) -> None:
        """Stop listening."""
        self.source.close()
        self.files.close()

    def _read(self, *, waiting: bool) -> Iterator[Fact]:
        heard = False
        for _ in range(AT_ONCE if waiting else 0):
            try:
                parts = self.source.poll(0)
            except ProtocolError as error:
                yield error
                heard = True
                continue
            if parts is None:
                break
            heard, self.heard_s = True, time.monotonic()
            if not parts:
                yield from self.dialect.restarted(self.heard_s)
                continue
            facts = self.dialect.feed(parts, self.heard_s)
            yield from facts if self.misread is None else self.misread.hear(parts, facts)
        if not heard:
            yield from self.dialect.tick(time.monotonic())


@dataclass(eq=False)
class OwnStream:
    """A source of messages in our own dialect, each of which is a fact: without the detours that others need."""

    role: Role
    source: Inlet
    misread: Misread | None = None
    taken: int = field(default=0, init=False)
    _facts: deque[Fact] = field(default_factory=deque, init=False)

    @property
    def heard_s(self) -> float | None:
        """When the latest message came; None before the first."""
        return self.source.heard_s

    def begin(self, *, waiting: bool) -> bool:
        """Turn to the next messages; frames and positions that have come together are joined."""
        self.taken = 0
        if waiting:
            self._facts.extend(_joined(self._read()))
        return bool(self._facts)

    def take(self) -> Fact | None:
        """The next message; None if there is no other."""
        if not self._facts:
            return None
        self.taken += 1
        return self._facts.popleft()

    def _read(self) -> Iterator[Fact]:
        for _ in range(AT_ONCE):
            parts = self.source.poll(0)
            if parts is None:
                return
            try:
                fact: Fact = decode(parts)
            except ProtocolError as error:
                fact = error
            if self.misread is None:
                yield fact
            else:
                yield from self.misread.hear(parts, iter((fact,)))

    def close(self) -> None:
        """Stop listening."""
        self.source.close()


def _joined(facts: Iterable[Fact]) -> Iterator[Fact]:
    """The facts of one turn; frames that have come together as blocks."""
    blocks = Blocks[Fact]()
    for fact in facts:
        yield from blocks.add(fact)
    yield from blocks.flush()


class Listener(Closing):
    """Hears several streams as one, fairly."""

    def __init__(self, streams: Sequence[Stream | OwnStream]) -> None:
        self._streams = streams
        self._attended: list[OpenSocket] = []
        self._turns: deque[Stream | OwnStream] = deque()

    def attend(self, other: OpenSocket) -> None:
        """Give `other` a turn whenever its peers have said something while messages are waited for here."""
        self._attended.append(other)

    def acknowledge(self) -> None:
        """Detectors do not ask what has become of their frames."""

    def part(self) -> None:
        """Nor are they told of the end."""

    @property
    def silences_s(self) -> dict[str, float | None]:
        """How long nothing has come, by role; None before the first message."""
        now_s = time.monotonic()
        return {stream.role: None if stream.heard_s is None else now_s - stream.heard_s for stream in self._streams}

    @property
    def standings(self) -> dict[str, str]:
        """By role, how it stands with the connection to a sender of whom nothing has come."""
        standings = {stream.role: stream.source.standing for stream in self._streams if stream.heard_s is None}
        return {role: words for role, words in standings.items() if words}

    def receive(self, timeout_s: float) -> Heard | None:
        """The next fact, or None if nothing came in time.

        Streams that have something to say take turns, fact by fact. Messages that tell nothing do not end the wait.
        """
        until_s, heard = time.monotonic() + timeout_s, self._next()
        while heard is None:
            more = self._listen(max(until_s - time.monotonic(), 0.0))
            heard = self._next()
            if not more or time.monotonic() >= until_s:
                break
        return heard

    def _next(self) -> Heard | None:
        while self._turns:
            stream = self._turns.popleft()
            fact = stream.take()
            if fact is not None:
                self._turns.append(stream)
                if stream.taken % AT_ONCE == 0:  # the others need not wait until one that says much has been heard out
                    self._listen(0)
                return Heard(stream.role, fact)
        return None

    def _listen(self, timeout_s: float) -> bool:
        """Give a turn to each stream that has none; False if all have been waited for in vain."""
        pollables = [(stream, stream.source.pollable) for stream in self._streams]
        asked = any(pollable is None for _, pollable in pollables)
        if asked:
            timeout_s = min(timeout_s, ASK_S)
        waited_for = [pollable for _, pollable in pollables if pollable is not None]
        ready = readable([*waited_for, *(other.socket for other in self._attended)], timeout_s)
        for other in self._attended:
            if other.socket in ready:
                other.turn()
        for stream, pollable in pollables:
            if stream not in self._turns and stream.begin(waiting=pollable is None or pollable in ready):
                self._turns.append(stream)
        return asked or bool(ready)

    def close(self) -> None:
        """Close all sources; what has not been received is dropped."""
        for stream in self._streams:
            stream.close()


def listen(context: Context, endpoints: Mapping[Role, DetectorEndpoint]) -> Listener:
    """Hear `endpoints`, role to end of its stream, each in the dialect of its format."""
    others = {role: endpoint for role, endpoint in endpoints.items() if endpoint.format != OURS}
    dialects = {role: Interpreter(endpoint.format, endpoint.options) for role, endpoint in others.items()}
    streams: list[Stream | OwnStream] = []
    try:
        for role, endpoint in endpoints.items():
            streams.append(open_stream(context, role, endpoint, dialects.get(role)))
    except ConfigError:
        Listener(streams).close()
        raise
    return Listener(streams)


def open_stream(
    context: Context, role: Role, endpoint: DetectorEndpoint, dialect: Interpreter | None = None
) -> Stream | OwnStream:
    """What comes from `endpoint`, in the dialect of its format. Raises :class:`ConfigError` if that cannot be."""
    misread = Misread(endpoint.format, connection=endpoint.socket is SocketKind.STREAM)
    if endpoint.format == OURS and endpoint.socket is not SocketKind.STREAM:
        return OwnStream(role, Inlet(context, endpoint), misread)
    dialect = dialect or Interpreter(endpoint.format, endpoint.options)
    if endpoint.format == "hdf5":
        from streamptycho.sources.scan_files import ScanFiles  # most receivers need no HDF5

        files = ScanFiles(endpoint.address, Hdf5.model_validate(endpoint.options))
        return Stream(role, files, dialect, files)
    if endpoint.socket is SocketKind.STREAM:
        return Stream(role, TcpSource(endpoint, dialect.greeting, dialect.peer), dialect, misread=misread)
    return Stream(role, Inlet(context, endpoint), dialect, misread=misread)
