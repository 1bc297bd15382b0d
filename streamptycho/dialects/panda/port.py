"""The data port of a PandA (TCP, 8889): rows of encoder values, captured at each trigger.

The stream of a connection: ``OK``, then for each capture a header in XML, the rows, and ``END`` with their number and the
reason. Rows are numbered from the beginning of their capture, also for those that connect late: the server says how many it
did not send (``missed``). A capture whose connection broke goes on in the next one, which has the same ``arm_time``; the
server repeats what it still has, and rows that have come are left out.
"""

import re
import struct
from collections.abc import Callable, Sequence
from functools import partial

from streamptycho.dialects.panda.header import MAX_HEADER_BYTES, Header, read_header
from streamptycho.dialects.panda.rows import Capture, Facts
from streamptycho.errors import CodecError, ConfigError, ProtocolError
from streamptycho.messages.facts import Began, Ended
from streamptycho.messages.reasons import EndReason

MAX_BLOCK_BYTES = 16 << 20
"""Of binary rows; a server sends 2 MiB at most."""
MAX_LINE_BYTES = 64 << 10
HOLD_S = 1.0
"""If the server has spoilt a block of a raw capture, it says so at once: after this time it has not."""
REJOIN_S = 10.0
"""If a capture is still running, the server sends its header as soon as there is a connection."""
_HEADER = b"<header>\n"
_FIRST = b"OE<\n"
"""Bytes with which lines outside of captures begin."""
_ZEROMQ = b"\xff"
"""With it, and without a line, a ZeroMQ socket greets whoever connects."""
_END = re.compile(rb"END (\d{1,18}) ([ -~]{1,80})")
_ROWS = re.compile(rb"(?: [^\n]*+\n)*+")
_AS_PLANNED = ("Ok", "Disarmed")
_PROCESSES, _TRANSPORTS = ("scaled", "unscaled", "raw"), ("framed", "ascii")


