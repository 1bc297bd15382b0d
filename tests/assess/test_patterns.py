"""What single patterns tell."""

import numpy as np
import pytest

from streamptycho.assess.patterns import PatternSums, looking
from streamptycho.solve.devices.backend import choose_backend
from streamptycho.solve.store import FrameStore
from tests.assess.scenes import N, simulated


def sums(counts: np.ndarray) -> PatternSums:
    made = PatternSums((N, N))
    for pattern in counts:
        made.add(np.fft.ifftshift(np.sqrt(pattern)).astype(np.float32))
    return made


@pytest.mark.parametrize("seed", range(3))
def test_the_size_of_the_beam_to_a_third(seed):
    seen = sums(simulated(seed=seed).counts[:32]).figures()
    assert seen is not None
    assert seen.beam_px == pytest.approx(0.31 * N, rel=0.34)
    assert (seen.hot, seen.ceiling) == (0, 0.0)
    assert seen.difference > 3


def test_noise_is_known_from_the_counts():
    bright, dim = (sums(simulated(photons=photons).counts[:32]).figures() for photons in (1e5, 1e3))
    assert bright is not None
    assert dim is not None
    assert bright.noise_share < 0.03
    assert 0.2 < dim.noise_share < 0.4


@pytest.mark.parametrize("divide", ["maximum", "sum"])
def test_patterns_that_are_not_in_counts_say_nothing_of_noise(divide):
    counts = simulated().counts[:32].astype(float)
    counts /= counts.max((1, 2), keepdims=True) if divide == "maximum" else counts.sum((1, 2), keepdims=True)
    seen = sums(counts).figures()
    assert seen is not None
    assert not seen.counted
    assert np.isnan([seen.noise_share, seen.difference]).all()
    assert seen.beam_px == pytest.approx(0.31 * N, rel=0.34)


def test_few_photons_are_counts_all_the_same():
    seen = sums(np.minimum(simulated(photons=50.0).counts[:32], 1)).figures()
    assert seen is not None
    assert seen.counted
    assert seen.noise_share > 0.5


def test_patterns_that_differ_by_noise_alone():
    seen = sums(simulated(phase_rad=0.0, absorption=0.0).counts[:32]).figures()
    assert seen is not None
    assert seen.difference == pytest.approx(1, abs=0.05)


def test_hot_pixels_and_ceilings():
    counts = simulated().counts[:32].copy()
    counts[:, 5, 7] = 3000
    stuck = sums(counts).figures()
    assert stuck is not None
    assert (stuck.hot, stuck.ceiling) == (1, 0.0)
    clipped = sums(np.minimum(simulated().counts[:32], 60)).figures()
    assert clipped is not None
    assert clipped.hot == 0
    assert clipped.ceiling > 0.5


def test_nothing_comes_of_nothing():
    assert sums(np.zeros((3, N, N))).figures() is None
    assert sums(simulated().counts[:1]).figures() is None


def test_dark_patterns_are_left_out_one_step_each():
    store = FrameStore(choose_backend("numpy"), (N, N))
    for i, pattern in enumerate(simulated().counts[:40]):
        dark = 10 <= i < 20
        store.append(np.sqrt(np.fft.ifftshift(pattern * (0.001 if dark else 1))).astype(np.float32), (0, 0))
    *steps, seen = looking(store)
    assert steps == [None] * 30
    assert seen == sums(np.delete(simulated().counts[:40], range(10, 20), 0)).figures()
