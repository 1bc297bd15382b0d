"""Object and probe of a snapshot as arrays of bounded size, finite everywhere."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamptycho.display.phase import displayed_phase
from streamptycho.documents.unknown import fourier_error
from streamptycho.messages.results import Snapshot

MAX_SIDE = 1024
"""Pixels of the object along its longer side."""
MAX_PROBE_PIXELS = 1 << 20
"""Pixels of all modes of the probe together."""
_MARGIN = 8
"""Part of the object by which a canvas exceeds it where it had to grow."""
_SMALLEST_MARGIN_PX = 8
_MOSTLY_EMPTY = 16
"""A canvas so many times larger than the picture on it is begun anew: its first pictures lay elsewhere."""

_FAR_PX = 2.0**52
"""Beyond it a float does not count pixels."""

Box = tuple[int, int, int, int]
"""top, left, bottom, right; object pixels counted from the origin of the positions."""


class ObjectCanvas:
    """Room around a growing object, so that the shape of its arrays changes a few times only."""

    def __init__(self) -> None:
        self._box: Box | None = None

    def data(self, snapshot: Snapshot) -> dict[str, Any]:
        """The values of an `object` event; the final picture is cut to what is covered."""
        here = _box(snapshot)
        self._box = here if snapshot.final else _grown(self._box, here)
        top, left, bottom, right = self._box
        binning = math.ceil(max(bottom - top, right - left) / MAX_SIDE)
        offset = (here[0] - top, here[1] - left)
        mean, amplitude, covered = _bin(snapshot, binning, offset, (bottom - top, right - left))
        phase = np.nan_to_num(displayed_phase(mean, covered))
        pixel_m = snapshot.pixel_m
        shift_px = [(binning - 1) / 2 - offset[0], (binning - 1) / 2 - offset[1]]
        return {
            "object_phase": phase,
            "object_amplitude": amplitude,
            "object_covered": covered.astype(np.uint8),
            "object_pixel_m": np.multiply(pixel_m, binning, dtype=np.float64),
            "object_origin_m": np.array(snapshot.origin_m) + np.multiply(shift_px, pixel_m),
            "object_frames_used": snapshot.frames_used,
            "object_error": fourier_error(snapshot.error, snapshot.frames_used),
            "object_final": int(snapshot.final),
        }


def _box(snapshot: Snapshot) -> Box:
    top, left = (round(min(max(o / p, -_FAR_PX), _FAR_PX)) for o, p in zip(snapshot.origin_m, snapshot.pixel_m, strict=True))
    return top, left, top + snapshot.object.shape[0], left + snapshot.object.shape[1]


def _grown(before: Box | None, here: Box) -> Box:
    """`before` if the picture lies in it, else a box around both with room on the sides that were too short."""
    if before is None:
        return here
    low = [min(b, h) for b, h in zip(before[:2], here[:2], strict=True)]
    high = [max(b, h) for b, h in zip(before[2:], here[2:], strict=True)]
    size = [h - w for h, w in zip(high, low, strict=True)]
    if size[0] * size[1] > _MOSTLY_EMPTY * (here[2] - here[0]) * (here[3] - here[1]):
        return here
    for axis in (0, 1):
        margin = max(size[axis] // _MARGIN, _SMALLEST_MARGIN_PX)
        low[axis] -= margin if low[axis] < before[axis] else 0
        high[axis] += margin if high[axis] > before[axis + 2] else 0
    return low[0], low[1], high[0], high[1]


def _bin(
    snapshot: Snapshot, binning: int, offset: tuple[int, int], shape: tuple[int, int]
) -> tuple[NDArray[np.complex64], NDArray[np.float32], NDArray[np.bool_]]:
    """Mean transmission, mean amplitude and coverage of blocks of `binning` squared pixels of a canvas of `shape`."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = abs(snapshot.object)
    valid = snapshot.covered & np.isfinite(size)

    def block_sums(values: NDArray[Any]) -> NDArray[Any]:
        """On the coarse grid, zero where the picture is not."""
        (top, above), (left, ahead) = (divmod(first, binning) for first in offset)
        room = [(before, -(n + before) % binning) for n, before in zip(values.shape, (above, ahead), strict=True)]
        padded = values if binning == 1 else np.pad(values, room)
        ny, nx = padded.shape[0] // binning, padded.shape[1] // binning
        coarse = np.zeros([math.ceil(n / binning) for n in shape], values.dtype)
        coarse[top : top + ny, left : left + nx] = padded.reshape(ny, binning, nx, binning).sum((1, 3))
        return coarse

    count = block_sums(valid.astype(np.float32))
    weight = 1 / np.maximum(count, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = block_sums(np.where(valid, snapshot.object, np.complex64(0))) * weight
        amplitude = _finite(block_sums(np.where(valid, size, np.float32(0))) * weight)
    return mean, amplitude, (count > 0) & np.isfinite(mean)


def probe_data(snapshot: Snapshot) -> dict[str, Any]:
    """The values of a `probe` event."""
    probe = snapshot.probe
    with np.errstate(over="ignore", invalid="ignore"):
        probe = np.where(np.isfinite(abs(probe)), probe, np.complex64(0))
        power = (abs(probe).astype(np.float64) ** 2).sum((1, 2))
        share = power / power.sum() if power.sum() > 0 else np.zeros(len(power))
        binning = _probe_binning(probe.shape)
        probe = _mean_of_blocks(probe, binning)
        probe = np.where(np.isfinite(abs(probe)), probe, np.complex64(0))
        unit = probe / np.maximum(abs(probe), 1e-30)
        mean = (unit * abs(probe / max(float(abs(probe).max()), 1e-30))).sum((1, 2), keepdims=True)
        phase = np.where(probe == 0, 0, np.angle(unit * np.conj(mean / np.maximum(abs(mean), 1e-30))))
    return {
        "probe_amplitude": _finite(abs(probe)),
        "probe_phase": _finite(phase),
        "probe_power": share,
        "probe_pixel_m": np.multiply(snapshot.pixel_m, binning, dtype=np.float64),
    }


def _probe_binning(shape: tuple[int, ...]) -> int:
    """The smallest with which all modes together fit."""
    modes, ny, nx = shape
    binning = max(1, math.isqrt(max(1, modes * ny * nx // MAX_PROBE_PIXELS)))
    while modes * math.ceil(ny / binning) * math.ceil(nx / binning) > MAX_PROBE_PIXELS and binning < max(ny, nx):
        binning += 1
    return binning


def _mean_of_blocks(probe: NDArray[np.complex64], b: int) -> NDArray[np.complex64]:
    """(modes, ny, nx) with the means of blocks; blocks at the rim that are not full count as if filled with zeros."""
    if b == 1:
        return probe
    modes, ny, nx = probe.shape
    padded = np.pad(probe, ((0, 0), (0, -ny % b), (0, -nx % b)))
    blocks = padded.reshape(modes, padded.shape[1] // b, b, padded.shape[2] // b, b)
    return np.asarray(blocks.mean((2, 4)), np.complex64)


def _finite(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.nan_to_num(values.astype(np.float32))
