"""The compiled kernels against the readable ones: the same arithmetic, to rounding."""

import time
from functools import partial

import numpy as np
import pytest

from streamptycho.solve.canvas import BLOCK, Canvas
from streamptycho.solve.compiled import fill as compiled_fill
from streamptycho.solve.compiled import gradient as compiled_gradient
from streamptycho.solve.compiled import smooth as compiled_smooth
from streamptycho.solve.compiled.sweeper import Sweeper
from streamptycho.solve.devices.backend import Backend, cpu_backend, numpy_backend
from streamptycho.solve.equations import fill, gradient, pie, smooth
from streamptycho.solve.equations.gradient import Deflections
from streamptycho.solve.frames import Frames, Model, Outcome, Steps
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import random_complex, scene, stored

READABLE, COMPILED = numpy_backend(), cpu_backend()


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("modes", [1, 2, 3])
@pytest.mark.parametrize("shape", [(32, 32), (24, 36), (15, 21)])
@pytest.mark.parametrize(("beta", "gammas"), [(0.3, (0.2, 1.0)), (0.3, (1.0, 0.4)), (0.0, (0.2, 1.0))])
@pytest.mark.parametrize("clean", [True, False], ids=["clean", "flux and background"])
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_a_sweep(modes, shape, beta, gammas, clean, floor):
    rng = np.random.default_rng(0)
    probe = random_complex(rng, modes, *shape)
    obj = random_complex(rng, 60, 60)
    amplitudes = rng.uniform(0, 3, (6, *shape)).astype(np.float32)
    amplitudes[:, 2:5, 3] = -1
    corners = rng.integers(0, 20, (9, 2))
    rows = rng.integers(0, 6, 9)
    steps = np.tile(np.array([0.8, beta, *gammas], np.float32), (9, 1))
    flux = np.ones(6, np.float32) if clean else rng.uniform(0.7, 1.4, 6).astype(np.float32)
    background = np.zeros((0, 0) if clean else shape, np.float32) + np.float32(0.3)
    out = []
    frames = Frames(amplitudes, flux, background, rows, corners)
    for sweep in (partial(pie.sweep, READABLE), Sweeper()):
        o, p = obj.copy(), probe.copy()
        misfit, figures = np.zeros(6, np.float32), np.zeros((9, 4), np.float32)
        sweep(Model(o, p), frames, Steps(steps, floor), Outcome(misfit, figures))
        out.append((o, p, misfit, *figures.T))
    for readable, fast in zip(*out, strict=True):
        assert difference(fast, readable) < 2e-5
    assert difference(out[1][0], obj) > 1e-3, "something must have changed"


def canvas_with(rng: np.random.Generator, backend: Backend = READABLE) -> Canvas:
    canvas = Canvas(backend, 1 << 24)
    assert canvas.ensure((0, 0), (64, 64))
    canvas.object[:] = random_complex(rng, *canvas.shape)
    canvas.rebase()
    canvas.object += np.float32(0.1) * random_complex(rng, *canvas.shape)
    canvas.add_dose(np.array([[0, 0], [9, 14]]), random_complex(rng, 1, 64, 64))
    canvas.velocity[:] = random_complex(rng, *canvas.velocity.shape)
    return canvas


def same_canvas(a: Canvas, b: Canvas) -> None:
    for name in ("object", "cell_object", "velocity", "dose", "cell_dose"):
        assert difference(getattr(a, name), getattr(b, name)) < 1e-5, name


CORNERS, WINDOW = np.array([[3, 5], [20, 31]]), (64, 64)


def test_the_dose():
    probe = random_complex(np.random.default_rng(5), 2, *WINDOW)
    one, other = (canvas_with(np.random.default_rng(1)) for _ in range(2))
    one.add_dose(CORNERS, probe)
    compiled_fill.add_dose(other, CORNERS, probe)
    same_canvas(other, one)


def test_the_warm_fill():
    canvases = []
    for warm_fill in (fill.warm_fill, compiled_fill.warm_fill):
        canvas = canvas_with(np.random.default_rng(1))
        before = canvas.object.copy()
        warm_fill(canvas, CORNERS, WINDOW)
        assert difference(canvas.object, before) > 1e-4
        canvases.append(canvas)
    same_canvas(canvases[1], canvases[0])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("fade", [0.6, None])
