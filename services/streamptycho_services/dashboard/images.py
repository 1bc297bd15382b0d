"""From snapshots, previews and points to what travels to the browser: bytes with a header, once for all viewers.

A message is the length of the header (4 bytes, little-endian), the header as JSON padded so that what follows is aligned to
8 bytes, and the array. The header names the item and the key of the scan. Pictures are 8 bits deep: 0 is "nothing here",
1 to 255 span `lo` to `hi`; colour is the browser's.
"""

import json
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.display.maps import grid, scanning_maps
from streamptycho.display.phase import contrast, covered_part, phase_of, ramp, strips, unramped
from streamptycho.display.points import Points
from streamptycho.messages.live import PointState, Preview
from streamptycho.messages.results import Snapshot
from streamptycho_services.dashboard.state import plain

MAX_SIDE = 2048
PROBE_SIDE = 256
MAX_MODES = 8
MASKED, SATURATED = 0, 255
"""Values of a pattern's pixels that are no counts."""
_SAMPLES = 1 << 16
"""Pixels from which the contrast of a larger object is taken."""
_ENOUGH = 1000
"""Of these, covered ones that are enough."""
COVERAGE_POINTS = 20_000
"""Points shown over the object, and a quarter as many planned, and refused or lost ones; of more, every so many."""


