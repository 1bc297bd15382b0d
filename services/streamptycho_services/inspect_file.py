"""What is in a recorded scan, units as understood, and a picture of its mean pattern and positions."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from streamptycho.display import to_gray
from streamptycho.files.options import ReadOptions
from streamptycho.files.scan import RecordedScan, open_scan

MEAN_FRAMES = 200
SIDE = 420


def inspect_scan(path: Path, picture: Path | None, options: ReadOptions | None = None) -> dict[str, Any]:
    """Facts about the scan in `path`; writes a PNG if `picture` is given."""
    with open_scan(path, options) as scan:
        geometry = scan.geometry
        placed = scan.yx_m[np.isfinite(scan.yx_m).all(1)]
        extent_m = np.ptp(placed, axis=0).tolist() if len(placed) else [0.0, 0.0]
        step_m = float(np.median(_nearest(placed))) if len(placed) > 1 else None
        facts: dict[str, Any] = {
            "file": str(path),
            "dialect": str(scan.dialect),
            "frames": len(scan),
            "frames_with_position": len(placed),
            "frame_shape": list(geometry.frame_shape),
            "pixel_type": str(scan.dtype),
            "energy_ev": round(geometry.energy_ev, 3),
            "distance_m": geometry.distance_m,
            "detector_pixel_m": list(geometry.pitch_m),
            "object_pixel_m": list(geometry.object_pixel_m(geometry.frame_shape)),
            "scan_extent_yx_m": extent_m,
            "median_step_m": step_m,
            "masked_pixels": int((~scan.valid).sum()) if scan.valid is not None else 0,
            "probe_modes": int(scan.probe.shape[0]) if scan.probe is not None else 0,
            "understood": dict(scan.understood),
        }
        if picture is not None and len(scan):
            _draw(scan, placed).save(picture)
            facts["picture"] = str(picture)
        return facts


def _nearest(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of up to a thousand points to their nearest neighbour."""
    some = points[:: max(1, len(points) // 1000)]
    distance = np.hypot(*(some[:, None] - points[None]).transpose(2, 0, 1))
    distance[distance == 0] = np.inf
    nearest: NDArray[np.float64] = distance.min(1)
    return nearest


def _draw(scan: RecordedScan, placed: NDArray[np.float64]) -> Image.Image:
    """Mean pattern (log) on the left, positions on the right."""
    rows = np.unique(np.linspace(0, len(scan) - 1, min(len(scan), MEAN_FRAMES)).astype(int))
    mean = np.mean([scan.frame(int(index)).astype(np.float64) for index in scan.index[rows]], axis=0)
    if scan.valid is not None:
        mean = np.where(scan.valid, mean, np.nan)
    pattern = Image.fromarray(to_gray(np.log1p(np.maximum(mean, 0)).astype(np.float32)))
    canvas = Image.new("L", (2 * SIDE + 60, SIDE + 60), 0)
    canvas.paste(pattern.resize((SIDE, SIDE), Image.Resampling.NEAREST), (20, 40))
    draw = ImageDraw.Draw(canvas)
    draw.text((20, 16), f"mean of {len(rows)} patterns, log", fill=255)
    if len(placed):
        low, span = placed.min(0), float(np.ptp(placed, axis=0).max()) or 1.0
        draw.text((SIDE + 40, 16), f"{len(placed)} positions, field {span * 1e6:.2f} um, +y down", fill=255)
        for y, x in (placed - low) / span * (SIDE - 4):
            draw.ellipse((SIDE + 40 + x, 40 + y, SIDE + 42 + x, 42 + y), fill=200)
    return canvas
