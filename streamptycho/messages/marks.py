"""What the annotations of a message say about its arrays and, by marks, about how a field travels and what is checked."""

from enum import Enum, auto
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np


class Wire(Enum):
    """How a field travels, where its type and default do not say it: ``Annotated[int, Wire.REQUIRED]``."""

    REQUIRED = auto()
    """Must be sent. Any other field that has a default may be left out, or be nil."""
    IN_HEADER = auto()
    """An array that the header lists, and no part of its own."""
    INLINE = auto()
    """Its fields travel among those of the message that holds it."""
    PARTS = auto()
    """Everything behind the header: one part per frame."""


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows, None apart."""
    if isinstance(annotation, type) or get_origin(annotation) in (np.ndarray, dict, tuple):
        return (annotation,)
    return tuple(kind for kind in get_args(annotation) if kind is not NoneType)


def marks_of(hint: Any) -> tuple[Any, ...]:
    """What ``Annotated`` adds to a type, or to one that may be None."""
    if get_origin(hint) is Annotated:
        return (*hint.__metadata__, *marks_of(hint.__origin__))
    if get_origin(hint) in (Union, UnionType):
        return tuple(mark for kind in get_args(hint) for mark in marks_of(kind))
    return ()


@cache
def array_types(message: type) -> dict[str, np.dtype]:
    """Names and types of the arrays of a message: ``NDArray[np.float32]`` is float32."""
    found = {}
    for name, annotation in get_type_hints(message).items():
        kind, *others = alternatives(annotation) or (None,)
        if not others and get_origin(kind) is np.ndarray:
            found[name] = np.dtype(get_args(get_args(kind)[1])[0])
    return found
