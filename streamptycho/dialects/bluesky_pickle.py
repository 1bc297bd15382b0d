"""Documents out of pickles, without unpickling: a machine for the few instructions that plain data need.

It knows numbers, texts, containers and NumPy arrays. It imports nothing and calls nothing that the bytes name; whatever else
they ask for is refused by its name. It takes time and memory in proportion to the bytes.
"""

import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

from streamptycho.dialects.numbers import array_of
from streamptycho.errors import CodecError

_REMEDY = "let the publisher serialise with msgpack or JSON"
_MODULE = re.compile(r"numpy(\._?core)?(\.(multiarray|numeric))?")
_NAMED = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}
_Step: TypeAlias = "Callable[[_Machine, Any], None]"


@dataclass(frozen=True, slots=True)
class _Global:
    """A name that the bytes ask for, and that stands for nothing."""

    name: str


@dataclass(slots=True, eq=False)
class _Type:
    """An element type on its way."""

    name: str


@dataclass(slots=True, eq=False)
class _Array:
    """An array whose content follows."""

    array: NDArray[Any] | None = None


_MARK = object()


def loads(payload: bytes) -> Any:
    """What a pickle says. Raises :class:`CodecError` for anything but plain data and arrays of numbers."""
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(payload):
            if operation.name == "STOP":
                return _filled(machine.stack.pop())
            machine.steps += 1
            _step(operation.name)(machine, argument)
    except CodecError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, AttributeError) as error:
        raise CodecError("document", f"the pickle is damaged ({type(error).__name__}: {error!s:.100})") from error
    raise CodecError("document", "the pickle has no end")


def _step(name: str) -> _Step:
    if name not in _STEPS:
        raise CodecError("document", f"a pickle with the instruction {name} is not read; {_REMEDY}")
    return _STEPS[name]


def _filled(doc: Any) -> Any:
    """The document with arrays for their placeholders, where documents have them: in it and in its tables."""
    if type(doc) is not dict:
        return doc
    tables = {
        id(table): table for table in (doc, *doc.values()) if type(table) is dict
    }  # each once, however often it occurs
    for table in tables.values():
        for key, value in table.items():
            if isinstance(value, _Array):
                table[key] = value.array
    return doc


@dataclass(slots=True)
class _Machine:
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    steps: int = 0

    def marked(self) -> list[Any]:
        """What lies above the latest mark, which goes too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError("no mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def add(self, items: list[Any]) -> None:
        """Append to the list on top."""
        if type(self.stack[-1]) is not list:
            raise TypeError("no list to append to")
        self.stack[-1].extend(items)

    def set(self, items: list[Any]) -> None:
        """Put pairs, flat, into the map on top."""
        table = self.stack[-1]
        if type(table) is not dict or len(items) % 2:
            raise TypeError("no map, or half a pair")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, bytes, int):  # the hash of nested tuples can take forever
                raise CodecError("document", f"a key is a {type(key).__name__}, not text")
            table[key] = value

    def ask(self, module: str, name: str) -> None:
        """Push what stands for a name, or refuse it."""
        if isinstance(module, str) and isinstance(name, str):
            if _MODULE.fullmatch(module) and name in _NAMED:
                self.stack.append(_Global(name))
                return
            if (module, name) in (("_codecs", "encode"), ("collections", "OrderedDict")):
                self.stack.append(_Global(name))
                return
        raise CodecError(
            "document",
            f"the pickle asks for {module!s:.60}.{name!s:.60}, which was not called: only numbers, texts, containers and"
            f" NumPy arrays are read; {_REMEDY}",
        )

    def call(self) -> None:
        """What stands for a call of one of these names."""
        arguments, asked = self.stack.pop(), self.stack.pop()
        if not isinstance(asked, _Global) or type(arguments) is not tuple:
            raise TypeError("no name to call")
        self.stack.append(_CALLS[asked.name](*arguments))

    def build(self) -> None:
        """Give a type or an array the state that follows it."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Type):
            target.name = state[1].replace("|", "") + target.name.lstrip("<>=|")
        elif isinstance(target, _Array):
            _, shape, dtype, by_columns, content = state
            target.array = _array(content, dtype, shape, "F" if by_columns else "C")
        else:
            raise TypeError("state for something that has none")

    def keep(self, at: int) -> None:
        """Remember what is on top."""
        if not 0 <= at <= self.steps:
            raise ValueError(f"memory of {at}")
        self.memo[at] = self.stack[-1]

    def wrap(self, items: int) -> None:
        """Make a tuple of so many items on top."""
        begin = len(self.stack) - items
        wrapped = tuple(self.stack[begin:])
        if begin < 0 or any(item is _MARK for item in wrapped):
            raise IndexError("nothing there")
        self.stack[begin:] = [wrapped]


