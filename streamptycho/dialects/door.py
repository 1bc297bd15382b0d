"""The door for detectors: what turns the messages of a sender into facts.

A *source* does input and output and hands out messages as lists of parts; a *dialect* is pure and says what they mean. The
format of an endpoint names its dialect. Some are built in; an installed package may bring others by an entry point of the
group ``streamptycho.dialects``, which is loaded when an endpoint asks for its name. ``docs/dialects.md`` shows how.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol, get_args

from pydantic import ValidationError

from streamptycho.errors import CodecError, ConfigError, ProtocolError
from streamptycho.messages.facts import Fact, ForeignFact
from streamptycho.messages.kinds import Message
from streamptycho.wire.codec import Part, decode

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

log = logging.getLogger(__name__)

GROUP = "streamptycho.dialects"
"""Entry points of this group are callables that return a :class:`Dialect`; their keyword arguments are its options."""
OURS = "streamptycho"


class Dialect(Protocol):
    """The meaning of one sender's messages, in their order. Pure: no input or output, no clock but the time that is passed.

    Each stream has a dialect of its own, which may keep state between calls.
    """

    def feed(self, parts: Sequence[Part], now_s: float) -> Iterable[Fact]:
        """Facts that a message tells: none, one or several.

        `parts` are read-only; facts may hold views of them. `now_s` is a monotonic clock in seconds. A ProtocolError may be
        raised as well as yielded; it ends the message.
        """
        ...

    def tick(self, now_s: float) -> Iterable[Fact]:
        """Facts that follow from no message having come: called now and then, never while one waits to be fed."""
        ...


class StreamDialect(Dialect, Protocol):
    """A dialect of a stream of bytes over a connection: each message is one part, the bytes as they came, cut anywhere.

    What it has beyond a :class:`Dialect` is optional.
    """

    greeting: bytes
    """Sent first on each connection."""
    peer: str
    """What answers it, for people: ``"PandA data port (8889)"``."""

    def restarted(self, now_s: float) -> Iterable[Fact]:
        """Facts that follow from a new connection in place of one that broke; called before its first bytes are fed.

        What was incomplete on the old one will not be continued.
        """
        ...


class OurDialect:
    """Messages of ``docs/wire-protocol.md``: each stands for itself."""

    def feed(self, parts: Sequence[Part], now_s: float) -> Iterable[Fact]:
        """The message in `parts`."""
        return (decode(parts),)

    def tick(self, now_s: float) -> Iterable[Fact]:
        """Nothing follows from silence."""
        return ()


_BUILT_IN: dict[str, str] = {
    OURS: "streamptycho.dialects.door:OurDialect",
    "bluesky": "streamptycho.dialects.bluesky:Bluesky",
    "dectris-v1": "streamptycho.dialects.dectris.v1:DectrisV1",
    "dectris-v2": "streamptycho.dialects.dectris.v2:DectrisV2",
    "hdf5": "streamptycho.dialects.hdf5:Hdf5",
    "panda": "streamptycho.dialects.panda.port:Panda",
    "panda-json": "streamptycho.dialects.panda.messages:PandaJson",
    "panda-json-maxiv": "streamptycho.dialects.panda.messages:PandaJson",
    "table-csv": "streamptycho.dialects.table.fields:TableCsv",
    "table-json": "streamptycho.dialects.table.fields:TableJson",
}
"""Imported when asked for: a receiver imports only the formats that it is given."""
_FACTS = (*get_args(Message), *get_args(ForeignFact), ProtocolError)


def built_in() -> list[str]:
    """Names of the dialects that need no package; loads none."""
    return list(_BUILT_IN)


def known() -> list[str]:
    """Names of the dialects that are built in or installed; loads none."""
    return [*_BUILT_IN, *sorted({entry.name for entry in _installed()} - _BUILT_IN.keys())]


def make(name: str, options: dict[str, Any] | None = None) -> Dialect:
    """A dialect by its name, with its own `options`.

    Raises :class:`ConfigError` if there is none, if its package does not work, or if it has no such option.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return _build(name, getattr(import_module(module), attribute), options or {})
    found = [entry for entry in _installed() if entry.name == name]
    if not found:
        raise ConfigError(f"format = {name!r}: no such dialect; {remedy()}")
    if len(found) > 1:
        packages = " and ".join(sorted(entry.dist.name for entry in found if entry.dist is not None))
        raise ConfigError(f"format = {name!r}: {packages} bring a dialect of this name; uninstall all but one")
    try:
        return _build(name, found[0].load(), options or {})
    except ConfigError:
        raise
    except Exception as error:
        log.exception("the dialect %s cannot be loaded", name)
        raise ConfigError(f"format = {name!r}: {found[0].value} cannot be loaded ({error!r}); repair its package") from error


def _build(name: str, maker: Callable[..., Dialect], options: dict[str, Any]) -> Dialect:
    """Call `maker` with options that it has."""
    takes = signature(maker).parameters
    for option in options:
        if option not in takes:
            has = f"it has {', '.join(takes)}" if takes else "it has none"
            raise ConfigError(f"options.{option}: the dialect {name} has no such option; {has}")
    try:
        return maker(**options)
    except ValidationError as error:  # of a table of options
        key = ".".join(["options", *(str(step) for step in error.errors()[0]["loc"])])
        words = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{key}: {words}; the options of {name} are {', '.join(takes)}") from error


def remedy() -> str:
    """What to do about a name that is not known."""
    return f"known are {', '.join(known())}: correct the name or install its package"


def _installed() -> "EntryPoints":
    from importlib.metadata import entry_points  # takes some ms, and most streams are in our own dialect

    return entry_points(group=GROUP)


class Interpreter:
    """A dialect that cannot do harm: what it raises becomes an error that is counted, and the next message is read.

    A bug in a dialect costs the rest of the message in which it shows; its traceback is logged once for each type of error.
    """

    def __init__(self, name: str, options: dict[str, Any] | None = None) -> None:
        self._name = name
        self._dialect = make(name, options)
        self._reported: set[type] = set()
        self.greeting: bytes = getattr(self._dialect, "greeting", b"")
        """What a source of connections sends first on each."""
        self.peer: str = getattr(self._dialect, "peer", f"peer that speaks {name}")
        """What answers it."""

    def feed(self, parts: Sequence[Part], now_s: float) -> Iterator[Fact]:
        """Facts that a message tells."""
        return self._facts(self._dialect.feed, parts, now_s)

    def tick(self, now_s: float) -> Iterator[Fact]:
        """Facts that follow from no message having come."""
        return self._facts(self._dialect.tick, now_s)

    def restarted(self, now_s: float) -> Iterator[Fact]:
        """Facts that follow from a new connection in place of one that broke."""
        tell = getattr(self._dialect, "restarted", None)
        return self._facts(tell, now_s) if tell is not None else iter(())

    def _facts(self, ask: Callable[..., Iterable[Fact]], *told: Any) -> Iterator[Fact]:
        try:
            for fact in ask(*told):
                if not isinstance(fact, _FACTS):
                    raise TypeError(f"a {type(fact).__name__} is no fact")  # noqa: TRY301 - a bug like any other
                yield fact
        except ProtocolError as error:
            yield error
        except Exception as error:
            if type(error) not in self._reported:
                self._reported.add(type(error))
                log.exception("a bug in the dialect %s; errors of this type are only counted from now on", self._name)
            yield CodecError(f"dialect {self._name}", f"failed with {error!r:.200}; report it to the author of the dialect")
