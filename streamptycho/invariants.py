"""Checks that messages make when they are built."""

from typing import Any, TypeAlias

import msgpack
import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError

MAX_SCAN_ID = 128
"""Bytes of UTF-8: a scan id becomes part of a file name."""
MAX_METADATA_BYTES = 64 << 10
"""Metadata of a scan as msgpack: the start message travels on in a header of limited size."""
Scalar: TypeAlias = str | int | float | bool


def check_scan_id(scan_id: str) -> None:
    """Refuse an id that cannot be part of a file name."""
    if not scan_id or not scan_id.isprintable() or len(scan_id.encode()) > MAX_SCAN_ID:
        raise GrammarError("scan_id", f"{scan_id[:40]!r} must be printable, 1 to {MAX_SCAN_ID} bytes of UTF-8")
    if "/" in scan_id or "\\" in scan_id or scan_id.startswith("."):
        raise GrammarError("scan_id", f"{scan_id[:40]!r} names files: it has no slash and does not begin with a dot")


def check_counts(message: Any, kind: str, *names: str) -> None:
    """Refuse a message of which one of the named numbers is not a count of 64 bits; None is allowed."""
    for name in names:
        value = getattr(message, name)
        if value is not None and not 0 <= value < 1 << 63:
            raise GrammarError(f"{kind}.{name}", f"{value} is outside 0 to 2**63 - 1")


def check_metadata(metadata: dict[str, Scalar]) -> None:
    """Refuse metadata that the start message could not carry."""
    for key, value in metadata.items():
        if not isinstance(value, str | int | float | bool):
            raise GrammarError("start.metadata", f"{key[:40]!r} is a {type(value).__name__}, not text, number or bool")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise GrammarError("start.metadata", f"{key[:40]!r} does not fit 64 bits")
    size = len(msgpack.packb(metadata, unicode_errors="replace"))
    if size > MAX_METADATA_BYTES:
        raise GrammarError("start.metadata", f"{size} bytes; at most {MAX_METADATA_BYTES} are accepted")


def check_index(name: str, index: NDArray[np.int64], n: int) -> None:
    """Refuse an index (n,) that does not rise from 0 on."""
    if index.shape != (n,):
        raise GrammarError(name, f"shape {index.shape} is not ({n},)")
    # compared, not subtracted: a difference of int64 can wrap round to a positive number
    if index[0] < 0 or (index[1:] <= index[:-1]).any():
        raise GrammarError(name, "must be non-negative and strictly rising within a block")


def seal(message: Any, kind: str, **dtypes: type[np.generic]) -> None:
    """Replace arrays by contiguous read-only views of the stated type, so that no consumer can change what another reads.

    What has another type is converted within its kind (float64 to float32, not uint8 to bool).
    """
    for name, dtype in dtypes.items():
        array = getattr(message, name)
        if array is None:
            continue
        try:
            with np.errstate(over="ignore"):
                view = np.asarray(array).astype(dtype, order="C", casting="same_kind", copy=False).view()
        except TypeError as error:
            raise GrammarError(f"{kind}.{name}", f"type {np.asarray(array).dtype} is not {np.dtype(dtype).name}") from error
        view.flags.writeable = False
        object.__setattr__(message, name, view)
