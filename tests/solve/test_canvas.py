"""The canvas grows without moving anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamptycho.solve.canvas import BLOCK, Canvas, bilinear, block_mean
from streamptycho.solve.devices.backend import Backend, numpy_backend
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.settings import EngineOptions, RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore
from tests.solve.helpers import random_complex, scene

corners = st.lists(st.tuples(st.integers(-300, 300), st.integers(-300, 300)), min_size=1, max_size=12)
shapes = st.tuples(st.integers(3, 40), st.integers(3, 40))


@settings(max_examples=60)
@given(corners, shapes)
def test_growing_moves_nothing(places, shape):
    """What is written under a window is read back there, whatever windows come later."""
    canvas = Canvas(numpy_backend(), 1 << 24)
    cells = {}
    for mark, corner in enumerate(places, 2):
        assert canvas.ensure(corner, shape)
        canvas.object[canvas.window(corner, shape)] = mark
        canvas.dose[canvas.window(corner, shape)] = 3 * mark
        cell = (corner[0] - canvas.origin[0]) // BLOCK, (corner[1] - canvas.origin[1]) // BLOCK
        canvas.velocity[cell], canvas.cell_object[cell] = mark, -mark
        cells[corner[0] // BLOCK, corner[1] // BLOCK] = mark
    dy, dx = canvas.origin
    assert dy % BLOCK == dx % BLOCK == canvas.shape[0] % BLOCK == canvas.shape[1] % BLOCK == 0
    assert all(canvas.velocity[y - dy // BLOCK, x - dx // BLOCK] == mark for (y, x), mark in cells.items())
    assert (canvas.velocity != 0).sum() == len(cells)
    np.testing.assert_array_equal(canvas.cell_object, np.where(canvas.velocity == 0, 1, -canvas.velocity))
    picture = np.ones((700, 700), np.complex64)
    for mark, (y, x) in enumerate(places, 2):
        picture[y + 300 : y + 300 + shape[0], x + 300 : x + 300 + shape[1]] = mark
    for y, x in places:
        window = canvas.window((y, x), shape)
        expected = picture[y + 300 : y + 300 + shape[0], x + 300 : x + 300 + shape[1]]
        np.testing.assert_array_equal(canvas.object[window], expected)
        np.testing.assert_array_equal(canvas.dose[window], 3 * expected.real)
    assert (canvas.object == 1).sum() + (picture != 1).sum() == canvas.object.size


@settings(max_examples=60)
@given(corners, shapes, st.integers(10, 17))
def test_limit_is_respected_and_refusal_changes_nothing(places, shape, power):
    canvas = Canvas(numpy_backend(), 1 << power)
    for corner in places:
        before = (canvas.origin, canvas.shape, canvas.object)
        if canvas.ensure(corner, shape):
            window = canvas.window(corner, shape)
            assert canvas.object[window].shape == shape
            assert min(window[0].start, window[1].start) >= 0
        else:
            assert (canvas.origin, canvas.shape) == before[:2]
            assert canvas.object is before[2]
        assert canvas.object.size <= 1 << power


steps = st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=1, max_size=60)


@settings(max_examples=60)
@given(steps, st.tuples(st.integers(4, 12), st.integers(4, 12)), st.booleans())
def test_what_the_engine_admits_fits_on_its_canvas(path, shape, alternate):
    """Even where the canvas grows on alternate sides, and so overshoots most."""
    options = EngineOptions(max_object_pixels=1 << 16)
    engine = RollingEngine(options, numpy_backend(), shape, np.ones((1, *shape), np.complex64))
    canvas = Canvas(numpy_backend(), 1 << 16)
    at, admitted = np.zeros(2), 0
    for k, move in enumerate(path):
        at = at + np.abs(move)
        yx = at * (-1) ** k if alternate else at
        row = engine.add(np.ones(shape, np.float32), (float(yx[0]), float(yx[1])))
        if row is not None:
            admitted += 1
            assert canvas.ensure((int(engine.store.corners[row, 0]), int(engine.store.corners[row, 1])), shape)
    assert admitted > 0
    assert len(engine.store) == admitted
    engine.step_slice()
    assert engine.updates > 0


@pytest.mark.parametrize("first", range(120, 260, 4))
def test_growth_just_beyond_alternate_sides_stays_within_the_limit(first: int):
    """What makes the canvas largest for what it covers."""
    limit, shape = 1 << 20, (4, 4)
    engine = RollingEngine(EngineOptions(max_object_pixels=limit), numpy_backend(), shape, np.ones((1, 4, 4), np.complex64))
    canvas = Canvas(numpy_backend(), limit)
    frame = np.ones(shape, np.float32)
    at = 0
    for k in range(60):
        if engine.add(frame, (at + 2.0, at + 2.0)) is None:
            break
        assert canvas.ensure((at, at), shape)
        at = first if k == 0 else canvas.origin[0] + canvas.shape[0] - 3 if k % 2 else canvas.origin[0] - 1
    else:
        pytest.fail("the limit was not reached")


def test_growth_is_worth_its_cost():
    """A long scan line causes few reallocations."""
    canvas, origins = Canvas(numpy_backend(), 1 << 24), set()
    for x in range(0, 4000, 5):
        assert canvas.ensure((0, x), (32, 32))
        origins.add((canvas.origin, canvas.shape))
    assert len(origins) < 25


def test_box_surrounds_all_windows_on_the_coarse_grid():
    canvas = Canvas(numpy_backend(), 1 << 24)
    places = np.array([(3, 5), (40, -20), (17, 60)])
    for y, x in places.tolist():
        canvas.ensure((y, x), (20, 28))
    for margin in (0, 8, 10_000):
        box = canvas.box(places, (20, 28), margin)
        for axis, side in enumerate((20, 28)):
            assert box[axis].start % BLOCK == box[axis].stop % BLOCK == 0
            low, high = places[:, axis].min() - canvas.origin[axis], places[:, axis].max() + side - canvas.origin[axis]
            assert 0 <= box[axis].start <= max(low - margin, 0)
            assert min(high + margin, canvas.shape[axis]) <= box[axis].stop <= canvas.shape[axis]


def test_block_mean_and_bilinear(backend: Backend):
    rng = np.random.default_rng(0)
    fine = random_complex(rng, 5 * BLOCK, 7 * BLOCK)
    mean = backend.to_host(block_mean(backend.to_device(fine)))
    assert mean.shape == (5, 7)
    assert mean[2, 3] == pytest.approx(fine[2 * BLOCK : 3 * BLOCK, 3 * BLOCK : 4 * BLOCK].mean(), rel=1e-4)
    y, x = np.mgrid[:40, :56].astype(np.float32)
    plane = (2 * y - 3j * x).astype(np.complex64)
    again = backend.to_host(bilinear(block_mean(backend.to_device(plane)), backend))
    inner = np.s_[BLOCK // 2 : -BLOCK // 2, BLOCK // 2 : -BLOCK // 2]
    np.testing.assert_allclose(again[inner], plane[inner], atol=1e-3)
    np.testing.assert_allclose(again[0, 20], again[3, 20], atol=1e-3)
    assert again.dtype == np.complex64


@pytest.mark.parametrize("correction", [False, True])
def test_a_growing_canvas_gives_the_same_bits_as_one_of_its_final_size(correction: bool, backend: Backend):
    """The scan runs out in all four directions."""
    made = scene(32, 64)
    order = np.argsort(abs(made.yx_px - made.yx_px.mean(0)).max(1), kind="stable")  # from the middle outwards
    results = []
    for prepared in (False, True):
        rule = RuleOptions(correction=correction)
        solver = Solver(backend, FrameStore(backend, (32, 32)), made.guess, rule, poor_probe=True)
        if prepared:
            for corner in ((-300, -200), (400, 300)):
                assert solver.canvas.ensure(corner, (32, 32))
            solver.canvas._used = None
        shapes = set()
        for k, i in enumerate(order.tolist()):
            corner = (int(made.scan.corners[i, 0]), int(made.scan.corners[i, 1]))
            solver.admit(solver.store.append(made.amplitudes[i], corner))
            shapes.add((solver.canvas.origin, solver.canvas.shape))
            solver.sweep(np.arange(k + 1)[-12:])
        assert (len(shapes) == 1) is prepared
        box = solver.canvas.window((int(made.scan.corners.min(0)[0]), int(made.scan.corners.min(0)[1])), (80, 80))
        results.append([backend.to_host(a) for a in (solver.canvas.object[box], solver.canvas.dose[box], solver.probe)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_reached_surrounds_all_dose():
    canvas = Canvas(numpy_backend(), 1 << 24)
    canvas.ensure((0, 0), (100, 90))
    assert canvas.reached(0.05) is None
    for y, x in ((13, 40), (57, 8)):
        canvas.add_dose(np.array([[y, x]]), np.ones((1, 3, 5), np.complex64))
    box = canvas.reached(0.05)
    assert box is not None
    inside = np.zeros(canvas.shape, bool)
    inside[box] = True
    assert inside[canvas.dose >= 0.05].all()
    assert inside.sum() < 64 * 64
