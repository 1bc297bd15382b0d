"""Maps of scanning: every point in its place, gaps empty, no input that stretches them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamptycho.display.maps import MAX_SIDE, grid, scanning_maps

PITCH_M = 100e-9


def raster(ny: int, nx: int) -> np.ndarray:
    y, x = np.mgrid[:ny, :nx]
    return np.stack([y.ravel(), x.ravel()], axis=1) * PITCH_M + (3e-6, -7e-6)


def value_at(found, values, yx_m):
    row, column = np.rint((np.asarray(yx_m) - found.origin_m) / found.pixel_m).astype(int)
    return found.of(values)[row, column]


def test_each_point_is_shown_where_it_was():
    yx_m = raster(7, 12)
    values = np.random.default_rng(0).normal(size=len(yx_m)).astype(np.float32)
    found = grid(yx_m)
    assert found.pixel_m == pytest.approx(PITCH_M / 2)
    assert [value_at(found, values, where) for where in yx_m] == pytest.approx(values.tolist())
    assert np.isfinite(found.of(values)).all()


def test_any_order_gives_the_same_map():
    yx_m = raster(6, 9)
    values = np.arange(54, dtype=np.float32)
    order = np.random.default_rng(1).permutation(54)
    there = grid(yx_m).of(values)
    assert np.mean(there == grid(yx_m[order]).of(values[order])) > 0.7, "only ties between points may fall otherwise"


def test_where_nothing_was_measured_nothing_is_shown():
    yx_m = raster(20, 20)
    far = np.hypot(*(yx_m - yx_m.mean(axis=0)).T) > 4.5 * PITCH_M
    found = grid(yx_m[far])
    middle = np.array(found.nearest.shape) // 2
    assert found.nearest[tuple(middle)] == -1
    assert (found.nearest >= 0).mean() > 0.5


def test_a_point_far_away_does_not_stretch_the_map():
    yx_m = np.concatenate([[[1.0, 1.0]], raster(20, 20)])
    found = grid(yx_m)
    assert found.pixel_m == pytest.approx(PITCH_M / 2)
    assert 0 not in found.nearest


def test_large_scans_stay_small():
    found = grid(raster(300, 400))
    assert max(found.nearest.shape) <= MAX_SIDE
    assert found.pixel_m > PITCH_M


@pytest.mark.parametrize(
    "yx_m",
    [np.zeros((1, 2)), np.zeros((5, 2)), raster(1, 9), raster(9, 1), np.array([[0.0, 0], [1.0, 1]])],
    ids=["one", "one place", "line along x", "line along y", "two"],
)
def test_scans_with_little_in_them(yx_m):
    found = grid(yx_m)
    assert min(found.nearest.shape) >= 1
    assert max(found.nearest.shape) <= MAX_SIDE
    assert (found.nearest >= 0).any()


@settings(max_examples=40)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(-1, 1)))
def test_no_positions_raise_or_need_much_memory(yx_m):
    found = grid(yx_m)
    assert max(found.nearest.shape) <= MAX_SIDE
    assert found.nearest.max() < len(yx_m)


def test_the_four_maps():
    yx_m = raster(5, 5)
    counts = np.linspace(1, 2, 25, dtype=np.float32)
    centre = np.stack([np.linspace(-1, 3, 25), np.full(25, 7.0)], axis=1).astype(np.float32)
    maps = scanning_maps(grid(yx_m), counts, counts / 10, centre)
    assert list(maps) == ["sum", "dark_field", "dpc_y", "dpc_x"]
    assert all(image.dtype == np.float32 for image in maps.values())
    assert maps["sum"].max() == pytest.approx(2)
    assert maps["dark_field"].max() == pytest.approx(0.2)
    assert (maps["dpc_y"].min(), maps["dpc_y"].max()) == pytest.approx((-2, 2))
    assert not maps["dpc_x"].any(), "a beam that hits the detector elsewhere is no contrast"
