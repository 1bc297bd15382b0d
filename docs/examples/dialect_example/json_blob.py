"""A detector that sends JSON headers and raw pixels, as a dialect for streamptycho.

Its messages::

{"type": "start", "series": 7, "shape": [ny, nx], "dtype": "uint16", "time_ns": ..., "images": 100,
 "wavelength_m": 1.4e-10, "distance_m": 2.0, "pitch_m": [75e-6, 75e-6]}
{"type": "image", "series": 7, "number": 0, "time_ns": ...}     and the pixels as a second part
{"type": "end", "series": 7, "images": 100}
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from streamptycho.errors import CodecError
from streamptycho.messages.facts import Fact
from streamptycho.messages.geometry import Geometry
from streamptycho.messages.payload import Encoding, Payload
from streamptycho.messages.reasons import EndReason, Stream
from streamptycho.messages.stream import Frame, ScanEnd, ScanStart

SILENCE_S = 10.0
"""A series that is silent for so long was aborted: this detector sends no end then."""


class JsonBlob:
    """Keeps the start of the open series: an image does not repeat what that said."""

    def __init__(self) -> None:
        self._start: ScanStart | None = None
        self._images = 0
        self._heard_s = 0.0

    def feed(self, parts: Sequence[bytes | memoryview], now_s: float) -> Iterable[Fact]:
        """What one message says."""
        self._heard_s = now_s
        try:
            header = json.loads(bytes(parts[0]))
            if header["type"] == "start":
                self._start, self._images = _start(header), 0
                return [self._start]
            if self._start is None or self._start.scan_id != _scan_id(header):
                raise CodecError("json-blob.series", f"{header['series']!r} is not open; send its start first")
            if header["type"] == "image":
                self._images += 1
                return [_frame(self._start, header, parts[1])]
            if header["type"] == "end":
                return [self._close(header["images"], EndReason.COMPLETE)]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CodecError("json-blob", f"{error!r:.100} in {bytes(parts[0][:60])!r}") from error
        raise CodecError("json-blob.type", f"{header['type']!r:.40} is not start, image or end")

    def tick(self, now_s: float) -> Iterable[Fact]:
        """The end of a series that has fallen silent."""
        if self._start is not None and now_s - self._heard_s > SILENCE_S:
            yield self._close(self._images, EndReason.ABORTED)

    def _close(self, count: int, reason: EndReason) -> Fact:
        run, self._start = self._start.run, None
        return ScanEnd(**run.fields, stream=Stream.FRAMES, count=count, reason=reason)


def _scan_id(header: dict[str, Any]) -> str:
    return f"series-{header['series']}"


def _start(header: dict[str, Any]) -> ScanStart:
    return ScanStart(
        scan_id=_scan_id(header),
        geometry=Geometry(
            wavelength_m=header["wavelength_m"],
            distance_m=header["distance_m"],
            pitch_m=tuple(header["pitch_m"]),
            frame_shape=tuple(header["shape"]),
        ),
        dtype=np.dtype(header["dtype"]),
        started_ns=header["time_ns"],
        expected=header["images"],
    )


def _frame(start: ScanStart, header: dict[str, Any], pixels: bytes | memoryview) -> Frame:
    shape = start.geometry.frame_shape
    return Frame(
        scan_id=start.scan_id,
        index=np.array([header["number"]]),
        timestamp_ns=np.array([header["time_ns"]]),
        payload=Payload(chunks=(memoryview(pixels),), encoding=Encoding.RAW, dtype=start.dtype, shape=shape),
    )
