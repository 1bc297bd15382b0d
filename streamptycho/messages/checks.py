"""Checks that messages make when they are built, as the annotations of their fields say.

A function in ``Annotated`` checks the value. A text names the axes of an array, ``"indices yx"``: axes of a message with the
same name have the same size, and only a list, of one axis, may be empty.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Annotated, Any, ClassVar, TypeAlias, get_type_hints

import msgpack
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho.messages.marks import array_types, marks_of

MAX_SCAN_ID = 128
"""Bytes of UTF-8: a scan id becomes part of a file name."""
MAX_METADATA_BYTES = 64 << 10
"""Metadata of a scan as msgpack: the start message travels on in a header of limited size."""
Scalar: TypeAlias = str | int | float | bool


@lru_cache(maxsize=16)
def file_name(_: str, scan_id: str) -> None:
    """Refuse an id that cannot be part of a file name."""
    if not scan_id or not scan_id.isprintable() or len(scan_id.encode()) > MAX_SCAN_ID:
        raise GrammarError("scan_id", f"{scan_id[:40]!r} must be printable, 1 to {MAX_SCAN_ID} bytes of UTF-8")
    if "/" in scan_id or "\\" in scan_id or scan_id.startswith("."):
        raise GrammarError("scan_id", f"{scan_id[:40]!r} names files: it has no slash and does not begin with a dot")


def count(field: str, value: int) -> None:
    """Refuse what is no count of 64 bits."""
    if not 0 <= value < 1 << 63:
        raise GrammarError(field, f"{value} is outside 0 to 2**63 - 1")


def counts(field: str, table: dict[str, int]) -> None:
    """Refuse negative numbers."""
    if min(table.values(), default=0) < 0:
        raise GrammarError(field, f"{min(table.values())} is negative")


def seconds(field: str, table: dict[str, float]) -> None:
    """Refuse what is no length of time."""
    if not all(0 <= value < math.inf for value in table.values()):
        raise GrammarError(field, f"{list(table.values())} are not all finite and 0 or more")


def finite(field: str, value: NDArray[Any] | tuple[float, ...]) -> None:
    """Refuse NaN and infinities."""
    if not (all(map(math.isfinite, value)) if isinstance(value, tuple) else np.isfinite(value).all()):
        raise GrammarError(field, "has values that are not finite; leave out what is not known")


def rising(field: str, index: NDArray[np.int64]) -> None:
    """Refuse an index (n,) that does not rise from 0 on."""
    if not len(index):
        raise GrammarError(field, "the block is empty")
    # compared, not subtracted: a difference of int64 can wrap round to a positive number
    if index.item(0) < 0 or (len(index) > 1 and (index[1:] <= index[:-1]).any()):
        raise GrammarError(field, "must be non-negative and strictly rising within a block")


def plain_metadata(field: str, table: dict[str, Scalar]) -> None:
    """Refuse metadata that the start message could not carry."""
    for key, value in table.items():
        if not isinstance(value, str | int | float | bool):
            raise GrammarError(field, f"{key[:40]!r} is a {type(value).__name__}, not text, number or bool")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise GrammarError(field, f"{key[:40]!r} does not fit 64 bits")
    size = len(msgpack.packb(table, unicode_errors="replace"))
    if size > MAX_METADATA_BYTES:
        raise GrammarError(field, f"{size} bytes; at most {MAX_METADATA_BYTES} are accepted")


ScanId: TypeAlias = Annotated[str, file_name]
Count: TypeAlias = Annotated[int, count]
Point: TypeAlias = Annotated[tuple[float, float], finite]
Index: TypeAlias = Annotated[NDArray[np.int64], "indices", rising]


class Checked:
    """A message that checks itself when it is built."""

    __slots__ = ()
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        check(self)


def check(message: Any, **sizes: int) -> None:
    """Refuse a message that is not as its annotations say; `sizes` are those of axes that are known otherwise.

    Arrays become contiguous and read-only, so that no consumer can change what another reads, and of the annotated type:
    another one is converted within its kind (float64 to float32, not uint8 to bool).
    """
    sizes["yx"] = 2
    for name, field, dtype, axes, checks in _rules(message.__class__):
        value = getattr(message, name)
        if value is None:
            continue
        if dtype is not None:
            value = _sealed(value, dtype, field)
            object.__setattr__(message, name, value)
        if axes:
            shape = value.shape
            if len(shape) != len(axes) or (len(shape) > 1 and 0 in shape):
                raise GrammarError(field, f"shape {shape} is not ({', '.join(axes)})")
            for at, axis in enumerate(axes):
                if sizes.setdefault(axis, shape[at]) != shape[at]:
                    raise GrammarError(field, f"shape {shape} does not match {sizes[axis]} {axis}")
        for refuse in checks:
            refuse(field, value)


@cache
def _rules(message: Any) -> list[tuple[str, str, np.dtype | None, list[str], list[Callable[[str, Any], None]]]]:
    """Of each field: its name here and in errors, the type and the axes of an array, and the functions that check it."""
    types = array_types(message)
    rules = []
    for name, hint in get_type_hints(message, include_extras=True).items():
        marks = marks_of(hint)
        axes = " ".join(mark for mark in marks if isinstance(mark, str)).split()
        rules.append((name, f"{message.kind}.{name}", types.get(name), axes, [mark for mark in marks if callable(mark)]))
    return [rule for rule in rules if any(rule[2:])]


def _sealed(value: Any, dtype: np.dtype, field: str) -> NDArray[Any]:
    array = value if type(value) is np.ndarray else np.asarray(value)
    flags = array.flags
    if (array.dtype is not dtype and array.dtype != dtype) or not flags.c_contiguous:
        try:
            with np.errstate(over="ignore"):
                array = array.astype(dtype, order="C", casting="same_kind")
        except TypeError as error:
            raise GrammarError(field, f"type {array.dtype} is not {dtype.name}") from error
    elif not flags.writeable:
        return array
    view = array.view()
    view.setflags(write=False)
    return view
