"""Bytes for ports that expect something else: what is no ZeroMQ at all, and ZeroMQ that breaks off or lies."""

import socket
import struct
from contextlib import suppress

import numpy as np

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
"""First 64 bytes of a ZMTP 3 connection."""


def ready(kind: bytes) -> bytes:
    """The command that ends the handshake of ZeroMQ."""
    body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return b"\x04" + bytes([len(body)]) + body


OLD = (b"\x01\x00", b"\x01\x00\x06\x00hello", b"\xff" + bytes(7) + b"\x01\x7f\x01\x08\x00\x00")
"""First bytes of peers of 2010 to 2012, which name no socket type or a mere number."""

RAW = [
    np.random.default_rng(0).bytes(100_000),
    b"GET / HTTP/1.1\r\nHost: detector\r\n\r\n",
    bytes(1000),
    b"\xff" * 1000,
    GREETING[:20],
    GREETING + np.random.default_rng(1).bytes(100_000),
    *(
        GREETING + ready(kind) + b"\x02" + struct.pack(">Q", size) + b"not so many"
        for kind in (b"PUSH", b"PUB", b"SUB", b"NONSENSE")
        for size in (10**12, 2**63 - 1, 2**64 - 1)
    ),
    GREETING + ready(b"PUSH") + b"\x03" + struct.pack(">Q", 1000) + b"first part of a message that never ends",
    *OLD,
]


def connect(address: str, timeout_s: float = 10.0) -> socket.socket:
    """A connection to a tcp or ipc address, without ZeroMQ."""
    scheme, _, place = address.partition("://")
    if scheme == "tcp":
        host, _, port = place.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=timeout_s)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_s)
    connection.connect(place)
    return connection


def throw(address: str, data: bytes, timeout_s: float = 10.0) -> bytes:
    """Write bytes to a port as they are, and wait for what the other side makes of them; the first that it answers."""
    answer = b""
    with connect(address, timeout_s) as connection, suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while received := connection.recv(1 << 16):
            answer = answer or received
    return answer
