"""Frames on the device, and the order in which they are used."""

import numpy as np
import pytest

from streamptycho.errors import BackendError
from streamptycho.solve.devices.backend import Backend, choose_backend, numpy_backend
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
