"""An incoherent background common to all frames is found, and the object is better for it."""

import numpy as np
import pytest

from streamptycho.solve.devices.backend import Backend, cpu_backend, numpy_backend
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.estimates.background import BackgroundEstimate, root_variance, unexplained
from streamptycho.solve.frames import Frame
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import Scene, engine_for, polish, run, scene, stored

N, FRAMES = 64, 150


@pytest.fixture(scope="module")
def dark() -> Scene:
    return scene(N, FRAMES)


def glow(kind: str) -> np.ndarray:
    """(N, N) counts per frame, zero frequency first."""
    y, x = np.mgrid[:N, :N] - N // 2
    made = np.full((N, N), 4.0)
    if kind == "structured":
        made += 30 * np.exp(-((y - 12) ** 2 + (x + 18) ** 2) / 100)
    return np.fft.ifftshift(made)


def live(made: Scene, backend: Backend, counts: np.ndarray, **options: object) -> RollingEngine:
    engine = engine_for(made, backend, made.guess, **options)
    rng = np.random.default_rng(0)
    for i in range(FRAMES):
        amplitude = np.sqrt(made.amplitudes[i] ** 2 + rng.poisson(counts)).astype(np.float32)
        engine.add(amplitude, tuple(made.yx_px[i].astype(float)))
        if i % 10 == 9:
            run(engine, 150)
    polish(engine)
    return engine


@pytest.mark.parametrize("kind", ["uniform", "structured"])
def test_background_is_found(kind: str, dark: Scene):
    counts = glow(kind)
    plain = live(dark, cpu_backend(), counts)
    engine = live(dark, cpu_backend(), counts, background=True)
    assert dark.judge(engine).error < 0.8 * dark.judge(plain).error
    assert engine.error < 0.9 * plain.error
    found = engine._solver.background
    assert found.mean() == pytest.approx(counts.mean(), rel=0.3)
    if kind == "structured":
        assert np.corrcoef(found.ravel(), counts.ravel())[0, 1] > 0.8
    assert plain.background is None
    np.testing.assert_array_equal(engine.background, np.fft.fftshift(found))


def test_without_background_there_is_none(dark: Scene):
    plain = live(dark, cpu_backend(), np.zeros((N, N)))
    engine = live(dark, cpu_backend(), np.zeros((N, N)), background=True)
    assert engine._solver.background.shape == (N, N)
    assert engine._solver.background.sum() < 0.02 * engine.store.power[0]
    assert dark.judge(engine).error < 1.03 * dark.judge(plain).error


def test_what_is_left_over(backend: Backend, dark: Scene):
    rng = np.random.default_rng(1)
    probe = dark.scan.probe
    window = dark.scan.obj[:N, :N]
    counts = (abs(np.fft.fft2(probe * window, norm="ortho")) ** 2).sum(0)
    extra = rng.uniform(1, 5, (N, N))
    amplitude = (1.5 * np.sqrt(counts + extra)).astype(np.float32)
    amplitude[3, 4] = -1
    known = backend.to_device(np.full((N, N), 2, np.float32))
    model = (backend.to_device(a.astype(np.complex64)) for a in (probe, window))
    frame = Frame(backend.to_device(amplitude), 1.5, known)
    left, weight = (backend.to_host(a) for a in unexplained(backend, *model, frame))
    valid = amplitude >= 0
    noise = root_variance(np.sqrt(counts + 2))
    np.testing.assert_allclose(left[valid], (extra - noise)[valid], atol=1e-3 * counts.max())
    np.testing.assert_allclose(weight[valid], 1 / (counts + 3)[valid], rtol=1e-2)
    assert weight[3, 4] == 0


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.3, 1.0, 2.5, 10.0, 1000.0])
def test_variance_of_the_root_of_counts(mean: float):
    roots = np.sqrt(np.random.default_rng(0).poisson(mean, 10**6))
    assert root_variance(roots.mean()) == pytest.approx(roots.var(), abs=0.015)


def test_masked_pixels_take_their_surroundings_and_all_masked_is_harmless(backend: Backend, dark: Scene):
    store = stored(dark, backend)
    solver = Solver(backend, store, dark.scan.probe, RuleOptions(), poor_probe=False)
    for row in range(FRAMES):
        amplitude = np.sqrt(dark.amplitudes[row] ** 2 + 9)
        amplitude[:, 40] = -1
        store.replace(row, amplitude if row else np.full((N, N), -1, np.float32))
        solver.admit(row)
    solver.estimates.append(BackgroundEstimate(solver))
    for _ in range(6):
        solver.sweep(np.arange(FRAMES))
    found = backend.to_host(solver.background)
    assert np.isfinite(found).all()
    assert found[:, 40].mean() == pytest.approx(found[:, [39, 41]].mean(), rel=0.1)
    assert found.mean() > 0.5


def test_nothing_is_believed_at_first(dark: Scene):
    engine = engine_for(dark, numpy_backend(), dark.guess, background=True)
    dark.add_to(engine)
    run(engine, 300)
    assert engine._solver.background.size == 0
    assert engine.background is None
