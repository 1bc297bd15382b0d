"""The comparison with a truth: blind to what ptychography cannot know, and to nothing else."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamptycho.assess.truth import MIN_PIXELS, compare
from streamptycho_sim.specimen import SpecimenOptions, draw

TRUTH = draw((150, 170), SpecimenOptions(), 0).astype(np.complex128)
SUPPORT = np.zeros(TRUTH.shape, np.bool_)
SUPPORT[30:-30, 30:-30] = True
BOX = (slice(12, -14), slice(16, -10))
ORIGIN = (12, 16)


def moved(z: NDArray[np.complex128], dy: float, dx: float) -> NDArray[np.complex128]:
    ky, kx = np.fft.fftfreq(z.shape[0])[:, None], np.fft.fftfreq(z.shape[1])[None]
    return np.fft.ifft2(np.fft.fft2(z) * np.exp(-2j * np.pi * (ky * dy + kx * dx)))


def gauge(
    z: NDArray[np.complex128], ramp: tuple[float, float] = (0, 0), angle: float = 0, scale: float = 1
) -> NDArray[np.complex128]:
    y, x = np.ogrid[: z.shape[0], : z.shape[1]]
    return z * scale * np.exp(1j * (ramp[0] * y + ramp[1] * x + angle))


def judge(z: NDArray[np.complex128], origin: tuple[float, float] = ORIGIN):
    return compare(z, np.ones(z.shape, np.bool_), origin, TRUTH, SUPPORT, (0, 0))


slopes = st.floats(-0.4, 0.4)


@settings(max_examples=25)
@given(
    shift=st.tuples(st.integers(-8, 8), st.integers(-8, 8)),
    ramp=st.tuples(slopes, slopes),
    angle=st.floats(0, 6.3),
    scale=st.floats(1e-3, 1e3),
)
@example(shift=(0, 0), ramp=(0, 0), angle=0, scale=1)
def test_whole_pixel_shift_ramp_constant_and_scale_do_not_count(shift, ramp, angle, scale):
    agreement = judge(gauge(np.roll(TRUTH, shift, (0, 1)), ramp, angle, scale)[BOX])
    assert agreement is not None
    assert agreement.phase_correlation == pytest.approx(1, abs=1e-9)
    assert agreement.error < 1e-6


@settings(max_examples=15)
@given(shift=st.tuples(st.floats(-6, 6), st.floats(-6, 6)), ramp=st.tuples(slopes, slopes))
def test_shift_by_a_fraction_hardly_counts(shift, ramp):
    agreement = judge(gauge(moved(TRUTH, *shift), ramp)[BOX])
    assert agreement is not None
    assert agreement.phase_correlation > 0.997
    assert agreement.error < 0.03


def test_origins_are_subtracted():
    far = compare(TRUTH[BOX], np.ones(TRUTH[BOX].shape, np.bool_), (1012, -984), TRUTH, SUPPORT, (1000, -1000))
    assert far is not None
    assert far.error < 1e-12
    assert far.pixels == SUPPORT.sum()


def test_fraction_in_the_origin_is_honoured():
    agreement = judge(moved(TRUTH, -0.4, 0.3)[BOX], (ORIGIN[0] + 0.4, ORIGIN[1] - 0.3))
    assert agreement is not None
    assert agreement.error < 0.03


def test_only_what_is_covered_and_supported_counts():
    spoiled = TRUTH.copy()
    spoiled[60:90, 60:90] = 1e3
    covered = np.ones(TRUTH.shape, np.bool_)
    covered[60:90, 60:90] = False
    agreement = compare(spoiled, covered, (0, 0), TRUTH, SUPPORT, (0, 0))
    assert agreement is not None
    assert agreement.pixels == SUPPORT.sum() - 900
    assert agreement.error < 1e-9


def test_noise_shows_in_the_error():
    noise = np.random.default_rng(0).normal(0, 0.1, (2, *TRUTH.shape))
    agreement = judge((TRUTH + noise[0] + 1j * noise[1])[BOX])
    assert agreement is not None
    expected = np.sqrt(0.02) / np.sqrt((abs(TRUTH[SUPPORT]) ** 2).mean())
    assert agreement.error == pytest.approx(expected, rel=0.1)
    assert agreement.phase_correlation < 0.99


WRONG = {
    "other specimen": draw(TRUTH.shape, SpecimenOptions(), 7),
    "conjugate twin": TRUTH.conj(),
    "twin rotated": TRUTH[::-1, ::-1].conj(),
    "upside down": TRUTH[::-1],
    "transposed": np.pad(TRUTH.T, ((0, 0), (0, 20)), mode="wrap")[:150],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_object_scores_low(name: str):
    agreement = judge(WRONG[name][BOX])
    assert agreement is not None
    assert agreement.phase_correlation < 0.6
    assert agreement.error > 0.2


@pytest.mark.parametrize("value", [0, 1, 0.3j])
def test_a_blank_object_scores_low(value: complex):
    agreement = judge(np.full(TRUTH[BOX].shape, value, np.complex128))
    assert agreement is not None
    assert abs(agreement.phase_correlation) < 0.4
    assert agreement.error > 0.2
    assert value or agreement.phase_correlation == 0


def test_too_little_in_common_is_no_verdict():
    side = int(MIN_PIXELS**0.5)
    assert judge(TRUTH[30 : 30 + side, 30 : 30 + side], (30, 30)) is None
    assert judge(TRUTH, (1000, 1000)) is None
    assert judge(TRUTH[30 : 32 + side, 30 : 32 + side], (30, 30)) is not None
