"""A small reader of CBOR (RFC 8949) for bytes that anybody may have sent.

Arrays become lists, maps dicts, tags pairs (number, value), byte strings views of the buffer. Nothing is allocated by a
number that the bytes carry: a container needs a byte for each of its items, and all together are bounded, as is their depth.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

from streamptycho.errors import CodecError

MAX_DEPTH = 24
MAX_ITEMS = 20_000
"""Entries of all containers of one object together."""
SMALL_BYTES = 1 << 16
"""A view of up to so many bytes is copied before it is read: bytes are read faster, and this costs 2 us."""

_HALF, _SINGLE, _DOUBLE = struct.Struct(">e"), struct.Struct(">f"), struct.Struct(">d")
_SIZES = tuple((1 << k, struct.Struct(f">{kind}").unpack_from) for k, kind in enumerate("BHIQ"))
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_BREAK = 0xFF
_ALIKE_BYTES = 4096
"""Longest object, its long strings apart, for which others like it are recognised."""
_SHORT = 64
"""Byte strings of fewer bytes must be the same."""
_NUMBER = rb"[\x00-\x17]|\x18.|\x19..|\x1a.{4}|\x1b.{8}"
_STRING = rb"([\x40-\x57]|\x58.|\x59..|\x5a.{4}|\x5b.{8})"


def read(data: bytes | memoryview, at: int = 0) -> tuple[Any, int]:
    """The object that begins at `at`, and where it ends.

    Raises :class:`CodecError` if there is no whole one, or one that is too large.
    """
    try:
        return _item(data, at, MAX_DEPTH, [MAX_ITEMS])
    except (IndexError, struct.error) as error:
        raise CodecError("cbor", f"the object at byte {at} is cut off at the end of {len(data)} bytes") from error
    except UnicodeDecodeError as error:
        raise CodecError("cbor", f"a text of the object at byte {at} is not UTF-8") from error


def _item(data: bytes | memoryview, at: int, depth: int, left: list[int]) -> tuple[Any, int]:
    """One item; every branch checks that what it reads is inside of `data`."""
    first = data[at]
    at += 1
    if first < 24:
        return first, at
    low = first & 31
    if low < 24:
        n = low
    elif low < 28:
        size, unpack = _SIZES[low - 24]
        n = unpack(data, at)[0]
        at += size
    else:
        return _indefinite(data, at, first, depth, left)
    if first < 0x40:
        return (n if first < 0x20 else -1 - n), at
    if first < 0x80:
        end = at + n
        if end > len(data):
            raise IndexError
        return (str(data[at:end], "utf-8") if first >= 0x60 else memoryview(data)[at:end]), end
    if first >= 0xE0:
        return _simple(data, at, low, n)
    if not depth:
        raise CodecError("cbor", f"nested more than {MAX_DEPTH} deep")
    if first >= 0xC0:
        value, at = _item(data, at, depth - 1, left)
        return (n, value), at
    left[0] -= n
    if left[0] < 0 or n > len(data) - at:
        raise _too_many() if left[0] < 0 else IndexError
    if first < 0xA0:
        values = []
        for _ in range(n):
            value, at = _item(data, at, depth - 1, left)
            values.append(value)
        return values, at
    table = {}
    for _ in range(n):
        key, at = _item(data, at, depth - 1, left)
        if type(key) is not str:
            raise CodecError("cbor", f"the key of a map is a {type(key).__name__}, not text")
        table[key], at = _item(data, at, depth - 1, left)
    return table, at


def _indefinite(data: bytes | memoryview, at: int, first: int, depth: int, left: list[int]) -> tuple[Any, int]:
    """An item that goes on until a break."""
    major = first >> 5
    if first & 31 != 31 or not 2 <= major <= 5:
        raise CodecError("cbor", f"byte {first:#04x} at {at - 1} begins nothing")
    if not depth:
        raise CodecError("cbor", f"nested more than {MAX_DEPTH} deep")
    values = []
    while data[at] != _BREAK:
        value, at = _item(data, at, depth - 1, left)
        values.append(value)
        left[0] -= 1
        if left[0] < 0:
            raise _too_many()
    at += 1
    if major == 4:
        return values, at
    if major == 5:
        if len(values) % 2 or not all(type(key) is str for key in values[::2]):
            raise CodecError("cbor", "a map does not have a text for every value")
        return dict(zip(values[::2], values[1::2], strict=True)), at
    wanted = str if major == 3 else memoryview
    if not all(type(value) is wanted for value in values):
        raise CodecError("cbor", "a string in pieces holds something else")
    return ("".join(values) if major == 3 else memoryview(b"".join(values))), at


def _simple(data: bytes | memoryview, at: int, low: int, n: int) -> tuple[Any, int]:
    """A float, true, false, or nothing."""
    if low < 25:
        return _SIMPLE.get(n), at
    size, kind = ((2, _HALF), (4, _SINGLE), (8, _DOUBLE))[low - 25]
    return kind.unpack_from(data, at - size)[0], at


def _too_many() -> CodecError:
    return CodecError("cbor", f"an object of more than {MAX_ITEMS} entries")


class Alike:
    """Recognises objects that differ from one that has been read only in some numbers and in long byte strings.

    The images of a series are such: reading each in full takes five times as long as to see that it is like the one before.
    The first is at `at` in `data`, and has been read without an error. `varying` names the non-negative integers that may
    differ, by key or by key and place in a list, and whether :meth:`match` is to return them.
    """

    def __init__(self, data: bytes | memoryview, at: int, varying: Mapping[tuple[Any, ...], bool]) -> None:
        self.names: list[tuple[Any, ...]] = []
        """Paths of the numbers that :meth:`match` returns."""
        self.strings: list[tuple[Any, ...]] = []
        """Paths of the strings that it returns."""
        self._data, self._varying = data, varying
        self._pieces: list[list[bytes]] = [[]]
        self._walk(at, ())
        del self._data
        self._patterns = [re.compile(b"".join(pieces), re.DOTALL) for pieces in self._pieces]

    @classmethod
    def of(
        cls, data: bytes | memoryview, at: int, end: int, strings: int, varying: Mapping[tuple[Any, ...], bool]
    ) -> "Alike | None":
        """What recognises objects like that from `at` to `end`, of which `strings` bytes are in long strings."""
        return cls(data, at, varying) if end - at - strings <= _ALIKE_BYTES else None

    def match(self, data: bytes | memoryview, at: int) -> tuple[list[int], list[memoryview], int] | None:
        """Numbers and strings of the object at `at`, and where it ends; None if it is not like the first."""
        numbers: list[int] = []
        strings: list[memoryview] = []
        for pattern in self._patterns:
            found = pattern.match(data, at)
            if found is None:
                return None
            at = found.end()
            groups = [int.from_bytes(head[1:], "big") if len(head) > 1 else head[0] & 31 for head in found.groups()]
            if len(strings) < len(self.strings):
                size = groups.pop()
                if size > len(data) - at:
                    return None
                strings.append(memoryview(data)[at : at + size])
                at += size
            numbers += groups
        return numbers, strings, at

    def _walk(self, at: int, path: tuple[Any, ...]) -> int:
        """Add the item at `at` to the patterns; returns where it ends."""
        data, first = self._data, self._data[at]
        major, low = first >> 5, first & 31
        end = at + 1 + (1 << (low - 24) if 24 <= low < 28 else 0)
        n = low if low < 24 else int.from_bytes(data[at + 1 : end], "big")
        if major == 0 and path in self._varying:
            if self._varying[path]:
                self.names.append(path)
            self._pieces[-1].append(b"(%b%b)" % (b"" if self._varying[path] else b"?:", _NUMBER))
            return end
        if major == 2 and low != 31 and n >= _SHORT:
            self.strings.append(path)
            self._pieces[-1].append(_STRING)
            self._pieces.append([])
            return end + n
        if major in (2, 3) and low != 31:
            end += n
        self._pieces[-1].append(re.escape(bytes(data[at:end])))
        if major == 6:
            return self._walk(end, path)
        if major in (4, 5) or low == 31:
            end = self._inside(end, path, major == 5, None if low == 31 else n)
        return end

    def _inside(self, at: int, path: tuple[Any, ...], is_map: bool, count: int | None) -> int:
        """Add the items of a container, `count` or as many as there are up to a break."""
        data, place = self._data, 0
        while place != count and not (count is None and data[at] == _BREAK):
            key: Any = place
            if is_map:
                key, at = read(data, at)[0], self._walk(at, (_BREAK,))
            at, place = self._walk(at, (*path, key)), place + 1
        if count is not None:
            return at
        self._pieces[-1].append(bytes((_BREAK,)))
        return at + 1
