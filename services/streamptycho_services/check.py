"""Are the streams reachable, and what do they carry? Listens as a receiver would, for a few seconds."""

import socket
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from streamptycho.config import Config
from streamptycho.errors import CodecError, ProtocolError
from streamptycho.messages import Frame, Positions, ScanEnd, ScanStart
from streamptycho.transport import Endpoint, Receiver, SocketKind, new_context

QUIET_S = 0.002
"""How long to sleep when neither stream has anything."""
PIXELS_S = 0.1
"""Time between two frames whose pixels are decoded: a fast stream is to be counted, not decompressed."""


def check_streams(config: Config, seconds: float) -> dict[str, Any]:
    """Listen on both detector streams; ``ok`` is true if both carried messages that could be decoded.

    Frames taken from a PUSH socket do not reach anybody else: check before a scan that matters, not during it.
    """
    streams = {"frames": config.detector.frames, "positions": config.detector.positions}
    with new_context() as context:
        receivers = {name: Receiver(context, [endpoint]) for name, endpoint in streams.items()}
        try:
            found: dict[str, _Found] = {name: _Found() for name in streams}
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                quiet = True
                for name, receiver in receivers.items():
                    message = receiver.receive(0)
                    if message is not None:
                        found[name].take(message, time.monotonic())
                        quiet = False
                if quiet:
                    time.sleep(QUIET_S)
        finally:
            for receiver in receivers.values():
                receiver.close()
    report = {name: found[name].report(endpoint) for name, endpoint in streams.items()}
    return {"ok": all(stream["state"] == "ok" for stream in report.values()), **report}


@dataclass(slots=True)
class _Span:
    """When messages of one kind came."""

    first_s: float
    first_number: int
    """Frames or positions in the first message, which came before the span began."""
    last_s: float = 0.0

    def rate_hz(self, number: int) -> float | None:
        """Rate from the first message to the last; None for a single one."""
        span_s = self.last_s - self.first_s
        return round((number - self.first_number) / span_s, 1) if span_s > 0 else None


class _Found:
    """What one stream carried."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.facts: dict[str, Any] = {}
        self._spans: dict[str, _Span] = {}
        self._next_pixels_s = 0.0

    def take(self, message: object, now_s: float) -> None:
        """Take a message in, or the error it was refused with."""
        if isinstance(message, ProtocolError):
            self.errors[str(message)] += 1
            return
        kind, number = type(message).__name__, len(message) if isinstance(message, Frame | Positions) else 1
        self.kinds[kind] += number
        self._spans.setdefault(kind, _Span(now_s, number)).last_s = now_s
        if isinstance(message, ScanStart):
            geometry = message.geometry
            self.facts |= {"scan_id": message.scan_id, "energy_ev": round(geometry.energy_ev, 1), "frames": message.expected}
        elif isinstance(message, Frame):
            payload = message.payload
            self.facts |= {"shape": list(payload.shape), "type": payload.dtype.name, "encoding": str(payload.encoding)}
            self.facts |= {"newest_index": int(message.index[-1])}
            if now_s >= self._next_pixels_s:
                self._next_pixels_s = now_s + PIXELS_S
                try:
                    self.facts |= {"max_counts": float(payload.decode().max())}
                except CodecError as error:
                    self.errors[str(error)] += 1
        elif isinstance(message, Positions):
            self.facts |= {"newest_index": int(message.index[-1]), "newest_yx_m": message.yx_m[-1].tolist()}
        elif isinstance(message, ScanEnd):
            self.facts |= {"end": str(message.reason)}

    def report(self, endpoint: Endpoint) -> dict[str, Any]:
        """State and remedy of the stream."""
        role = f"{endpoint.socket} {'bound to' if endpoint.bind else 'connected to'} {endpoint.address}"
        if self.kinds:
            state, remedy = "ok", None
        elif self.errors:
            state, remedy = "undecodable", "the sender does not speak this protocol; see docs/wire-protocol.md"
        else:
            state = "silent"
            remedy = _why_silent(endpoint)
        rates = {kind: self._spans[kind].rate_hz(n) for kind, n in self.kinds.items()}
        report = {"state": state, "socket": role, "received": dict(self.kinds), "per_second": rates, **self.facts}
        report |= {"errors": dict(self.errors.most_common(5))} if self.errors else {}
        return report | ({"remedy": remedy} if remedy else {})


def _why_silent(endpoint: Endpoint) -> str:
    """The likeliest reason for nothing at all."""
    where = urlsplit(endpoint.address)
    if endpoint.bind or where.scheme != "tcp" or where.hostname is None or where.port is None:
        return "nothing arrived: is the sender running, and does its address match?"
    try:
        socket.create_connection((where.hostname, where.port), timeout=2).close()
    except OSError as error:
        return f"no TCP connection to {where.hostname}:{where.port} ({error.strerror or error}); check host, port, firewall"
    kind = "push" if endpoint.socket is SocketKind.PULL else "pub"
    return f"the port accepts connections but sent nothing: is a scan running, and is the sender's socket of type {kind}?"
