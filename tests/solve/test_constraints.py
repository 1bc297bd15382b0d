"""Constraints leave the model as it is, and do nothing where there is nothing to do."""

import numpy as np
import pytest

from streamptycho.solve.canvas import BLOCK
from streamptycho.solve.devices.backend import Backend, cpu_backend, numpy_backend
from streamptycho.solve.equations.constraints import RUNAWAY, centred, impose, interval, limit_rim, phase_slope
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import Scene, engine_for, polish, run, scene, stored

SMALL = scene(32, 60)


def worked(backend: Backend, made: Scene = SMALL) -> Solver:
    store = stored(made, backend)
    solver = Solver(backend, store, made.guess, RuleOptions(), poor_probe=True)
    for row in range(len(store)):
        solver.admit(row)
    solver.sweep(np.arange(len(store)))
    return solver


def tilt(solver: Solver, slope: tuple[float, float]) -> None:
    y, x = np.ogrid[: solver.canvas.shape[0], : solver.canvas.shape[1]]
    ramp = solver.backend.to_device(np.exp(1j * (slope[0] * y + slope[1] * x)).astype(np.complex64))
    known = solver.canvas.dose > 0
    solver.canvas.object[known] *= ramp[known]
    solver.canvas.rebase()


def test_a_ramp_goes_to_the_probe_and_the_model_stays(backend: Backend):
    solver = worked(backend)
    tilt(solver, (0.05, -0.03))
    before = backend.to_host(solver.look(np.arange(60)))
    impose(solver.canvas, solver.probe, backend)
    slope = phase_slope(solver.canvas.object, solver.canvas.dose, backend)
    assert abs(slope).max() < 2e-3
    after = backend.to_host(solver.look(np.arange(60)))
    np.testing.assert_allclose(after[:, :2], before[:, :2], atol=2e-3)
    np.testing.assert_allclose(after[:, 2:], before[:, 2:], rtol=1e-3)
    unknown = backend.to_host(solver.canvas.object)[backend.to_host(solver.canvas.dose) == 0]
    np.testing.assert_array_equal(unknown, worked_unknown(solver))


def worked_unknown(solver: Solver) -> np.ndarray:
    """What is where no light came: as fresh, or as the fill and the momentum left it."""
    fresh = worked(solver.backend)
    return fresh.backend.to_host(fresh.canvas.object)[fresh.backend.to_host(fresh.canvas.dose) == 0]


def test_the_momentum_turns_with_the_object(backend: Backend):
    """A velocity that follows the object before does so after."""
    solver = worked(backend)
    tilt(solver, (0.04, 0.02))
    blocks = (slice(BLOCK // 2, None, BLOCK), slice(BLOCK // 2, None, BLOCK))
    solver.canvas.velocity[:] = solver.canvas.object[blocks]
    impose(solver.canvas, solver.probe, backend)
    known = backend.to_host(solver.canvas.dose[blocks]) > 0
    ratio = backend.to_host(solver.canvas.velocity / solver.canvas.object[blocks])[known]
    assert abs(np.angle(ratio)).max() < 0.04


def test_a_level_object_is_not_touched(backend: Backend):
    solver = worked(backend)
    impose(solver.canvas, solver.probe, backend)
    kept = [backend.to_host(a).copy() for a in (solver.canvas.object, solver.probe)]
    impose(solver.canvas, solver.probe, backend)
    for array, before in zip((solver.canvas.object, solver.probe), kept, strict=True):
        np.testing.assert_allclose(backend.to_host(array), before, rtol=1e-6, atol=0)


def test_runaway_pixels_are_limited_at_the_rim_and_only_there(backend: Backend):
    solver = worked(backend)
    canvas = solver.canvas
    dose = backend.to_host(canvas.dose)
    rim = tuple(np.argwhere((dose > 0.05) & (dose < 0.3))[0])
    middle = tuple(np.argwhere(dose > 2)[0])
    plain = backend.to_host(canvas.object).copy()
    usual = np.sqrt((abs(plain[dose >= 1]) ** 2).mean())
    canvas.object[rim] = 50j
    canvas.object[middle] = 1.5 * RUNAWAY * usual
    limit_rim(canvas, backend)
    made = backend.to_host(canvas.object)
    assert abs(made[rim]) == pytest.approx(RUNAWAY * usual, rel=0.05)
    assert np.angle(made[rim]) == pytest.approx(np.pi / 2)
    assert abs(made[middle]) == pytest.approx(1.5 * RUNAWAY * usual)
    others = np.ones(plain.shape, bool)
    others[rim] = others[middle] = False
    np.testing.assert_array_equal(made[others], plain[others])


@pytest.mark.parametrize("shift", [(9, -7), (16, 0), (-5, 14)])
def test_a_probe_off_the_middle_is_moved_there(shift: tuple[int, int]):
    moved = centred(np.roll(SMALL.guess, shift, (1, 2)))
    np.testing.assert_array_equal(moved, np.roll(SMALL.guess, _left(moved), (1, 2)))
    assert abs(np.array(_left(moved))).max() <= 1


def _left(moved: np.ndarray) -> tuple[int, int]:
    """Shift between the scene's guess and `moved`."""
    peak = [
        np.unravel_index(np.argmax(abs(np.fft.ifft2(np.fft.fft2(moved[0]) * np.fft.fft2(SMALL.guess[0]).conj()))), (32, 32))
    ]
    return tuple(int((p + 16) % 32 - 16) for p in peak[0])


def test_a_probe_near_the_middle_stays():
    near = np.roll(SMALL.guess, (1, -1), (1, 2))
    assert centred(near) is near


def test_a_shifted_probe_and_a_centred_one_give_the_same_picture():
    pictures = []
    for shift in ((0, 0), (9, -8)):
        engine = engine_for(SMALL, cpu_backend(), np.roll(SMALL.guess, shift, (1, 2)))
        SMALL.add_to(engine)
        run(engine, 600)
        pictures.append(engine.picture())
    assert abs(np.subtract(pictures[0].origin_px, pictures[1].origin_px)).max() <= 2


def test_a_shifted_probe_ends_at_the_truth():
    made = scene(48, 120)
    engine = engine_for(made, cpu_backend(), np.roll(made.guess, (13, -12), (1, 2)))
    made.add_to(engine)
    polish(engine)
    assert made.judge(engine).phase_correlation > 0.95


def test_constraints_are_harmless_and_can_be_switched_off():
    made = scene(64, 150)
    errors = []
    for on in (True, False):
        engine = engine_for(made, cpu_backend(), made.guess, constraints=on)
        made.add_to(engine)
        polish(engine)
        errors.append(made.judge(engine).error)
    assert errors[0] < 1.05 * errors[1]


def test_they_become_rare_as_the_field_grows():
    solver = worked(numpy_backend())
    assert interval(solver.canvas, (32, 32)) == 150 * solver.canvas.area // 1024 > 150


def test_an_empty_canvas_is_left_alone(backend: Backend):
    store = stored(SMALL, backend, 1)
    solver = Solver(backend, store, SMALL.guess, RuleOptions(), poor_probe=True)
    impose(solver.canvas, solver.probe, backend)
    limit_rim(solver.canvas, backend)
    assert solver.canvas.object.size == 0
