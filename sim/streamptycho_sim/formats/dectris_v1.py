"""A scan as DECTRIS Stream V1: JSON and binary parts, as an EIGER sends them on port 9999."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field

from streamptycho.messages.payload import BSLZ4_HEADER
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, ScanEnd, ScanStart
from streamptycho.options import Options
from streamptycho.wire.codec import Part
from streamptycho_sim.formats.detector import Compression, bare_lz4, encoded, mask
from streamptycho_sim.stream import Item


class DectrisV1Options(Options):
    """How a detector sends Stream V1."""

    series: int = Field(default=1, ge=1)
    """Number of the first series; every scan is a series."""
    header_detail: Literal["none", "basic", "all"] = "all"
    """Without configuration; with it; with flat field, pixel mask and count-rate table as well."""
    header_appendix: str | None = None
    """Text in a part behind the start."""
    image_appendix: str | None = None
    """Text in a part behind each image."""
    compression: Compression = "bslz4"
    """Of the frames: bslz4, lz4 (a bare block) or none."""
    block_header: Literal["full", "zeros", "none"] = "full"
    """The 12 bytes before bslz4: as they should be, zeros as LiberTEM's simulator sends, or none as eiger-simulator."""
    trigger_mode: Literal["ints", "exts", "inte", "exte"] = "exte"
    """exte and inte: an image for each trigger; else all images for one."""
    send_end: bool = True
    """Whether the end of a series is told."""


class DectrisV1:
    """Encodes the frames of scans, item by item; positions are not its own and give no message."""

    def __init__(self, options: DectrisV1Options) -> None:
        self._options = options
        self._series = options.series - 1
        self._started_ns = 0

    def messages(self, item: Item) -> Iterator[list[Part]]:
        """Parts of each message that an item becomes."""
        match item.message:
            case ScanStart():
                self._series += 1
                self._started_ns = item.message.started_ns
                yield self._start(item.message)
            case Frame(dark=False):
                for i, blob in enumerate(encoded(item.message.payload, self._options.compression)):
                    yield self._image(item.message, i, blob)
            case ScanEnd(stream=Stream.FRAMES) if self._options.send_end:
                yield [_json({"htype": "dseries_end-1.0", "series": self._series})]

    def _start(self, start: ScanStart) -> list[Part]:
        detail, appendix = self._options.header_detail, self._options.header_appendix
        parts: list[Part] = [_json({"htype": "dheader-1.0", "series": self._series, "header_detail": detail})]
        if detail != "none":
            parts.append(_json(_config(start, self._options)))
        if detail == "all":
            ny, nx = start.geometry.frame_shape
            tables = {"dflatfield": np.ones((ny, nx), "<f4"), "dpixelmask": mask(start)}
            tables["dcountrate_table"] = np.zeros((1000, 2), "<f4")
            for name, table in tables.items():
                parts.append(_json({"htype": f"{name}-1.0", "shape": [*table.shape[::-1]], "type": table.dtype.name}))
                parts.append(table.tobytes())
        return parts if appendix is None else [*parts, appendix.encode()]

    def _image(self, frame: Frame, i: int, blob: Part) -> list[Part]:
        options, payload = self._options, frame.payload
        encoding = "<"
        if options.compression == "bslz4":
            encoding = f"bs{8 * payload.dtype.itemsize}-lz4<"
            header = {"full": bytes(blob[: BSLZ4_HEADER.size]), "zeros": bytes(BSLZ4_HEADER.size), "none": b""}
            blob = header[options.block_header] + bytes(blob[BSLZ4_HEADER.size :])
        elif options.compression == "lz4":
            encoding, blob = "lz4<", bare_lz4(blob)
        digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
        shape = [payload.shape[1], payload.shape[0]]
        stop = max(0, int(frame.timestamp_ns[i]) - self._started_ns)
        parts: list[Part] = [
            _json({"htype": "dimage-1.0", "series": self._series, "frame": int(frame.index[i]), "hash": digest}),
            _json(
                {
                    "htype": "dimage_d-1.0",
                    "shape": shape,
                    "type": payload.dtype.name,
                    "encoding": encoding,
                    "size": len(blob),
                }
            ),
            blob,
            _json({"htype": "dconfig-1.0", "start_time": stop, "stop_time": stop, "real_time": 0}),
        ]
        return parts if options.image_appendix is None else [*parts, options.image_appendix.encode()]


def _config(start: ScanStart, options: DectrisV1Options) -> dict[str, Any]:
    geometry = start.geometry
    center = start.beam_center_px or (0.0, 0.0)
    each = options.trigger_mode in ("inte", "exte")
    images = start.expected or 1
    bits = 8 * start.dtype.itemsize
    return {
        "description": "simulated",
        "trigger_mode": options.trigger_mode,
        "nimages": 1 if each else images,
        "ntrigger": images if each else 1,
        "x_pixels_in_detector": geometry.frame_shape[1],
        "y_pixels_in_detector": geometry.frame_shape[0],
        "bit_depth_image": bits,
        "bit_depth_readout": bits,
        "compression": options.compression,
        "photon_energy": geometry.energy_ev,
        "incident_energy": geometry.energy_ev,
        "wavelength": geometry.wavelength_m * 1e10,
        "detector_distance": geometry.distance_m,
        "x_pixel_size": geometry.pitch_m[1],
        "y_pixel_size": geometry.pitch_m[0],
        "beam_center_x": center[1],
        "beam_center_y": center[0],
        "countrate_correction_count_cutoff": start.saturation or 0,
        "pixel_mask_applied": False,
        "flatfield_correction_applied": True,
    }


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
