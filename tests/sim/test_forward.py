"""The forward model against a plain one, and each defect of the detector."""

import numpy as np
import pytest
from pydantic import ValidationError

from streamptycho.errors import ConfigError
from streamptycho_sim.forward import Detector, DetectorOptions, diffract, dose, shifted
from streamptycho_sim.illumination import IlluminationOptions, probe

N = 32
RNG = np.random.default_rng(0)
OBJ = (RNG.uniform(0.6, 1, (60, 70)) * np.exp(1j * RNG.uniform(0, 1, (60, 70)))).astype(np.complex64)
PROBE = probe(IlluminationOptions(modes=3), N, 1e5)
FLAT = np.full((N, N), 100.0, np.float32)


def detector(**options: object) -> Detector:
    return Detector.make(DetectorOptions(**options), N, 0)


def plain(corner: tuple[int, int]) -> np.ndarray:
    """The textbook: sum over modes of |FFT(P O)|^2, in double precision."""
    y, x = corner
    window = OBJ[y : y + N, x : x + N].astype(complex)
    total = np.zeros((N, N))
    for mode in PROBE.astype(complex):
        total += abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(mode * window)))) ** 2 / N**2
    return total


@pytest.mark.parametrize("corner", [(0, 0), (5, 9), (28, 38)])
def test_diffraction_is_the_textbook(corner: tuple[int, int]) -> None:
    np.testing.assert_allclose(diffract(OBJ, PROBE, np.array([corner]))[0], plain(corner), rtol=1e-3, atol=1e-2)


def test_frames_of_a_block_do_not_mix() -> None:
    corners = np.array([[0, 0], [3, 4], [10, 20]])
    together = diffract(OBJ, PROBE, corners)
    for k, corner in enumerate(corners):
        np.testing.assert_allclose(together[k], diffract(OBJ, PROBE, corner[None])[0], rtol=1e-5, atol=1e-5)


def test_photons_are_conserved_in_empty_space() -> None:
    empty = np.ones((N, N), np.complex64)
    assert diffract(empty, PROBE, np.array([[0, 0]])).sum() == pytest.approx(1e5, rel=1e-4)


def test_absorbed_photons_are_missing() -> None:
    y, x = 7, 11
    inside = abs(PROBE * OBJ[y : y + N, x : x + N]) ** 2
    assert diffract(OBJ, PROBE, np.array([[y, x]])).sum() == pytest.approx(inside.sum(), rel=1e-4)


