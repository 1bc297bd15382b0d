"""What a simulated instrument is about to send: items in the order of sending, and pure rearrangements of them.

An item says which socket it goes to and after how many exposures it is due; the publisher turns that into time. Everything
here is lazy, so that a scan of any length needs the memory of a few frames.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from streamptycho.codec import Part
from streamptycho.files.bslz4 import compress
from streamptycho.messages import Frame, Message, Positions, ScanEnd
from streamptycho.payload import Encoding, Payload
from streamptycho.reasons import Stream

_COMPRESS_TOGETHER = 32
"""Frames compressed in one go: the fixed cost of a call is worth several frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Bytes that no codec would write."""

    parts: tuple[Part, ...]
    scan_id: str | None = None
    """Scan of the frame that these bytes once were; None for garbage."""
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
    """Extra silence before it, which moves everything after it."""


Items: TypeAlias = Iterable[Item]


def is_exposure(item: Item) -> bool:
    """True for a frame taken with beam."""
    return isinstance(item.message, Frame) and not item.message.dark


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
    """Frames in the given encoding; None leaves each as it is, and so does an encoding that it has already."""
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
    else:
        alike = isinstance(last, Positions) and isinstance(new, Positions)
    if not alike or not isinstance(last, Frame | Positions) or not isinstance(new, Frame | Positions):
        return False
    return last.scan_id == new.scan_id and bool(new.index[0] > last.index[-1]) and _count(block) + len(new) <= size


def _joined(block: list[Item]) -> Item:
    """One item for the whole block."""
    if len(block) == 1:
        return block[0]
    first = block[0].message
    index = np.concatenate([m.index for item in block if isinstance(m := item.message, Frame | Positions)])
    message: Message
    if isinstance(first, Frame):
        frames = [m for item in block if isinstance(m := item.message, Frame)]
        message = replace(
            first,
            index=index,
            timestamp_ns=np.concatenate([frame.timestamp_ns for frame in frames]),
            payload=replace(first.payload, chunks=tuple(chunk for frame in frames for chunk in frame.payload.chunks)),
        )
    else:
        rows = [m for item in block if isinstance(m := item.message, Positions)]
        message = Positions(scan_id=rows[0].scan_id, index=index, yx_m=np.concatenate([row.yx_m for row in rows]))
    return replace(block[-1], message=message, hold_s=block[0].hold_s)
