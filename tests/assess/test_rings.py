"""Ring correlation and the resolution that it stands for."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.ndimage

from streamptycho.assess import rings
from streamptycho.assess.rings import LEAST_SIDE, crossing, half_bit, largest_square, ring_correlation

N = 96


def noise(seed: int, n: int = N) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, n)) + 1j * random.normal(size=(n, n))


def blurred(field: np.ndarray, width_px: float) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(field.real, width_px) + 1j * scipy.ndimage.gaussian_filter(field.imag, width_px)


def test_an_object_agrees_with_itself_down_to_the_pixels():
    found = ring_correlation(noise(0), 0.3j * noise(0))
    assert found.correlation[1:] == pytest.approx(1, abs=1e-9)
    assert found.resolution_px == pytest.approx(2)


def test_unrelated_objects_agree_nowhere():
    found = [ring_correlation(noise(seed), noise(seed + 100)).resolution_px for seed in range(20)]
    assert np.isnan(found).all()


def test_more_noise_is_worse_resolution():
    true = blurred(noise(0), 1.2)
    scale = abs(true).std()
    found = []
    for level in (0.05, 0.2, 0.8, 3.0):
        one, two = (1 + true + level * scale * noise(seed) for seed in (1, 2))
        found.append(ring_correlation(one, two).resolution_px)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0.3).all()
    assert found[0] < 4 < found[-1]


def test_the_crossing_lies_where_signal_and_noise_say():
    """White signal and noise below a cut-off, noise alone above it."""
    k = np.fft.fftfreq(N)
    radius = np.hypot(k[:, None], k[None])
    band = np.fft.ifft2(np.fft.fft2(noise(0)) * (radius < 0.25))
    one, two = (band + 0.1 * noise(seed) for seed in (1, 2))
    assert ring_correlation(one, two).resolution_px == pytest.approx(4, rel=0.12)


def test_half_a_bit():
    assert half_bit(np.array([1e12])) == pytest.approx(0.1716, abs=1e-4)  # (0.2071 / 1.2071), van Heel and Schatz
    assert (np.diff(half_bit(np.array([4.0, 40.0, 400.0]))) < 0).all()


def test_disagreement_in_what_is_slowest_does_not_count():
    frequency = np.arange(33) / 64
    correlation = np.where(frequency < 0.3, 0.9, 0.0)
    correlation[2:4] = -0.2
    threshold = np.full(33, 0.2)
    assert crossing(frequency, correlation, threshold) == pytest.approx(0.3, abs=0.02)


def side_of_the_largest(mask: np.ndarray) -> int:
    """By the side of the largest square that ends at each pixel."""
    sides = np.zeros(np.add(mask.shape, 1), int)
    for y, x in np.argwhere(mask):
        sides[y + 1, x + 1] = 1 + min(sides[y, x], sides[y, x + 1], sides[y + 1, x])
    return int(sides.max())


def masks(random: np.random.Generator) -> Iterator[np.ndarray]:
    for blur in (0, 0.7, 2, 4, 8):
        for _ in range(8):
            field = scipy.ndimage.gaussian_filter(random.normal(size=random.integers(1, 140, 2)), blur)
            yield field > np.quantile(field, random.choice([0.003, 0.05, 0.3]))
    for shape in ((1, 1), (64, 64), (63, 65), (128, 127), (1, 200), (200, 1)):
        yield np.ones(shape, bool)
        yield np.zeros(shape, bool)


def test_the_largest_square_of_any_mask(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rings, "LEAST_SIDE", 2)
    for mask in masks(np.random.default_rng(0)):
        side, found = side_of_the_largest(mask), largest_square(mask)
        if found is None:
            assert side < 2
            continue
        assert mask[found].all()
        assert mask[found].shape == (side, side)


def test_the_largest_square_of_a_large_mask_is_found_at_once():
    y, x = np.ogrid[:4096, :4096]
    mask = np.hypot(y - 2000, x - 2100) < 1900
    mask[2500, 1000] = False
    begun_s = time.thread_time()
    found = largest_square(mask)
    spent_s = time.thread_time() - begun_s
    assert found is not None
    assert mask[found].all()
    assert spent_s < 0.1, "8 ms where nothing else runs"


def test_the_largest_square():
    mask = np.zeros((60, 80), bool)
    mask[10:50, 20:70] = True
    mask[10, 20] = False
    found = largest_square(mask)
    assert found is not None
    assert mask[found].all()
    assert mask[found].shape == (40, 40)
    assert largest_square(mask[: LEAST_SIDE + 8]) is None
    assert largest_square(np.zeros((5, 5), bool)) is None
