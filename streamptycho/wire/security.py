"""Keys of this program as an option table. Knows no socket: reading the configuration imports no zmq."""

import ipaddress
from pathlib import Path

from streamptycho.options import Options


class SecurityOptions(Options):
    """CURVE keys: who may connect to the sockets of this program, and what they carry nobody else can read.

    With a secret key, every TCP socket takes part; ``ipc`` stays within this machine, where the permissions of its directory
    say who may connect. ``streamptycho keys`` makes the files.
    """

    secret_key: Path | None = None
    """File with the secret key of this program; None: no encryption, and anyone who reaches a port may connect. Sockets that
    bind prove with it who they are, sockets that connect show its public half."""
    server_key: Path | None = None
    """File with the public key of the programs that bind; by default the public half of `secret_key`, as all services may
    share one pair."""
    allowed_keys: Path | None = None
    """Directory with the public keys (``*.key``) of other programs that may connect; the own one always may. Read at each
    connection, so that a key that is added or removed counts from then on."""


NO_KEYS = SecurityOptions()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def leaves_the_machine(address: str) -> bool:
    """Whether others can reach a socket that binds this ZeroMQ address."""
    transport, _, rest = address.partition("://")
    return transport == "tcp" and not is_loopback(rest.rpartition(":")[0])
