"""Typed reading of the fields of a received header: every refusal names the message, the field and the value."""

from collections.abc import Callable
from typing import Any

import numpy as np

from streamptycho.errors import CodecError
from streamptycho.payload import PIXEL_DTYPES


class FieldReader:
    """Typed access to the fields of a message: what is missing or of another type is named."""

    def __init__(self, kind: str, fields: dict[str, Any]) -> None:
        self.kind = kind
        self.fields = fields

    def __call__(self, name: str, kind: type) -> Any:
        """The field, which must be there, as `kind`."""
        if name not in self.fields:
            raise CodecError(f"{self.kind}.{name}", "missing")
        value = self.fields[name]
        if not _is(value, kind):
            raise CodecError(f"{self.kind}.{name}", f"{type(value).__name__} instead of {kind.__name__}")
        if kind is float:
            return float(value)
        if kind is int and not _fits(value):
            raise CodecError(f"{self.kind}.{name}", f"{value} does not fit 64 bits")
        return value

    def optional(self, name: str, kind: type) -> Any:
        """The same, or None if it is absent or null."""
        return None if self.fields.get(name) is None else self(name, kind)

    def pair(self, name: str, kind: type) -> tuple[Any, Any]:
        """A list of exactly two."""
        values = self(name, list)
        if len(values) != 2:
            raise CodecError(f"{self.kind}.{name}", f"{len(values)} values instead of 2")
        read = FieldReader(self.kind, {f"{name}[{i}]": value for i, value in enumerate(values)})
        return read(f"{name}[0]", kind), read(f"{name}[1]", kind)

    def choice(self, name: str, kind: Callable[[str], Any]) -> Any:
        """A word that `kind` knows, such as a member of an enumeration."""
        value = self(name, str)
        try:
            return kind(value)
        except ValueError as error:
            raise CodecError(f"{self.kind}.{name}", f"{value[:40]!r} is not known") from error

    def table(self, name: str, *kinds: type) -> dict[str, Any]:
        """A map from names to values of any of `kinds`."""
        table: dict[str, Any] = self(name, dict)
        for key, value in table.items():
            if not isinstance(key, str) or not any(_is(value, kind) for kind in kinds):
                raise CodecError(f"{self.kind}.{name}", f"entry {key[:40]!r} has type {type(value).__name__}")
        return table

    def dtype(self, name: str) -> np.dtype:
        """A pixel type, little-endian."""
        value: str = self(name, str)
        if value not in PIXEL_DTYPES:
            raise CodecError(f"{self.kind}.{name}", f"{value[:40]!r} is not one of {', '.join(PIXEL_DTYPES)}")
        return np.dtype(value).newbyteorder("<")

    def integers(self, name: str) -> np.ndarray:
        """A list of 64-bit integers, as int64."""
        values = self(name, list)
        if not all(_is(value, int) and _fits(value) for value in values):
            raise CodecError(f"{self.kind}.{name}", "must be a list of 64-bit integers")
        return np.array(values, np.int64)


def _is(value: Any, kind: type) -> bool:
    """Whether `value` is a `kind`: an integer is a float too, but a bool is no number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _fits(value: int) -> bool:
    return -(1 << 63) <= value < 1 << 63
