"""What stands in the fields of bluesky's documents, checked."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError
from streamptycho.messages.checks import Scalar

Document: TypeAlias = dict[str, Any]

MAX_NUMBER = 1 << 53
_LONGEST_NAME = 256
_METADATA, _LONGEST_TEXT = 64, 512


def said(value: Any) -> str:
    """A value of any kind, for an error."""
    # containers may refer to one another in ways that take forever to write out
    return (
        repr(value[:60]) if isinstance(value, str) else repr(value) if type(value) is float else f"a {type(value).__name__}"
    )


def text(doc: Document, field: str) -> str:
    """The text at a path ``document.key``."""
    value = doc.get(field.rpartition(".")[2])
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        raise CodecError(field, f"{said(value)} is not a text of up to {_LONGEST_NAME} characters")
    return value


def table(doc: Document, field: str) -> Document:
    """The map there; empty if there is none."""
    value = doc.get(field.rpartition(".")[2])
    if value is None:
        return {}
    if type(value) is not dict:
        raise CodecError(field, f"{said(value)} is not a map")
    return value


def number(value: Any, field: str, least: int = 0) -> int:
    """A number that counts."""
    if type(value) is not int or not least <= value < MAX_NUMBER:
        raise CodecError(field, f"{value if type(value) is int and abs(value) < 1 << 64 else said(value)} is no count")
    return value


def span(doc: Document, field: str, least: int) -> tuple[int, int]:
    """``{"start": .., "stop": ..}`` as first and number of entries."""
    limits = table(doc, field)
    start, stop = number(limits.get("start"), f"{field}.start", least), number(limits.get("stop"), f"{field}.stop", least)
    if stop <= start:
        raise CodecError(field, f"{start} to {stop} is empty")
    return start, stop - start


def values(column: Any, field: str, rows: int) -> NDArray[np.float64]:
    """A column of `rows` numbers, float64; None, which JSON has for NaN, is NaN."""
    if isinstance(column, np.ndarray):
        if column.shape != (rows,) or column.dtype.kind not in "iuf":
            raise CodecError(field, f"an array {column.dtype} {column.shape} is not {rows} numbers")
        return column.astype(np.float64)
    if not isinstance(column, list | tuple) or len(column) != rows:
        raise CodecError(field, f"{said(column)} is not a list of {rows} numbers")
    for item in column:
        if type(item) not in (int, float, type(None)):
            raise CodecError(field, f"{said(item)} is not a number")
    try:
        return np.array(column, np.float64)
    except OverflowError as error:
        raise CodecError(field, "has a number that is too large") from error


def is_scalar(key: Any) -> bool:
    """Whether an entry of ``data_keys`` describes one number for each event, or one for each exposure of it."""
    if type(key) is not dict or key.get("dtype") not in ("number", "integer", "array"):
        return False
    shape = key.get("shape")
    if key["dtype"] == "array" and not key.get("external"):
        return False
    return shape is None or (isinstance(shape, list | tuple) and len(shape) <= 1)


def per_event(key: Document, axes: int, field: str) -> int:
    """Rows in the file for each event: the axis that the shape has before the `axes` of one row."""
    shape = key.get("shape")
    if not isinstance(shape, list | tuple) or len(shape) <= axes:
        return 1
    if len(shape) > axes + 1:
        raise CodecError(field, f"a shape of {len(shape)} axes; {axes} or {axes + 1} are known")
    return number(shape[0], field, 1)


def metadata(doc: Document) -> dict[str, Scalar]:
    """Texts and numbers of a start document, except for its own bookkeeping; a sample's map gives its name."""
    found: dict[str, Scalar] = {}
    for key, value in doc.items():
        if key == "sample" and type(value) is dict:
            value = value.get("name", value.get("sample_name"))
        if len(found) == _METADATA or not isinstance(key, str) or len(key) > _LONGEST_NAME or key in ("uid", "time"):
            continue
        whole = type(value) is int and abs(value) < 1 << 63
        if whole or type(value) in (float, bool) or (isinstance(value, str) and len(value) <= _LONGEST_TEXT):
            found[key] = value
    return found


def names(value: Any) -> list[str]:
    """The texts of a list, none if it is anything else."""
    texts = list(value) if isinstance(value, list | tuple) else []
    return texts if all(isinstance(item, str) for item in texts) else []
