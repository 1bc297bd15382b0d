"""Numbers and times out of text that others have written."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import CodecError

MAX_TEXT_BYTES = 8 << 20
"""Text of one message; as Python objects it takes twenty times as much."""
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-]\d\d):?(\d\d))?")
_FIRST_YEAR = 2000
"""A clock that shows an earlier one has not been set."""


def json_value(part: bytes | memoryview, field: str) -> Any:
    """What the text of a message says; raises :class:`CodecError` with `field` if it is not JSON."""
    if len(part) > MAX_TEXT_BYTES:
        raise CodecError(field, f"{len(part)} bytes; at most {MAX_TEXT_BYTES} are accepted: send it in pieces")
    try:
        return json.loads(bytes(part))
    except (ValueError, RecursionError) as error:
        raise CodecError(field, f"not JSON ({str(error)[:80]})") from error


def floats(field: str, values: Any) -> NDArray[np.float64]:
    """(n,) numbers of a list, or of one number; text stands for a number, and nothing (null, an empty text) for NaN."""
    listed = values if isinstance(values, list) else [values]
    try:
        array = np.array([np.nan if value is None or value == "" else value for value in listed], np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(field, f"has something that is no number ({str(error)[:80]})") from error
    if array.ndim != 1:
        raise CodecError(field, f"is a table of {array.ndim} axes, not a list of numbers")
    return array


def whole(field: str, value: Any) -> int:
    """A number that counts something."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise CodecError(field, f"{str(value)[:40]!r} is not a count")
    return value


def epoch_ns(text: str) -> int | None:
    """Nanoseconds since the Unix epoch of an ISO 8601 time, which is in UTC if it has no time zone.

    None if it is none, or of a clock that was not set.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None or int(found[1]) < _FIRST_YEAR:
        return None
    try:
        second = datetime(*(int(number) for number in found.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    east_s = 60 * (60 * int(found[8] or 0) + int(found[8][0] + found[9] if found[8] else 0))
    return (int(second.timestamp()) - east_s) * 10**9 + int((found[7] or "").ljust(9, "0"))
