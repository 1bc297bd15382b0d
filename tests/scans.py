"""Messages of small scans, and a clock that only moves on request."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from streamptycho.messages.geometry import Geometry
from streamptycho.messages.kinds import Message
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.status import Status
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.pipeline.points import ScanPoint, points_of

SHAPE = (8, 8)
FRAME_BYTES = 2 * SHAPE[0] * SHAPE[1]


class Clock:
    """Seconds, by hand; `step` passes at each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 100.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    def ns(self) -> int:
        return int(self.now * 1e9)


def start(scan_id: str = "s", shape: tuple[int, int] = SHAPE, **changes: Any) -> ScanStart:
    geometry = Geometry(wavelength_m=1.4e-10, distance_m=2.0, pitch_m=(75e-6, 75e-6), frame_shape=shape)
    values: dict[str, Any] = {"scan_id": scan_id, "geometry": geometry, "dtype": np.dtype(np.uint16), "started_ns": 1}
    return ScanStart(**(values | changes))


def frame(index: int | Sequence[int], scan_id: str = "s", *, dark: bool = False, pixels: np.ndarray | None = None) -> Frame:
    """A block of frames; each pixel holds the index, so that a mix-up shows."""
    rows = np.atleast_1d(np.array(index, np.int64))
    if pixels is None:
        pixels = np.broadcast_to((rows % 60_000).astype(np.uint16)[:, None, None], (len(rows), *SHAPE))
    return Frame(scan_id=scan_id, index=rows, timestamp_ns=rows + 1, payload=Payload.raw(pixels), dark=dark)


def broken_frame(index: int, scan_id: str = "s", shape: tuple[int, int] = SHAPE) -> Frame:
    """A frame whose compressed bytes have a good header and nothing good behind it."""
    size = 2 * shape[0] * shape[1]
    chunk = memoryview(size.to_bytes(8, "big") + (8192).to_bytes(4, "big") + b"\xff" * 40)
    payload = Payload(chunks=(chunk,), encoding=Encoding.BSLZ4, dtype=np.dtype("<u2"), shape=shape)
    return Frame(scan_id=scan_id, index=np.array([index]), timestamp_ns=np.array([0]), payload=payload)


def place(index: int, salt: int = 0) -> tuple[float, float]:
    """Where the frame of this index was taken."""
    return (1e-6 * index, -2e-6 * index + 1e-3 * salt)


def positions(index: int | Sequence[int], scan_id: str = "s", salt: int = 0) -> Positions:
    rows = np.atleast_1d(np.array(index, np.int64))
    return Positions(scan_id=scan_id, index=rows, yx_m=np.array([place(int(i), salt) for i in rows]))


def point(index: int, scan_id: str = "s", yx_m: tuple[float, float] | None = None, pixels: Any = None) -> Frame:
    """A frame with its position, as the reconstruction gets it."""
    return frame(index, scan_id, pixels=pixels).taken(np.array([place(index) if yx_m is None else yx_m]))


def points_in(messages: Iterable[Any], scan_id: str | None = None) -> list[ScanPoint]:
    """The points of the blocks among the messages, all or those of a scan."""
    blocks = [m for m in messages if isinstance(m, Frame) and m.taken_yx_m is not None]
    return [p for block in blocks if scan_id in (None, block.scan_id) for p in points_of(block)]


def end(count: int, stream: Stream, scan_id: str = "s", reason: EndReason = EndReason.COMPLETE) -> ScanEnd:
    return ScanEnd(scan_id=scan_id, stream=stream, count=count, reason=reason)


def ends(count: int, scan_id: str = "s") -> list[Message]:
    return [end(count, Stream.FRAMES, scan_id), end(count, Stream.POSITIONS, scan_id)]


def balanced(status: Status) -> bool:
    return status.received == status.used + status.waiting + sum(status.dropped.values())


def only(kind: type, messages: Iterable[Any]) -> list[Any]:
    return [message for message in messages if isinstance(message, kind)]
