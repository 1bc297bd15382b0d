"""Tables of datasets that a growing file has from its beginning, empty, and a finished one with what is known.

Empty and absent mean the same: not known.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.files.items import ROW_CHUNK, SMALL, TILE, fixed, put
from streamptycho.files.storage import put_tiles

SENTENCE = 1024
"""Bytes of a long text in the growing file."""
_CHUNKS = {"S": (16,), 1: (ROW_CHUNK,), 2: (TILE, TILE), 3: (1, TILE // 2, TILE // 2)}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Field(Generic[_T]):
    """One dataset."""

    path: str
    """Below the root that its table is of."""
    empty: NDArray[Any]
    """Its type and, in the growing file, its value before anything is known; with rows it grows, without it is a scalar."""
    value: str | Callable[[_T], Any]
    """The field of the message that it holds; or how numbers or texts follow from a message, None where it does not say."""
    units: str = ""
    meaning: str = ""
    label: str = ""
    """What viewers write beside it."""

    def of(self, message: _T) -> Any:
        """What `message` says; None where it does not."""
        value = getattr(message, self.value) if isinstance(self.value, str) else self.value(message)
        return value if value is not None and np.size(value) else None


def numbers(kind: type, ndim: int = 1) -> NDArray[Any]:
    """The empty value of an array."""
    return np.zeros((0,) * ndim, kind)


def known(fields: Iterable[Field[_T]], message: _T | None) -> Iterator[tuple[Field[_T], Any]]:
    """Fields of which `message` says something."""
    if message is not None:
        yield from ((field, value) for field in fields if (value := field.of(message)) is not None)


def create_fields(file: h5py.File, root: str, fields: Iterable[Field[Any]]) -> None:
    """Every field, empty: at the end of the scan nothing may be created any more."""
    for field in fields:
        empty = field.empty
        growth: dict[str, Any] = {}
        if empty.ndim:
            growth = {"maxshape": (None,) * empty.ndim, "chunks": _CHUNKS.get(empty.dtype.kind) or _CHUNKS[empty.ndim]}
        growth |= SMALL if empty.ndim > 1 else {}
        put(file, f"{root}/{field.path}", empty, field.units, growth, meaning=field.meaning, long_name=field.label)


def fill_fields(file: h5py.File, root: str, said: Iterable[tuple[Field[Any], Any]]) -> None:
    """What is said, into fields that :func:`create_fields` made; texts that are too long say where they are cut."""
    for field, value in said:
        dataset = file[f"{root}/{field.path}"]
        values = _encoded(value, dataset.dtype)
        if field.empty.ndim:
            dataset.resize(values.shape)
        if values.ndim > 1:
            put_tiles(dataset, values)
        else:
            dataset[...] = values


def write_fields(file: h5py.File, root: str, said: Iterable[tuple[Field[Any], Any]]) -> None:
    """What is said and no more, with texts of any length."""
    for field, value in said:
        kind = field.empty.dtype
        if kind.kind == "S":
            longest = max(len(one.encode()) for one in ([value] if isinstance(value, str) else value))
            kind = h5py.string_dtype("utf-8", max(longest, 1))
        values, storage = _encoded(value, kind), SMALL if field.empty.ndim > 1 else {}
        put(file, f"{root}/{field.path}", values, field.units, storage, meaning=field.meaning, long_name=field.label)


def _encoded(value: Any, kind: np.dtype[Any]) -> NDArray[Any]:
    if kind.kind != "S":
        return np.asarray(value, kind)
    texts = fixed(value, kind.itemsize) if isinstance(value, str) else [fixed(one, kind.itemsize) for one in value]
    return np.array(texts, kind)
