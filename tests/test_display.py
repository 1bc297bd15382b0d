"""Pictures for display."""

import os
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from streamptycho.display.logbook import _words, logbook, save_picture
from streamptycho.display.phase import (
    RAMP_PIXELS,
    STRIP_PIXELS,
    displayed_phase,
    length_words,
    scale_bar,
    to_gray,
)
from streamptycho.messages.results import Assessment, Snapshot
from streamptycho_sim.specimen import SpecimenOptions, draw

OBJECT = draw((90, 110), SpecimenOptions(phase_rad=1.0), 0)
ALL = np.ones(OBJECT.shape, np.bool_)
GOOD = Assessment(scan_id="s", started_ns=1, time_ns=1, verdict="Good.", figures={"resolution_m": 31e-9})


def snapshot(shape: tuple[int, int] = OBJECT.shape, **changes) -> Snapshot:
    obj = np.resize(OBJECT, shape).astype(np.complex64)
    fields = {
        "scan_id": "s",
        "started_ns": 1,
        "sequence": 0,
        "final": False,
        "time_ns": 1,
        "frames_used": 10,
        "updates": 20,
        "error": 0.02,
        "error_history": np.zeros(0, np.float32),
        "algorithm": "ePIE",
        "object": obj,
        "covered": np.ones(shape, np.bool_),
        "probe": np.ones((1, 8, 8), np.complex64),
        "origin_m": (0.0, 0.0),
        "pixel_m": (28e-9, 28e-9),
    }
    return Snapshot(**(fields | changes))


slopes = st.floats(-0.5, 0.5)


@settings(max_examples=30)
@given(slopes, slopes, st.floats(-3, 3), st.floats(1e-3, 1e3))
def test_ramp_constant_and_scale_do_not_show(slope_y, slope_x, angle, scale):
    y, x = np.ogrid[: OBJECT.shape[0], : OBJECT.shape[1]]
    other = (OBJECT * scale * np.exp(1j * (slope_y * y + slope_x * x + angle))).astype(np.complex64)
    np.testing.assert_allclose(displayed_phase(other, ALL), displayed_phase(OBJECT, ALL), atol=2e-3)


def test_a_large_picture_in_strips_and_lines():
    y, x = np.mgrid[:1100, :700]
    ramp = np.exp(1j * (0.3 * y - 0.2 * x + 1)).astype(np.complex64)
    assert ramp.size > max(RAMP_PIXELS, 2 * STRIP_PIXELS)
    covered = np.ones(ramp.shape, np.bool_)
    covered[:200] = covered[:, 650:] = False
    ramp[~covered] = 5j
    shown = displayed_phase(ramp, covered)
    assert np.isnan(shown[~covered]).all()
    np.testing.assert_allclose(shown[covered], 0, atol=2e-3)


def test_a_ramp_alone_is_flat_and_a_step_keeps_its_height():
    y, x = np.mgrid[:60, :60]
    ramp = np.exp(1j * (2.2 * y - 1.3 * x))  # wraps many times
    np.testing.assert_allclose(displayed_phase(ramp, np.ones(ramp.shape, np.bool_)), 0, atol=1e-4)
    step = ramp * np.exp(0.8j * ((abs(y - 30) < 10) & (abs(x - 30) < 10)))
    phase = displayed_phase(step, np.ones(ramp.shape, np.bool_))
    assert phase[30, 30] - phase[5, 5] == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 1e30, complex(0, np.nan)])
def test_what_is_not_covered_neither_shows_nor_counts(rubbish: complex):
    covered = ALL.copy()
    covered[:20] = covered[:, 70:] = False
    spoiled = np.where(covered, OBJECT, rubbish).astype(np.complex64)
    phase = displayed_phase(spoiled, covered)
    assert np.isnan(phase[~covered]).all()
    np.testing.assert_array_equal(phase[20:, :70], displayed_phase(OBJECT[20:, :70], ALL[20:, :70]))


def test_nan_amid_the_covered_spoils_nothing_else():
    spoiled = OBJECT.copy()
    spoiled[40, 40] = np.nan
    phase = displayed_phase(spoiled, ALL)
    assert np.isnan(phase[40, 40])
    assert np.isfinite(phase).sum() == phase.size - 1
    np.testing.assert_allclose(np.nan_to_num(phase), np.where(np.isnan(phase), 0, displayed_phase(OBJECT, ALL)), atol=0.02)