class Panda:
    """Dialect ``panda``; each message is a piece of the bytes of the connection, cut anywhere.

    Options
    -------
    process : ``"scaled"``, or ``"raw"`` for more than 60 MB/s, or ``"unscaled"``, which has no means.
    transport : ``"framed"`` (binary) or ``"ascii"``.
    """

    def __init__(self, process: str = "scaled", transport: str = "framed") -> None:
        for name, value, choices in (("process", process, _PROCESSES), ("transport", transport, _TRANSPORTS)):
            if value not in choices:
                raise ConfigError(f"options.{name}: {value!r} is not one of {', '.join(choices)}")
        self.peer = "PandA data port (8889)"
        self.greeting = f"XML {transport} {process}\n".upper().encode()
        self._buffer = bytearray()
        self._step: Callable[[float], Facts | None] = self._between
        self._capture: Capture | None = None
        """The one that is open, on this connection or on one that broke."""
        self._held = b""
        """A block of a raw capture that the server may still call spoilt."""
        self._since_s = 0.0
        """When it came; or, of a capture that has not been taken up again, when the connection was made."""
        self._broken = False
        """A capture is open, and the new connection has not gone on with it."""

    def feed(self, parts: Sequence[bytes | memoryview], now_s: float) -> Facts:
        """Rows, beginnings and ends of captures."""
        for part in parts:
            self._buffer += part
        while True:
            try:
                facts = self._step(now_s)
                if facts is None:
                    return
                yield from facts
            except ProtocolError as error:
                yield from self._lose(error)

    def tick(self, now_s: float) -> Facts:
        """A block that was held; the end of a capture that ended while there was no connection."""
        if self._held and self._capture is not None and now_s - self._since_s >= HOLD_S:
            yield from self._release(self._capture)
        if self._broken and now_s - self._since_s >= REJOIN_S:
            yield from self._close("the connection broke, and the capture was over when there was a new one")

    def restarted(self, now_s: float) -> Facts:
        """A capture that was open may go on."""
        self._buffer.clear()
        self._held = b""  # its rows come again, or are told to be lost
        self._step = self._between
        self._broken, self._since_s = self._capture is not None, now_s
        yield from ()

    # Each step takes what is complete from the buffer, and gives None if nothing is.

    def _line(self) -> bytes | None:
        """The next line, without its end."""
        at = self._buffer.find(b"\n", 0, MAX_LINE_BYTES)
        if at < 0:
            if len(self._buffer) >= MAX_LINE_BYTES:
                raise CodecError(
                    "panda", f"no end of line in {MAX_LINE_BYTES} bytes; is this the data port of a PandA, 8889?"
                )
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        return line

    def _between(self, now_s: float) -> Facts | None:
        """Lines outside of captures."""
        if self._buffer.startswith(_HEADER):
            self._step = self._read_header
            return iter(())
        if self._buffer.startswith(_ZEROMQ):
            raise CodecError("panda", f"what answers is no {self.peer}: it speaks ZeroMQ: is format = 'panda-json' meant?")
        line = self._line()
        if line is None and self._buffer and self._buffer[0] not in _FIRST:
            line = bytes(self._buffer)
        if line is None:
            return None
        if line.startswith(b"ERR"):
            refused = f"the server refuses {self.greeting.decode().strip()!r}: {line[:80]!r}"
            raise CodecError("panda", f"{refused}; correct options.process, options.transport or the port (8889)")
        if line not in (b"OK", b""):
            raise CodecError("panda", f"{line[:40]!r} where a header should be; is this the data port of a PandA, 8889?")
        return iter(())

    def _seek(self, now_s: float) -> Facts | None:
        """After bytes without a meaning: the next header."""
        at = self._buffer.find(_HEADER)
        if at < 0:
            del self._buffer[: max(0, len(self._buffer) - len(_HEADER) + 1)]
            return None
        del self._buffer[:at]
        self._step = self._read_header
        return iter(())

    def _read_header(self, now_s: float) -> Facts | None:
        at = self._buffer.find(b"</header>\n", 0, MAX_HEADER_BYTES)
        if at < 0:
            if len(self._buffer) >= MAX_HEADER_BYTES:
                del self._buffer[:MAX_HEADER_BYTES]
                raise CodecError("panda.header", f"more than {MAX_HEADER_BYTES} bytes; capture fewer fields")
            return None
        if len(self._buffer) == at + 10:
            return None  # the line that follows belongs to it, and is empty
        text = bytes(self._buffer[: at + 10])
        del self._buffer[: at + 10 + (self._buffer[at + 10] == 0x0A)]
        return self._begin(read_header(text))

    def _begin(self, header: Header) -> Facts:
        capture, self._broken = self._capture, False
        if capture is not None and capture.goes_on_with(header):
            yield from capture.resume(header)
        else:
            yield from self._close("the connection broke before its end")
            capture = self._capture = Capture(header)
            yield Began(run=header.run, parts=header.parts, in_middle=header.missed > 0)
        self._step = partial(self._blocks if header.binary else self._text, capture)

    def _blocks(self, capture: Capture, now_s: float) -> Facts | None:
        """All blocks of binary rows that are complete, or the end."""
        size, at, bodies = capture.header.row.itemsize, 0, []
        while self._buffer[at : at + 4] == b"BIN " and len(self._buffer) >= at + 8:
            (length,) = struct.unpack_from("<I", self._buffer, at + 4)
            if not 8 <= length <= MAX_BLOCK_BYTES or (length - 8) % size:
                raise CodecError("panda.BIN", f"a block of {length} bytes is not 8 and a number of rows of {size}")
            if len(self._buffer) < at + length:
                break
            bodies.append(bytes(self._buffer[at + 8 : at + length]))
            at += length
        if bodies:
            del self._buffer[:at]
            return self._take(capture, bodies, now_s)
        return None if b"BIN ".startswith(self._buffer[:4]) else self._end(capture)

    def _take(self, capture: Capture, bodies: list[bytes], now_s: float) -> Facts:
        if capture.header.process == "raw":
            bodies = [body for body in (self._held, *bodies) if body]
            self._held, self._since_s = bodies.pop() if bodies else b"", now_s
        return capture.binary(b"".join(bodies))

    def _release(self, capture: Capture) -> Facts:
        held, self._held = self._held, b""
        return capture.binary(held)

    def _text(self, capture: Capture, now_s: float) -> Facts | None:
        """All lines of rows that are complete, or the end."""
        rows = _ROWS.match(self._buffer)
        if rows is not None and rows.end():
            lines = bytes(self._buffer[: rows.end() - 1]).split(b"\n")
            del self._buffer[: rows.end()]
            return capture.text(lines)
        return self._end(capture)

    def _end(self, capture: Capture) -> Facts | None:
        line = self._line()
        if line is None:
            return None
        said = _END.fullmatch(line)
        if said is None:
            raise CodecError("panda", f"{line[:40]!r} is neither rows nor END; the rest of the capture is lost")
        return self._finish(capture, int(said[1]), said[2].decode())

    def _finish(self, capture: Capture, count: int, words: str) -> Facts:
        planned, detail, come = words in _AS_PLANNED, words, capture.rows
        if self._held:
            held = len(self._held) // capture.header.row.itemsize
            come += held
            if planned:
                yield from self._release(capture)
            else:
                detail += f"; the last block, of {held} rows, may be spoilt and is left out"
        if count != come:
            yield CodecError(
                "panda.END", f"{count} rows, but {come} have come; a relay between here and the PandA loses bytes"
            )
        self._capture, self._held, self._step = None, b"", self._between
        yield Ended(
            run=capture.header.run,
            reason=EndReason.COMPLETE if planned else EndReason.INCOMPLETE,
            count=capture.header.missed + count,
            detail="" if words == "Ok" else detail,
        )

    def _close(self, why: str) -> Facts:
        """End the open capture, if there is one, without a word from the server."""
        capture, self._capture, self._held, self._broken = self._capture, None, b"", False
        if capture is not None:
            yield Ended(run=capture.header.run, reason=EndReason.INCOMPLETE, detail=why)

    def _lose(self, error: ProtocolError) -> Facts:
        """Nothing makes sense before the next header."""
        self._step = self._seek
        yield error
        if not self._broken:
            yield from self._close(f"the stream could not be read ({error.field})")
