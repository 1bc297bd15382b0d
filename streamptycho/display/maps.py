"""Maps that scanning alone gives, one value per frame: sum, dark field, differential phase contrast. For display only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

MAX_SIDE = 256
"""Pixels of the longer side of a map."""
_REACH = 1.5
"""A pixel of a map shows the nearest point within so many pitches."""
_FARTHEST_M = 1e9
"""Positions beyond it are nonsense, and would overflow."""
_SAMPLE = 2000
"""Points of which the pitch is taken."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Which scan point each pixel of a map shows."""

    origin_m: tuple[float, float]
    """(y, x) of the centre of pixel [0, 0], metres."""
    pixel_m: float
    nearest: NDArray[np.int64]
    """(ny, nx) row of the nearest point, -1 where none is near."""

    def of(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(ny, nx) float32 map of `values`, one per point; NaN where no point is near."""
        shown = values[np.maximum(self.nearest, 0)]
        return np.where(self.nearest >= 0, shown, np.nan).astype(np.float32)


def grid(yx_m: NDArray[np.float64], max_side: int = MAX_SIDE) -> Grid:
    """The grid for points at `yx_m`, (k, 2) metres, k >= 1: two pixels per pitch, at most `max_side` pixels on a side.

    Points far from the others, as of a stage still on its way, do not stretch it.
    """
    yx_m = np.clip(yx_m, -_FARTHEST_M, _FARTHEST_M)
    low, high = _extent(yx_m)
    near = ((yx_m >= low) & (yx_m <= high)).all(axis=1)
    rows = np.flatnonzero(near)
    points = yx_m[rows]
    low, high = points.min(axis=0), points.max(axis=0)
    pitch_m = _pitch(points)
    span = float((high - low).max())
    pixel_m = max(pitch_m / 2, (span + pitch_m) / max_side)
    low = low - pitch_m / 4
    shape = np.minimum(np.floor((high + pitch_m / 4 - low) / pixel_m).astype(int) + 1, max_side)
    y = low[0] + pixel_m * np.arange(shape[0])
    x = low[1] + pixel_m * np.arange(shape[1])
    pixels = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    distance, nearest = cKDTree(points).query(pixels, distance_upper_bound=_REACH * max(pitch_m, pixel_m))
    found = np.isfinite(distance)
    shown = np.where(found, rows[np.where(found, nearest, 0)], -1)
    return Grid(origin_m=(float(low[0]), float(low[1])), pixel_m=float(pixel_m), nearest=shown)


def _extent(yx_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of all points that belong together: the middle 98 %, and half as much again on either side."""
    low, high = np.percentile(yx_m, (1, 99), axis=0)
    margin = 0.5 * np.maximum(high - low, (high - low).max())
    return low - margin, high + margin


def _pitch(points: NDArray[np.float64]) -> float:
    """Median distance to the next point, metres; of points that all lie in one place, some length that is not zero."""
    sample = points[:: max(1, len(points) // _SAMPLE)]
    distances = cKDTree(points).query(sample, k=min(8, len(points)))[0].reshape(len(sample), -1)
    apart = np.where(distances > 0, distances, np.inf).min(axis=1)
    apart = apart[np.isfinite(apart)]
    return float(np.median(apart)) if apart.size else 1e-9


def scanning_maps(
    points: Grid, counts: NDArray[np.float32], dark_field: NDArray[np.float32], centre_px: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """(ny, nx) float32 each: ``sum`` and ``dark_field`` in counts, ``dpc_y`` and ``dpc_x`` in detector pixels.

    The centre of mass is taken relative to its median: where the beam falls on the detector says nothing about the sample.
    """
    shift = centre_px - np.median(centre_px, axis=0)
    return {
        "sum": points.of(counts),
        "dark_field": points.of(dark_field),
        "dpc_y": points.of(shift[:, 0].astype(np.float32)),
        "dpc_x": points.of(shift[:, 1].astype(np.float32)),
    }
