"""Warm fill and momentum: smooth, local, bounded."""

import numpy as np
import pytest

from streamptycho.solve.canvas import BLOCK, KNOWN_DOSE, Canvas, block_mean
from streamptycho.solve.devices.backend import Backend
from streamptycho.solve.equations.fill import fill_boxes, warm_fill
from streamptycho.solve.equations.smooth import advance

SHAPE = (32, 32)
FULL = 1.0


def canvas_with(backend: Backend, obj: np.ndarray, dose: np.ndarray) -> Canvas:
    """A canvas at the origin that holds `obj` and `dose`."""
    canvas = Canvas(backend, 1 << 24)
    for corner in ((0, 0), (obj.shape[0] - SHAPE[0], obj.shape[1] - SHAPE[1])):
        assert canvas.ensure(corner, SHAPE)
    inside = canvas.window((0, 0), obj.shape)
    for name, values in (("object", obj), ("dose", dose)):
        getattr(canvas, name)[inside] = backend.to_device(values)
    canvas.cell_dose[:] = block_mean(canvas.dose)
    canvas.rebase()
    return canvas


def read(backend: Backend, canvas: Canvas, name: str = "object", side: int = 160) -> np.ndarray:
    return backend.to_host(getattr(canvas, name)[canvas.window((0, 0), (side, side))])


def half_known(value: complex = 0.6 + 0.3j) -> tuple[np.ndarray, np.ndarray]:
    obj, dose = np.ones((160, 160), np.complex64), np.zeros((160, 160), np.float32)
    obj[:, :80], dose[:, :80] = value, FULL
    return obj, dose


def test_fill_continues_what_is_known(backend: Backend):
    obj, dose = half_known()
    canvas = canvas_with(backend, obj, dose)
    warm_fill(canvas, np.array([[64, 70]]), SHAPE)
    after = read(backend, canvas)
    np.testing.assert_array_equal(after[:, :80], obj[:, :80])
    np.testing.assert_allclose(after[64:96, 80:92], 0.6 + 0.3j, atol=1e-3)


def test_fill_changes_nothing_far_away(backend: Backend):
    rng = np.random.default_rng(0)
    obj, dose = half_known()
    obj[:, 80:] = np.exp(1j * rng.normal(size=(160, 80)))
    canvas = canvas_with(backend, obj, dose)
    warm_fill(canvas, np.array([[64, 70]]), SHAPE)
    changed = np.argwhere(read(backend, canvas) != obj)
    assert len(changed)
    assert changed.min(0).tolist() >= [64 - 3 * BLOCK, 80]
    assert (changed.max(0) <= [96 + 3 * BLOCK, 102 + 3 * BLOCK]).all()


def test_fill_where_nothing_is_known_nearby_and_where_all_is(backend: Backend):
    obj = np.ones((160, 160), np.complex64)
    canvas = canvas_with(backend, obj, np.zeros((160, 160), np.float32))
    warm_fill(canvas, np.array([[10, 20], [100, 90]]), SHAPE)
    np.testing.assert_array_equal(read(backend, canvas), obj)
    obj = np.exp(1j * np.random.default_rng(0).normal(size=(160, 160))).astype(np.complex64)
    canvas = canvas_with(backend, obj, np.full((160, 160), KNOWN_DOSE, np.float32))
    warm_fill(canvas, np.array([[64, 64]]), SHAPE)
    np.testing.assert_array_equal(read(backend, canvas), obj)


def test_fill_is_no_motion(backend: Backend):
    """What was filled in is not taken for a change on which momentum would build."""
    obj, dose = half_known()
    canvas = canvas_with(backend, obj, dose)
    warm_fill(canvas, np.array([[64, 70]]), SHAPE)
    expected = block_mean(backend.to_host(canvas.object))
    np.testing.assert_allclose(backend.to_host(canvas.cell_object), expected, atol=1e-5)


PLACES = np.array([[40, 40], [60, 70], [80, 50]])


def momentum(canvas: Canvas, backend: Backend, fade: float = 1.0) -> None:
    """Advance the part of the canvas under `PLACES` without a correction."""
    advance(canvas, canvas.box(PLACES, SHAPE), None, fade)