@pytest.mark.parametrize("rubbish", [0, np.inf, complex(0, np.inf), np.nan])
def test_half_a_picture_without_a_phase_does_not_tilt_the_other(rubbish: complex):
    y, x = np.mgrid[:60, :60]
    spoiled = np.where(x < 30, np.exp(1j * (0.3 * y - 0.2 * x)), rubbish).astype(np.complex64)
    phase = displayed_phase(spoiled, np.ones(spoiled.shape, np.bool_))
    assert np.isnan(phase[:, 30:]).all()
    np.testing.assert_allclose(phase[:, :30], 0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_slivers(shape: tuple[int, int]):
    assert displayed_phase(np.ones(shape, np.complex64), np.ones(shape, np.bool_)).tolist() == np.zeros(shape).tolist()
    assert np.isnan(displayed_phase(np.ones(shape, np.complex64), np.zeros(shape, np.bool_))).all()
    assert logbook(snapshot(shape)).width >= 320


def test_gray_spans_the_finite_values():
    values = np.linspace(-2, 5, 1001, dtype=np.float32).reshape(7, 143)
    values[0, 0] = np.nan
    gray = to_gray(values)
    assert gray[0, 0] == 0
    assert gray[0, 1] == 1
    assert gray[-1, -1] == 255
    assert (np.diff(gray.ravel()[1:].astype(int)) >= 0).all()
    assert to_gray(np.full((3, 3), np.nan, np.float32)).tolist() == [[0] * 3] * 3
    assert len(np.unique(to_gray(np.ones((3, 3), np.float32)))) == 1


def test_gray_is_not_ruled_by_outliers():
    values = np.random.default_rng(0).uniform(0, 1, (100, 100)).astype(np.float32)
    tame = to_gray(values)
    values[0, 0], values[0, 1] = 1e6, -1e6
    np.testing.assert_allclose(to_gray(values)[1:].astype(int), tame[1:].astype(int), atol=2)


BARS = [
    (28e-9, 461, 2e-6, 71),
    (1e-9, 400, 1e-7, 100),
    (1e-6, 480, 1e-4, 100),
    (5e-9, 480, 5e-7, 100),
    (3.33e-6, 320, 2e-4, 60),
]


@pytest.mark.parametrize(("pixel_m", "width", "length_m", "pixels"), BARS)
def test_scale_bars_by_hand(pixel_m: float, width: int, length_m: float, pixels: int):
    assert scale_bar(pixel_m, width) == (pytest.approx(length_m), pixels)


@given(st.floats(1e-13, 1e-2), st.integers(1, 4000))
def test_scale_bar_is_round_and_about_a_quarter(pixel_m: float, width: int):
    length, pixels = scale_bar(pixel_m, width)
    digits = f"{length:.3e}"
    assert digits[0] in "125"
    assert digits[1:5] == ".000"
    assert 0.4 * width / 4 * 0.99 < length / pixel_m <= width / 4 * 1.01
    assert pixels == round(length / pixel_m)


def test_scale_bar_where_the_logarithm_rounds_up():
    target = np.nextafter(1e-6, 0)
    assert scale_bar(target / 100, 400)[0] == pytest.approx(1e-6, rel=0.61)


LENGTHS = [
    (1e-3, "1 mm"),
    (2e-4, "200 um"),
    (5e-6, "5 um"),
    (1e-6, "1 um"),
    (5e-7, "500 nm"),
    (1e-9, "1 nm"),
    (2e-10, "2.0e-10 m"),
]


@pytest.mark.parametrize(("metres", "text"), LENGTHS)
def test_lengths_in_words(metres: float, text: str):
    assert length_words(metres) == text


@pytest.mark.parametrize("shape", [(90, 110), (700, 300), (1500, 2100)])
def test_picture_holds_the_phase_a_scale_bar_and_a_colour_bar(shape: tuple[int, int]):
    pixels = np.asarray(logbook(snapshot(shape), GOOD))
    stride = -(-max(shape) // 1024)
    side = (-(-shape[0] // stride), -(-shape[1] // stride))
    zoom = max(1, 480 // max(side))
    height, width = side[0] * zoom, side[1] * zoom
    gray = to_gray(displayed_phase(snapshot(shape).object, np.ones(shape, np.bool_))[::stride, ::stride])
    upper = height // 2  # the scale bar is in the lower half
    shown = np.kron(gray, np.ones((zoom, zoom), np.uint8))[:upper]
    np.testing.assert_array_equal(pixels[54 : 54 + upper, 14 : 14 + width], shown)
    length, bar_px = scale_bar(28e-9 * stride / zoom, width)
    row = pixels[54 + height - 28 + 2, 28 : 28 + bar_px + 8]
    assert (row[: bar_px + 1] == 0).all()
    assert row[bar_px + 1] == 255
    assert bar_px == pytest.approx(length / (28e-9 * stride / zoom), abs=1)
    bar = pixels[54 : 54 + max(height, 240), pixels.shape[1] - 76 - 14 + 9].astype(int)
    assert bar[1] > 250
    assert bar[-2] < 5
    assert (np.diff(bar[1:-1]) <= 0).all()


def test_picture_says_what_it_is_of():
    def words(**changes: Any) -> str:
        return "\n".join(_words(snapshot(final=True, **changes), GOOD))

    assert "2023-11-14 22:13 UTC, 10 frames, final" in words(started_ns=1_700_000_000_000_000_000)
    assert "resolution 31 nm" in words()
    assert "1970" not in words(started_ns=0, time_ns=0)
    assert words().endswith("Good.")
    assert "resolution not known" in "\n".join(_words(snapshot(), None))


def test_picture_without_anything_covered_or_known():
    picture = logbook(snapshot(covered=np.zeros(OBJECT.shape, np.bool_), error=float("nan"), final=True))
    assert np.asarray(picture)[54:200, 14:400].max() == 0


def test_png_is_readable_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "scan.1.png"
    save_picture(path, snapshot())
    save_picture(path, snapshot((120, 130)))
    assert [p.name for p in tmp_path.iterdir()] == ["scan.1.png"]
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(logbook(snapshot((120, 130)))))


def test_a_viewer_never_reads_half_a_picture(tmp_path):
    path = tmp_path / "live.png"
    save_picture(path, snapshot())
    enough = threading.Event()
    read: list[tuple[int, int]] = []
    broken: list[Exception] = []

    def view() -> None:
        while not enough.is_set():
            try:
                with Image.open(path) as image:
                    image.load()
                    read.append(image.size)
            except Exception as error:  # noqa: BLE001
                broken.append(error)

    viewer = threading.Thread(target=view)
    viewer.start()
    for i in range(30):
        save_picture(path, snapshot((60 + 20 * (i % 3), 110)))
    enough.set()
    viewer.join()
    assert not broken
    assert len(set(read)) > 1


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "live.png"
    save_picture(path, snapshot())
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=os.strerror(28)):
        save_picture(path, snapshot((60, 60)))
    assert path.read_bytes() == before
