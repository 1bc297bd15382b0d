"""What several tests of the simulator share."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from streamptycho.errors import ProtocolError
from streamptycho.messages.kinds import Message
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd
from streamptycho.wire.codec import decode, encode
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Receiver
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions, one_frame
from streamptycho_sim.stream import Item, Raw

SMALL = 32
"""Pixels per side of the frames of quick scans."""


def small(**changes: Any) -> SimulatedScan:
    """A scan that takes milliseconds to make."""
    return SimulatedScan(SyntheticOptions(**({"frames": 20, "shape": SMALL} | changes)))


def plain_items(count: int, scan_id: str = "s") -> list[Item]:
    """Frames and positions without physics, one each, then both ends; pixel values are the frame's index."""
    items = []
    for i in range(count):
        payload = Payload.raw(np.full((8, 8), i, np.uint16))
        items.append(Item(stream=Stream.FRAMES, message=one_frame(scan_id, i, payload), tick=i + 1))
        row = Positions(scan_id=scan_id, index=np.array([i], np.int64), yx_m=np.array([[i, -i]], np.float64))
        items.append(Item(stream=Stream.POSITIONS, message=row, tick=i + 1))
    for stream in (Stream.FRAMES, Stream.POSITIONS):
        items.append(Item(stream=stream, message=ScanEnd(scan_id=scan_id, stream=stream, count=count), tick=count))
    return items


def frames_of(items: Iterable[Item]) -> list[int]:
    """Indices of all intact frames, in order."""
    return [i for item in items if isinstance(m := item.message, Frame) and not m.dark for i in m.index.tolist()]


def positions_of(items: Iterable[Item]) -> list[int]:
    """Indices of all positions, in order."""
    return [i for item in items if isinstance(m := item.message, Positions) for i in m.index.tolist()]


def ends_of(items: Iterable[Item]) -> list[Stream]:
    return [m.stream for item in items if isinstance(m := item.message, ScanEnd)]


def through_codec(item: Item) -> Message | ProtocolError:
    """What a receiver makes of an item."""
    parts = item.message.parts if isinstance(item.message, Raw) else encode(item.message)
    try:
        return decode([memoryview(bytes(part)) for part in parts])
    except ProtocolError as error:
        return error


class Collector:
    """A receiver in a thread of its own that keeps all it gets until both streams of `scans` scans have ended."""

    def __init__(self, context: Any, endpoints: list[Endpoint], scans: int, timeout_s: float) -> None:
        self.got: list[Message] = []
        self.errors: list[ProtocolError] = []
        self.enough = threading.Event()
        self._quiet_s = timeout_s
        self._ends = 2 * scans
        self.receiver = Receiver(context, endpoints)
        self.thread = threading.Thread(target=self._run, name="collector")

    def _run(self) -> None:
        while not self.enough.is_set() and len([m for m in self.got if isinstance(m, ScanEnd)]) < self._ends:
            message = self.receiver.receive(0.05)
            if isinstance(message, ProtocolError):
                self.errors.append(message)
            elif message is not None:
                self.got.append(message)

    def wait(self) -> None:
        self.thread.join(self._quiet_s)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.got if isinstance(message, kind)]

    @property
    def frame_index(self) -> list[int]:
        return [i for frame in self.of(Frame) if not frame.dark for i in frame.index.tolist()]

    @property
    def position_index(self) -> list[int]:
        return [i for row in self.of(Positions) for i in row.index.tolist()]


@contextmanager
def collecting(
    context: Any, frames: Endpoint, positions: Endpoint, *, scans: int = 1, timeout_s: float = 10.0
) -> Iterator[Collector]:
    """Receive at the other ends of two endpoints for as long as the block lasts, or until all has come."""
    other = {SocketKind.PUSH: SocketKind.PULL, SocketKind.PUB: SocketKind.SUB}
    ends = [Endpoint(address=e.address, socket=other[e.socket], bind=not e.bind) for e in (frames, positions)]
    collector = Collector(context, ends, scans, timeout_s)
    collector.thread.start()
    try:
        yield collector
        collector.wait()
    finally:
        collector.enough.set()
        collector.thread.join()
        collector.receiver.close()
