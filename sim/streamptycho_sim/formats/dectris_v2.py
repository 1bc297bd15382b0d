"""A scan as DECTRIS Stream V2: one CBOR object in each message, as detectors send them on port 31001."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, ScanEnd, ScanStart
from streamptycho.options import Options
from streamptycho.wire.codec import Part
from streamptycho_sim.formats.detector import Compression, encoded, mask
from streamptycho_sim.stream import Item

_TYPED = {"|u1": 64, "<u2": 69, "<u4": 70, "|i1": 72, "<i2": 77, "<i4": 78, "<f4": 85}
_BASE = 50_000_000
"""Ticks of the detector's clock in a second."""


class DectrisV2Options(Options):
    """How a detector sends Stream V2."""

    series: int = Field(default=1, ge=1)
    """Number of the first series; every scan is a series, with the id of the scan as its unique id."""
    header_detail: Literal["basic", "all"] = "all"
    """Without flat field, pixel mask and count-rate table; with them."""
    channels: tuple[str, ...] = Field(default=("threshold_1",), min_length=1)
    """Names of the channels. The first holds the frames, the others frames of zeros."""
    header_appendix: str | None = None
    """User data of the start."""
    image_appendix: str | None = None
    """User data of each image."""
    compression: Compression = "bslz4"
    """Of the frames: bslz4, lz4 (framed as in HDF5) or none."""
    prefix: bool = True
    """Whether objects begin with the tag that says that they are CBOR."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged value."""

    number: int
    value: Any


class DectrisV2:
    """Encodes the frames of scans, item by item; positions are not its own and give no message."""

    def __init__(self, options: DectrisV2Options) -> None:
        self._options = options
        self._series: dict[str, Any] = {}
        self._number = options.series - 1
        self._started_ns = 0

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """Parts of each message that an item becomes."""
        match item.message:
            case ScanStart():
                self._number += 1
                self._started_ns = item.message.started_ns
                self._series = {"series_id": self._number, "series_unique_id": item.message.scan_id}
                yield [self._object("start", _start(item.message, self._options))]
            case Frame(dark=False):
                blobs = encoded(item.message.payload, self._options.compression)
                for i, blob in enumerate(blobs):
                    yield [self._object("image", self._image(item.message, i, blob))]
            case ScanEnd(stream=Stream.FRAMES):
                yield [self._object("end", {})]

    def _object(self, kind: str, fields: dict[str, Any]) -> bytes:
        value = {"type": kind, **self._series, **fields}
        return encode(Tag(55799, value) if self._options.prefix else value)

    def _image(self, frame: Frame, i: int, blob: Part) -> dict[str, Any]:
        ticks = max(0, int(frame.timestamp_ns[i]) - self._started_ns) * _BASE // 1_000_000_000
        payload, compression = frame.payload, self._options.compression
        first, *others = self._options.channels
        data = {first: _tagged(blob, payload.shape, payload.dtype, compression)}
        data |= {name: _array(np.zeros(payload.shape, payload.dtype), compression) for name in others}
        return {
            "image_id": int(frame.index[i]),
            "real_time": [0, _BASE],
            "series_date": Tag(0, _date(self._started_ns)),
            "start_time": [ticks, _BASE],
            "stop_time": [ticks, _BASE],
            "user_data": self._options.image_appendix,
            "data": data,
        }


def _start(start: ScanStart, options: DectrisV2Options) -> dict[str, Any]:
    geometry = start.geometry
    center = start.beam_center_px or (0.0, 0.0)
    fields = {
        "arm_date": Tag(0, _date(start.started_ns)),
        "beam_center_x": center[1],
        "beam_center_y": center[0],
        "channels": list(options.channels),
        "countrate_correction_enabled": True,
        "detector_description": "simulated",
        "detector_translation": [0.0, 0.0, geometry.distance_m],
        "flatfield_enabled": True,
        "image_dtype": start.dtype.name,
        "image_size_x": geometry.frame_shape[1],
        "image_size_y": geometry.frame_shape[0],
        "incident_energy": geometry.energy_ev,
        "incident_wavelength": geometry.wavelength_m * 1e10,
        "number_of_images": start.expected or 0,
        "pixel_mask_enabled": False,
        "pixel_size_x": geometry.pitch_m[1],
        "pixel_size_y": geometry.pitch_m[0],
        "saturation_value": start.saturation or 0,
        "threshold_energy": dict.fromkeys(options.channels, geometry.energy_ev / 2),
        "user_data": options.header_appendix,
    }
    if options.header_detail == "all":
        flat = np.ones(geometry.frame_shape, "<f4")
        fields["countrate_correction_lookup_table"] = Tag(70, bytes(4 << 16))
        fields["flatfield"] = {name: _array(flat, options.compression) for name in options.channels}
        fields["pixel_mask"] = {name: _array(mask(start), options.compression) for name in options.channels}
    return fields


def _array(pixels: NDArray[Any], compression: Compression) -> Tag:
    (blob,) = encoded(Payload.raw(pixels), compression)
    return _tagged(blob, pixels.shape, pixels.dtype, compression)


def _tagged(blob: Part, shape: tuple[int, ...], dtype: np.dtype, compression: Compression) -> Tag:
    element = dtype.itemsize if compression == "bslz4" else 0
    values = blob if compression == "none" else Tag(56500, [compression, element, blob])
    return Tag(40, [list(shape), Tag(_TYPED[dtype.str], values)])


def _date(time_ns: int) -> str:
    seconds, ns = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


def encode(value: Any) -> bytes:
    """CBOR of None, bool, int, float, text, bytes, lists, maps and tags."""
    match value:
        case None | False | True:
            return {None: b"\xf6", False: b"\xf4", True: b"\xf5"}[value]
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case str():
            return _head(3, len(value.encode())) + value.encode()
        case bytes() | memoryview():
            return _head(2, len(value)) + bytes(value)
        case list():
            return _head(4, len(value)) + b"".join(map(encode, value))
        case dict():
            return _head(5, len(value)) + b"".join(encode(key) + encode(entry) for key, entry in value.items())
        case Tag():
            return _head(6, value.number) + encode(value.value)
    raise TypeError(f"{type(value).__name__} has no CBOR here")


def _head(major: int, n: int) -> bytes:
    if n < 24:
        return bytes([major << 5 | n])
    size = next(k for k in range(4) if n < 1 << (8 << k))
    return bytes([major << 5 | 24 + size]) + n.to_bytes(1 << size, "big")
