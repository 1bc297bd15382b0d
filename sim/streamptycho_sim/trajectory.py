"""Scan paths: positions in metres, (y, x), in the order of the exposures."""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamptycho.options import Options

GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


class Path(StrEnum):
    """Order in which the area is visited."""

    RASTER = "raster"
    """Row by row, each from left to right: the picture grows from the top."""
    SNAKE = "snake"
    """Row by row, alternately rightwards and leftwards: no long jumps."""
    SPIRAL = "spiral"
    """Outwards along a spiral in equal steps: the picture grows from the middle."""
    FERMAT = "fermat"
    """Golden-angle spiral: even density without lines, but each step crosses the centre."""


class TrajectoryOptions(Options):
    """Path of the scan."""

    path: Path = Path.SNAKE
    """Order in which the area is visited."""
    overlap: float = Field(default=0.75, ge=0, lt=1)
    """Part of the beam's diameter that neighbouring positions share."""
    jitter: float = Field(default=0.25, ge=0, le=1)
    """Random displacement of each position, up to this fraction of the step in each axis (uniform)."""
    columns: int | None = Field(default=None, ge=1)
    """Positions per row of raster and snake; by default the area is square."""


def step_m(options: TrajectoryOptions, footprint_m: float) -> float:
    """Distance of neighbouring positions, metres."""
    return footprint_m * (1 - options.overlap)


def plan(options: TrajectoryOptions, count: int, footprint_m: float, seed: int) -> NDArray[np.float64]:
    """Positions of `count` exposures, (count, 2) metres (y, x), around zero; the same for the same seed.

    A longer scan with the same seed and columns begins with the positions of a shorter one, up to the common centre.
    """
    step = step_m(options, footprint_m)
    points = _PATHS[options.path](count, options.columns) * step
    jitter = np.random.default_rng((seed, 2)).uniform(-1, 1, points.shape) * options.jitter * step
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    return np.asarray(points + jitter)


def _raster(count: int, columns: int | None) -> NDArray[np.float64]:
    row, column = np.divmod(np.arange(count), columns or _square(count))
    return np.stack([row, column], axis=1).astype(np.float64)


def _snake(count: int, columns: int | None) -> NDArray[np.float64]:
    points = _raster(count, columns)
    width = columns or _square(count)
    backwards = points[:, 0] % 2 == 1
    points[backwards, 1] = width - 1 - points[backwards, 1]
    return points


def _spiral(count: int, _: int | None) -> NDArray[np.float64]:
    """Archimedean, r = theta / 2 pi: turns one step apart, and steps of about one along each turn."""
    theta = np.sqrt(4 * np.pi * np.arange(count))
    radius = theta / (2 * np.pi)
    return np.stack([radius * np.sin(theta), radius * np.cos(theta)], axis=1)


def _fermat(count: int, _: int | None) -> NDArray[np.float64]:
    """One point per unit area."""
    i = np.arange(count)
    radius = np.sqrt(i / np.pi)
    return np.stack([radius * np.sin(i * GOLDEN_ANGLE), radius * np.cos(i * GOLDEN_ANGLE)], axis=1)


def _square(count: int) -> int:
    return int(np.ceil(np.sqrt(count)))


_PATHS: dict[Path, Callable[[int, int | None], NDArray[np.float64]]] = {
    Path.RASTER: _raster,
    Path.SNAKE: _snake,
    Path.SPIRAL: _spiral,
    Path.FERMAT: _fermat,
}
