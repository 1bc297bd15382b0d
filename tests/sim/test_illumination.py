"""The probe: power, size, modes and the guess of it."""

import numpy as np
import pytest
from pydantic import ValidationError

from streamptycho_sim import illumination
from streamptycho_sim.illumination import IlluminationOptions, guess, probe

N = 128


def rms_diameter(intensity: np.ndarray) -> float:
    """Diameter of a disc with the same second moment."""
    y, x = np.mgrid[: len(intensity), : len(intensity)] - len(intensity) // 2
    total = intensity.sum()
    cy, cx = (intensity * y).sum() / total, (intensity * x).sum() / total
    return 2 * np.sqrt(2 * (intensity * ((y - cy) ** 2 + (x - cx) ** 2)).sum() / total)


@pytest.mark.parametrize("modes", [1, 2, 3])
@pytest.mark.parametrize("photons", [1e4, 1e6])
def test_power_is_the_photons_of_a_frame(modes: int, photons: float) -> None:
    beam = probe(IlluminationOptions(modes=modes), N, photons)
    assert beam.shape == (modes, N, N)
    assert beam.dtype == np.complex64
    assert (abs(beam) ** 2).sum() == pytest.approx(photons, rel=1e-4)


@pytest.mark.parametrize("n", [64, 128, 256])
@pytest.mark.parametrize("footprint", [0.2, 0.31])
def test_footprint_is_what_was_asked(n: int, footprint: float) -> None:
    beam = probe(IlluminationOptions(footprint=footprint), n, 1)[0]
    assert rms_diameter(abs(beam) ** 2) == pytest.approx(footprint * n, rel=0.35)


def test_beam_is_in_the_middle() -> None:
    weight = abs(probe(IlluminationOptions(coma_rad=0), N, 1)[0]) ** 2
    centre = [(weight * axis).sum() for axis in np.mgrid[:N, :N]]
    np.testing.assert_allclose(centre, N // 2, atol=0.5)


def test_beam_fades_before_the_border() -> None:
    weight = abs(probe(IlluminationOptions(modes=3), N, 1)) ** 2
    border = weight[:, 0].sum() + weight[:, -1].sum() + weight[:, :, 0].sum() + weight[:, :, -1].sum()
    assert border < 1e-3


def test_pupil_is_round_and_as_wide_as_the_aperture() -> None:
    far = abs(np.fft.fft2(probe(IlluminationOptions(), N, 1)[0]))
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(N), np.fft.fftfreq(N), indexing="ij"))
    assert far[k < 0.15].min() > 0.95 * far.max()
    assert far[k > 0.22].max() < 0.05 * far.max()


def test_modes_are_orthogonal_with_falling_powers() -> None:
    beam = probe(IlluminationOptions(modes=3), N, 1).reshape(3, -1).astype(complex)
    gram = beam.conj() @ beam.T
    np.testing.assert_allclose(gram, np.diag([0.8, 0.12, 0.08]), atol=1e-5)


def test_fewer_modes_share_all_the_power() -> None:
    powers = (abs(probe(IlluminationOptions(modes=2), N, 1)) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(powers, np.array([0.8, 0.12]) / 0.92, rtol=1e-4)


def test_first_mode_does_not_depend_on_their_number() -> None:
    one, three = (probe(IlluminationOptions(modes=m), N, 1)[0] for m in (1, 3))
    np.testing.assert_allclose(one, three / np.linalg.norm(three), atol=1e-6)


def test_aberrations_break_the_symmetry() -> None:
    plain = probe(IlluminationOptions(coma_rad=0, astigmatism_rad=0), N, 1)[0]
    bent = probe(IlluminationOptions(), N, 1)[0]

    def asymmetry(field: np.ndarray) -> float:
        turned = np.roll(field[::-1, ::-1], 1, (0, 1))
        return float(np.linalg.norm(abs(field) - abs(turned)))

    assert asymmetry(plain) < 1e-5
    assert asymmetry(bent) > 0.05


def test_guess_is_near_but_wrong() -> None:
    options = IlluminationOptions()
    true, start = probe(options, N, 1e6)[0].ravel(), guess(options, N, 1e6)[0].ravel()
    overlap = abs(np.vdot(true, start)) / 1e6
    assert 0.2 < overlap < 0.95


def test_guess_without_error_differs_by_the_aberrations_only() -> None:
    options = IlluminationOptions(coma_rad=0, astigmatism_rad=0)
    np.testing.assert_allclose(guess(options, N, 10, defocus_error=0), probe(options, N, 10), atol=1e-5)


def test_guess_has_the_modes_and_power_of_the_probe() -> None:
    start = guess(IlluminationOptions(modes=3), N, 1e5)
    assert start.shape == (3, N, N)
    assert (abs(start) ** 2).sum() == pytest.approx(1e5, rel=1e-4)


def test_footprint_in_pixels() -> None:
    assert illumination.footprint_px(IlluminationOptions(footprint=0.25), 128) == 32


@pytest.mark.parametrize("wrong", [{"modes": 0}, {"modes": 4}, {"footprint": 0}, {"aperture": 0.6}, {"colour": "red"}])
def test_impossible_beams_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IlluminationOptions(**wrong)