def pack(header: dict[str, Any], array: NDArray[Any]) -> bytes:
    """One message."""
    text = json.dumps(plain(header), allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return struct.pack("<I", len(text)) + text + np.ascontiguousarray(array).tobytes()


def unpack(message: bytes) -> tuple[dict[str, Any], NDArray[Any]]:
    """Header and array of a message."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    return header, np.frombuffer(message, header["dtype"], offset=4 + length).reshape(header["shape"])


def to_bytes(
    values: NDArray[np.float32], low: float, high: float, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """1 to 255 for `low` to `high`, 0 where not `valid`; where that is None, where not finite."""
    scaled = values - np.float32(low)
    scaled *= np.float32(254 / (high - low))
    np.fmax(scaled, 0, out=scaled)  # which makes a number of what is none
    np.fmin(scaled, 254, out=scaled)
    scaled += np.float32(1.5)
    shown = scaled.astype(np.uint8)
    shown *= np.isfinite(values) if valid is None else valid
    return shown


class _View:
    """The part of the object that holds all that is covered, thinned out if it is large, as ``phase`` or ``amplitude``.

    The ramp is that of the pixels that are shown; under strong noise it is not quite that of all.
    """

    def __init__(self, snapshot: Snapshot, item: str) -> None:
        part = covered_part(snapshot.covered)
        obj, covered = snapshot.object[part], snapshot.covered[part]
        self.stride = math.ceil(max(obj.shape) / MAX_SIDE)
        self.origin_m = [snapshot.origin_m[i] + part[i].start * snapshot.pixel_m[i] for i in (0, 1)]
        obj, covered = obj[:: self.stride, :: self.stride], covered[:: self.stride, :: self.stride]
        self.shape = obj.shape
        self._lines = None
        if item == "phase":
            self._values, self.valid = phase_of(obj, covered)
            self._lines = ramp(self._values, self.valid)
        else:
            self._values = abs(obj)
            self.valid = covered & np.isfinite(self._values)

    def values(self, rows: slice) -> NDArray[np.float32]:
        """What is shown of some rows, float32; anything where not valid."""
        values = self._values[rows]
        return values if self._lines is None else unramped(values, self._lines[0][rows], self._lines[1])

    def limits(self) -> tuple[float, float]:
        """Contrast from some rows, or all of them if these hold nothing."""
        step = max(1, self._values.size // _SAMPLES) | 1  # odd: lines in the object have even periods more often
        some = slice(step // 2, None, step)
        rows = some if np.count_nonzero(self.valid[some]) >= _ENOUGH else slice(None)
        return contrast(self.values(rows)[self.valid[rows]])


def picture(snapshot: Snapshot, item: str, scan: str = "") -> bytes:
    """``phase`` (radians, ramp removed) or ``amplitude`` of the covered part of the object."""
    view = _View(snapshot, item)
    low, high = view.limits()
    shown = np.empty(view.shape, np.uint8)
    for strip in strips(view.shape):
        shown[strip] = to_bytes(view.values(strip), low, high, view.valid[strip])
    return pack(_placed(snapshot, item, scan, view) | {"lo": low, "hi": high, "dtype": "|u1"}, shown)


def exact_phase(snapshot: Snapshot, scan: str = "") -> bytes:
    """The phase that is shown, float32 radians, NaN where not covered."""
    view = _View(snapshot, "phase")
    values = np.where(view.valid, view.values(slice(None)), np.float32(np.nan))
    return pack(_placed(snapshot, "phase", scan, view) | {"item": "exact", "dtype": "<f4"}, values.astype("<f4"))


def _placed(snapshot: Snapshot, item: str, scan: str, view: _View) -> dict[str, Any]:
    return _about(snapshot, item, scan) | {
        "shape": view.shape,
        "origin_m": view.origin_m,
        "pixel_m": [pixel * view.stride for pixel in snapshot.pixel_m],
        "unit": "rad" if item == "phase" else "",
    }


def _about(snapshot: Snapshot, item: str, scan: str) -> dict[str, Any]:
    return {
        "item": item,
        "scan": scan,
        "sequence": snapshot.sequence,
        "frames": snapshot.frames_used,
        "error": snapshot.error,
        "final": snapshot.final,
        "newest_ns": str(snapshot.newest_ns),
        "time_ns": str(snapshot.time_ns),
    }


def probe(snapshot: Snapshot, scan: str = "") -> bytes:
    """Modes, strongest first: (modes, 2, n, n), amplitude from 0 to the mode's largest, then phase from -pi to pi."""
    modes = snapshot.probe[:MAX_MODES]
    power = (abs(snapshot.probe.astype(np.complex128)) ** 2).sum(axis=(1, 2))
    total = float(power.sum())
    stride = math.ceil(max(modes.shape[1:]) / PROBE_SIDE)
    shown = np.nan_to_num(modes[:, ::stride, ::stride])
    amplitude = abs(shown)
    largest = np.maximum(amplitude.max(axis=(1, 2), keepdims=True), 1e-30)
    planes = np.stack([amplitude / largest, np.angle(shown) / (2 * np.pi) + 0.5], axis=1)
    header = _about(snapshot, "probe", scan) | {
        "shape": planes.shape,
        "dtype": "|u1",
        "power": (power / total if total > 0 else power)[:MAX_MODES].tolist(),
        "modes": len(snapshot.probe),
        "pixel_m": [pixel * stride for pixel in snapshot.pixel_m],
    }
    return pack(header, np.rint(planes * 255).astype(np.uint8))


def snapshot_images(snapshot: Snapshot, scan: str = "") -> dict[str, bytes]:
    """All pictures of a snapshot, to be looked back at."""
    images = {item: picture(snapshot, item, scan) for item in ("phase", "amplitude")}
    return images | {"probe": probe(snapshot, scan)}


def pattern(preview: Preview, scan: str = "") -> bytes:
    """The newest diffraction pattern, log10(1 + counts); pixels not used are 0, saturated ones 255."""
    counts = np.where(preview.valid & np.isfinite(preview.pattern), preview.pattern, 0)
    logarithm = np.log10(1 + np.maximum(counts, 0))
    high = max(float(logarithm.max()), 0.3)
    shown = np.minimum(to_bytes(logarithm.astype(np.float32), 0.0, high), SATURATED - 1)
    shown = np.where(preview.valid, shown, MASKED)
    shown = np.where(preview.saturated, SATURATED, shown).astype(np.uint8)
    where = ("index", "binning", "centre_px", "crop_px", "crop_shape_px")
    header = {name: getattr(preview, name) for name in where} | {
        "item": "pattern",
        "scan": scan,
        "shape": shown.shape,
        "dtype": "|u1",
        "lo": 0.0,
        "hi": high,
        "counts": float(counts.sum()),
        "largest": float(counts.max()),
        "saturated": int(preview.saturated.sum()),
        "masked": float(1 - preview.valid.mean()),
    }
    return pack(header, shown)


def maps(points: Points, scan: str = "") -> bytes:
    """(4, ny, nx): sum, dark field, shift of the centre of mass along y and x."""
    rows = points.measured
    where = grid(points.yx_m[rows])
    images = scanning_maps(where, points.counts[rows], points.dark_field[rows], points.centre_px[rows])
    ranges = {name: contrast(image) for name, image in images.items()}
    planes = np.stack([to_bytes(image, *ranges[name]) for name, image in images.items()])
    header = {
        "item": "maps",
        "scan": scan,
        "names": list(images),
        "shape": planes.shape,
        "dtype": "|u1",
        "lo": [low for low, _ in ranges.values()],
        "hi": [high for _, high in ranges.values()],
        "origin_m": where.origin_m,
        "pixel_m": [where.pixel_m, where.pixel_m],
        "points": len(rows),
        "known": points.known,
    }
    return pack(header, planes)


def coverage(points: Points, scan: str = "") -> bytes:
    """(k, 3) float32: metres from `origin_m` along y and x, and the :class:`PointState`; in the order of the frames.

    `newest` is the row of the newest frame in the reconstruction, None without one; `counts` holds points by state.
    """
    measured = points.measured
    planned = np.flatnonzero(points.state == PointState.PLANNED)
    aside = np.flatnonzero((points.state > PointState.USED) & (points.state != PointState.PLANNED))
    quarter = COVERAGE_POINTS // 4
    # the last of each stays
    kept = [_thinned(measured[::-1], COVERAGE_POINTS), _thinned(aside[::-1], quarter), _thinned(planned[::-1], quarter)]
    rows = np.unique(np.concatenate(kept))
    yx_m = points.yx_m[rows]
    origin = points.yx_m[measured if measured.size else rows].mean(axis=0)
    shown = np.column_stack([yx_m - origin, points.state[rows]]).astype("<f4")
    header = {
        "item": "coverage",
        "scan": scan,
        "shape": shown.shape,
        "dtype": "<f4",
        "origin_m": origin.tolist(),
        "points": len(points),
        "newest": int(np.searchsorted(rows, measured[-1])) if measured.size else None,
        "counts": {state.name.lower(): int((points.state == state).sum()) for state in PointState},
    }
    return pack(header, shown)


def _thinned(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows[:: max(1, math.ceil(len(rows) / most))]
