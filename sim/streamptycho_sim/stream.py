"""Messages of a simulated instrument before sending: items in their order, and pure rearrangements of them.

An item names its socket and the number of exposures after which it is due; the publisher turns that into time. Everything
here is lazy, so that a scan of any length needs the memory of a few frames.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamptycho.files.bslz4 import compress
from streamptycho.messages.kinds import Message
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd
from streamptycho.wire.codec import Part

_COMPRESS_TOGETHER = 32
"""Frames compressed in one go: the fixed cost of a call is worth several frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Bytes that are no valid message."""

    parts: tuple[Part, ...]
    scan_id: str | None = None
    """Scan of the frame from which these bytes were made; None for garbage."""
    index: int | None = None
    """Index of that frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One message and when it is due."""

    stream: Stream
    """Socket: FRAMES or POSITIONS."""
    message: Message | Raw
    tick: int = 0
    """Exposures since the beginning after which the message is due."""
    hold_s: float = 0.0
    """Extra pause before it, which delays everything after it."""


Items: TypeAlias = Iterable[Item]


def is_exposure(item: Item) -> bool:
    """True for a frame taken with beam."""
    return isinstance(item.message, Frame) and not item.message.dark


def one_frame(scan_id: str, index: int, payload: Payload, *, dark: bool = False) -> Frame:
    """A block of one frame without a time stamp."""
    number, no_time = np.array([index], np.int64), np.zeros(1, np.int64)
    return Frame(scan_id=scan_id, index=number, timestamp_ns=no_time, payload=payload, dark=dark)


def exposure(scan_id: str, index: int, payload: Payload, yx_m: NDArray[np.float64] | None, *, tick: int) -> Iterator[Item]:
    """A frame, and its position (2,) unless that is None."""
    yield Item(stream=Stream.FRAMES, message=one_frame(scan_id, index, payload), tick=tick)
    if yx_m is not None:
        row = Positions(scan_id=scan_id, index=np.array([index], np.int64), yx_m=yx_m[None])
        yield Item(stream=Stream.POSITIONS, message=row, tick=tick)


def ends(scan_id: str, frames: int, positions: int, *, tick: int) -> Iterator[Item]:
    """The ends of both streams, with their counts."""
    for stream, count in ((Stream.FRAMES, frames), (Stream.POSITIONS, positions)):
        yield Item(stream=stream, message=ScanEnd(scan_id=scan_id, stream=stream, count=count), tick=tick)


def chain(scans: Iterable[Items]) -> Iterator[Item]:
    """Scans one after the other, each beginning when the one before has ended."""
    offset = 0
    for scan in scans:
        last = offset
        for item in scan:
            last = max(last, item.tick + offset)
            yield replace(item, tick=item.tick + offset)
        offset = last


def encode(items: Items, encoding: Encoding | None) -> Iterator[Item]:
    """Frames in the given encoding; None leaves each as it is."""
    if encoding is None:
        yield from items
        return
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) >= 2 * _COMPRESS_TOGETHER or isinstance(item.message, ScanEnd):
            yield from _encoded(waiting, encoding)
            waiting = []
    yield from _encoded(waiting, encoding)


def _encoded(items: list[Item], encoding: Encoding) -> list[Item]:
    """The same items; frames of one type and shape are compressed together."""
    done: dict[int, Frame] = {}
    groups: dict[tuple[np.dtype, tuple[int, int]], list[int]] = {}
    for k, item in enumerate(items):
        if isinstance(item.message, Frame) and item.message.payload.encoding is not encoding:
            groups.setdefault((item.message.payload.dtype, item.message.payload.shape), []).append(k)
    for members in groups.values():
        frames = [message for k in members if isinstance(message := items[k].message, Frame)]
        stack = np.stack([frame.payload.decode(i) for frame in frames for i in range(len(frame))])
        payload = compress(stack) if encoding is Encoding.BSLZ4 else Payload.raw(stack)
        first = 0
        for k, frame in zip(members, frames, strict=True):
            chunks = payload.chunks[first : first + len(frame)]
            done[k] = replace(frame, payload=replace(payload, chunks=chunks))
            first += len(frame)
    return [replace(item, message=done[k]) if k in done else item for k, item in enumerate(items)]


def carry(items: Items) -> Iterator[Item]:
    """The same on the socket of the frames, each with its position if that follows it at once."""
    held: Item | None = None
    for item in items:
        frame, row = held.message if held is not None else None, item.message
        if held is not None and isinstance(frame, Frame) and isinstance(row, Positions) and _belong(frame, row):
            yield replace(held, message=replace(frame, taken_yx_m=row.yx_m))
            held = None
            continue
        if held is not None:
            yield held
        held = item if is_exposure(item) else None
        if held is None:
            yield replace(item, stream=Stream.FRAMES)
    if held is not None:
        yield held


def _belong(frame: Frame, row: Positions) -> bool:
    return frame.scan_id == row.scan_id and np.array_equal(frame.index, row.index)


def pack(items: Items, frames_per_message: int, positions_per_message: int) -> Iterator[Item]:
    """Join neighbouring frames, and neighbouring positions, into blocks of up to the given sizes.

    A block ends where the next frame or position does not fit: another scan, an index that does not rise, another encoding,
    or any other message on the same socket. A block is due with its last member.
    """
    waiting: dict[Stream, list[Item]] = {Stream.FRAMES: [], Stream.POSITIONS: []}
    size = {Stream.FRAMES: frames_per_message, Stream.POSITIONS: positions_per_message}
    for item in items:
        block = waiting[item.stream]
        for stream, held in waiting.items():
            if held and (item.hold_s or (stream is item.stream and not _fits(held, item, size[stream]))):
                yield _joined(held)
                held.clear()
        if isinstance(item.message, Frame | Positions):
            block.append(item)
            if _count(block) >= size[item.stream]:
                yield _joined(block)
                block.clear()
        else:
            yield item
    for held in waiting.values():
        if held:
            yield _joined(held)


def _count(block: list[Item]) -> int:
    return sum(len(item.message) for item in block if isinstance(item.message, Frame | Positions))


def _fits(block: list[Item], item: Item, size: int) -> bool:
    last, new = block[-1].message, item.message
    if isinstance(last, Frame) and isinstance(new, Frame):
        a, b = last.payload, new.payload
        alike = last.dark == new.dark and (a.encoding, a.dtype, a.shape) == (b.encoding, b.dtype, b.shape)
        alike = alike and (last.taken_yx_m is None) == (new.taken_yx_m is None)
    else:
        alike = isinstance(last, Positions) and isinstance(new, Positions)
    if not alike or not isinstance(last, Frame | Positions) or not isinstance(new, Frame | Positions):
        return False
    return last.scan_id == new.scan_id and bool(new.index[0] > last.index[-1]) and _count(block) + len(new) <= size


def _joined(block: list[Item]) -> Item:
    """One item for the whole block."""
    if len(block) == 1:
        return block[0]
    members: list[Any] = [item.message for item in block]
    first, is_frame = members[0], isinstance(members[0], Frame)
    names = ["index", "timestamp_ns" if is_frame else "yx_m"]
    if is_frame and first.taken_yx_m is not None:
        names.append("taken_yx_m")
    parts: dict[str, Any] = {name: np.concatenate([getattr(member, name) for member in members]) for name in names}
    if is_frame:
        chunks = tuple(chunk for member in members for chunk in member.payload.chunks)
        parts["payload"] = replace(first.payload, chunks=chunks)
    return replace(block[-1], message=replace(first, **parts), hold_s=block[0].hold_s)
