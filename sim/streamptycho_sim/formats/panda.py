"""The data port of a PandA: its bytes, and a server that speaks them.

The server has no clock and no hardware: a test arms it, gives it rows and ends the capture. Clients choose process and
transport by their first line, as at a real one; a client that comes during a capture gets what the server still keeps, and
is told how many rows it has missed.
"""

import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from streamptycho.options import Closing

SAMPLES = "PCAP.SAMPLES"
BLOCK_ROWS = 4096
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Field:
    """A captured position; a server counts in steps of `scale`."""

    name: str
    capture: str = "Mean"
    """Mean, of the encoder values while the gate is open, or Value, at the trigger."""
    scale: float = 1e-3
    offset: float = 0.0
    units: str = "um"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as the hardware counts them."""

    samples: NDArray[np.uint32]
    """(n,) encoder values in each mean."""
    raw: NDArray[np.int64]
    """(n, fields) sums for a mean, else the value."""

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, rows: slice) -> "Rows":
        return Rows(self.samples[rows], self.raw[rows])


def rows_of(fields: Sequence[Field], values: NDArray[np.float64], samples: int = 125) -> Rows:
    """Rows whose values are (n, fields) in the units of the fields, to the nearest step."""
    scale, offset = (np.array([getattr(field, key) for field in fields]) for key in ("scale", "offset"))
    steps = np.rint((values - offset) / scale).astype(np.int64)
    times = np.where([field.capture == "Mean" for field in fields], samples, 1)
    return Rows(np.full(len(values), samples, np.uint32), steps * times)


def header(
    fields: Sequence[Field],
    process: str,
    transport: str,
    *,
    missed: int = 0,
    arm_time: str = "2026-11-20T10:00:00.250000000Z",
) -> bytes:
    """What precedes the rows of a capture."""
    size = f' sample_bytes="{_row(fields, process).itemsize}"' if transport == "framed" else ""
    data = f'<data arm_time="{arm_time}" start_time="{arm_time}" missed="{missed}" process="{process.capitalize()}"'
    form = {"framed": "Framed", "ascii": "ASCII"}[transport]
    lines = ["<header>", f'{data} format="{form}"{size} />', "<fields>", _element(SAMPLES, "uint32", "Value")]
    for field in fields:
        scaling = f' scale="{field.scale:.12g}" offset="{field.offset:.12g}" units={quoteattr(field.units)}'
        lines.append(_element(field.name, _kind(field, process), field.capture, scaling))
    return "\n".join([*lines, "</fields>", "</header>", "", ""]).encode()


def blocks(fields: Sequence[Field], process: str, transport: str, rows: Rows) -> bytes:
    """Some rows."""
    table = np.empty(len(rows), _row(fields, process))
    table["f0"] = rows.samples
    for i, field in enumerate(fields):
        column = rows.raw[:, i]
        if process == "scaled":
            with np.errstate(all="ignore"):
                mean = column / rows.samples if field.capture == "Mean" else column
            table[f"f{i + 1}"] = field.scale * mean + field.offset
        elif process == "unscaled" and field.capture == "Mean":
            table[f"f{i + 1}"] = column // np.maximum(rows.samples, 1)
        else:
            table[f"f{i + 1}"] = column
    if transport == "ascii":
        return b"".join((" " + " ".join(f"{value:.10g}" for value in row) + "\n").encode() for row in table.tolist())
    pieces = [table[first : first + BLOCK_ROWS].tobytes() for first in range(0, len(table), BLOCK_ROWS)]
    return b"".join(b"BIN " + struct.pack("<I", 8 + len(piece)) + piece for piece in pieces)


def end(count: int, reason: str = "Ok") -> bytes:
    """What follows the rows of a capture."""
    return f"END {count} {reason}\n".encode()


def _element(name: str, kind: str, capture: str, scaling: str = "") -> str:
    return f'<field name={quoteattr(name)} type="{kind}" capture="{capture}"{scaling} />'


def _kind(field: Field, process: str) -> str:
    if process == "scaled":
        return "double"
    return "int64" if process == "raw" and field.capture == "Mean" else "int32"


def _row(fields: Sequence[Field], process: str) -> np.dtype:
    kinds = {"double": "<f8", "int64": "<i8", "int32": "<i4"}
    return np.dtype([("f0", "<u4"), *((f"f{i + 1}", kinds[_kind(field, process)]) for i, field in enumerate(fields))])


class _Client:
    """One connection."""

    def __init__(self, connection: socket.socket, process: str, transport: str) -> None:
        self.connection, self.process, self.transport = connection, process, transport
        self.sent = 0
        """Rows of the capture."""


class PandaServer(Closing):
    """Listens on a port of this machine; `keep` is how many rows it has for clients that come late."""

    def __init__(self, fields: Sequence[Field], keep: int = 1 << 20, port: int = 0) -> None:
        self.fields = list(fields)
        self.greetings: list[bytes] = []
        """First lines of the clients so far."""
        self._keep = keep
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._lock = threading.Condition()
        self._clients: list[_Client] = []
        self._arm_time: str | None = None
        self._kept: list[Rows] = []
        self._count = 0
        self._closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Stop listening and break all connections."""
        with self._lock:
            self._closed = True
        self._thread.join()
        self._socket.close()
        self.drop()

    def wait_for_clients(self, number: int, timeout_s: float) -> bool:
        """Wait until `number` clients are connected and have said what they want."""
        with self._lock:
            return self._lock.wait_for(lambda: len(self._clients) >= number, timeout_s)

    def drop(self) -> None:
        """Break all connections."""
        with self._lock:
            for client in self._clients:
                client.connection.close()
            self._clients.clear()

    def arm(self, arm_time: str = "2026-11-20T10:00:00.250000000Z") -> None:
        """Begin a capture."""
        with self._lock:
            self._arm_time, self._kept, self._count = arm_time, [], 0
            for client in list(self._clients):
                self._begin(client)

    def rows(self, rows: Rows) -> None:
        """Capture some rows."""
        with self._lock:
            self._count += len(rows)
            self._kept.append(rows)
            while sum(map(len, self._kept)) > self._keep:
                self._kept.pop(0)
            for client in list(self._clients):
                self._rows(client, rows)

    def end(self, reason: str = "Ok") -> None:
        """End the capture."""
        with self._lock:
            self._arm_time = None
            for client in list(self._clients):
                self._send(client, end(client.sent, reason))

    def _begin(self, client: _Client) -> None:
        missed = self._count - sum(map(len, self._kept))
        client.sent = 0
        form = client.process, client.transport
        self._send(client, header(self.fields, *form, missed=missed, arm_time=self._arm_time or ""))
        for rows in self._kept:
            self._rows(client, rows)

    def _rows(self, client: _Client, rows: Rows) -> None:
        self._send(client, blocks(self.fields, client.process, client.transport, rows))
        client.sent += len(rows)

    def _send(self, client: _Client, data: bytes) -> None:
        try:
            client.connection.sendall(data)
        except OSError:  # it has gone
            client.connection.close()
            if client in self._clients:
                self._clients.remove(client)

    def _accept(self) -> None:
        self._socket.settimeout(_POLL_S)
        while True:
            with self._lock:
                if self._closed:
                    return
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            connection.settimeout(10.0)
            self._greet(connection)

    def _greet(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            line = file.readline(1000)
        words = line.decode(errors="replace").lower().split()
        chosen = [
            [word for word in words if word in choices] for choices in (("scaled", "raw", "unscaled"), ("framed", "ascii"))
        ]
        with self._lock:
            self.greetings.append(line)
            if "xml" not in words or len(words) != 3 or not all(chosen):
                connection.sendall(b"ERR Invalid data capture option\n")
                connection.close()
                return
            client = _Client(connection, chosen[0][0], chosen[1][0])
            self._clients.append(client)
            self._send(client, b"OK\n")
            if self._arm_time is not None:
                self._begin(client)
            self._lock.notify_all()
