"""What travels to the browser can be read back, and shows what is there."""

from dataclasses import replace

import numpy as np
import pytest

from streamptycho.display.phase import covered_part
from streamptycho.display.points import Points
from streamptycho.messages.live import PointState
from streamptycho_services.dashboard import images
from tests.dashboard.show import Show


@pytest.fixture(scope="module")
def show() -> Show:
    return Show(frames=60, shape=32)


def snapshot_of(obj, covered=None, **changes):
    obj = np.asarray(obj, np.complex64)
    covered = np.ones(obj.shape, np.bool_) if covered is None else covered
    return replace(Show(frames=4, shape=16).snapshot(1), object=obj, covered=covered, **changes)


def test_messages_are_aligned_and_read_back():
    for name in ("", "x", "xx", "xxxxxxx"):
        message = images.pack({"dtype": "<f4", "shape": [2, 2], "name": name, "odd": float("nan")}, np.eye(2, dtype="<f4"))
        header, array = images.unpack(message)
        assert (len(message) - array.nbytes) % 8 == 0
        assert header["odd"] is None
        assert array.tolist() == [[1, 0], [0, 1]]


def test_phase_is_the_objects_without_its_ramp(show):
    snapshot = show.snapshot(1.0)
    header, data = images.unpack(images.picture(snapshot, "phase"))
    assert header["shape"] == list(data.shape)
    assert data.min() == 0, "not covered"
    values = header["lo"] + (data.astype(float) - 1) / 254 * (header["hi"] - header["lo"])
    _, exact = images.unpack(images.exact_phase(snapshot))
    shown = data > 0
    assert np.array_equal(shown, np.isfinite(exact))
    inside = shown & (exact > header["lo"]) & (exact < header["hi"])
    assert abs(values - exact)[inside].max() < (header["hi"] - header["lo"]) / 254
    assert inside[shown].mean() > 0.95
    part = covered_part(snapshot.covered)
    truth = np.angle(show.scan.obj)[part]
    assert np.corrcoef(exact[shown], truth[shown])[0, 1] > 0.9


def test_only_what_is_covered_travels_and_knows_its_place():
    covered = np.zeros((60, 80), np.bool_)
    covered[10:30, 20:60] = True
    snapshot = snapshot_of(np.ones((60, 80)), covered, origin_m=(1e-6, -2e-6), pixel_m=(10e-9, 20e-9))
    header, data = images.unpack(images.picture(snapshot, "amplitude"))
    assert data.shape == (20, 40)
    assert header["origin_m"] == pytest.approx([1e-6 + 10 * 10e-9, -2e-6 + 20 * 20e-9])


def test_contrast_comes_from_what_is_covered():
    obj = np.ones((50, 50), np.complex64)
    obj[:, :25] = 0.8
    obj[0, 0] = 100
    covered = np.zeros(obj.shape, np.bool_)
    covered[:40] = True
    snapshot = snapshot_of(np.where(covered, obj, 0), covered)
    header, _ = images.unpack(images.picture(snapshot, "amplitude"))
    assert (header["lo"], header["hi"]) == pytest.approx((0.8, 1.0))


@pytest.mark.parametrize("obj", [np.full((20, 30), np.nan + 0j), np.zeros((1, 1)), np.full((9, 9), np.inf)])
def test_nothing_sensible_is_shown_as_nothing(obj):
    for covered in (None, np.zeros(np.shape(obj), np.bool_)):
        snapshot = snapshot_of(obj, covered, probe=np.full((1, 4, 4), np.nan + 0j, np.complex64))
        for message in (*images.snapshot_images(snapshot).values(), images.exact_phase(snapshot)):
            header, _ = images.unpack(message)
            assert "NaN" not in str(header)


