"""One end of a stream as an option table. Knows no socket: reading the configuration imports no zmq."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from streamptycho.options import Options


class SocketKind(StrEnum):
    """ZeroMQ pattern of one end of a stream."""

    PULL = "pull"
    SUB = "sub"
    PUSH = "push"
    PUB = "pub"
    REQ = "req"
    REP = "rep"
    ROUTER = "router"
    DEALER = "dealer"
    STREAM = "stream"
    """None: a plain TCP connection. For a detector's streams only."""


class LinkOptions(Options):
    """The links between the services, on which nothing is lost."""

    max_unacknowledged_bytes: int = Field(256 << 20, gt=0)
    """Messages kept by each sender until the other side has them safe, bytes; beyond it the sender waits. What the receiver
    keeps for a writer that is being restarted."""


class Endpoint(Options):
    """One end of a stream."""

    address: str
    """ZeroMQ address, e.g. ``tcp://127.0.0.1:5555``."""
    socket: SocketKind
    """push/pull: nothing is lost, the sender waits. pub/sub: the sender never waits, a slow reader loses messages."""
    bind: bool = False
    """Bind (wait for peers) instead of connecting to one. Exactly one end of a stream binds."""
    queue: int = Field(1000, ge=1)
    """Messages queued at this end before PUSH waits and PUB drops.

    Fixed while the socket is open: ZeroMQ 4.3 stalls for good when a queue in use is made shorter, and crashes when its
    length is changed while a peer leaves."""
    max_message_bytes: int = Field(256 << 20, ge=1)
    """A peer that sends a larger part is disconnected."""
    curve: bool = True
    """Use the keys of `security`, if there are any; false for a peer that has none."""
    server_key: Path | None = None
    """File with the public key of the peer that binds, where it is not `security.server_key`."""
