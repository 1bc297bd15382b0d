"""What frames say by themselves, before any iteration: newest pattern, scanning maps and coverage, of bounded size."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.display.maps import grid, scanning_maps
from streamptycho.display.points import Points
from streamptycho.messages.live import Preview, largest_of_blocks

MAX_PATTERN_SIDE = 512
"""Pixels of a pattern along its longer side."""
MAX_LISTED = 4096
_PLACES = ("centre_px", "crop_px", "crop_shape_px")
_LEAST_SIDE = 64
_LEAST_LISTED = 64


def pattern_data(preview: Preview) -> dict[str, Any]:
    """The values of a `diffraction` event."""
    binning = math.ceil(max(preview.pattern.shape) / MAX_PATTERN_SIDE)
    counts = np.nan_to_num(preview.pattern, posinf=0.0, neginf=0.0)
    return {
        "pattern_counts": largest_of_blocks(counts, binning),
        "pattern_valid": largest_of_blocks(preview.valid, binning).astype(np.uint8),
        "pattern_saturated": largest_of_blocks(preview.saturated, binning).astype(np.uint8),
        "pattern_index": preview.index,
        "pattern_binning": preview.binning * binning,
        **{f"pattern_{name}": np.array(getattr(preview, name), np.float64) for name in _PLACES},
    }


def maps_data(points: Points) -> dict[str, Any]:
    """The values of a `maps` event, of those of `points` whose frames are in the reconstruction: at least one.

    Arrays have room at their ends, so that their shapes change a few times only while the scan grows: maps where nothing is
    covered, the positions where the last one is repeated.
    """
    rows = points.measured
    yx_m = points.yx_m[rows]
    where = grid(yx_m)
    images = scanning_maps(where, points.counts[rows], points.dark_field[rows], points.centre_px[rows])
    stride = math.ceil(len(rows) / MAX_LISTED)
    newest_first = yx_m[::-1][::stride]
    listed = newest_first[::-1]
    room = _room(len(listed), _LEAST_LISTED) - len(listed)
    return {
        **{f"map_{name}": _with_room(np.nan_to_num(image)) for name, image in images.items()},
        "map_covered": _with_room((where.nearest >= 0).astype(np.uint8)),
        "map_pixel_m": np.array([where.pixel_m, where.pixel_m], np.float64),
        "map_origin_m": np.array(where.origin_m, np.float64),
        "points_yx_m": np.concatenate([listed, np.repeat(listed[-1:], room, axis=0)]),
        "points_listed": len(listed),
        "points_mapped": len(rows),
        "points_known": points.known,
    }


def _with_room(image: NDArray[Any]) -> NDArray[Any]:
    """(ny, nx) with zeros below and on the right."""
    return np.pad(image, [(0, _room(n, _LEAST_SIDE) - n) for n in image.shape])


def _room(n: int, least: int) -> int:
    return max(least, 1 << (n - 1).bit_length())
