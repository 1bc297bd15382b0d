"""Sends items over two sockets at a given rate, like a detector and its motion controller.

Deadlines count from the beginning of the scan, so that one late frame does not delay the next. Nothing is sent before both
receivers have connected; while a PUSH receiver does not accept a message, the publisher waits.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from streamptycho.errors import ConfigError, ScanError
from streamptycho.messages.payload import Encoding
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import Frame, ScanEnd
from streamptycho.options import Options
from streamptycho.wire.codec import Part
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Sender
from streamptycho_sim.formats.table import (
    Encoder,
    FramesFormat,
    PositionsFormat,
    frames_encoder,
    positions_encoder,
)
from streamptycho_sim.stream import Item, Items, Raw, carry, pack
from streamptycho_sim.tally import Tally

log = logging.getLogger(__name__)

Context: TypeAlias = Any
"""What :func:`streamptycho.wire.sockets.new_context` returns."""
Stop: TypeAlias = Callable[[], bool]

_SLICE_S = 0.1
"""Longest sleep between two calls of `stop`."""
_PROGRESS_S = 0.25
_SOON_S = 2.0
"""Time without a receiver after which it is said that one is waited for."""
_BLOCKS_PER_S = 20
"""Messages of positions per second unless their size is set; typical of motion controllers."""


class PublishOptions(Options):
    """How a scan is sent."""

    rate_hz: float | None = Field(default=None, gt=0)
    """Frames per second; by default as fast as they are made and taken."""
    frames_per_message: int = Field(default=1, ge=1, le=4096)
    """Frames in one message."""
    positions_per_message: int | None = Field(default=None, ge=1)
    """Positions in one message; by default about 20 messages per second."""
    encoding: Encoding | None = None
    """Encoding of the frames; by default raw if simulated, as stored if recorded."""
    positions_with_frames: bool = False
    """Send each position in the header of its frame, over the socket of the frames."""
    format: FramesFormat = "streamptycho"
    """What the frames are sent as."""
    positions_format: PositionsFormat = "streamptycho"
    """What the positions are sent as: panda-json in micrometres as Y.Mean and X.Mean, bluesky as a step scan of the motors
    sy and sx, table-csv as lines and table-json as in docs/how-to/your-own-daq.md."""
    peer_timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for the receivers, seconds."""
    send_timeout_s: float = Field(default=60.0, gt=0)
    """Longest time without an accepted message before the scan is aborted, seconds."""

    @model_validator(mode="after")
    def _carries_what_it_can(self) -> Self:
        if self.positions_with_frames and (self.format, self.positions_format) != ("streamptycho", "streamptycho"):
            raise ValueError(
                "--positions-with-frames: only frames in our own format carry positions; leave out one of the two"
            )
        return self

    @property
    def position_block(self) -> int:
        """Positions in one message."""
        return self.positions_per_message or max(1, round((self.rate_hz or 16 * _BLOCKS_PER_S) / _BLOCKS_PER_S))


