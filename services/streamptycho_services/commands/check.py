"""Are the streams there, and what do they carry? Takes nothing from anybody, unless it is told to.

A sender that publishes gives everyone a copy. One that pushes gives each message to one receiver only: with some versions of
ZeroMQ a mere connection is given messages. Such a stream is looked at through the running receiver, or not at all.
"""

import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from streamptycho.compose.options import Role
from streamptycho.config import Config
from streamptycho.dialects.door import Interpreter
from streamptycho.errors import ConfigError
from streamptycho.messages.status import ReceiveStatus
from streamptycho.messages.stream import ScanStart
from streamptycho.sources.listener import Listener, OwnStream, Source, Stream, open_stream
from streamptycho.sources.options import DetectorEndpoint, host_and_port
from streamptycho.sources.recognise import recognise
from streamptycho.sources.tcp import unanswered
from streamptycho.wire.codec import Part
from streamptycho.wire.curve import Context
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.sockets import Pollable, Receiver, new_context
from streamptycho.wire.watch import IDLE
from streamptycho_services.commands.heard import BEFORE, Found
from streamptycho_services.processes.folder import displays

KEPT_MESSAGES, KEPT_BYTES = 200, 64 << 20
"""The first messages of a stream, from which its format is recognised."""
WAIT_S = 0.05
LEFT_OUT, UNOPENED = "not looked at", "cannot be opened"
NOTHING_YET = "what comes tells of no scan yet: is something being measured, and is a PandA armed?"
TAKES = "looking takes frames from whoever should have them; --take looks all the same, or start the receiver and ask again"


def check_streams(config: Config, seconds: float, *, take: bool = False) -> dict[str, Any]:
    """Listen to the detector's streams; ``ok`` is true if each carried something that could be understood.

    Parameters
    ----------
    take : look at streams of which a message goes to one receiver only, too; what is seen then reaches nobody else.
    """
    ends = config.detector.by_role
    found = {role: Found() for role in ends}
    states: dict[Role, dict[str, Any]] = {}
    with ExitStack() as stack:
        context = stack.enter_context(new_context(config.security))
        looked_at, kept = _open(context, ends, states, take=take)
        listener = stack.enter_context(Listener(looked_at))
        addresses = (config.services.display_receive, *displays(config))
        shown = [Endpoint(address=address, socket=SocketKind.SUB, queue=100) for address in addresses]
        receiver = stack.enter_context(Receiver(context, shown))
        running = _Running()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            heard = listener.receive(WAIT_S)
            if heard is not None:
                found[heard.role].take(heard.fact, time.monotonic())
            running.hear(receiver)
    for role in kept:
        states[role] = _seen(found[role], ends[role], kept[role].messages)
    _explain_silence(ends, states, {role: kept[role].standing for role in kept})
    for role, state in states.items():
        if state["state"] == LEFT_OUT and running.status is not None:
            state |= running.stream(role)
    report = {role.value: {"socket": _socket(ends[role]), **states[role]} for role in ends}
    ok = all(stream["state"] == "ok" for stream in report.values())
    seen = {"receiver": running.report()} if running.status is not None else {}
    lines = list(_configuration(ends, states))
    return {"ok": ok, **report, **seen} | ({"configuration": lines} if lines else {})


def _open(
    context: Context, ends: dict[Role, DetectorEndpoint], states: dict[Role, dict[str, Any]], *, take: bool
) -> tuple[list[Stream | OwnStream], dict[Role, "_Kept"]]:
    """Streams that are looked at, and what is kept of each; those that are not are put into `states`."""
    streams: list[Stream | OwnStream] = []
    kept: dict[Role, _Kept] = {}
    for role, end in ends.items():
        if end.socket is SocketKind.PULL and end.format != "hdf5" and not take:
            states[role] = {"state": LEFT_OUT, "remedy": TAKES}
            continue
        try:
            stream = open_stream(context, role, end)
        except ConfigError as error:
            states[role] = {"state": UNOPENED, "remedy": str(error)}
            continue
        kept[role] = stream.source = _Kept(stream.source)
        streams.append(stream)
    return streams, kept


