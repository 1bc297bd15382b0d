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

from streamptycho.display import covered_part, displayed_phase
from streamptycho.feed import Preview
from streamptycho.maps import grid, scanning_maps
from streamptycho.messages import Snapshot
from streamptycho.points import Points
from streamptycho_services.dashboard.state import plain

MAX_SIDE = 2048
"""Longer pictures are thinned out."""
PROBE_SIDE = 256
MAX_MODES = 8
MASKED, SATURATED = 0, 255
"""Values of a pattern's pixels that are no counts."""
_CUT = (0.5, 99.5)
"""Percentiles between which contrast lies."""


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


def contrast(values: NDArray[np.float32]) -> tuple[float, float]:
    """The range to show: all but the outermost half per cent; of every fourth pixel where there are many."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite[:: 4 if finite.size > 1 << 16 else 1], _CUT)
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return float(low), float(high)


def to_bytes(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """1 to 255 for `low` to `high`, 0 where not finite."""
    finite = np.isfinite(values)
    scaled = np.clip((np.where(finite, values, low) - low) * (254 / (high - low)), 0, 254)
    return np.where(finite, np.rint(scaled) + 1, 0).astype(np.uint8)


def picture(snapshot: Snapshot, item: str, scan: str = "") -> bytes:
    """``phase`` (radians, ramp removed) or ``amplitude`` of the covered part of the object."""
    values, header = _covered(snapshot, item, scan)
    low, high = contrast(values)
    header |= {"lo": low, "hi": high, "dtype": "|u1"}
    return pack(header, to_bytes(values, low, high))


def exact_phase(snapshot: Snapshot, scan: str = "") -> bytes:
    """The phase that is shown, float32 radians, NaN where not covered."""
    values, header = _covered(snapshot, "phase", scan)
    return pack(header | {"item": "exact", "dtype": "<f4"}, values.astype("<f4"))


def _covered(snapshot: Snapshot, item: str, scan: str) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """The part of the object that holds all that is covered, and where it lies."""
    part = covered_part(snapshot.covered)
    obj, covered = snapshot.object[part], snapshot.covered[part]
    if item == "phase":
        values = displayed_phase(obj, covered)
    else:
        values = np.where(covered & np.isfinite(obj), abs(obj), np.nan).astype(np.float32)
    stride = math.ceil(max(values.shape) / MAX_SIDE)
    values = values[::stride, ::stride]
    origin = [snapshot.origin_m[i] + part[i].start * snapshot.pixel_m[i] for i in (0, 1)]
    return values, _about(snapshot, item, scan) | {
        "shape": values.shape,
        "origin_m": origin,
        "pixel_m": [pixel * stride for pixel in snapshot.pixel_m],
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
    header = {
        "item": "pattern",
        "scan": scan,
        "index": preview.index,
        "shape": shown.shape,
        "dtype": "|u1",
        "lo": 0.0,
        "hi": high,
        "binning": preview.binning,
        "centre_px": preview.centre_px,
        "crop_px": preview.crop_px,
        "crop_shape_px": preview.crop_shape_px,
        "counts": float(counts.sum()),
        "largest": float(counts.max()),
        "saturated": int(preview.saturated.sum()),
        "masked": float(1 - preview.valid.mean()),
    }
    return pack(header, shown)


def maps(points: Points, scan: str = "") -> bytes:
    """(4, ny, nx): sum, dark field, shift of the centre of mass along y and x."""
    where = grid(points.yx_m)
    images = scanning_maps(where, points.counts, points.dark_field, points.centre_px)
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
        "points": len(points),
        "known": points.known,
    }
    return pack(header, planes)


def coverage(points: Points, scan: str = "") -> bytes:
    """(k, 2) float32 metres from `origin_m`, in the order of the frames; every so many where there are very many."""
    stride = math.ceil(len(points) / 20_000)
    yx_m = points.yx_m[::stride]
    origin = yx_m.mean(axis=0)
    shown = (yx_m - origin).astype("<f4")
    header = {
        "item": "coverage",
        "scan": scan,
        "shape": shown.shape,
        "dtype": "<f4",
        "origin_m": origin.tolist(),
        "points": len(points),
    }
    return pack(header, shown)
