"""What frames say by themselves, as arrays of bounded size."""

import warnings

import numpy as np
import pytest

from streamptycho.display.points import Points
from streamptycho.documents.frames import MAX_LISTED, MAX_PATTERN_SIDE, maps_data, pattern_data
from streamptycho.documents.unknown import fourier_error, length_m
from tests.documents.helpers import preview, survey


def points(*blocks) -> Points:
    gathered = Points()
    for block in blocks:
        gathered.take(block)
    return gathered


class TestPattern:
    def test_is_as_it_was_shown(self):
        shown = preview(7)
        data = pattern_data(shown)
        np.testing.assert_array_equal(data["pattern_counts"], shown.pattern)
        np.testing.assert_array_equal(data["pattern_valid"], shown.valid)
        np.testing.assert_array_equal(data["pattern_saturated"], shown.saturated)
        assert (data["pattern_index"], data["pattern_binning"]) == (7, 2)
        assert data["pattern_centre_px"].tolist() == [15.5, 23.0]
        assert data["pattern_crop_px"].tolist() == [-2, 4]
        assert data["pattern_crop_shape_px"].tolist() == [32, 32]

    @pytest.mark.parametrize(("shape", "binning"), [((512, 300), 1), ((513, 20), 2), ((300, 1537), 4)])
    def test_is_bounded(self, shape, binning):
        data = pattern_data(preview(shape=shape))
        for name in ("pattern_counts", "pattern_valid", "pattern_saturated"):
            assert data[name].shape == tuple(-(-n // binning) for n in shape)
            assert max(data[name].shape) <= MAX_PATTERN_SIDE
        assert data["pattern_binning"] == 2 * binning
        assert data["pattern_counts"].max() == shape[0] * shape[1] - 1
        assert data["pattern_saturated"].sum() == data["pattern_saturated"][-1, -1] == 1
        assert bool(data["pattern_valid"][0].any()) == (binning > 1), "a block of which any pixel is used"

    def test_of_no_numbers(self):
        pattern = np.array([[np.nan, np.inf], [-np.inf, 5]], np.float32)
        data = pattern_data(preview(pattern=pattern, valid=np.ones((2, 2), np.bool_), saturated=np.zeros((2, 2), np.bool_)))
        assert data["pattern_counts"].tolist() == [[0, 0], [0, 5]]


class TestMaps:
    def test_each_point_is_found_where_it_was(self):
        block = survey(0, 60)
        data = maps_data(points(block))
        assert data["map_sum"].shape == data["map_dpc_x"].shape == data["map_covered"].shape == (64, 64)
        where = np.rint((block.yx_m - data["map_origin_m"]) / data["map_pixel_m"]).astype(int)
        np.testing.assert_array_equal(data["map_sum"][*where.T], block.counts)
        np.testing.assert_allclose(data["map_dark_field"][*where.T], block.dark_field)
        np.testing.assert_allclose(data["map_dpc_y"][*where.T], block.counts - np.median(block.counts))
        np.testing.assert_allclose(data["map_dpc_x"][*where.T], np.median(block.counts) - block.counts)
        assert data["map_covered"][*where.T].all()
        assert not data["map_sum"][data["map_covered"] == 0].any()

    def test_positions_are_those_of_the_points_and_the_last_one_repeated(self):
        block = survey(0, 70)
        data = maps_data(points(block))
        assert (data["points_listed"], data["points_mapped"], data["points_yx_m"].shape) == (70, 70, (128, 2))
        np.testing.assert_array_equal(data["points_yx_m"][:70], block.yx_m)
        assert (data["points_yx_m"][70:] == block.yx_m[-1]).all()

    def test_a_long_scan_is_thinned_from_its_newest_point_on(self):
        block = survey(0, 10_000, columns=100)
        data = maps_data(points(block))
        assert (data["points_listed"], data["points_mapped"]) == (3334, 10_000)
        assert data["points_yx_m"].shape == (MAX_LISTED, 2)
        np.testing.assert_array_equal(data["points_yx_m"][:3334], block.yx_m[::3])
        assert max(data["map_sum"].shape) == 256

    @pytest.mark.parametrize("far", [1.0, -1e6, 1e150, 1e300, -1.7e308])
    def test_any_positions(self, far):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for yx_m in ([[far, far]], [[far, 0], [0, -far]], [[far, far], [-far, far], [0, 0]]):
                block = survey(0, len(yx_m), yx_m=np.array(yx_m, np.float64))
                data = maps_data(points(block))
                assert min(data["map_sum"].shape) >= 1
                assert data["map_covered"].any()
                for name, array in data.items():
                    assert np.isfinite(array).all(), name
                assert (data["map_pixel_m"] > 0).all()


def test_an_error_of_too_few_frames_is_none():
    assert [fourier_error(1e-13, frames) for frames in (0, 1, 3, 4)] == [1.0, 1.0, 1.0, 1e-13]
    assert [fourier_error(value, 100) for value in (None, float("nan"), 0.02)] == [1.0, 1.0, 0.02]
    assert [length_m(value) for value in (None, float("nan"), 0.0, 3e-8)] == [1.0, 1.0, 1.0, 3e-8]
