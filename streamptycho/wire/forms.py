"""The wire form of each kind of message, derived from its annotations: nothing is said here about any one kind.

An array travels in a part of its own, everything else in the header's ``fields``; marks (:class:`Wire`) say where that is
not so. A field with a default may be left out, or be nil, unless it is marked as required.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from operator import attrgetter
from reprlib import repr as short
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
from pydantic_core import SchemaValidator, ValidationError, core_schema

from streamptycho.errors import CodecError
from streamptycho.messages.kinds import KINDS
from streamptycho.messages.marks import Wire, alternatives, array_types, marks_of
from streamptycho.messages.payload import PIXEL_DTYPES

_INT64 = core_schema.int_schema(strict=True, ge=-(1 << 63), le=(1 << 63) - 1)
_SCALARS: dict[Any, core_schema.CoreSchema] = {
    int: _INT64,
    float: core_schema.float_schema(strict=True),  # an integer is a float too, but a bool is no number
    bool: core_schema.bool_schema(strict=True),
    str: core_schema.str_schema(strict=True),
    dict: core_schema.dict_schema(strict=True),
    list: core_schema.list_schema(strict=True),
}
_PIXEL_TYPES = {name: np.dtype(name).newbyteorder("<") for name in PIXEL_DTYPES}
PIXEL_NAMES = {dtype: name for name, dtype in _PIXEL_TYPES.items()}
"""Names of pixel types; NumPy takes 2 us for one."""


class Reader:
    """Strict reading of a received map: what is missing or of another type is refused by name."""

    def __init__(self, kind: str, annotations: Mapping[str, Any], optional: frozenset[str] = frozenset()) -> None:
        self._kind = kind
        self._tables = {name for name, annotation in annotations.items() if get_origin(annotation) is dict}
        self._validator = SchemaValidator(_table(annotations, optional))

    def __call__(self, received: dict[str, Any]) -> dict[str, Any]:
        """The known entries that are not nil. Raises :class:`CodecError`."""
        if None in received.values():
            received = {name: value for name, value in received.items() if value is not None}
        try:
            read: dict[str, Any] = self._validator.validate_python(received)
        except ValidationError as error:
            raise self._refusal(error) from error
        return read

    def _refusal(self, refused: ValidationError) -> CodecError:
        error = refused.errors(include_url=False)[0]
        kind, value, context = error["type"], error["input"], error.get("ctx", {})
        name, *inner = error["loc"]
        field = f"{self._kind}.{name}"
        if kind == "missing":
            detail = "missing"
        elif kind == "value_error":
            detail = str(context["error"])
        elif kind in ("too_short", "too_long"):
            detail = f"{len(value)} values instead of {context.get('min_length', context.get('max_length'))}"
        else:
            shown = short(value) if isinstance(value, str | int | float) else type(value).__name__
            detail = f"{error['msg'].replace('Input should', 'must')}, not {shown}"
        if inner and name in self._tables:
            return CodecError(field, f"entry {str(inner[0])[:40]!r} {detail}")
        return CodecError(field + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in inner), detail)


class _Field(NamedTuple):
    """A field of a message, or of a value that travels inline in it."""

    name: str
    path: str
    annotation: Any
    marks: tuple[Any, ...]
    optional: bool

    @property
    def is_part(self) -> bool:
        """Whether it travels behind the header."""
        return Wire.PARTS in self.marks or (_is_array(self.annotation) and Wire.IN_HEADER not in self.marks)


class Form:
    """How one kind of message is written and read."""

    def __init__(self, message: Any) -> None:
        self.kind: str = message.kind
        types = array_types(message)
        self._message = message
        self._inline: list[tuple[str, type, list[str]]] = []
        every = list(self._walk(message))
        # of version 1: what is marked comes behind what is not
        header = sorted((field for field in every if not field.is_part), key=_is_marked)
        self._header = [(field.name, attrgetter(field.path)) for field in header]
        self._listed = [field.name for field in header if Wire.IN_HEADER in field.marks]
        self.chunks = next((attrgetter(field.path) for field in every if Wire.PARTS in field.marks), None)
        """Gives the parts behind the header, one per frame; None if those are arrays."""
        arrays = [field for field in every if field.is_part and Wire.PARTS not in field.marks]
        self.arrays: dict[str, np.dtype] = {field.name: types[field.name].newbyteorder("<") for field in arrays}
        """Name and little-endian type of each array with a part of its own."""
        self.required = [field.name for field in arrays if not field.optional]
        """Those of them that must be sent."""
        optional = frozenset(field.name for field in header if field.optional)
        self.read = Reader(self.kind, {field.name: field.annotation for field in header}, optional)

    def fields(self, message: Any) -> dict[str, Any]:
        """The fields of a message as they stand in its header."""
        fields = {name: get(message) for name, get in self._header}
        for name in self._listed:
            if fields[name] is None:
                del fields[name]  # of a message that has none, the bytes are those of before there was such a field
            else:
                fields[name] = fields[name].tolist()
        return fields

    def build(self, values: dict[str, Any]) -> Any:
        """The message that has these values; raises :class:`ProtocolError` if it may not exist."""
        for name, kind, inner in self._inline:
            values[name] = kind(**{key: values.pop(key) for key in inner if key in values})
        return self._message(**values)

    def _walk(self, kind: type[Any], path: str = "") -> Iterator[_Field]:
        annotations, hints = get_type_hints(kind), get_type_hints(kind, include_extras=True)
        for item in fields(kind):
            annotation, marks = annotations[item.name], marks_of(hints[item.name])
            if Wire.INLINE in marks:
                yield from self._walk(annotation, f"{path}{item.name}.")
                self._inline.append((item.name, annotation, [inner.name for inner in fields(annotation)]))
                continue
            has_default = item.default is not MISSING or item.default_factory is not MISSING
            optional = has_default and Wire.REQUIRED not in marks
            yield _Field(item.name, path + item.name, annotation, marks, optional)


@cache
def form_of(kind: str) -> Form:
    """The form of a kind of messages."""
    return Form(KINDS[kind])


def _is_marked(field: _Field) -> bool:
    return "." in field.path or Wire.IN_HEADER in field.marks


def _is_array(annotation: Any) -> bool:
    return any(get_origin(kind) is np.ndarray for kind in alternatives(annotation))


def _schema(annotation: Any) -> core_schema.CoreSchema:
    """How a value of the header is checked and converted; None has been taken out before."""
    kind, *others = alternatives(annotation)
    if others:
        choices = {kind.__name__: _schema(kind) for kind in (kind, *others)}
        text = f"must be one of {', '.join(choices)}"
        return core_schema.tagged_union_schema(
            choices, lambda value: type(value).__name__, custom_error_type="union", custom_error_message=text
        )
    if kind in _SCALARS:
        return _SCALARS[kind]
    if get_origin(kind) is dict:
        key, value = get_args(kind)
        return core_schema.dict_schema(_schema(key), _schema(value), strict=True, fail_fast=True)
    if get_origin(kind) is tuple:
        items = get_args(kind)
        length = None if items[-1] is ... else len(items)
        values = core_schema.list_schema(_schema(items[0]), strict=True, min_length=length, max_length=length)
        return core_schema.no_info_after_validator_function(tuple, values)
    if get_origin(kind) is np.ndarray and get_args(get_args(kind)[1])[0] is np.float64:
        pair = core_schema.list_schema(_SCALARS[float], strict=True, min_length=2, max_length=2, fail_fast=True)
        pairs = core_schema.list_schema(pair, strict=True, min_length=1, fail_fast=True)
        return core_schema.no_info_after_validator_function(partial(np.array, dtype=np.float64), pairs)
    if get_origin(kind) is np.ndarray:
        values = core_schema.list_schema(_INT64, strict=True, fail_fast=True)
        checked = core_schema.custom_error_schema(
            values, "integers", custom_error_message="must be a list of 64-bit integers"
        )
        return core_schema.no_info_after_validator_function(partial(np.array, dtype=np.int64), checked)
    if is_dataclass(kind):
        optional = frozenset(item.name for item in fields(kind) if item.default is not MISSING)
        return core_schema.no_info_after_validator_function(partial(_call, kind), _table(get_type_hints(kind), optional))
    if kind is np.dtype:
        return _choice(_PIXEL_TYPES)
    return _choice({member.value: member for member in kind})


def _call(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**values)


def _table(annotations: Mapping[str, Any], optional: frozenset[str] = frozenset()) -> core_schema.CoreSchema:
    """A map of which the named entries are read, and all others ignored."""
    entries = {
        name: core_schema.typed_dict_field(_schema(annotation), required=name not in optional)
        for name, annotation in annotations.items()
    }
    return core_schema.typed_dict_schema(entries, strict=True)


def _choice(values: Mapping[str, Any]) -> core_schema.CoreSchema:
    """One of a few words, and what it stands for."""
    return core_schema.no_info_after_validator_function(values.__getitem__, core_schema.literal_schema(list(values)))
