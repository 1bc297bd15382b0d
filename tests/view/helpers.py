"""Runs composed by event_model as docs/documents.md describes them; pictures with a mark that tells their orientation."""

from collections.abc import Callable
from typing import Any

import event_model
import numpy as np
from numpy.typing import NDArray

Take = Callable[[str, dict[str, Any]], Any]
BEGUN_S = 1_700_000_000.0
PIXEL_M = (20e-9, 40e-9)
ORIGIN_M = (-1e-6, 3e-6)
MARK = 1.0
"""Phase and loss of amplitude in the mark."""


def _key(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"source": "test", "dtype": "string", "shape": []}
    shape = list(np.shape(value))
    return {"source": "test", "dtype": "array" if shape else "number", "shape": shape}


class Run:
    """One run, passed to `take` document by document; all documents are kept."""

    def __init__(self, take: Take, name: str = "star", begun_s: float = BEGUN_S, **metadata: Any) -> None:
        self._take = take
        self._bundle = event_model.compose_run(
            time=begun_s, metadata={"scan_name": name, "plan_name": "streamptycho", "frames_expected": 100, **metadata}
        )
        self._streams: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self.begun_s = begun_s
        self.said: list[tuple[str, dict[str, Any]]] = []
        self._say("start", self._bundle.start_doc)

    @property
    def uid(self) -> str:
        return str(self._bundle.start_doc["uid"])

    def _say(self, name: str, document: Any) -> None:
        self.said.append((name, dict(document)))
        self._take(name, dict(document))

    def event(self, stream: str, data: dict[str, Any], after_s: float = 1.0) -> None:
        """An event; its descriptor precedes it, and is repeated when a shape has changed."""
        shapes = {name: np.shape(value) for name, value in data.items()}
        if stream not in self._streams or self._streams[stream][0] != shapes:
            describe = self._bundle.compose_descriptor
            bundle = describe(name=stream, data_keys={name: _key(value) for name, value in data.items()})
            self._streams[stream] = (shapes, bundle)
            self._say("descriptor", bundle.descriptor_doc)
        self._counts[stream] = self._counts.get(stream, 0) + 1
        event = self._streams[stream][1].compose_event(
            data=data, timestamps=dict.fromkeys(data, self.begun_s), time=self.begun_s + after_s, validate=False
        )
        self._say("event", {**event, "seq_num": self._counts[stream]})

    def stop(self, status: str = "success", reason: str = "") -> None:
        self._say("stop", self._bundle.compose_stop(exit_status=status, reason=reason))


def marked_object(shape: tuple[int, int] = (60, 80), **changes: Any) -> dict[str, Any]:
    """Covered in rows 10 to 49 and columns 20 to 69, a square mark of 8 pixels in the corner of row 10 and column 20."""
    covered = np.zeros(shape, np.uint8)
    covered[10:50, 20:70] = 1
    mark = np.zeros(shape, np.float32)
    mark[10:18, 20:28] = MARK
    data = {
        "object_phase": mark,
        "object_amplitude": (np.float32(2.0) - mark) * covered,
        "object_covered": covered,
        "object_pixel_m": np.array(PIXEL_M),
        "object_origin_m": np.array(ORIGIN_M),
        "object_frames_used": 42,
        "object_error": 0.0321,
        "object_final": 0,
    }
    return {**data, **changes}


def probe(modes: int = 3, side: int = 16) -> dict[str, Any]:
    """Modes that get weaker, each a bright pixel row at the top."""
    amplitude = np.zeros((modes, side, side), np.float32)
    amplitude[:, :2] = np.arange(modes, 0, -1, dtype=np.float32)[:, None, None]
    power = np.arange(modes, 0, -1) ** 2.0
    return {
        "probe_amplitude": amplitude,
        "probe_phase": np.full((modes, side, side), 0.5, np.float32),
        "probe_power": power / power.sum(),
        "probe_pixel_m": np.array(PIXEL_M),
    }


def diffraction(shape: tuple[int, int] = (30, 40), **changes: Any) -> dict[str, Any]:
    """Pixels of 2 x 2; 999 counts in the upper left quarter, 9 elsewhere; rows 20 and below masked, a corner saturated."""
    counts = np.full(shape, 9, np.float32)
    counts[: shape[0] // 2, : shape[1] // 2] = 999
    valid = np.ones(shape, np.uint8)
    valid[20:] = 0
    saturated = np.zeros(shape, np.uint8)
    saturated[:5, -8:] = 1
    data = {
        "pattern_counts": counts,
        "pattern_valid": valid,
        "pattern_saturated": saturated,
        "pattern_index": 17,
        "pattern_binning": 2,
        "pattern_centre_px": np.array([30.0, 40.0]),
        "pattern_crop_px": np.array([10.0, 20.0]),
        "pattern_crop_shape_px": np.array([40.0, 40.0]),
    }
    return {**data, **changes}


def maps(**changes: Any) -> dict[str, Any]:
    """A raster of 12 x 16 points, two pixels each; a square mark in the corner of the first point; room to 64 x 64."""
    covered, mark = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.float32)
    covered[:24, :32] = 1
    mark[:6, :8] = MARK
    y, x = np.mgrid[:12, :16]
    points = np.stack([y.ravel(), x.ravel()], axis=1) * 200e-9 + ORIGIN_M
    data = {
        "map_sum": mark,
        "map_dark_field": mark[::-1].copy(),
        "map_dpc_y": mark,
        "map_dpc_x": -mark,
        "map_covered": covered,
        "map_pixel_m": np.array([100e-9, 100e-9]),
        "map_origin_m": np.array(ORIGIN_M),
        "points_yx_m": np.concatenate([points, np.repeat(points[-1:], 64, axis=0)]),
        "points_listed": 192,
        "points_mapped": 192,
        "points_known": 200,
    }
    return {**data, **changes}


def progress(**changes: Any) -> dict[str, Any]:
    data = {
        "frames_received": 50,
        "frames_used": 42,
        "frames_dropped": 1,
        "frames_missing": -1,
        "positions_missing": -1,
        "updates": 420,
        "error": 0.05,
        "resolution_m": 1.0,
        "covered_fraction": 0.4,
        "rate_hz": 100.0,
        "updates_hz": 900.0,
        "lag_s": -1.0,
        "state": "reconstructing",
    }
    return {**data, **changes}


def quality(**changes: Any) -> dict[str, Any]:
    frequency: NDArray[np.float32] = np.linspace(0, 2e7, 20, dtype=np.float32)
    data = {
        "verdict": "The picture can be trusted.",
        "findings": "",
        "explanation": "",
        "quality_resolution_m": 50e-9,
        "photons_per_frame": 1e6,
        "quality_figures": "{}",
        "frequency_per_m": frequency,
        "ring_correlation": np.exp(-frequency / np.float32(1e7)),
    }
    return {**data, **changes}
