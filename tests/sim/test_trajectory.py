"""Scan paths: count, step, area, order and repeatability."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial import cKDTree

from streamptycho_sim.trajectory import Path, TrajectoryOptions, plan, step_m

FOOTPRINT_M = 1.2e-6
ALL = list(Path)


def still(path: Path, count: int, **changes: object) -> np.ndarray:
    """Positions without jitter, in steps."""
    options = TrajectoryOptions(path=path, jitter=0, **changes)
    return plan(options, count, FOOTPRINT_M, 0) / step_m(options, FOOTPRINT_M)


def test_step_follows_from_overlap() -> None:
    assert step_m(TrajectoryOptions(overlap=0.75), FOOTPRINT_M) == pytest.approx(0.3e-6)
    assert step_m(TrajectoryOptions(overlap=0), FOOTPRINT_M) == FOOTPRINT_M


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("count", [1, 2, 7, 100, 333])
def test_gives_as_many_positions_as_asked(path: Path, count: int) -> None:
    points = plan(TrajectoryOptions(path=path), count, FOOTPRINT_M, 0)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


@pytest.mark.parametrize("path", ALL)
def test_is_centred(path: Path) -> None:
    points = still(path, 200)
    np.testing.assert_allclose(points.max(axis=0) + points.min(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("path", ALL)
def test_same_seed_same_path(path: Path) -> None:
    options = TrajectoryOptions(path=path)
    np.testing.assert_array_equal(plan(options, 50, FOOTPRINT_M, 4), plan(options, 50, FOOTPRINT_M, 4))
    assert (plan(options, 50, FOOTPRINT_M, 4) != plan(options, 50, FOOTPRINT_M, 5)).all()


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("jitter", [0.1, 0.5])
def test_jitter_stays_in_its_bounds(path: Path, jitter: float) -> None:
    options = TrajectoryOptions(path=path, jitter=jitter)
    moved = plan(options, 400, FOOTPRINT_M, 1) / step_m(options, FOOTPRINT_M) - still(path, 400)
    assert abs(moved).max() <= jitter + 1e-9
    assert abs(moved).max() > 0.9 * jitter
    assert abs(moved.mean(axis=0)).max() < 0.1 * jitter + 0.02


@pytest.mark.parametrize("path", ALL)
def test_neighbours_are_about_one_step_apart(path: Path) -> None:
    """So that neighbouring beams overlap as asked: nearest neighbours between 0.6 and 1.2 steps, without large holes."""
    points = still(path, 400)
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    assert 0.6 < np.median(nearest) <= 1.0 + 1e-9
    assert nearest.max() < 1.3


@pytest.mark.parametrize("path", ALL)
def test_area_is_about_one_square_step_per_position(path: Path) -> None:
    points = still(path, 900)
    if path in (Path.RASTER, Path.SNAKE):
        area = np.prod(np.ptp(points, axis=0) + 1)
    else:
        area = np.pi * (np.ptp(points, axis=0).mean() / 2) ** 2
    assert area == pytest.approx(900, rel=0.12)


@pytest.mark.parametrize("path", [Path.SNAKE, Path.SPIRAL])
def test_continuous_paths_do_not_jump(path: Path) -> None:
    jumps = np.linalg.norm(np.diff(still(path, 500), axis=0), axis=1)
    assert jumps[5:].max() < 1.3


def test_raster_flies_back_and_snake_does_not() -> None:
    raster = np.linalg.norm(np.diff(still(Path.RASTER, 100), axis=0), axis=1)
    snake = np.linalg.norm(np.diff(still(Path.SNAKE, 100), axis=0), axis=1)
    assert raster.max() > 9
    np.testing.assert_allclose(snake, 1)


@pytest.mark.parametrize("path", [Path.RASTER, Path.SNAKE])
def test_line_scans_grow_from_the_top(path: Path) -> None:
    assert (np.diff(still(path, 100)[:, 0]) >= -1e-9).all()


@pytest.mark.parametrize("path", [Path.SPIRAL, Path.FERMAT])
def test_spirals_grow_from_the_middle(path: Path) -> None:
    points = still(path, 300)
    radius = np.linalg.norm(points - points[0], axis=1)
    assert (np.diff(radius) > 0).all()


def test_raster_and_snake_visit_the_same_places() -> None:
    raster, snake = (still(path, 100) for path in (Path.RASTER, Path.SNAKE))
    assert {tuple(p) for p in np.round(raster, 6).tolist()} == {tuple(p) for p in np.round(snake, 6).tolist()}


def test_columns_set_the_width() -> None:
    points = still(Path.SNAKE, 60, columns=20)
    np.testing.assert_allclose(np.ptp(points, axis=0), [2, 19])


def test_single_column() -> None:
    np.testing.assert_allclose(np.ptp(still(Path.RASTER, 5, columns=1), axis=0), [4, 0])


@pytest.mark.parametrize("path", ALL)
def test_longer_scan_begins_like_the_shorter(path: Path) -> None:
    options = TrajectoryOptions(path=path, columns=10)
    short, long = (plan(options, count, FOOTPRINT_M, 0) for count in (50, 100))
    np.testing.assert_allclose(long[:50] - long[0], short - short[0], atol=1e-15)


@pytest.mark.parametrize("wrong", [{"overlap": 1.0}, {"overlap": -0.1}, {"jitter": 2}, {"columns": 0}, {"path": "circle"}])
def test_impossible_paths_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrajectoryOptions(**wrong)