def test_direct_beam_is_at_half_the_width() -> None:
    wave = np.ones((1, N, N), np.complex64)
    frame = diffract(np.ones((N, N), np.complex64), wave, np.array([[0, 0]]))[0]
    assert np.unravel_index(frame.argmax(), frame.shape) == (N // 2, N // 2)


def test_a_wedge_moves_the_beam_along_its_slope() -> None:
    """Phase rising along +x sends the beam to larger columns, along +y to larger rows."""
    ramp = np.exp(2j * np.pi * 3 * np.arange(N) / N).astype(np.complex64)
    wave = np.ones((1, N, N), np.complex64)
    along_x = diffract(np.broadcast_to(ramp, (N, N)).copy(), wave, np.array([[0, 0]]))[0]
    along_y = diffract(np.broadcast_to(ramp[:, None], (N, N)).copy(), wave, np.array([[0, 0]]))[0]
    assert np.unravel_index(along_x.argmax(), (N, N)) == (N // 2, N // 2 + 3)
    assert np.unravel_index(along_y.argmax(), (N, N)) == (N // 2 + 3, N // 2)


def test_whole_shift_is_another_corner() -> None:
    """Moving the probe by (1, 2) pixels in its window = moving the window, as long as the beam fades at the border."""
    beam = probe(IlluminationOptions(footprint=0.2, aperture=0.3), N, 1e5)
    moved = diffract(OBJ, beam, np.array([[5, 5]]), np.array([[1.0, 2.0]]))[0]
    there = diffract(OBJ, beam, np.array([[6, 7]]))[0]
    assert abs(moved - there).sum() < 0.03 * there.sum()


def test_shift_moves_the_centre_of_mass() -> None:
    beam = probe(IlluminationOptions(footprint=0.2), 64, 1)
    y, x = np.mgrid[:64, :64]

    def centre(field: np.ndarray) -> np.ndarray:
        weight = (abs(field) ** 2).sum(axis=0)
        return np.array([(weight * y).sum(), (weight * x).sum()]) / weight.sum()

    np.testing.assert_allclose(centre(shifted(beam, np.array([0.4, -0.3]))) - centre(beam), [0.4, -0.3], atol=0.02)


def test_shift_keeps_power_and_type() -> None:
    moved = shifted(PROBE, np.array([0.5, 0.25]))
    assert moved.dtype == np.complex64
    assert (abs(moved) ** 2).sum() == pytest.approx((abs(PROBE) ** 2).sum(), rel=1e-4)


def test_no_shift_is_no_change() -> None:
    corner = np.array([[4, 4]])
    zero = diffract(OBJ, PROBE, corner, np.zeros((1, 2)))
    np.testing.assert_allclose(zero, diffract(OBJ, PROBE, corner), rtol=1e-3, atol=1e-2)


def test_dose_adds_up() -> None:
    corners = np.array([[0, 0], [0, 0], [10, 12]])
    total = dose(PROBE, corners, (60, 70))
    assert total.sum() == pytest.approx(3e5, rel=1e-4)
    assert total[N + 12 :].sum() == 0


def test_noise_is_poisson() -> None:
    """Mean and variance agree, for weak and strong pixels, within five standard errors."""
    for mean in (0.3, 20.0, 1000.0):
        counts = np.stack([detector().record(np.full((N, N), mean, np.float32), i) for i in range(40)]).astype(float)
        n = counts.size
        assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / n))
        assert counts.var() == pytest.approx(mean, abs=5 * np.sqrt((mean + 2 * mean**2) / n))


def test_noise_differs_between_frames_and_pixels_but_repeats() -> None:
    spotless = detector()
    np.testing.assert_array_equal(spotless.record(FLAT, 7), spotless.record(FLAT, 7))
    assert (spotless.record(FLAT, 7) != spotless.record(FLAT, 8)).mean() > 0.9
    assert np.corrcoef(spotless.record(FLAT, 7).ravel(), spotless.record(FLAT, 8).ravel())[0, 1] < 0.15


def test_noise_depends_on_the_seed() -> None:
    a, b = (Detector.make(DetectorOptions(), N, seed).record(FLAT, 0) for seed in (0, 1))
    assert (a != b).mean() > 0.9


def test_dark_and_bright_exposures_have_noise_of_their_own() -> None:
    noisy = detector(dark_counts=50)
    assert (noisy.dark(0) != noisy.record(np.zeros((N, N), np.float32), 0)).mean() > 0.8


def test_without_noise_counts_are_rounded() -> None:
    counts = detector(noise=False).record(np.full((N, N), 3.6, np.float32), 0)
    assert (counts == 4).all()


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_pixel_type(dtype: str) -> None:
    assert detector(dtype=dtype).record(FLAT, 0).dtype == np.dtype(dtype)


def test_counts_beyond_the_type_do_not_wrap() -> None:
    bright = np.full((N, N), 1e6, np.float32)
    assert (detector(noise=False).record(bright, 0) == 65535).all()
    assert (detector(noise=False, dtype="uint32").record(bright, 0) == 1_000_000).all()


def test_saturation_cuts() -> None:
    counts = detector(saturation=90).record(FLAT, 0)
    assert counts.max() == 90
    assert (counts < 90).any()


def test_saturation_cuts_hot_pixels_too() -> None:
    spoilt = detector(saturation=500, hot_pixels=3, hot_value=60000)
    assert (spoilt.record(FLAT, 0)[spoilt.hot] == 500).all()


def test_dark_current_adds_its_mean() -> None:
    noisy = detector(dark_counts=30)
    counts = np.stack([noisy.record(FLAT, i) for i in range(20)]).astype(float)
    assert counts.mean() == pytest.approx(130, abs=5 * np.sqrt(130 / counts.size))
    darks = np.stack([noisy.dark(i) for i in range(20)]).astype(float)
    assert darks.mean() == pytest.approx(30, abs=5 * np.sqrt(30 / darks.size))


def test_mean_dark_is_what_darks_average_to() -> None:
    spoilt = detector(dark_counts=30, hot_pixels=4, dead_pixels=3, saturation=1000)
    darks = np.stack([spoilt.dark(i) for i in range(200)]).mean(axis=0)
    np.testing.assert_allclose(spoilt.mean_dark, darks, atol=6 * np.sqrt(30 / 200))


def test_no_dark_current_no_dark_counts() -> None:
    assert not detector().dark(0).any()


def test_hot_pixels() -> None:
    spoilt = detector(hot_pixels=7, hot_value=4321)
    assert spoilt.hot.sum() == 7
    for i in range(3):
        counts = spoilt.record(FLAT, i)
        assert (counts[spoilt.hot] == 4321).all()
        assert (counts[~spoilt.hot] < 300).all()
    assert (spoilt.dark(0)[spoilt.hot] == 4321).all()


def test_dead_pixels() -> None:
    spoilt = detector(dead_pixels=9, dark_counts=20)
    assert spoilt.dead.sum() == 9
    assert not spoilt.record(FLAT, 0)[spoilt.dead].any()
    assert not spoilt.dark(0)[spoilt.dead].any()
    assert spoilt.record(FLAT, 0)[~spoilt.dead].all()


def test_a_pixel_is_hot_or_dead_but_not_both() -> None:
    spoilt = detector(hot_pixels=500, dead_pixels=500)
    assert not (spoilt.hot & spoilt.dead).any()
    assert (spoilt.hot | spoilt.dead).sum() == 1000


def test_more_defects_than_pixels_are_refused() -> None:
    with pytest.raises(ConfigError, match="hot_pixels"):
        detector(hot_pixels=1000, dead_pixels=100)


def test_beamstop_shades_a_disc_in_the_middle() -> None:
    stopped = detector(beamstop_px=4.5)
    counts = stopped.record(FLAT, 0)
    y, x = np.mgrid[:N, :N] - N // 2
    inside = np.hypot(y, x) < 4.5
    np.testing.assert_array_equal(stopped.shadow, inside)
    assert not counts[inside].any()
    assert counts[~inside].all()


def test_beamstop_does_not_stop_the_dark_current() -> None:
    stopped = detector(beamstop_px=6, dark_counts=50)
    assert stopped.record(FLAT, 0)[stopped.shadow].mean() == pytest.approx(50, abs=5)


def test_mask_names_the_defects() -> None:
    spoilt = detector(hot_pixels=3, dead_pixels=4, beamstop_px=3)
    np.testing.assert_array_equal(spoilt.valid, ~(spoilt.hot | spoilt.dead | spoilt.shadow))


def test_mask_may_keep_quiet_about_defects() -> None:
    spoilt = detector(hot_pixels=3, dead_pixels=4, beamstop_px=3, mask_defects=False)
    np.testing.assert_array_equal(spoilt.valid, ~spoilt.shadow)
    spoilt = detector(hot_pixels=3, dead_pixels=4, beamstop_px=3, mask_beamstop=False)
    np.testing.assert_array_equal(spoilt.valid, ~(spoilt.hot | spoilt.dead))
    assert detector(hot_pixels=3, mask_defects=False).valid is None


def test_a_good_detector_has_no_mask() -> None:
    assert detector().valid is None


@pytest.mark.parametrize(
    "wrong", [{"photons": 0}, {"dtype": "int8"}, {"dark_counts": -1}, {"saturation": 0}, {"hot_pixels": -1}]
)
def test_impossible_detectors_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DetectorOptions(**wrong)
