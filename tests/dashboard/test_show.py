"""The show says what the services would say."""

import numpy as np
import pytest

from streamptycho.assess.rings import crossing, half_bit
from tests.dashboard.show import Show


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_the_resolution_is_the_period_at_which_the_rings_cross_half_a_bit(fraction: float):
    show = Show(frames=10, shape=32)
    told = show.assessment(fraction)
    pixel_m = show.scan.pixel_m[0]
    assert told.frequency_per_m[[0, -1]] == pytest.approx([0, 0.5 / pixel_m])
    samples = np.pi * np.arange(len(told.frequency_per_m))  # of 2 pi, as the window leaves about half of them
    found = crossing(told.frequency_per_m * pixel_m, told.ring_correlation, half_bit(samples))
    assert told.figures["resolution_m"] == pytest.approx(pixel_m / found, rel=0.05)
    assert told.figures["resolution_m"] > 2 * pixel_m
