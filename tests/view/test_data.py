"""What the data figure shows, through bluesky-widgets' headless view: the file is looked at."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.view.helpers import BEGUN_S, Run, diffraction, maps, marked_object

pytest.importorskip("bluesky_widgets", reason="needs streamptycho[view]")
pytest.importorskip("matplotlib", reason="needs streamptycho[view]")

from tests.view.test_figures import Shown, is_empty, near

PATTERN, COVERAGE, SUM, DARK_FIELD, DPC_Y, DPC_X = range(6)
MASKED, SATURATED, ORANGE = (40, 62, 92), (255, 40, 60), (255, 127, 14)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path / "pictures")
    with shown.writer:
        yield shown


def part(pixels: np.ndarray, rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
    """Rows and columns between fractions of the picture, without its rims."""
    (ny, nx), rim = pixels.shape[:2], 3
    return pixels[
        round(rows[0] * ny) + rim : round(rows[1] * ny) - rim, round(columns[0] * nx) + rim : round(columns[1] * nx) - rim
    ]


def test_the_pattern_is_logarithmic_with_what_is_masked_and_saturated(shown: Shown):
    Run(shown.model).event("diffraction", diffraction())
    shown.writer.flush()
    axes = shown.figure("data").axes_list[PATTERN]
    assert axes.get_title() == "Newest pattern (log10), frame 17"
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 79.5), (59.5, -0.5)), "pixels of the full frame, y downwards"
    picture = shown.inside("data", PATTERN)
    assert near(part(picture, (0.67, 1), (0, 0.24)), MASKED).all()
    assert near(part(picture, (0, 0.16), (0.8, 1)), SATURATED).all()
    bright, dark = part(picture, (0, 0.15), (0, 0.5)), part(picture, (0.2, 0.6), (0.8, 1))
    assert bright.mean() > dark.mean() + 50
    assert axes.images[0].get_clim() == (0, pytest.approx(3))
    crop, centre = axes.lines
    assert (min(crop.get_xdata()), max(crop.get_xdata())) == (19.5, 59.5)
    assert (min(crop.get_ydata()), max(crop.get_ydata())) == (9.5, 49.5)
    assert (list(centre.get_xdata()), list(centre.get_ydata())) == ([40], [30])


def test_maps_are_in_micrometres_with_y_downwards(shown: Shown):
    Run(shown.model).event("maps", maps())
    shown.writer.flush()
    all_axes = shown.figure("data").axes_list
    for number in (SUM, DARK_FIELD, DPC_Y, DPC_X):
        np.testing.assert_allclose(all_axes[number].get_xlim(), (3.0 - 0.05, 3.0 + 3.15))
        np.testing.assert_allclose(all_axes[number].get_ylim(), (-1.0 + 2.35, -1.0 - 0.05))
        assert (all_axes[number].get_xlabel(), all_axes[number].get_ylabel()) == ("x (um)", "y (um)")
    picture = shown.inside("data", SUM)
    assert near(part(picture, (0, 0.25), (0, 0.25)), (255, 255, 255)).all(), "the mark is in the upper left corner"
    assert near(part(picture, (0.25, 1), (0, 1)), (0, 0, 0)).all()


def test_coverage_is_placed_like_the_maps_and_marks_the_newest(shown: Shown):
    Run(shown.model).event("maps", maps())
    shown.writer.flush()
    axes = shown.figure("data").axes_list[COVERAGE]
    assert axes.get_title() == "Coverage: 192 points, newest orange"
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "y downwards"
    points, newest = (line.get_xydata() for line in axes.lines)
    assert (len(points), len(newest)) == (152, 40)
    np.testing.assert_allclose(points[0], (3.0, -1.0))
    np.testing.assert_allclose(newest[-1], (3.0 + 15 * 0.2, -1.0 + 11 * 0.2))
    orange = near(shown.inside("data", COVERAGE), ORANGE)
    assert orange.sum() > 40
    assert np.nonzero(orange)[0].min() > orange.shape[0] / 2, "the last rows are at the bottom"


def test_nothing_is_framed_before_it_is_there(shown: Shown):
    run = Run(shown.model)
    run.event("diffraction", diffraction())
    shown.writer.flush()
    assert not is_empty(shown.inside("data", PATTERN))
    for number in (COVERAGE, SUM, DARK_FIELD, DPC_Y, DPC_X):
        assert not shown.figure("data").axes_list[number].axison
        assert is_empty(shown.inside("data", number))
    bars = [axes for axes in shown.figure("data").figure.axes if axes not in shown.figure("data").axes_list]
    assert [bar.get_visible() for bar in bars] == [True, False, False, False, False]
    run.event("maps", maps())
    shown.writer.flush()
    assert all(axes.axison for axes in shown.figure("data").axes_list)
    assert all(bar.get_visible() for bar in bars)
    Run(shown.model, "next", BEGUN_S + 60)
    shown.writer.flush()
    assert not any(axes.axison for axes in shown.figure("data").axes_list)
    assert shown.figure("data").axes_list[PATTERN].get_title() == "Newest pattern (log10)"


def test_data_are_written_alone(shown: Shown):
    run = Run(shown.model)
    run.event("object", marked_object())
    shown.writer.flush()
    before = {p.name: p.stat().st_mtime_ns for p in shown.directory.iterdir()}
    run.event("maps", maps())
    shown.writer.flush()
    assert {p.name for p in shown.directory.iterdir() if p.stat().st_mtime_ns != before[p.name]} == {"data.png"}


def test_dark_saturated_and_uncovered_ones_are_survived(shown: Shown):
    run = Run(shown.model)
    ones, zeros = np.ones((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    for counts, valid, saturated in ((0.0, ones, zeros), (np.nan, ones, zeros), (5.0, zeros, zeros), (5.0, ones, ones)):
        pattern = np.full((30, 40), counts, np.float32)
        run.event("diffraction", diffraction(pattern_counts=pattern, pattern_valid=valid, pattern_saturated=saturated))
        assert shown.writer.flush()
    run.event("maps", maps(map_covered=np.zeros((64, 64), np.uint8)))
    assert shown.writer.flush()
    run.event("maps", maps(points_yx_m=np.array([[1e-6, 2e-6]]), points_listed=1, points_mapped=1))
    assert shown.writer.flush()
    assert shown.figure("data").axes_list[COVERAGE].lines[1].get_xydata().tolist() == [[2.0, 1.0]]