def _array(content: Any, dtype: Any, shape: Any, order: Any = "C") -> NDArray[Any]:
    if not isinstance(dtype, _Type) or not isinstance(content, bytes | bytearray) or order not in ("C", "F"):
        raise CodecError("document", f"an array that does not hold plain numbers is not read; {_REMEDY}")
    return array_of("document", dtype.name, shape, content, order)


def _scalar(dtype: Any, content: Any = b"") -> Any:
    return _array(content, dtype, (1,))[0].item()


def _type(name: Any, *_: Any) -> _Type:
    if isinstance(name, str):
        return _Type(name)
    raise CodecError("document", "an element type that is not simple is not read")


def _encoded(text: str, _: str = "") -> bytes:
    return text.encode("latin1")


_CALLS: dict[str, Callable[..., Any]] = {
    "_reconstruct": lambda *_: _Array(),
    "_frombuffer": lambda content, dtype, shape, order="C": _array(content, dtype, shape, order),
    "scalar": _scalar,
    "dtype": _type,
    "encode": _encoded,
    "OrderedDict": lambda: {},
}


def _push(machine: _Machine, argument: Any) -> None:
    machine.stack.append(argument)


def _nothing(machine: _Machine, argument: Any) -> None:
    pass


def _last_two(machine: _Machine) -> list[Any]:
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


def _made(make: Callable[[list[Any]], Any]) -> _Step:
    return lambda machine, _: machine.stack.append(make(machine.marked()))


def _map(items: list[Any]) -> dict[Any, Any]:
    machine = _Machine(stack=[{}])
    machine.set(items)
    table: dict[Any, Any] = machine.stack[0]
    return table


_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(
        (
            *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
            *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
            *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        ),
        _push,
    ),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_SET": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "POP": lambda machine, _: machine.stack.__delitem__(-1),
    "POP_MARK": lambda machine, _: machine.marked().clear(),
    "LIST": _made(list),
    "FROZENSET": _made(list),
    "TUPLE": _made(tuple),
    "DICT": _made(_map),
    "TUPLE1": lambda machine, _: machine.wrap(1),
    "TUPLE2": lambda machine, _: machine.wrap(2),
    "TUPLE3": lambda machine, _: machine.wrap(3),
    "APPEND": lambda machine, _: machine.add([machine.stack.pop()]),
    "APPENDS": lambda machine, _: _below(machine, machine.marked(), machine.add),
    "ADDITEMS": lambda machine, _: _below(machine, machine.marked(), machine.add),
    "SETITEM": lambda machine, _: _below(machine, _last_two(machine), machine.set),
    "SETITEMS": lambda machine, _: _below(machine, machine.marked(), machine.set),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, at: machine.keep(at)),
    "MEMOIZE": lambda machine, _: machine.keep(len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, at: machine.stack.append(machine.memo[at])),
    "GLOBAL": lambda machine, names: machine.ask(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.ask(*_last_two(machine)),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}


def _below(machine: _Machine, items: list[Any], take: Callable[[list[Any]], None]) -> None:
    """Give `items` to what is now on top."""
    take(items)
