"""Frames whose intensity jumps: the factor is found, and the object does not take the blame."""

import numpy as np
import pytest

from streamptycho.solve.devices.backend import Backend, cpu_backend, numpy_backend
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.estimates.flux import FAINT, GLARING, FluxEstimate
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import Scene, engine_for, polish, run, scene, stored

FRAMES = 150


@pytest.fixture(scope="module")
def steady() -> Scene:
    return scene(64, FRAMES)


def factors(kind: str) -> np.ndarray:
    """Amplitude of each frame."""
    made = np.ones(FRAMES)
    if kind == "noise":
        made *= np.exp(0.1 * np.random.default_rng(3).normal(size=FRAMES))  # 20 % of the intensity
    elif kind == "step":
        made[FRAMES // 2 :] = np.sqrt(0.7)
    elif kind == "dump":
        made[70:76] = np.sqrt(0.002)
    return made


def live(made: Scene, backend: Backend, factor: np.ndarray, **options: object) -> RollingEngine:
    """The scan with frames scaled and their noise drawn anew."""
    engine = engine_for(made, backend, made.guess, **options)
    rng = np.random.default_rng(0)
    for i in range(FRAMES):
        counts = rng.poisson(made.amplitudes[i].astype(np.float64) ** 2 * factor[i] ** 2)
        engine.add(np.sqrt(counts).astype(np.float32), tuple(made.yx_px[i].astype(float)))
        if i % 10 == 9:
            run(engine, 80)
    return engine


@pytest.mark.parametrize("kind", ["noise", "step", "dump"])
def test_jumps_hardly_show(kind: str, steady: Scene):
    """Near the error of a steady beam, and well below that of an engine that takes it for steady."""
    errors, engine = [], None
    for factor, known in ((np.ones(FRAMES), False), (factors(kind), False), (factors(kind), True)):
        engine = live(steady, cpu_backend(), factor, flux=known)
        polish(engine)
        errors.append(steady.judge(engine).error)
    best, ignored, known_error = errors
    assert ignored > 1.3 * best
    assert known_error < best + 0.5 * (ignored - best)
    assert engine is not None
    np.testing.assert_array_equal(engine.flux, engine.store.flux[:FRAMES] ** 2)
    ratio = np.log(engine.store.flux[:FRAMES] / factors(kind))
    lit = factors(kind) > 0.5
    assert (ratio - np.median(ratio))[lit].std() < 0.06
    assert engine.store.flux[:FRAMES][~lit].max(initial=0) < 0.2


def test_a_steady_beam_stays_steady(steady: Scene):
    engine = live(steady, cpu_backend(), np.ones(FRAMES), flux=True)
    polish(engine)
    assert abs(np.log(engine.store.flux[:FRAMES])).max() < 0.04
    plain = live(steady, cpu_backend(), np.ones(FRAMES))
    polish(plain)
    assert steady.judge(engine).error < 1.1 * steady.judge(plain).error  # it does cost something: off by default


def absorbing(made: Scene) -> Scene:
    """The same scan over a specimen whose lower half lets half of the amplitude through."""
    obj = made.scan.obj.copy()
    obj[obj.shape[0] // 2 :] *= 0.5
    n = made.scan.options.shape
    amplitudes = []
    for y, x in made.scan.corners.tolist():
        wave = np.fft.fft2(made.scan.probe[0] * obj[y : y + n, x : x + n], norm="ortho")
        amplitudes.append(abs(wave))
    return Scene(made.scan, np.array(amplitudes, np.float32), made.yx_px)


def test_an_absorbing_object_is_not_taken_for_a_weak_beam(steady: Scene):
    made = absorbing(steady)
    engine = live(made, cpu_backend(), np.ones(FRAMES), flux=True)
    factor = engine.store.flux[:FRAMES]
    upper = made.scan.corners[:, 0] < np.quantile(made.scan.corners[:, 0], 0.4)
    lower = made.scan.corners[:, 0] > np.quantile(made.scan.corners[:, 0], 0.7)
    counts = engine.store.power[:FRAMES]
    assert np.sqrt(counts[lower].mean() / counts[upper].mean()) < 0.6
    assert factor[lower].mean() / factor[upper].mean() > 0.8  # the rest is taken for the beam; 0.5 would be all


def test_frames_that_come_before_anything_is_known_are_left_alone(steady: Scene):
    """All at once: there is no model to judge them by."""
    engine = engine_for(steady, numpy_backend(), steady.guess, flux=True)
    steady.add_to(engine)
    engine.step_slice()
    used = engine._solver.visits[:FRAMES] > 0
    assert used.any()
    assert (engine.store.flux[:FRAMES][~used] == engine.store.flux[:FRAMES][~used][0]).all()


def test_both_kernels_find_the_same(steady: Scene):
    found = [
        live(steady, backend, factors("noise"), flux=True).store.flux[:FRAMES]
        for backend in (numpy_backend(), cpu_backend())
    ]
    assert np.corrcoef(*np.log(found))[0, 1] > 0.99


def test_the_mean_is_one_and_the_model_does_not_notice(steady: Scene, backend: Backend):
    store = stored(steady, backend)
    solver = Solver(backend, store, steady.scan.probe, RuleOptions(), poor_probe=False)
    flux = FluxEstimate(solver)
    solver.estimates.append(flux)
    for row in range(FRAMES):
        solver.admit(row)
    solver.sweep(np.arange(40))
    flux._logarithm[:40] += 0.3
    flux._publish(np.arange(40))
    before = backend.to_host(solver.look(np.arange(40)))
    ratio = backend.to_host(store.flux[:40]).copy()
    flux._settle_gauge()
    after = backend.to_host(solver.look(np.arange(40)))
    known = backend.to_host(store.flux[:FRAMES])[flux._known[:FRAMES]]
    assert np.log(known).mean() == pytest.approx(0, abs=1e-4)
    scale = backend.to_host(store.flux[:40]) / ratio
    np.testing.assert_allclose(scale, scale[0], rtol=1e-4)
    np.testing.assert_allclose(after[:, 2] * scale, before[:, 2], rtol=1e-3)  # sum A M / c is as before, M times 1 / scale
    np.testing.assert_allclose(after[:, 3] * scale**2, before[:, 3], rtol=1e-3)


def test_looking_changes_nothing(steady: Scene, backend: Backend):
    store = stored(steady, backend)
    solver = Solver(backend, store, steady.guess, RuleOptions(), poor_probe=True)
    for row in range(FRAMES):
        solver.admit(row)
    solver.sweep(np.arange(30))
    kept = [backend.to_host(a).copy() for a in (solver.canvas.object, solver.probe)]
    figures = backend.to_host(solver.look(np.arange(50)))
    for a, before in zip((solver.canvas.object, solver.probe), kept, strict=True):
        np.testing.assert_allclose(backend.to_host(a), before, rtol=0, atol=1e-18)
    assert (figures[:, 3] > 0).all()
    np.testing.assert_allclose(figures[:30, 2] / figures[:30, 3], 1, atol=0.2)


def test_faint_and_glaring_frames_count_less(steady: Scene):
    solver = Solver(numpy_backend(), stored(steady, numpy_backend()), steady.guess, RuleOptions(), poor_probe=True)
    for row in range(FRAMES):
        solver.admit(row)
    plain = solver._steps(np.arange(4))
    flux = FluxEstimate(solver)
    solver.estimates.append(flux)
    flux._logarithm[:4] = np.log([1, FAINT, FAINT / 10, 10 * GLARING])
    np.testing.assert_allclose(
        solver._steps(np.arange(4))[:, :2] / plain[:, :2], [[1, 1], [1, 1], [0.01, 0.01], [0.01, 0.01]], rtol=1e-4
    )


def test_a_frame_without_a_single_count_harms_nothing(steady: Scene):
    factor = np.ones(FRAMES)
    factor[[0, 50, 51]] = 0
    engine = live(steady, cpu_backend(), factor, flux=True)
    assert np.isfinite(engine.store.flux[:FRAMES]).all()
    assert np.isfinite(engine.picture().object).all()
    assert steady.judge(engine).phase_correlation > 0.9
