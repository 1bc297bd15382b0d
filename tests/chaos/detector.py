"""The sending side: a detector and a scanner that note what ZeroMQ has taken from them, and wait while it takes nothing."""

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.files.bslz4 import compress
from streamptycho.messages.kinds import Message
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Sender
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions

SHAPE = 64
POSITIONS_PER_S = 20
"""Messages with positions."""
BURST = 60
"""Frames of a burst."""


class Patterns:
    """Frames and positions of one simulated scan; different patterns for each seed."""

    def __init__(self, frames: int, seed: int, encoding: Encoding, shape: int = SHAPE) -> None:
        self.scan = SimulatedScan(SyntheticOptions(frames=frames, shape=shape, seed=seed, probe_start="guess"))
        self.counts: NDArray[Any] = np.stack(list(self.scan.counts()))
        """(frames, shape, shape)."""
        whole = compress(self.counts) if encoding is Encoding.BSLZ4 else Payload.raw(self.counts)
        self.payloads = [replace(whole, chunks=(chunk,)) for chunk in whole.chunks]

    def __len__(self) -> int:
        return len(self.payloads)


@dataclass(eq=False)
class Sent:
    """One scan, and what ZeroMQ has taken of it."""

    scan_id: str
    patterns: Patterns
    count: int
    """Frames: the first ones of the patterns."""
    rate_hz: float
    planned: bool
    """Whether the start message says how many frames there will be."""
    started_ns: int = field(default_factory=time.time_ns)
    frames: dict[int, int] = field(default_factory=dict)
    """Index to time stamp of the frames that were taken."""
    positions: set[int] = field(default_factory=set)
    """Indices of the positions that were taken."""
    ended_s: float = 0.0
    """When the last message was taken."""

    @property
    def seconds(self) -> float:
        """How long it takes at its rate."""
        return self.count / self.rate_hz

    def start(self) -> ScanStart:
        """First message."""
        start = self.patterns.scan.start(self.started_ns)
        planned = start.planned_yx_m[: self.count] if start.planned_yx_m is not None else None
        return replace(start, scan_id=self.scan_id, expected=self.count if self.planned else None, planned_yx_m=planned)

    def end(self, stream: Stream) -> ScanEnd:
        """Last message of a stream."""
        return ScanEnd(scan_id=self.scan_id, stream=stream, count=self.count, started_ns=self.started_ns)


class Detector:
    """Sends one scan after the other; :meth:`turn` must be called often."""

    def __init__(self, context: Any, frames: str, positions: str, positions_kind: SocketKind) -> None:
        ends = {Stream.FRAMES: (frames, SocketKind.PUSH), Stream.POSITIONS: (positions, positions_kind)}
        self._senders = {
            stream: Sender(context, Endpoint(address=address, socket=kind, bind=True, queue=200), linger_s=0)
            for stream, (address, kind) in ends.items()
        }
        self._queues: dict[Stream, deque[tuple[float, Message]]] = {stream: deque() for stream in ends}
        self._scan: Sent | None = None
        self._burst = 0

    def close(self) -> None:
        """Close the sockets."""
        for sender in self._senders.values():
            sender.close()

    def wait_for_peers(self, timeout_s: float) -> bool:
        """Wait until both streams are listened to."""
        return all(sender.wait_for_peer(timeout_s) for sender in self._senders.values())

    def begin(self, scan: Sent) -> None:
        """Send this scan from now on."""
        self._scan, self._burst = scan, 0
        begun, count = time.monotonic(), scan.count
        frames, positions = self._queues[Stream.FRAMES], self._queues[Stream.POSITIONS]
        frames.append((begun, scan.start()))
        for i in range(count):
            frame = Frame(
                scan_id=scan.scan_id,
                index=np.array([i]),
                timestamp_ns=np.zeros(1, np.int64),
                payload=scan.patterns.payloads[i],
            )
            frames.append((begun + i / scan.rate_hz, frame))
        block = max(round(scan.rate_hz / POSITIONS_PER_S), 1)
        for first in range(0, count, block):
            index = np.arange(first, min(first + block, count))
            yx_m = scan.patterns.scan.yx_m[index]
            positions.append((begun + first / scan.rate_hz, Positions(scan_id=scan.scan_id, index=index, yx_m=yx_m)))
        frames.append((begun + scan.seconds, scan.end(Stream.FRAMES)))
        positions.append((begun + scan.seconds, scan.end(Stream.POSITIONS)))

    def burst(self) -> None:
        """Send the next frames at once."""
        self._burst = BURST

    @property
    def busy(self) -> bool:
        """True until all of the scan was taken."""
        return any(self._queues.values())

    def turn(self) -> None:
        """Send what is due."""
        for stream, queue in self._queues.items():
            while queue and (queue[0][0] <= time.monotonic() or self._burst) and self._send(stream, queue[0][1]):
                queue.popleft()

    def _send(self, stream: Stream, message: Message) -> bool:
        scan = self._scan
        assert scan is not None
        if isinstance(message, Frame):
            message = replace(message, timestamp_ns=np.array([time.time_ns()]))
        if not self._senders[stream].send(message):
            return False
        if isinstance(message, Frame):
            scan.frames[int(message.index[0])] = int(message.timestamp_ns[0])
            self._burst = max(self._burst - 1, 0)
        elif isinstance(message, Positions):
            scan.positions.update(message.index.tolist())
        scan.ended_s = time.monotonic()
        return True