@pytest.mark.parametrize("value", [1, 0.3 - 0.8j])
def test_constant_object_stays_constant(backend: Backend, value: complex):
    canvas = canvas_with(backend, np.full((160, 160), value, np.complex64), np.full((160, 160), FULL, np.float32))
    for _ in range(20):
        warm_fill(canvas, PLACES, SHAPE)
        momentum(canvas, backend)
    np.testing.assert_array_equal(read(backend, canvas), np.complex64(value))
    assert not canvas.velocity.any()


def test_momentum_carries_a_smooth_change_on_and_dies_out(backend: Backend):
    obj = np.ones((160, 160), np.complex64)
    canvas = canvas_with(backend, obj, np.full((160, 160), FULL, np.float32))
    canvas.object[canvas.window((40, 40), (70, 60))] += 0.1j
    way = []
    for _ in range(40):
        momentum(canvas, backend)
        way.append(complex(backend.to_host(canvas.object[canvas.window((70, 70), (1, 1))])[0, 0]))
    gained = np.array(way).imag - 0.1
    assert gained[0] > 0.02
    assert (np.diff(gained) >= -1e-6).all()
    assert gained[-1] < 0.1 * 0.7 / (1 - 0.8) * 1.01  # the geometric series
    assert abs(np.diff(gained)[-1]) < 1e-4


def test_momentum_touches_only_the_box_and_the_well_covered(backend: Backend):
    rng = np.random.default_rng(0)
    dose = np.full((160, 160), FULL, np.float32)
    dose[:, 64:96] = 0.05
    canvas = canvas_with(backend, np.ones((160, 160), np.complex64), dose)
    noisy = canvas.window((0, 0), (160, 160))
    canvas.object[noisy] += backend.to_device((0.2 * rng.normal(size=(160, 160))).astype(np.complex64))
    before = read(backend, canvas)
    momentum(canvas, backend)
    change = abs(read(backend, canvas) - before) > 0
    y, x = np.nonzero(change)
    assert y.min() >= 40
    assert x.min() >= 40
    assert y.max() < 80 + 32 + BLOCK
    assert x.max() < 70 + 32 + BLOCK
    assert change[50, 40:64].all()
    assert not change[:, 68:91].any()  # beyond the interpolation from covered cells


def test_fade_scales_the_step(backend: Backend):
    steps = []
    for fade in (1.0, 0.25, 0.0):
        canvas = canvas_with(backend, np.ones((160, 160), np.complex64), np.full((160, 160), FULL, np.float32))
        canvas.object[canvas.window((40, 40), (70, 60))] += 0.1j
        before = read(backend, canvas)
        momentum(canvas, backend, fade)
        steps.append(float(abs(read(backend, canvas) - before).sum()))
    assert steps[1] == pytest.approx(steps[0] / 4, rel=1e-4)
    assert steps[2] == 0


def test_momentum_stays_bounded_under_a_change_that_never_ends(backend: Backend):
    """An object pulled to and fro, as noise does, is not driven away."""
    rng = np.random.default_rng(0)
    canvas = canvas_with(backend, np.ones((160, 160), np.complex64), np.full((160, 160), FULL, np.float32))
    window = canvas.window((40, 40), (72, 62))
    for _ in range(200):
        pull = 1 + 0.05 * rng.normal(size=(72, 62)) - backend.to_host(canvas.object[window])
        canvas.object[window] += backend.to_device((0.3 * pull).astype(np.complex64))
        momentum(canvas, backend)
    assert abs(read(backend, canvas) - 1).max() < 0.3


def test_neighbours_are_filled_together_and_others_apart(backend: Backend):
    canvas = Canvas(backend, 1 << 24)
    corners = np.array([[0, 0], [0, 10], [3, 22], [400, 400], [0, 30]])
    for y, x in corners.tolist():
        assert canvas.ensure((y, x), SHAPE)
    boxes = fill_boxes(canvas, corners, SHAPE)
    assert len(boxes) == 3
    assert boxes[0][0] == canvas.box(corners[:3], SHAPE)
    assert boxes[1][0] == canvas.box(corners[3:4], SHAPE)
    for inner, box in boxes:
        assert all(outer.start <= side.start < side.stop <= outer.stop for side, outer in zip(inner, box, strict=True))
