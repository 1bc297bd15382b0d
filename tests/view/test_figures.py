"""What the figures show, through bluesky-widgets' headless views: the files are looked at, not the calls."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.view.helpers import BEGUN_S, Run, diffraction, maps, marked_object, probe, progress, quality

pytest.importorskip("bluesky_widgets", reason="needs streamptycho[view]")
pytest.importorskip("matplotlib", reason="needs streamptycho[view]")

from streamptycho.display.phase import contrast
from streamptycho_services.view.artists import extent_um
from streamptycho_services.view.figures import ReconFigures, headline, tiled
from streamptycho_services.view.headless import DPI, PngWriter
from streamptycho_services.view.model import ReconModel

YELLOW, VIOLET = (253, 231, 37), (68, 1, 84)
"""Ends of the colour map of the phase."""
WHITE = (255, 255, 255)


class Shown:
    """A writer of pictures and what it wrote."""

    def __init__(self, directory: Path) -> None:
        self.model = ReconModel(ended_too=True)
        self.directory = directory
        self.writer = PngWriter(self.model, directory)

    def figure(self, name: str) -> Any:
        return next(p for p in self.writer._board.paintings if p.layout.name == name).view

    def inside(self, name: str, axes: int) -> NDArray[np.uint8]:
        """(ny, nx, 3) uint8, the file's pixels inside the frame of one of the axes."""
        with Image.open(self.directory / f"{name}.png") as image:
            pixels = np.asarray(image.convert("RGB"))
        view = self.figure(name)
        box = view.axes_list[axes].get_window_extent().frozen()
        scale = DPI / view.figure.dpi
        top, bottom = (round(pixels.shape[0] - y * scale) for y in (box.y1, box.y0))
        return pixels[top + 3 : bottom - 3, round(box.x0 * scale) + 3 : round(box.x1 * scale) - 3]


def is_empty(pixels: NDArray[np.uint8]) -> bool:
    """Nothing but white and what is written in gray."""
    return bool(np.ptp(pixels, axis=-1).max() == 0 and near(pixels, WHITE).mean() > 0.9)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path / "pictures")
    with shown.writer:
        yield shown


