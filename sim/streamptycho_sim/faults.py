"""Faults of a beamline, on request: losses, duplicates, disorder, delay, corrupt bytes, missing ends.

Each fault is a pure function from items to items, reproducible by its seed. A frame is lost, corrupt or sent twice, never
two of these, so that a receiver's ledger has one right answer. Items must hold one frame or position each.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from streamptycho.messages.payload import BSLZ4_HEADER, Encoding
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd
from streamptycho.options import Options
from streamptycho.wire.codec import Part
from streamptycho.wire.codec import encode as encode_message
from streamptycho_sim.stream import Item, Items, Raw, is_exposure
from streamptycho_sim.tally import Tally


class Corruption(StrEnum):
    """How the bytes of a frame are corrupted."""

    TRUNCATE = "truncate"
    """The part ends early: always noticed."""
    SIZE = "size"
    """The size in front of compressed pixels is wrong: always noticed. Raw pixels have none and are truncated instead."""
    FLIP = "flip"
    """Some bytes of the pixels change: noticed only where the compressed data become inconsistent."""


class EndLoss(StrEnum):
    """Which end messages are lost."""

    NONE = "none"
    FRAMES = "frames"
    POSITIONS = "positions"
    BOTH = "both"


class FaultOptions(Options):
    """Faults. Fractions are of the frames or positions of a scan; each is drawn by itself."""

    fault_seed: int = Field(default=0, ge=0)
    """Fixes which frames and positions are affected."""
    drop_frames: float = Field(default=0.0, ge=0, le=1)
    """Fraction of frames that are lost."""
    drop_positions: float = Field(default=0.0, ge=0, le=1)
    """Fraction of positions that are lost."""
    duplicate_frames: float = Field(default=0.0, ge=0, le=1)
    """Fraction of frames that are sent twice."""
    duplicate_positions: float = Field(default=0.0, ge=0, le=1)
    """Fraction of positions that are sent twice."""
    corrupt_frames: float = Field(default=0.0, ge=0, le=1)
    """Fraction of frames with corrupt bytes."""
    corruption: Corruption = Corruption.TRUNCATE
    """How they are corrupted."""
    garbage: float = Field(default=0.0, ge=0, le=1)
    """Meaningless messages per frame, on either socket."""
    shuffle: int = Field(default=1, ge=1)
    """Window, in frames, within which frames, and positions, arrive in random order."""
    delay_positions: int = Field(default=0, ge=0)
    """Exposures by which positions lag behind their frames."""
    missing_end: EndLoss = EndLoss.NONE
    """Which end messages are lost."""
    pause_after: int | None = Field(default=None, ge=1)
    """Frames after which the scan pauses once."""
    pause_s: float = Field(default=5.0, ge=0)
    """Length of that pause, seconds."""
    second_after: int | None = Field(default=None, ge=1)
    """Frames after which a second scan begins while the first continues."""

    @model_validator(mode="after")
    def _one_fate_each(self) -> Self:
        if self.drop_frames + self.corrupt_frames + self.duplicate_frames > 1:
            raise ValueError("drop_frames + corrupt_frames + duplicate_frames exceed 1; a frame meets one fate only")
        if self.drop_positions + self.duplicate_positions > 1:
            raise ValueError("drop_positions + duplicate_positions exceed 1; a position meets one fate only")
        return self


def inject(items: Items, options: FaultOptions, tally: Tally) -> Iterator[Item]:
    """Apply all faults except `second_after`, in the order in which they happen; losses are entered in `tally`."""
    rng = [np.random.default_rng((options.fault_seed, k)) for k in range(3)]
    items = fates(items, options, tally, rng[0])
    if options.shuffle > 1:
        items = shuffle(items, options.shuffle, rng[1])
    if options.delay_positions:
        items = delay_positions(items, options.delay_positions)
    if options.garbage:
        items = add_garbage(items, options.garbage, rng[2])
    if options.pause_after is not None:
        items = pause(items, options.pause_after, options.pause_s)
    return iter(without_ends(items, options.missing_end))


def fates(items: Items, options: FaultOptions, tally: Tally, rng: np.random.Generator) -> Iterator[Item]:
    """Drop, corrupt or duplicate single frames and positions."""
    frame_limits = np.cumsum([options.drop_frames, options.corrupt_frames, options.duplicate_frames])
    position_limits = np.cumsum([options.drop_positions, 0, options.duplicate_positions])
    for item in items:
        message = item.message
        if not (isinstance(message, Positions) or (isinstance(message, Frame) and not message.dark)):
            yield item
            continue
        limits = frame_limits if isinstance(message, Frame) else position_limits
        fate = int(np.searchsorted(limits, rng.random(), side="right"))
        if fate == 0:
            tally.dropped(message)
        elif fate == 1 and isinstance(message, Frame):
            yield replace(item, message=spoil(message, options.corruption, rng))
        else:
            yield item
            if fate == 2:
                yield item


def spoil(frame: Frame, corruption: Corruption, rng: np.random.Generator) -> Raw:
    """The bytes of a message of one frame, with corrupt pixels."""
    header, chunk = encode_message(frame)
    data = bytearray(chunk)
    compressed = frame.payload.encoding is Encoding.BSLZ4
    if corruption is Corruption.FLIP:
        first = min(BSLZ4_HEADER.size, len(data) - 1) if compressed else 0
        for place in rng.integers(first, len(data), 8):
            data[place] ^= int(rng.integers(1, 256))
    elif corruption is Corruption.SIZE and compressed:
        data[int(rng.integers(8))] ^= int(rng.integers(1, 256))
    else:
        del data[int(rng.integers(len(data))) :]
    return Raw(parts=(header, bytes(data)), scan_id=frame.scan_id, index=int(frame.index[0]))


def shuffle(items: Items, window: int, rng: np.random.Generator) -> Iterator[Item]:
    """Permute frames among themselves, and positions among themselves, in successive windows of `window` frames."""
    held: list[Item] = []
    for item in items:
        frame = _is_frame(item)
        full = frame and sum(map(_is_frame, held)) == window
        if full or not (frame or isinstance(item.message, Positions)):
            yield from _permuted(held, rng)
            held = []
        if frame or isinstance(item.message, Positions):
            held.append(item)
        else:
            yield item
    yield from _permuted(held, rng)


def delay_positions(items: Items, exposures: int) -> Iterator[Item]:
    """Send each position, and their end, `exposures` exposures later."""
    late: deque[Item] = deque()
    for item in items:
        if item.stream is Stream.POSITIONS:
            late.append(replace(item, tick=item.tick + exposures))
            continue
        while late and late[0].tick < item.tick:
            yield late.popleft()
        yield item
    yield from late


def add_garbage(items: Items, fraction: float, rng: np.random.Generator) -> Iterator[Item]:
    """Put a meaningless message before a fraction of the frames."""
    for item in items:
        if is_exposure(item) and rng.random() < fraction:
            stream = Stream.FRAMES if rng.random() < 0.5 else Stream.POSITIONS
            make = _GARBAGE[int(rng.integers(len(_GARBAGE)))]
            yield Item(stream=stream, message=Raw(parts=make(rng)), tick=item.tick)
        yield item


def pause(items: Items, after: int, seconds: float) -> Iterator[Item]:
    """Pause once, after `after` frames."""
    frames = 0
    for item in items:
        if _is_frame(item):
            frames += 1
            if frames == after + 1:
                item = replace(item, hold_s=item.hold_s + seconds)
        yield item


def without_ends(items: Items, loss: EndLoss) -> Iterator[Item]:
    """Lose end messages."""
    lost = {Stream.FRAMES, Stream.POSITIONS} if loss is EndLoss.BOTH else {str(loss)}
    return (item for item in items if not (isinstance(item.message, ScanEnd) and item.stream in lost))


def interleave(first: Items, second: Items, after: int) -> Iterator[Item]:
    """Begin `second` once `after` frames of `first` have been sent, and send both together from then on."""
    frames, tick, rest = 0, 0, iter(first)
    for item in rest:
        yield item
        frames, tick = frames + _is_frame(item), item.tick
        if frames >= after:
            break
    moved = (replace(item, tick=item.tick + tick) for item in second)
    yield from heapq.merge(rest, moved, key=lambda item: item.tick)


def _is_frame(item: Item) -> bool:
    return is_exposure(item) or (isinstance(item.message, Raw) and item.message.index is not None)


def _permuted(held: list[Item], rng: np.random.Generator) -> list[Item]:
    """The items in permuted places of their own stream; each place keeps its time."""
    result = list(held)
    for stream in (Stream.FRAMES, Stream.POSITIONS):
        places = [k for k, item in enumerate(held) if item.stream is stream]
        for place, source in zip(places, rng.permutation(places).tolist(), strict=True):
            result[place] = replace(held[source], tick=held[place].tick)
    return result


def _end_parts() -> bytes:
    return bytes(encode_message(ScanEnd(scan_id="garbage", stream=Stream.FRAMES, count=1))[0])


_GARBAGE: tuple[Callable[[np.random.Generator], tuple[Part, ...]], ...] = (
    lambda _: (b"",),
    lambda _: (b'{"frame": 1, "image": "not msgpack"}',),
    lambda rng: (b"\xc1" + rng.bytes(int(rng.integers(1, 2000))),),  # 0xc1 is the one byte that msgpack never uses
    lambda rng: (_end_parts()[: int(rng.integers(1, 20))],),
    lambda _: (_end_parts().replace(b"count", b"cound"),),
    lambda rng: (_end_parts(), rng.bytes(32)),
)