class OutletOptions(Options):
    """Where frames and positions go."""

    frames_address: str = "tcp://127.0.0.1:5555"
    """ZeroMQ address of the frames."""
    frames_socket: Literal["push", "pub"] = "push"
    """push: nothing is lost, the sender waits; pub: a slow receiver loses frames."""
    positions_address: str = "tcp://127.0.0.1:5556"
    """ZeroMQ address of the positions."""
    positions_socket: Literal["push", "pub"] = "pub"
    """As for frames."""
    connect: bool = False
    """Connect to receivers that bind, instead of binding."""
    queue: int = Field(default=1000, ge=1)
    """Messages queued at this end of each socket."""

    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """Endpoints of frames and positions."""
        alike: dict[str, Any] = {"bind": not self.connect, "queue": self.queue}
        return (
            Endpoint(address=self.frames_address, socket=SocketKind(self.frames_socket), **alike),
            Endpoint(address=self.positions_address, socket=SocketKind(self.positions_socket), **alike),
        )


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, replaceable in tests."""

    now: Callable[[], float] = time.monotonic
    """Seconds."""
    sleep: Callable[[float], None] = time.sleep
    """Wait for some seconds."""
    wall_ns: Callable[[], int] = time.time_ns
    """Nanoseconds since the Unix epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a publisher."""

    scan_id: str
    frames: int
    """Frames of this scan sent so far, corrupt ones included."""
    expected: int | None
    seconds: float
    """Since the first message."""
    late_s: float
    """Worst delay so far."""


class Pacer:
    """Waits for absolute deadlines."""

    def __init__(self, rate_hz: float | None, clock: Clock) -> None:
        self._rate_hz = rate_hz
        self._clock = clock
        self._origin_s = clock.now()

    def wait(self, item: Item, stop: Stop) -> float:
        """Wait until `item` is due or `stop()`; returns by how many seconds it is late."""
        if item.hold_s:
            self._until(self._clock.now() + item.hold_s, stop)
            self._origin_s += item.hold_s
        if self._rate_hz is None:
            return 0.0
        due = self._origin_s + item.tick / self._rate_hz
        self._until(due, stop)
        return max(0.0, self._clock.now() - due)

    def _until(self, due: float, stop: Stop) -> None:
        while (remaining := due - self._clock.now()) > 0 and not stop():
            self._clock.sleep(min(remaining, _SLICE_S))


def publish(
    items: Items,
    frames: Endpoint,
    positions: Endpoint,
    options: PublishOptions,
    *,
    context: Context,
    stop: Stop = lambda: False,
    progress: Callable[[Progress], None] = lambda _: None,
    tally: Tally | None = None,
    clock: Clock = Clock(),
) -> Tally:
    """Send all items and return the tally; on `stop()` end every open scan as aborted.

    `tally` is that of the faults, if any. This joins items into blocks; encode them before.

    Raises
    ------
    ConfigError
        If an address cannot be used, or no receiver connects in time.
    ScanError
        If a receiver accepts nothing for too long.
    """
    tally = Tally() if tally is None else tally
    linger_s = options.send_timeout_s  # of a receiver that is held up, the last messages are still in the queue at the end
    with (
        Sender(context, frames, linger_s=linger_s) as frame_sender,
        nullcontext(frame_sender)
        if options.positions_with_frames
        else Sender(context, positions, linger_s=linger_s) as position_sender,
    ):
        senders = {Stream.FRAMES: frame_sender, Stream.POSITIONS: position_sender}
        encoders = {
            Stream.FRAMES: frames_encoder(options.format),
            Stream.POSITIONS: positions_encoder(options.positions_format),
        }
        for stream, sender in senders.items():
            if sender.wait_for_peer(min(_SOON_S, options.peer_timeout_s), stop) or stop():
                continue
            log.warning("waiting for a receiver of %s at %s", stream, sender.address)
            if not sender.wait_for_peer(max(options.peer_timeout_s - _SOON_S, 0.0), stop) and not stop():
                raise ConfigError(
                    f"nobody took {stream} at {sender.address} within {options.peer_timeout_s:g} s; "
                    "start the receiver, or correct the address or the socket kinds"
                )
        outlet = _Outlet(senders, encoders, options, tally, stop, clock)
        items = carry(items) if options.positions_with_frames else items
        outlet.run(pack(items, options.frames_per_message, options.position_block), progress)
    return tally


@dataclass(frozen=True, slots=True)
class _Outlet:
    """The open sockets of one publisher."""

    _senders: dict[Stream, Sender]
    _encoders: dict[Stream, Encoder]
    _options: PublishOptions
    _tally: Tally
    _stop: Stop
    _clock: Clock

    def run(self, items: Items, progress: Callable[[Progress], None]) -> None:
        """Send until all is sent or `stop()`."""
        begun, shown = self._clock.now(), float("-inf")
        pacer = Pacer(self._options.rate_hz, self._clock)
        scan_id = ""
        for item in items:
            late = pacer.wait(item, self._stop)
            self._tally.late_s = max(self._tally.late_s, late)
            if self._stop() or not self._send(item):
                self._tally.stopped = True
                self._abort()
                break
            scan_id = item.message.scan_id or scan_id if isinstance(item.message, Frame | Raw) else scan_id
            now = self._clock.now()
            self._tally.seconds = now - begun
            if now - shown >= _PROGRESS_S and scan_id:
                shown = now
                progress(self._progress(scan_id))
        if scan_id:
            progress(self._progress(scan_id))

    def _send(self, item: Item) -> bool:
        """Send one item; False if `stop()` meanwhile."""
        message, timeout_s = item.message, self._options.send_timeout_s
        if isinstance(message, Frame):
            stamps = np.full(len(message), self._clock.wall_ns(), np.int64)
            message = replace(message, timestamp_ns=stamps)
        sent: list[Part] = []
        for sender, parts in self._messages(replace(item, message=message)):
            if not sender.send_parts(parts, wait_s=timeout_s, give_up=self._stop):
                if self._stop():
                    return False
                raise ScanError(f"{sender.address}: the receiver took nothing for {timeout_s:g} s; is it stuck or gone?")
            sent += parts
        if sent:
            self._tally.sent(message, sent)
        return True

    def _messages(self, item: Item) -> Iterator[tuple[Sender, Sequence[Part]]]:
        """What is sent for an item, and with which socket; bytes that are no message go out as they are."""
        for stream, encoder in self._encoders.items():
            if isinstance(item.message, Raw):
                if stream is item.stream:
                    yield self._senders[stream], item.message.parts
            else:
                for parts in encoder.messages(item):
                    yield self._senders[stream], parts

    def _abort(self) -> None:
        """Notify the receivers that nothing more will follow."""
        for scan_id, scan in self._tally.scans.items():
            for stream in [s for s in self._senders if s not in scan.ended]:
                end = ScanEnd(scan_id=scan_id, stream=stream, count=scan.count(stream), reason=EndReason.ABORTED)
                for sender, parts in self._messages(Item(stream=stream, message=end)):
                    if sender.send_parts(parts, wait_s=2.0):
                        self._tally.sent(end, parts)

    def _progress(self, scan_id: str) -> Progress:
        scan = self._tally.of(scan_id)
        return Progress(
            scan_id=scan_id,
            frames=len(scan.frames) + len(scan.corrupted),
            expected=scan.expected,
            seconds=self._tally.seconds,
            late_s=self._tally.late_s,
        )