def test_large_pictures_are_thinned():
    y, x = np.ogrid[:30, : 3 * images.MAX_SIDE]
    step = np.where((abs(x - 3000) < 900) & (abs(y - 15) < 12), 0.8, 0)
    snapshot = snapshot_of(np.exp(1j * (step + 0.2 * x - 0.3 * y)), pixel_m=(1e-9, 1e-9))
    header, data = images.unpack(images.picture(snapshot, "phase"))
    assert data.shape == (10, images.MAX_SIDE)
    assert header["pixel_m"] == pytest.approx([3e-9, 3e-9])
    exact = images.unpack(images.exact_phase(snapshot))[1]
    assert np.ptp(exact[step[::3, ::3] > 0]) < 1e-3
    assert np.ptp(exact[step[::3, ::3] == 0]) < 1e-3
    assert exact[5, 1000] - exact[0, 0] == pytest.approx(0.8, abs=1e-3)
    assert data[5, 1000] == 255
    assert data[0, 0] == 1


def test_probe_modes_and_their_power(show):
    header, data = images.unpack(images.probe(show.snapshot(1.0)))
    assert data.shape == (2, 2, 32, 32)
    assert sum(header["power"]) == pytest.approx(1)
    assert header["power"][0] > header["power"][1]
    peak = np.unravel_index(data[0, 0].argmax(), (32, 32))
    truth = np.unravel_index(abs(show.scan.probe[0]).argmax(), (32, 32))
    assert peak == truth
    assert data[0, 0].max() == 255


def test_pattern_tells_counts_from_what_are_none(show):
    preview = show.preview(0.5)
    header, data = images.unpack(images.pattern(preview))
    assert (data[~preview.valid] == images.MASKED).all()
    assert (data[preview.saturated] == images.SATURATED).all()
    counts = preview.valid & ~preview.saturated
    assert data[counts].min() >= 1
    assert data[counts].max() < images.SATURATED
    assert header["saturated"] == preview.saturated.sum()
    assert header["largest"] == preview.pattern[preview.valid].max()
    order = np.argsort(preview.pattern[counts], kind="stable")
    assert (np.diff(data[counts][order].astype(int)) >= 0).all()


def test_a_dark_pattern():
    preview = Show(frames=4, shape=16).preview(1)
    dark = replace(preview, pattern=np.full_like(preview.pattern, np.nan), saturated=np.zeros_like(preview.saturated))
    header, data = images.unpack(images.pattern(dark))
    assert set(np.unique(data)) <= {0, 1}
    assert header["largest"] == 0


def test_maps_and_coverage(show):
    points = Points()
    for block in show.survey(1.0):
        points.take(block)
    header, planes = images.unpack(images.maps(points))
    assert header["names"] == ["sum", "dark_field", "dpc_y", "dpc_x"]
    assert planes.shape[0] == 4
    assert (planes > 0).mean() > 0.5
    state = points.state
    inside = int((state <= PointState.USED).sum())
    assert (header["points"], header["known"]) == (inside, inside)
    header, shown = images.unpack(images.coverage(points))
    assert shown[:, :2] + np.array(header["origin_m"]) == pytest.approx(show.scan.yx_m, abs=1e-12)
    assert shown[:, 2].tolist() == state.tolist()
    assert header["counts"] == {"waiting": 10, "used": inside - 10, "refused": 1, "lost": 2, "planned": 0}
    assert header["newest"] == 59


def many(count: int, **states: int) -> Points:
    points = Points()
    points.index = np.arange(count)
    points.yx_m = np.random.default_rng(0).normal(size=(count, 2))
    points.state = np.full(count, PointState.USED, np.uint8)
    for name, number in states.items():
        points.state[:number] = PointState[name.upper()]
    return points


def test_coverage_of_a_very_long_scan_is_thinned():
    header, shown = images.unpack(images.coverage(many(100_000, lost=30)))
    assert len(shown) <= images.COVERAGE_POINTS + 30
    assert header["points"] == 100_000
    assert (shown[:, 2] == PointState.LOST).sum() == 30, "the odd ones are what one looks for"
    assert header["newest"] == len(shown) - 1
    header, shown = images.unpack(images.coverage(many(60_000, planned=60_000, lost=100)))
    assert len(shown) <= images.COVERAGE_POINTS // 4 + 100
    assert (shown[:, 2] == PointState.LOST).sum() == 100
    assert header["newest"] is None