def near(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return abs(pixels.astype(int) - colour).max(axis=-1) < 12


def colours(pixels: NDArray[np.uint8]) -> int:
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


def test_the_mark_comes_out_in_its_corner(shown: Shown):
    Run(shown.model).event("object", marked_object())
    assert shown.writer.flush()
    picture = shown.inside("object", 0)
    ny, nx = picture.shape[:2]
    assert nx / ny == pytest.approx(50 * 40 / (40 * 20), rel=0.05), "pixels are twice as wide as high"
    expected = np.zeros((ny, nx), bool)
    expected[: round(ny * 8 / 40), : round(nx * 8 / 50)] = True
    assert (near(picture, YELLOW) == expected).mean() > 0.98
    assert (near(picture, VIOLET) == ~expected).mean() > 0.98


@pytest.mark.parametrize("where", [(slice(42, 50), slice(20, 28)), (slice(10, 18), slice(62, 70))])
def test_other_corners(shown: Shown, where: tuple[slice, slice]):
    phase = np.zeros((60, 80), np.float32)
    phase[where] = 1
    Run(shown.model).event("object", marked_object(object_phase=phase))
    shown.writer.flush()
    rows, columns = np.nonzero(near(shown.inside("object", 0), YELLOW))
    ny, nx = shown.inside("object", 0).shape[:2]
    assert rows.mean() / ny == pytest.approx((where[0].start - 10 + 4) / 40, abs=0.02)
    assert columns.mean() / nx == pytest.approx((where[1].start - 20 + 4) / 50, abs=0.02)


def test_axes_are_in_micrometres_of_the_positions(shown: Shown):
    Run(shown.model).event("object", marked_object())
    shown.writer.flush()
    for axes in shown.figure("object").axes_list:
        np.testing.assert_allclose(axes.get_xlim(), (3.0 + 19.5 * 0.04, 3.0 + 69.5 * 0.04))
        np.testing.assert_allclose(axes.get_ylim(), (-1.0 + 49.5 * 0.02, -1.0 + 9.5 * 0.02))
        assert axes.get_xlabel() == "x (um)"


def test_axes_follow_a_growing_object(shown: Shown):
    run = Run(shown.model)
    run.event("object", marked_object())
    shown.writer.flush()
    covered = np.ones((90, 120), np.uint8)
    waves = np.sin(np.arange(120, dtype=np.float32) / 9) * np.ones((90, 1), np.float32)
    run.event("object", marked_object(object_phase=waves, object_amplitude=waves, object_covered=covered))
    shown.writer.flush()
    axes = shown.figure("object").axes_list[0]
    np.testing.assert_allclose(axes.get_xlim(), (3.0 - 0.02, 3.0 + 119.5 * 0.04))
    np.testing.assert_allclose(axes.get_ylim(), (-1.0 + 89.5 * 0.02, -1.0 - 0.01))
    assert colours(shown.inside("object", 0)) > 50
    assert colours(shown.inside("object", 1)) > 50


def test_colours_are_of_the_covered_area(shown: Shown):
    phase = np.full((60, 80), 1000.0, np.float32)
    covered = marked_object()["object_covered"]
    covered[30:, 60:] = 0
    phase[covered > 0] = np.linspace(-0.1, 0.1, int(covered.sum()), dtype=np.float32)
    Run(shown.model).event("object", marked_object(object_phase=phase, object_covered=covered))
    shown.writer.flush()
    picture = shown.inside("object", 0)
    ny, nx = picture.shape[:2]
    assert near(picture, WHITE)[ny // 2 + 4 :, round(nx * 0.8) + 4 :].all(), "not covered is left white"
    assert colours(picture) > 50
    low, high = shown.figure("object").axes_list[0].images[0].get_clim()
    assert -0.1 <= low < -0.09
    assert 0.09 < high <= 0.1


def test_legends_are_where_curves_are_many(shown: Shown):
    run = Run(shown.model)
    run.event("object", marked_object())
    run.event("progress", progress())
    shown.writer.flush()
    assert all(axes.get_legend() is None for axes in shown.figure("object").axes_list)
    legends = [axes.get_legend() for axes in shown.figure("progress").axes_list]
    assert [legend is not None for legend in legends] == [False, True, True, False, False, False]
    assert not legends[1].get_frame_on()


def test_modes_lie_side_by_side(shown: Shown):
    run = Run(shown.model)
    run.event("probe", probe())
    shown.writer.flush()
    amplitude, phase = shown.figure("probe").axes_list
    assert amplitude.get_title() == "Amplitude of 3 modes: 64%, 29%, 7%"
    np.testing.assert_allclose(amplitude.get_xlim(), (-8.5 * 0.04, 23.5 * 0.04))
    np.testing.assert_allclose(phase.get_ylim(), (7.5 * 0.02, -8.5 * 0.02))
    run.event("probe", probe(modes=1))
    shown.writer.flush()
    assert amplitude.get_title() == "Probe amplitude"
    np.testing.assert_allclose(amplitude.get_xlim(), (-8.5 * 0.04, 7.5 * 0.04))
    picture = shown.inside("probe", 0)
    assert picture[: len(picture) // 10].mean() > 200, "the bright rows are at the top"
    assert picture[len(picture) // 2 :].mean() < 20


def test_tiles():
    modes = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((1, 2, 4), np.float32)
    tiles = tiled(modes)
    assert tiles.shape == (4, 8)
    assert (tiles[:2, :4] == 0).all()
    assert (tiles[:2, 4:] == 1).all()
    assert (tiles[2:, :4] == 2).all()
    assert np.isnan(tiles[2:, 4:]).all()
    assert tiled(modes[:1]).shape == (2, 4)
    assert tiled(np.ones((5, 2, 2), np.float32)).shape == (4, 6)


def test_curves_show_what_is_known(shown: Shown):
    run = Run(shown.model)
    run.event("progress", progress(error=1.0), after_s=0)
    run.event("progress", progress(error=0.1, lag_s=0.3, resolution_m=80e-9), after_s=10)
    run.event("progress", progress(error=0.02, lag_s=0.2, resolution_m=40e-9), after_s=20)
    run.event("quality", quality())
    shown.writer.flush()
    error, _frames, _rates, resolution, ring, lag = shown.figure("progress").axes_list
    assert error.get_yscale() == "log"
    x, y = error.lines[0].get_data()
    np.testing.assert_allclose(x, (0, 10, 20))
    np.testing.assert_allclose(y, (np.nan, 0.1, 0.02))
    np.testing.assert_allclose(resolution.lines[0].get_ydata(), (np.nan, 80, 40))
    np.testing.assert_allclose(lag.lines[0].get_ydata(), (np.nan, 0.3, 0.2))
    np.testing.assert_allclose(ring.lines[0].get_xdata()[-1], 20)
    assert error.get_ylim() == (0.01, 0.1)
    blue = near(shown.inside("progress", 0), (31, 119, 180))
    assert blue.any(axis=0).mean() > 0.4, "the curve goes across"
    assert np.flatnonzero(blue.any(axis=1))[0] < blue.shape[0] / 4 < blue.shape[0] / 2 < np.flatnonzero(blue.any(axis=1))[-1]


def test_the_verdict_is_the_title(shown: Shown):
    run = Run(shown.model, "star-7")
    shown.writer.flush()
    title = shown.figure("object").figure.get_suptitle
    assert title() == "star-7: begins"
    run.event("progress", progress(state="searching"))
    shown.writer.flush()
    assert title() == "star-7: searching"
    run.event("quality", quality(verdict="Overlap too small.", explanation="overlap: 21 %. " + "Take smaller steps. " * 20))
    run.event("object", marked_object())
    shown.writer.flush()
    first, second = title().splitlines()
    assert first == "star-7: Overlap too small."
    assert second.startswith("overlap: 21 %.")
    assert len(second) <= 110
    assert shown.figure("object").axes_list[0].get_title() == "Phase (rad), 42 of 100 frames"
    run.event("object", marked_object(object_final=1))
    run.stop("fail", "no probe could be found")
    shown.writer.flush()
    assert title().startswith("star-7: fail: no probe could be found")
    assert shown.figure("object").axes_list[0].get_title() == "Phase (rad), final, 42 of 100 frames"


def test_titles_are_no_formulas(shown: Shown):
    run = Run(shown.model, r"50$_{\nonsense}$")
    run.event("quality", quality(verdict="costs $5 and \\frac{1}{2} $"))
    assert shown.writer.flush(), "the name of a scan is not TeX"


def test_two_scans_in_a_row(shown: Shown):
    first = Run(shown.model, "first")
    first.event("object", marked_object())
    first.event("progress", progress())
    shown.writer.flush()
    second = Run(shown.model, "second/../../x", BEGUN_S + 60)
    shown.writer.flush()
    assert is_empty(shown.inside("object", 0)), "nothing of the first scan is taken for the second"
    assert not shown.figure("progress").axes_list[0].lines[0].get_xdata().size
    first.event("object", marked_object(object_final=1))
    first.stop("abort")
    assert shown.writer.flush()
    assert {p.name for p in shown.directory.iterdir()} == {
        *(f"{name}.png" for name in ("object", "probe", "progress", "data")),
        *(f"first-{name}.png" for name in ("object", "probe", "progress", "data")),
    }
    assert is_empty(shown.inside("object", 0)), "object.png is the second scan's"
    second.event("object", marked_object())
    shown.writer.flush()
    second.stop()
    shown.writer.flush()
    assert len(list(shown.directory.glob("second*.png"))) == 4
    assert (shown.directory / "second_.._.._x-object.png").is_file()
    assert near(shown.inside("object", 0), YELLOW).any()


def test_nothing_new_writes_nothing(shown: Shown):
    run = Run(shown.model)
    run.event("object", marked_object())
    assert shown.writer.flush()
    assert not shown.writer.flush()
    before = {p.name: p.stat().st_mtime_ns for p in shown.directory.iterdir()}
    run.event("probe", probe())
    assert shown.writer.flush()
    after = {p.name: p.stat().st_mtime_ns for p in shown.directory.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"probe.png"}
    assert shown.writer.written == 2


def test_one_flush_draws_once(shown: Shown):
    drawn = []
    for name in ("object", "probe", "progress", "data"):
        shown.figure(name).figure.canvas.mpl_connect("draw_event", lambda event: drawn.append(event.canvas))
    run = Run(shown.model)
    run.event("object", marked_object())
    run.event("progress", progress())
    shown.writer.flush()
    drawn.clear()
    shown.figure("object").export(shown.directory / "alone.png")
    once = len(drawn)
    run.event("object", marked_object(object_frames_used=99))
    shown.writer.flush()
    assert len(drawn) == 2 * once
    assert len(set(drawn)) == 1, "only the figure that changed"


def test_what_is_not_finite_is_survived(shown: Shown):
    broken = np.full((60, 80), np.nan, np.float32)
    run = Run(shown.model)
    run.event("object", marked_object(object_phase=broken, object_amplitude=broken * np.inf, object_error=np.nan))
    run.event("probe", {**probe(), "probe_amplitude": np.full((3, 16, 16), np.nan, np.float32)})
    run.event("progress", progress(error=np.inf, lag_s=np.nan, rate_hz=-np.inf))
    run.event("quality", quality(frequency_per_m=np.zeros(0, np.float32), ring_correlation=np.zeros(0, np.float32)))
    assert shown.writer.flush()
    run.event("object", marked_object(object_covered=np.zeros((60, 80), np.uint8)))
    assert shown.writer.flush()


def test_limits():
    assert contrast(np.full((2, 2), np.nan, np.float32)) == (0.0, 1.0)
    assert contrast(np.full((2, 2), 3.0, np.float32)) == (2.5, 3.5)
    assert extent_um((2, 4), (1e-6, 2e-6), (10e-6, 0)) == pytest.approx((-1, 7, 11.5, 9.5))


def test_a_scan_without_a_name():
    model = ReconModel()
    run = Run(model, "")
    assert headline(model.flush())[0] == f"run {run.uid[:8]}: begins"


def test_figures_do_without_a_view():
    model = ReconModel()
    figures = ReconFigures()
    run = Run(model)
    run.event("object", marked_object())
    assert figures.update(model.flush()) == {"object", "probe", "progress", "data"}
    run.event("quality", quality())
    assert figures.update(model.flush()) == {"object", "progress"}
    run.event("probe", probe())
    assert figures.update(model.flush()) == {"probe"}
    for event in (("diffraction", diffraction()), ("maps", maps())):
        run.event(*event)
        assert figures.update(model.flush()) == {"data"}
