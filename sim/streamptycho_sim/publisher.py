"""Sends items over two sockets at a given rate, as a detector and its motion controller would.

Every deadline is counted from the beginning of the scan, so one late frame does not make the next one late. Nothing is
sent before both receivers are there; what a PUSH receiver does not take yet, the publisher waits with.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from streamptycho.codec import Part
from streamptycho.codec import encode as encode_message
from streamptycho.errors import ConfigError, ScanError
from streamptycho.messages import Frame, Message, ScanEnd
from streamptycho.options import Options
from streamptycho.payload import Encoding
from streamptycho.reasons import EndReason, Stream
from streamptycho.transport import Endpoint, Sender, SocketKind
from streamptycho_sim.stream import Item, Items, Raw, pack
from streamptycho_sim.tally import Tally

Context: TypeAlias = Any
"""What :func:`streamptycho.transport.new_context` returns."""
Stop: TypeAlias = Callable[[], bool]

_SLICE_S = 0.1
"""Longest sleep before `stop` is asked again."""
_PROGRESS_S = 0.25
_BLOCKS_PER_S = 20
"""Messages of positions per second where their size is left open, as motion controllers do it."""


class PublishOptions(Options):
    """How a scan is sent."""

    rate_hz: float | None = Field(default=None, gt=0)
    """Frames per second; by default as fast as they are made and taken."""
    frames_per_message: int = Field(default=1, ge=1, le=4096)
    """Frames in one message."""
    positions_per_message: int | None = Field(default=None, ge=1)
    """Positions in one message; by default about 20 messages per second."""
    encoding: Encoding | None = None
    """Compression of the frames; by default as they come: raw if simulated, as stored if recorded."""
    peer_timeout_s: float = Field(default=60.0, gt=0)
    """How long to wait for the receivers, seconds."""
    send_timeout_s: float = Field(default=60.0, gt=0)
    """How long a receiver may refuse messages before the scan is given up, seconds."""

    @property
    def position_block(self) -> int:
        """Positions in one message."""
        return self.positions_per_message or max(1, round((self.rate_hz or 16 * _BLOCKS_PER_S) / _BLOCKS_PER_S))


class OutletOptions(Options):
    """Where frames and positions go."""

    frames_address: str = "tcp://127.0.0.1:5555"
    """ZeroMQ address of the frames."""
    frames_socket: Literal["push", "pub"] = "push"
    """push: nothing is lost, the sender waits. pub: a slow reader loses frames."""
    positions_address: str = "tcp://127.0.0.1:5556"
    """ZeroMQ address of the positions."""
    positions_socket: Literal["push", "pub"] = "pub"
    """As for the frames."""
    connect: bool = False
    """Connect to receivers that bind, instead of binding."""
    queue: int = Field(default=1000, ge=1)
    """Messages queued at this end of each socket."""

    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """Endpoints of frames and positions."""
        frames, positions = (
            Endpoint(address=address, socket=SocketKind(kind), bind=not self.connect, queue=self.queue)
            for address, kind in (
                (self.frames_address, self.frames_socket),
                (self.positions_address, self.positions_socket),
            )
        )
        return frames, positions


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
    """How far a publisher has come."""

    scan_id: str
    frames: int
    """Frames sent of this scan, intact ones and others."""
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
    """Send all items and say what was sent; on `stop()` end every open scan as aborted.

    `tally` is the one that was given to the faults, if any. Items are joined into blocks here; encode them before.

    Raises
    ------
    ConfigError
        If an address cannot be used, or no receiver comes in time.
    ScanError
        If a receiver takes nothing for too long.
    """
    tally = Tally() if tally is None else tally
    with Sender(context, frames) as frame_sender, Sender(context, positions) as position_sender:
        senders = {Stream.FRAMES: frame_sender, Stream.POSITIONS: position_sender}
        for stream, sender in senders.items():
            if not sender.wait_for_peer(options.peer_timeout_s, stop) and not stop():
                raise ConfigError(
                    f"nobody took {stream} at {sender.address} within {options.peer_timeout_s:g} s; "
                    "start the receiver, or correct the address or the socket kinds"
                )
        outlet = _Outlet(senders, options, tally, stop, clock)
        outlet.run(pack(items, options.frames_per_message, options.position_block), progress)
    return tally


class _Outlet:
    """The open sockets of one publisher."""

    def __init__(
        self, senders: dict[Stream, Sender], options: PublishOptions, tally: Tally, stop: Stop, clock: Clock
    ) -> None:
        self._senders = senders
        self._options = options
        self._tally = tally
        self._stop = stop
        self._clock = clock

    def run(self, items: Items, progress: Callable[[Progress], None]) -> None:
        """Send until there is nothing left or `stop`."""
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
        """Send one item; False if asked to stop meanwhile."""
        message, timeout_s = item.message, self._options.send_timeout_s
        if isinstance(message, Frame):
            stamps = np.full(len(message), self._clock.wall_ns(), np.int64)
            message = replace(message, timestamp_ns=stamps)
        parts: Sequence[Part] = message.parts if isinstance(message, Raw) else encode_message(message)
        sender = self._senders[item.stream]
        if sender.send_parts(parts, wait_s=timeout_s, give_up=self._stop):
            self._tally.sent(message, parts)
            return True
        if self._stop():
            return False
        raise ScanError(f"{sender.address}: the receiver took nothing for {timeout_s:g} s; is it stuck or gone?")

    def _abort(self) -> None:
        """Tell the receivers that no more will come."""
        for scan_id, scan in self._tally.scans.items():
            for stream in [s for s in self._senders if s not in scan.ended]:
                end = ScanEnd(scan_id=scan_id, stream=stream, count=scan.count(stream), reason=EndReason.ABORTED)
                self._send_last(stream, end)

    def _send_last(self, stream: Stream, message: Message) -> None:
        parts = encode_message(message)
        if self._senders[stream].send_parts(parts, wait_s=2.0):
            self._tally.sent(message, parts)

    def _progress(self, scan_id: str) -> Progress:
        scan = self._tally.of(scan_id)
        return Progress(
            scan_id=scan_id,
            frames=len(scan.frames) + len(scan.corrupted),
            expected=scan.expected,
            seconds=self._tally.seconds,
            late_s=self._tally.late_s,
        )