class _Kept:
    """A source of which the first messages are kept."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.messages: list[list[bytes]] = []
        self._bytes = 0

    @property
    def pollable(self) -> Pollable | None:
        return self._source.pollable

    @property
    def standing(self) -> str:
        return self._source.standing

    def poll(self, timeout_s: float) -> Sequence[Part] | None:
        parts = self._source.poll(timeout_s)
        if parts and len(self.messages) < KEPT_MESSAGES and self._bytes < KEPT_BYTES:
            self.messages.append([bytes(part) for part in parts])
            self._bytes += sum(map(len, parts))
        return parts

    def close(self) -> None:
        self._source.close()


class _Running:
    """What a running receiver says of the scan that it receives."""

    def __init__(self) -> None:
        self.status: ReceiveStatus | None = None
        self._starts: deque[ScanStart] = deque(maxlen=16)

    def hear(self, receiver: Receiver) -> None:
        """Take in what has come."""
        while (message := receiver.receive(0)) is not None:
            if isinstance(message, ScanStart):
                self._starts.append(message)
            elif isinstance(message, ReceiveStatus) and (message.scan_id or self.status is None or not self.status.scan_id):
                self.status = message

    def stream(self, role: Role) -> dict[str, Any]:
        """State of a stream, as the receiver sees it."""
        status = self.status
        frames, places = (status.received, status.positions) if status is not None else (0, 0)
        count = {Role.FRAMES: frames, Role.POSITIONS: places}.get(role, 0)
        if count:
            return {"state": "ok", "remedy": None, "seen": f"by the running receiver: {count} so far"}
        silence_s = None if status is None else status.silence_s.get(role.value)
        if silence_s is None:
            return {"seen": "the running receiver has heard nothing from it"}
        why = "; ".join(status.remarks) if status is not None and status.scan_id is None else ""
        seen = f"by the running receiver: the latest {silence_s:.0f} s ago, and no scan with it"
        return {"seen": f"{seen}: {why}" if why else f"{seen}; its log says why"}

    def report(self) -> dict[str, Any]:
        """Figures of that scan, and what was announced of it."""
        status = self.status
        if status is None or status.scan_id is None:
            return {"scan_id": None}
        names = ("scan_id", "received", "rate_hz", "gaps", "positions", "expected", "missing")
        facts: dict[str, Any] = {name: getattr(status, name) for name in names}
        found = Found()
        for start in self._starts:
            if start.run == status.run:
                found.take(start, 0.0)
        return facts | {"remarks": list(status.remarks), "announced": found.facts, "rejected": dict(status.rejected)}


def _seen(found: Found, end: DetectorEndpoint, came: list[list[bytes]]) -> dict[str, Any]:
    """What has been heard, and what to do where that is not enough."""
    report, connection = found.report(), end.socket is SocketKind.STREAM
    formats = recognise(came, connection=connection)
    remedy: str | None = None
    if formats and end.format not in formats:
        report |= {"recognised": formats[0]}
        remedy = f"this is {' or '.join(formats)}, configured is {end.format}: see the lines below"
    elif report["state"] == BEFORE:
        remedy = f"this is {end.format}, of a run that began before: look again while the next one begins"
    elif report["state"] == "undecodable" and connection:
        remedy = f"connected to {end.address}, but {next(iter(found.errors)).partition(': ')[2]}"
    elif report["state"] == "undecodable" and formats:
        remedy = f"this is {end.format}, and its beginning was missed or its options do not fit: see the errors"
    elif report["state"] == "undecodable":
        remedy = "no built-in format fits: see docs/dialects.md; our own is in docs/wire-protocol.md"
    elif report["state"] == "silent":
        remedy = NOTHING_YET if came else None
    else:
        return report
    return report | {"remedy": remedy}


def _configuration(ends: dict[Role, DetectorEndpoint], states: dict[Role, dict[str, Any]]) -> Iterator[str]:
    """Lines that would use what has been recognised."""
    for role, state in states.items():
        if "recognised" in state:
            end = ends[role]
            yield f"[detector.{role.value}]"
            yield f'address = "{end.address}"'
            yield f'socket = "{end.socket.value}"'
            yield from ["bind = true"] if end.bind else []
            yield f'format = "{state["recognised"]}"'


def _socket(end: DetectorEndpoint) -> str:
    return f"{end.socket} {'bound to' if end.bind else 'connected to'} {end.address}"


def _explain_silence(
    ends: dict[Role, DetectorEndpoint], states: dict[Role, dict[str, Any]], standings: dict[Role, str]
) -> None:
    """Say of each stream on which nothing has come whether its sender is there, and what it may wait for."""
    silent = [role for role, state in states.items() if state["state"] == "silent" and state["remedy"] is None]
    refused = {role: problem for role in silent if (problem := _no_connection(ends[role]))}
    absent = [role for role, state in states.items() if role in refused or state["state"] in (LEFT_OUT, UNOPENED)]
    for role in silent:
        others = " and ".join(f"detector.{other}" for other in absent)
        waits = f"; a sender of several streams may also wait until somebody takes {others}" if others else ""
        misfit = standings[role] if ends[role].socket is not SocketKind.STREAM and IDLE not in standings[role] else ""
        states[role]["remedy"] = refused.get(role) or misfit or _why_silent(ends[role]) + waits


def _no_connection(end: DetectorEndpoint) -> str | None:
    """Why no connection to a sender can be made; None if one can, or if nobody knows."""
    try:
        host, port = host_and_port(end.address)
    except ValueError:
        return None
    if end.bind:
        return None
    try:
        socket.create_connection((host, port), timeout=2).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"no TCP connection to {host}:{port} ({reason}); check host, port, firewall"
    return None


def _why_silent(end: DetectorEndpoint) -> str:
    """What to look at where a sender can be there."""
    if end.bind or not end.address.startswith("tcp://"):
        return "nothing arrived: is the sender running, and does its address match?"
    dialect = Interpreter(end.format, end.options)
    if end.socket is SocketKind.STREAM and dialect.greeting:
        return unanswered(end.address, dialect.peer)
    if end.socket is SocketKind.STREAM:
        return "the port accepts connections but sent nothing: is it the right one, and is something being measured?"
    kind = "push" if end.socket is SocketKind.PULL else "pub"
    return f"the port accepts connections but sent nothing: is a scan running, and is the sender's socket of type {kind}?"
