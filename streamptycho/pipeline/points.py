"""What the reconstruction is made of: frames with their positions, one by one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamptycho.errors import GrammarError
from streamptycho.messages.payload import Payload
from streamptycho.messages.stream import Frame, ScanStart

MAX_INDEX = 1 << 31
"""Larger frame indices are not believed: they size a table."""


@dataclass(frozen=True, slots=True)
class ScanPoint:
    """One frame with its position."""

    index: int
    timestamp_ns: int
    yx_m: tuple[float, float]
    payload: Payload
    row: int = 0
    """Which of the frames of the payload."""

    def counts(self) -> NDArray[np.generic]:
        """Pixels (ny, nx), read-only. Raises :class:`~streamptycho.errors.CodecError` if they do not decode."""
        return self.payload.decode(self.row)


def unfit(frame: Frame, start: ScanStart) -> GrammarError | None:
    """Why frames cannot be of this scan: the receiver lets none of these through, another peer might."""
    payload = frame.payload
    if payload.shape != start.geometry.frame_shape or payload.dtype != start.dtype:
        said = f"{payload.shape} {payload.dtype}, but the start message says {start.geometry.frame_shape} {start.dtype}"
        return GrammarError("frame.payload", said)
    if frame.index[-1] > MAX_INDEX:
        return GrammarError("frame.index", f"{frame.index[-1]} is more than {MAX_INDEX}")
    if not frame.dark and (frame.taken_yx_m is None or not np.isfinite(frame.taken_yx_m).all()):
        return GrammarError("frame.taken_yx_m", "is missing: the reconstruction takes frames with their positions")
    return None


def points_of(frame: Frame) -> Iterator[ScanPoint]:
    """The points of a block that has the positions of all its frames."""
    if frame.taken_yx_m is not None:
        rows = zip(frame.index.tolist(), frame.timestamp_ns.tolist(), frame.taken_yx_m.tolist(), strict=True)
        for row, (index, timestamp_ns, (y, x)) in enumerate(rows):
            yield ScanPoint(index, timestamp_ns, (y, x), frame.payload, row)