def test_the_smooth_part(monkeypatch, threads, turned, fade):
    monkeypatch.setattr(compiled_smooth, "WORTH_SHARING", 1)
    canvases = []
    for advance, backend in ((smooth.advance, READABLE), (compiled_smooth.advance, cpu_backend(threads))):
        canvas = canvas_with(np.random.default_rng(1), backend)
        before = canvas.object.copy()
        box = canvas.box(CORNERS, WINDOW)
        cells = canvas.cell_dose[canvas.cells(box)].shape
        phase = np.random.default_rng(6).normal(0, 0.05, cells).astype(np.float32) if turned else None
        velocity = canvas.velocity.copy()
        advance(canvas, box, phase, fade)
        assert (difference(canvas.object, before) > 1e-4) == (turned or fade is not None)
        assert np.array_equal(canvas.velocity, velocity) == (fade is None)
        canvases.append(canvas)
    same_canvas(canvases[1], canvases[0])


def test_a_thread_that_fails_keeps_nobody_waiting(monkeypatch):
    """Whichever it is: the others end, and what went wrong is raised."""
    monkeypatch.setattr(compiled_smooth, "WORTH_SHARING", 1)
    compiled = compiled_smooth._advance
    for failing in (0, 1):

        def fail(*arguments, failing=failing):
            if arguments[9] == failing:
                raise MemoryError
            if arguments[9] == 0:
                time.sleep(0.05)  # so that the helper has begun
            compiled(*arguments)

        monkeypatch.setattr(compiled_smooth, "_advance", fail)
        canvas = canvas_with(np.random.default_rng(1), cpu_backend(2))
        with pytest.raises(MemoryError):
            compiled_smooth.advance(canvas, canvas.box(CORNERS, WINDOW), None, 0.5)


def test_the_correction():
    rng = np.random.default_rng(2)
    probe = random_complex(rng, 2, 66, 64)
    corners = rng.integers(0, 30, (12, 2))
    canvas = canvas_with(np.random.default_rng(3))
    canvas.cell_dose += 3
    measured = rng.normal(0, 1, (12, 2)).astype(np.float32)
    figures = rng.normal([0, 0, 10, 10], [1, 1, 0.05, 0], (12, 4)).astype(np.float32)
    fresh = rng.uniform(0, 1, 12).astype(np.float32)
    box = canvas.box(corners, (66, 64), margin=BLOCK)
    arguments = (canvas, box, probe, Deflections(corners, measured, figures, fresh))
    phase = gradient.phase_step(*arguments)
    assert abs(phase).max() > 1e-2
    assert difference(compiled_gradient.phase_step(*arguments), phase) < 1e-4


def test_a_uniform_tilt_is_integrated():
    """Every frame lacks the same gradient: the phase must become that ramp under them, up to the gain of one step."""
    probe = np.ones((1, 64, 64), np.complex64)
    corners = np.array([[y, x] for y in range(0, 64, 8) for x in range(0, 64, 8)])
    canvas = Canvas(READABLE, 1 << 24)
    assert canvas.ensure((0, 0), (128, 128))
    canvas.add_dose(corners, probe)
    missing = np.array([0.02, -0.01]) * 64 / (2 * np.pi * BLOCK)
    measured, figures = np.tile(missing, (len(corners), 1)), np.tile(np.array([0, 0, 1, 1], np.float32), (len(corners), 1))
    box = canvas.box(corners, (64, 64), margin=BLOCK)
    seen = Deflections(corners, measured, figures, np.ones(len(corners), np.float32))
    phase = gradient.phase_step(canvas, box, probe, seen)
    smooth.advance(canvas, box, phase, 0.0)
    y, x = (-origin for origin in canvas.origin)
    middle = canvas.object[y + 56 : y + 72, x + 56 : x + 72]
    slope_y = np.angle((middle[8:] * middle[:-8].conj()).sum())
    slope_x = np.angle((middle[:, 8:] * middle[:, :-8].conj()).sum())
    assert 0.3 < slope_y / (gradient.GAIN * 0.02) < 1.05
    assert slope_x / slope_y == pytest.approx(-0.5, rel=0.05)


def test_a_run_of_the_whole_rule():
    made = scene(64, 80)
    solvers = []
    for backend in (READABLE, COMPILED):
        store = stored(made, backend)
        solver = Solver(backend, store, made.guess, RuleOptions(), poor_probe=True)
        for row in range(len(store)):
            solver.admit(row)
        solver.sweep(np.arange(3))
        solvers.append(solver)
    readable, fast = solvers
    assert difference(fast.canvas.object, readable.canvas.object) < 3e-4
    assert difference(fast.probe, readable.probe) < 1e-2
    # where the first model is dark its phase is rounding noise, and what comes of it differs: later only the fit is the same
    for solver in solvers:
        for _ in range(3):
            solver.sweep(np.arange(80))
    assert fast.error() == pytest.approx(readable.error(), rel=0.03)
