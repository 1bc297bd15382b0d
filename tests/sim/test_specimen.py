"""The test object: detailed, known, and different in phase and amplitude."""

import numpy as np
import pytest

from streamptycho_sim import specimen
from streamptycho_sim.specimen import CELL_PX, SpecimenOptions, draw

MOTIFS = [specimen.writing, specimen.gratings, specimen.sunflower, specimen.polygons, specimen.dots]
OBJECT = draw((300, 340), SpecimenOptions(), 0)


def test_has_the_asked_shape_and_type() -> None:
    assert OBJECT.shape == (300, 340)
    assert OBJECT.dtype == np.complex64


@pytest.mark.parametrize("shape", [(40, 40), (41, 77), (CELL_PX, 2 * CELL_PX + 1), (500, 130)])
def test_any_shape_can_be_drawn(shape: tuple[int, int]) -> None:
    obj = draw(shape, SpecimenOptions(), 3)
    assert obj.shape == shape
    assert np.isfinite(obj).all()


def test_phase_and_amplitude_fill_their_ranges() -> None:
    assert np.angle(OBJECT).min() == pytest.approx(0, abs=1e-4)
    assert np.angle(OBJECT).max() == pytest.approx(1.25, abs=1e-4)
    assert abs(OBJECT).min() == pytest.approx(0.6, abs=1e-4)
    assert abs(OBJECT).max() == pytest.approx(1.0, abs=1e-4)


def test_options_scale_the_contrast() -> None:
    obj = draw((120, 120), SpecimenOptions(phase_rad=0.5, absorption=0.1), 0)
    assert np.angle(obj).max() == pytest.approx(0.5, abs=1e-4)
    assert abs(obj).min() == pytest.approx(0.9, abs=1e-4)


def test_pure_phase_object() -> None:
    obj = draw((120, 120), SpecimenOptions(absorption=0), 0)
    np.testing.assert_allclose(abs(obj), 1, atol=1e-6)


def test_amplitude_is_not_a_copy_of_the_phase() -> None:
    correlation = np.corrcoef(np.angle(OBJECT).ravel(), abs(OBJECT).ravel())[0, 1]
    assert abs(correlation) < 0.6


def test_has_detail_of_a_few_pixels_everywhere() -> None:
    """In every quarter a good part of the phase lies beyond 1/10 cycle per pixel."""
    phase = np.angle(OBJECT)
    for rows in (slice(0, 150), slice(150, 300)):
        for columns in (slice(0, 170), slice(170, 340)):
            quarter = phase[rows, columns]
            power = abs(np.fft.fft2(quarter - quarter.mean())) ** 2
            k = np.hypot(*np.meshgrid(np.fft.fftfreq(150), np.fft.fftfreq(170), indexing="ij"))
            assert power[k > 0.1].sum() > 0.15 * power.sum()


def test_same_seed_same_object() -> None:
    np.testing.assert_array_equal(OBJECT, draw((300, 340), SpecimenOptions(), 0))


def test_other_seed_other_object() -> None:
    other = draw((300, 340), SpecimenOptions(), 1)
    assert np.corrcoef(np.angle(other).ravel(), np.angle(OBJECT).ravel())[0, 1] < 0.7


def test_no_symmetry_that_could_hide_a_twin() -> None:
    """A picture turned by half or mirrored must not pass for the right one."""
    phase = np.angle(draw((300, 300), SpecimenOptions(), 0))
    for wrong in (phase[::-1, ::-1], phase[::-1], phase[:, ::-1], phase.T):
        assert np.corrcoef(phase.ravel(), wrong.ravel())[0, 1] < 0.6


@pytest.mark.parametrize("motif", MOTIFS, ids=lambda m: m.__name__)
def test_motif_fills_its_cell(motif: specimen.Draw) -> None:
    cell = motif(np.random.default_rng(0), CELL_PX)
    assert cell.shape == (CELL_PX, CELL_PX)
    assert cell.min() >= 0
    assert cell.max() <= 1
    assert 0.05 < cell.mean() < 0.7


@pytest.mark.parametrize("motif", MOTIFS, ids=lambda m: m.__name__)
def test_motif_is_the_same_for_the_same_seed(motif: specimen.Draw) -> None:
    first, second = (motif(np.random.default_rng(5), 80) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_star_has_its_spokes() -> None:
    """Around a circle between the rings there are 36 rising edges."""
    star = specimen.siemens_star(200)
    theta = np.linspace(0, 2 * np.pi, 20000, endpoint=False)
    radius = 0.47 * 200 * 0.85
    ring = star[np.rint(99.5 + radius * np.sin(theta)).astype(int), np.rint(99.5 + radius * np.cos(theta)).astype(int)] > 0.5
    smooth = np.convolve(np.r_[ring, ring[:40]], np.ones(41) / 41, "valid") > 0.5
    assert np.count_nonzero(smooth & ~np.roll(smooth, 1)) == 36


def test_star_lies_in_the_middle() -> None:
    with_star = np.angle(draw((300, 300), SpecimenOptions(), 0))
    centre = with_star[140:160, 140:160]
    assert np.ptp(centre) > 0.5


def test_edges_are_soft() -> None:
    """Values between the levels show that edges were averaged."""
    star = specimen.siemens_star(100)
    assert np.count_nonzero((star > 0.1) & (star < 0.9)) > 100


def test_letters_are_seven_rows_of_five_dots_and_a_gap() -> None:
    for letter in set("".join(specimen._WORDS)):
        assert letter in specimen._GLYPHS, letter
        glyph = specimen._glyph(letter)
        assert glyph.shape == (7, 6)
        assert not glyph[:, 5].any()
        assert glyph.any(axis=1).all()
    assert not specimen._glyph(" ").any()


def test_a_letter_is_the_letter() -> None:
    rows = ["".join("#" if dot else "." for dot in row[:5]) for row in specimen._glyph("T")]
    assert rows == ["#####", *["..#.."] * 6]
