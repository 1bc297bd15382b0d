"""Where a detector's stream comes from, as an option table. Knows no socket: reading the configuration imports no zmq."""

from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from streamptycho.compose.options import Role
from streamptycho.dialects.door import OURS, known, remedy
from streamptycho.options import Options
from streamptycho.wire.endpoint import Endpoint, SocketKind

_PULL, _SUB, _STREAM = SocketKind.PULL, SocketKind.SUB, SocketKind.STREAM
USUAL = {
    "dectris-v1": _PULL,
    "dectris-v2": _PULL,
    "bluesky": _SUB,
    "panda": _STREAM,
    "panda-json": _SUB,
    "panda-json-maxiv": _SUB,
}
"""What the senders of a format are heard with; our own push frames, and publish all else."""
_HEARD_WITH = (_PULL, _SUB, _STREAM)


def host_and_port(address: str) -> tuple[str, int]:
    """Those of a ``tcp://`` address. Raises ValueError if it does not name both."""
    parts = urlsplit(address)
    if parts.scheme != "tcp" or not parts.hostname or parts.port is None:
        raise ValueError(f"{address!r} does not name a host and a port; write tcp://HOST:PORT")
    return parts.hostname, parts.port


class DetectorEndpoint(Endpoint):
    """Our end of a detector's stream."""

    socket: SocketKind = SocketKind.PULL
    """``pull`` for a sender that pushes, and waits; ``sub`` for one that publishes, and loses messages where we are slow;
    ``stream`` for a plain TCP connection without ZeroMQ. Default: what senders of the format use."""
    format: str = OURS
    """What the sender speaks: ``streamptycho`` is docs/wire-protocol.md; docs/dialects.md has the others."""
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """What the dialect has to know besides; docs/dialects.md has the options of each."""

    @model_validator(mode="before")
    @classmethod
    def _as_is_usual(cls, given: Any) -> Any:
        usual = USUAL.get(given.get("format", OURS)) if isinstance(given, dict) else None
        return given if usual is None else {"socket": usual, **given}

    @field_validator("format")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name != OURS and name not in known():
            raise ValueError(f"no such dialect; {remedy()}")
        return name

    @field_validator("socket")
    @classmethod
    def _hears(cls, kind: SocketKind) -> SocketKind:
        if kind not in _HEARD_WITH:
            raise ValueError(f"cannot receive; use {', '.join(_HEARD_WITH)}")
        return kind

    @model_validator(mode="after")
    def _can_be_connected_to(self) -> Self:
        if self.socket is _STREAM:
            host_and_port(self.address)
            if self.bind:
                raise ValueError("bind: a plain TCP connection is made by us; leave it out")
        return self


class DetectorEndpoints(Options):
    """Where the detector's streams come from. A setting that is left out is as below, or as the format wants it."""

    frames: DetectorEndpoint = DetectorEndpoint(address="tcp://127.0.0.1:5555", socket=_PULL)
    """Start messages, frames and their end."""
    positions: DetectorEndpoint = DetectorEndpoint(address="tcp://127.0.0.1:5556", socket=_SUB)
    """Positions and their end."""
    documents: DetectorEndpoint | None = None
    """What is said of the scan besides: energy, distance, names. Default: nobody says it."""

    @property
    def by_role(self) -> dict[Role, DetectorEndpoint]:
        """The streams that there are."""
        ends = {Role.FRAMES: self.frames, Role.POSITIONS: self.positions, Role.DOCUMENTS: self.documents}
        return {role: end for role, end in ends.items() if end is not None}

    @field_validator("frames", "positions", "documents", mode="before")
    @classmethod
    def _as_is_usual(cls, given: Any, info: ValidationInfo) -> Any:
        default = cls.model_fields[info.field_name or ""].default
        if not isinstance(given, dict):
            return given
        usual: dict[str, Any] = {}
        if given.get("format", OURS) not in USUAL:
            usual["socket"] = _SUB if default is None else default.socket
        if given.get("format", OURS) == OURS and default is not None:
            usual["address"] = default.address
        return {**usual, **given}
