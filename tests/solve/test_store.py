"""Frames on the device, and the order in which they are used."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.errors import BackendError
from streamptycho.solve.backend import Backend, choose_backend, numpy_backend
from streamptycho.solve.schedule import RECENT, Schedule
from streamptycho.solve.store import FrameStore


def frame(i: int, shape: tuple[int, int] = (8, 10)) -> np.ndarray:
    made = np.full(shape, i, np.float32)
    made[0, 0] = -1
    return made


@pytest.mark.parametrize("expected", [None, 0, 10, 200, 1 << 40])
def test_frames_survive_doubling(backend: Backend, expected: int | None):
    if expected == 1 << 40:
        expected = 3000  # memory is not spent on a promise; see the next test
    store = FrameStore(backend, (8, 10), expected)
    for i in range(300):
        assert store.append(frame(i), (i, -2 * i)) == i
        assert len(store) == i + 1
    for i in (0, 63, 64, 127, 128, 299):
        np.testing.assert_array_equal(backend.to_host(store.amplitudes[i]), frame(i))
        assert store.corners[i].tolist() == [i, -2 * i]
        assert store.power[i] == 79 * i**2
    capacity = len(store.corners)
    assert capacity == len(store.power) == len(store.amplitudes) >= 300


def test_capacity_at_first_is_what_was_planned_within_reason():
    assert len(FrameStore(numpy_backend(), (2, 2)).corners) == 64
    assert len(FrameStore(numpy_backend(), (2, 2), 500).corners) == 500
    assert len(FrameStore(numpy_backend(), (1, 1), 1 << 40).corners) == 1 << 20


def test_replace(backend: Backend):
    store = FrameStore(backend, (8, 10))
    store.append(frame(3), (1, 2))
    store.append(frame(4), (1, 2))
    store.replace(0, frame(5))
    np.testing.assert_array_equal(backend.to_host(store.amplitudes[0]), frame(5))
    np.testing.assert_array_equal(backend.to_host(store.amplitudes[1]), frame(4))
    assert store.power[:2].tolist() == [79 * 25, 79 * 16]
    assert len(store) == 2
    with pytest.raises(ValueError, match=r"\(8, 9\).*\(8, 10\)"):
        store.replace(0, frame(5, (8, 9)))


def test_mean_intensity_heeds_masks(backend: Backend):
    store = FrameStore(backend, (1, 3))
    for values in ([2, -1, -1], [4, 3, -1], [100, 100, 100]):
        store.append(np.array([values], np.float32), (0, 0))
    assert store.mean_intensity(np.array([0, 1])).tolist() == [[10, 9, 0]]


def test_backends_by_name():
    assert choose_backend("numpy").name == "numpy"
    assert choose_backend("auto").name in ("cpu", "cupy")
    with pytest.raises(BackendError, match=r"'torch'.*auto, cpu, numpy, cupy"):
        choose_backend("torch")


# schedule


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 120), st.booleans(), st.integers(0, 5))
def test_every_row_comes_within_two_passes(rows: int, count: int, live: bool, seed: int):
    schedule, waiting = Schedule(seed), np.zeros(rows, int)
    for _ in range(3 * rows // count + 10):
        drawn = schedule.draw(np.arange(rows), count, live=live)
        assert len(drawn) == count
        assert drawn.min() >= 0
        assert drawn.max() < rows
        waiting += count
        waiting[drawn] = 0
        assert waiting.max() <= (4 if live else 2) * rows + 2 * count


def test_rows_that_come_later_are_walked_too():
    schedule, seen = Schedule(0), set()
    for rows in range(RECENT + 1, 3000, 7):
        seen |= set(schedule.draw(np.arange(rows), 50, live=True).tolist())
    for _ in range(2 * 2 * 3000 // 50 + 2):
        seen |= set(schedule.draw(np.arange(3000), 50, live=True).tolist())
    assert seen == set(range(3000))


def test_half_of_a_live_slice_is_recent():
    schedule, rows = Schedule(0), np.arange(5000)
    drawn = [schedule.draw(rows, 50, live=True) for _ in range(100)]
    recent = np.array([(d >= 5000 - RECENT).sum() for d in drawn])
    assert recent.min() >= 25
    assert recent.mean() == pytest.approx(25 + 25 * RECENT / 5000, abs=1)
    middle = np.concatenate([d[20:30] for d in drawn])
    assert 0.3 < (middle >= 5000 - RECENT).mean() < 0.7  # mixed, not one after the other


def test_slices_longer_than_the_recent_frames():
    drawn = Schedule(0).draw(np.arange(150), 500, live=True)
    assert len(drawn) == 500
    assert set(drawn.tolist()) == set(range(150))


@pytest.mark.parametrize("live", [True, False])
def test_few_rows_or_the_end_are_whole_passes(live: bool):
    schedule, rows = Schedule(0), np.arange(RECENT if live else 700)
    drawn = np.concatenate([schedule.draw(rows, 50, live=live) for _ in range(3 * len(rows) // 50)])
    assert set(Counter(drawn.tolist()).values()) == {3}


def test_same_seed_same_order():
    def order(seed: int) -> list[int]:
        schedule = Schedule(seed)
        return [int(i) for n in (50, 150, 300) for i in schedule.draw(np.arange(n), 60, live=True)]

    assert order(1) == order(1) != order(2)
