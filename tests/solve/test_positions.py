"""Position refinement: what a pattern says of its window's place, and what becomes of wrong positions."""

import numpy as np
import pytest
from numpy.typing import NDArray

from streamptycho.solve.canvas import Canvas
from streamptycho.solve.devices.backend import Backend, cpu_backend, numpy_backend
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.estimates.positions import (
    BATCH,
    QUIET_LOOKS,
    RECENT,
    SETTLED_FRAMES,
    SETTLED_UPDATES,
    PositionRefiner,
)
from streamptycho.solve.estimates.positions_field import REACH, level, local_mean, path_before
from streamptycho.solve.frames import Frames, Model
from streamptycho.solve.kernels import kernels_for
from streamptycho.solve.settings import EngineOptions, PositionRefinement, RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import Scene, random_complex, scene, stored

READABLE = numpy_backend()


@pytest.fixture(scope="module")
def made() -> Scene:
    return scene(48, 150, photons=1e6)


def smooth_object(rng: np.random.Generator, n: int, cutoff: float = 0.1) -> NDArray[np.complex64]:
    """A random object without detail finer than 1 / cutoff pixels, for which central differences are right."""
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij"))
    field = np.fft.ifft2(np.fft.fft2(random_complex(rng, n, n)) * (k < cutoff))
    return (1 + field / abs(field).max() / 2).astype(np.complex64)


def shifted(obj: NDArray[np.complex64], y: float, x: float) -> NDArray[np.complex64]:
    """obj(r + (y, x)), periodic."""
    ky, kx = np.meshgrid(np.fft.fftfreq(len(obj)), np.fft.fftfreq(len(obj)), indexing="ij")
    return np.fft.ifft2(np.fft.fft2(obj) * np.exp(2j * np.pi * (ky * y + kx * x))).astype(np.complex64)


def soft_probe(modes: int, n: int) -> NDArray[np.complex64]:
    """A curved Gaussian beam, and the same tilted for more modes."""
    y, x = np.mgrid[:n, :n] - n / 2
    beam = np.exp(-(y**2 + x**2) / (2 * (n / 7) ** 2)) * np.exp(0.02j * (y**2 + x**2))
    return np.array([30 / (m + 1) * beam * np.exp(0.1j * m * y) for m in range(modes)]).astype(np.complex64)


def measure(backend: Backend, obj, probe, amplitudes, corners, rows, flux, background):
    kernels, model = kernels_for(backend), Model(obj, probe)
    frames = Frames(amplitudes, flux, background, rows, corners)
    return kernels.shift_sums(model, frames), kernels.measure(model, frames)


@pytest.mark.parametrize("modes", [1, 2])
@pytest.mark.parametrize("dim", [False, True])
def test_the_force_is_the_derivative_of_the_misfit(modes: int, dim: bool):
    rng = np.random.default_rng(0)
    n = 48
    obj, probe = smooth_object(rng, n), soft_probe(modes, n)
    far = np.fft.fft2(probe * shifted(obj, 0.7, -0.4), norm="ortho")
    flux = np.array([0.5 if dim else 1.0], np.float32)
    background = np.full((n, n), 0.3, np.float32) if dim else np.zeros((0, 0), np.float32)
    amplitude = np.sqrt((abs(far) ** 2).sum(0)).astype(np.float32) * flux[0]
    amplitude[3:6, 10] = -1
    corner, row = np.zeros((1, 2), np.int64), np.zeros(1, np.int64)
    sums, misfits = measure(READABLE, obj, probe, amplitude[None], corner, row, flux, background)
    assert sums[0, 5] == pytest.approx(misfits[0], rel=1e-5)

    def misfit(y: float, x: float) -> float:
        return float(measure(READABLE, shifted(obj, y, x), probe, amplitude[None], corner, row, flux, background)[1][0])

    h = 0.05
    slope = np.array([misfit(h, 0) - misfit(-h, 0), misfit(0, h) - misfit(0, -h)]) / (2 * h)
    np.testing.assert_allclose(sums[0, :2], -slope / 2, rtol=0.1)
    assert np.sign(sums[0, :2]).tolist() == [1, -1]


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("shape", [(32, 32), (24, 36), (15, 21)])
def test_compiled_equals_readable(modes: int, shape: tuple[int, int]):
    rng = np.random.default_rng(1)
    probe, obj = random_complex(rng, modes, *shape), random_complex(rng, 60, 60)
    amplitudes = rng.uniform(0, 3, (4, *shape)).astype(np.float32)
    amplitudes[:, 2:5, 3] = -1
    corners, rows = rng.integers(0, 20, (7, 2)), rng.integers(0, 4, 7)
    flux = rng.uniform(0.5, 1.5, 4).astype(np.float32)
    for background in (np.zeros((0, 0), np.float32), rng.uniform(0, 1, shape).astype(np.float32)):
        slow = measure(READABLE, obj, probe, amplitudes, corners, rows, flux, background)
        fast = measure(cpu_backend(), obj, probe, amplitudes, corners, rows, flux, background)
        for a, b in zip(fast, slow, strict=True):
            assert np.linalg.norm(a - b) < 2e-5 * np.linalg.norm(b)
        np.testing.assert_allclose(fast[0][:, :2], slow[0][:, :2], atol=1e-4 * abs(slow[0][:, :2]).max())


def test_a_window_that_is_off_finds_back(made: Scene, backend: Backend):
    """With the true object and probe, in a few steps, by itself."""
    solver = true_solver(made, backend)
    refiner = refiner_of(made, solver)
    rows = np.arange(40, 80)
    for off in ([1, 0], [0, -2], [-1, 1]):
        solver.store.corners[:] = 0
        solver.store.corners[: len(made.yx_px)] = made.scan.corners
        solver.store.corners[rows] += np.array(off)
        refiner.offsets[:] = 0
        refiner.offsets[rows] = off
        for _ in range(12):
            refiner.refine(solver, rows)
        far = np.linalg.norm(refiner.offsets_px[rows], axis=1)
        assert np.median(far) < 0.15
        assert (far < 0.5).mean() > 0.8
        at = np.rint(refiner.offsets_px[rows]).astype(int) + made.scan.corners[rows]
        np.testing.assert_array_equal(solver.store.corners[rows], at)
        assert (refiner.offsets_px[:40] == 0).all()


def refiner_of(made: Scene, solver: Solver, **options) -> PositionRefiner:
    refiner = PositionRefiner(PositionRefinement(**options), 0)
    for row, yx in enumerate(made.yx_px.tolist()):
        refiner.add(row, (yx[0], yx[1]))
    solver.visits[:] = 10
    solver._unfilled.clear()
    solver.canvas.add_dose(solver.store.corners[: len(made.yx_px)], np.ones((1, *solver.store.shape), np.complex64))
    solver.canvas.dose /= 9
    solver.canvas.cell_dose /= 9
    return refiner


def test_frames_with_little_overlap_or_no_visit_stay(made: Scene):
    solver = true_solver(made, READABLE)
    refiner = refiner_of(made, solver)
    solver.store.corners[40:80] += 1
    solver.visits[40:60] = 0
    solver.canvas.cell_dose[:] = 0
    refiner.refine(solver, np.arange(40, 80))
    assert (refiner.offsets_px == 0).all()
    solver.canvas.cell_dose[:] = 10
    refiner.refine(solver, np.arange(40, 80))
    assert (refiner.offsets_px[40:60] == 0).all()
    assert (refiner.offsets_px[60:80] != 0).any(1).all()


def test_bounds(made: Scene):
    solver = true_solver(made, READABLE)
    refiner = refiner_of(made, solver, max_shift_px=0.6)
    rows = np.arange(40, 80)
    refiner.recorded[rows] += [3, 0]
    for _ in range(8):
        solver.store.corners[rows] = made.scan.corners[rows] + [3, 0]
        refiner.refine(solver, rows)
        assert np.linalg.norm(refiner.offsets_px, axis=1).max() <= 0.6 + 1e-9
    assert np.linalg.norm(refiner.offsets_px[rows], axis=1).max() > 0.59


def test_a_canvas_that_is_too_small_keeps_the_window(made: Scene):
    solver = true_solver(made, READABLE)
    solver.canvas.max_pixels = 1
    before = solver.store.corners[3].copy()
    solver.move(np.array([3]), before[None] - 500)
    np.testing.assert_array_equal(solver.store.corners[3], before)
    solver.visits[3] = 9
    solver.move(np.array([3]), before[None] + 1)
    np.testing.assert_array_equal(solver.store.corners[3], before + 1)
    assert solver.visits[3] == 5


def test_common_offsets_are_taken_back_with_the_object(backend: Backend):
    canvas = Canvas(backend, 1 << 24)
    assert canvas.ensure((0, 0), (64, 64))
    rng = np.random.default_rng(0)
    centres = rng.uniform(20, 90, (400, 2))
    values = np.full((400, 2), [1.0, -2.0]) + rng.normal(0, 0.3, (400, 2))
    y, x = np.mgrid[: canvas.shape[0], : canvas.shape[1]]
    canvas.object[:] = backend.to_device((y + 1j * x).astype(np.complex64))
    common = level(canvas, backend, centres, local_mean(canvas, backend, centres, values, 20.0))
    assert abs(common - [1, -2]).max() < 0.3
    here = backend.to_host(canvas.object)[20 - canvas.origin[0] : 90, 20 - canvas.origin[1] : 90]
    moved = here - (y + 1j * x)[20 - canvas.origin[0] : 90, 20 - canvas.origin[1] : 90]
    np.testing.assert_allclose(moved, 1 - 2j, atol=0.3)


def test_where_a_drift_comes_from():
    rng = np.random.default_rng(0)
    slope, at = np.array([0.005, -0.003]), np.arange(200)
    offsets = at[:, None] * slope + rng.normal(0, 0.1, (200, 2))
    known = rng.uniform(size=200) < 0.7
    path = path_before(offsets, known, 150)
    assert path is not None
    np.testing.assert_allclose(path, np.arange(-150, 0)[:, None] * slope, atol=0.15)
    far = path_before(offsets, known, 1000)
    assert far is not None
    assert np.ptp(far[: 1000 - round(REACH * 200)], axis=0).max() == 0
    assert path_before(rng.normal(0, 0.1, (200, 2)), known, 150) is None
    assert path_before(offsets, known & (at < 40), 150) is None


def test_frames_from_before_a_drift_was_seen_follow_it_with_the_object(made: Scene):
    solver = true_solver(made, READABLE)
    refiner = refiner_of(made, solver)
    n, first = len(made.yx_px), 40
    x = np.arange(solver.canvas.shape[1], dtype=np.float32)
    solver.canvas.object[:] = x
    refiner._followed = first
    refiner.offsets[first:n, 1] = refiner.drift[first:n, 1] = 0.019 * np.arange(n - first)
    refiner.seen[:n] = 1
    refiner._look_back(solver, n)
    assert not refiner.offsets[:first].any()
    refiner._look_back(solver, 100)
    np.testing.assert_allclose(refiner.offsets[:first, 1], 0.019 * np.arange(-first, 0), atol=1e-6)
    np.testing.assert_allclose(refiner.offsets[first:n, 1], 0.019 * np.arange(n - first), atol=0.2)
    places = made.scan.corners[:first] + np.rint(refiner.offsets[:first]).astype(int)
    np.testing.assert_array_equal(solver.store.corners[:first], places)
    assert solver.visits[:first].max() <= 2
    y, left = made.scan.corners[0] - np.array(solver.canvas.origin) + 24
    assert 0.2 < (solver.canvas.object[y, left] - x[left]).real < 0.8  # the mean over the neighbourhood
    refiner.forget(solver.store)
    assert refiner._followed is None


def test_a_drift_that_has_turned_is_not_carried_on_to_before(made: Scene):
    solver = true_solver(made, READABLE)
    refiner = refiner_of(made, solver)
    n, first = len(made.yx_px), 40
    refiner._followed, refiner._begun = first, 10
    refiner.seen[:n] = 1
    refiner.drift[10:first, 1] = 0.01 * np.arange(first - 10)
    refiner.drift[first:n, 1] = refiner.offsets[first:n, 1] = 0.3 - 0.019 * np.arange(n - first)
    refiner._look_back(solver, 100)
    assert not refiner.offsets[:first].any()


def positions_engine(
    made: Scene, yx_px: NDArray[np.float64], refine: str, updates_per_frame: int = 20, passes: int = 20
) -> RollingEngine:
    n = made.scan.options.shape
    positions = PositionRefinement(refine=refine)
    options = EngineOptions(backend="cpu", threads=1, polish_passes=passes, polish_tolerance=0, positions=positions)
    engine = RollingEngine(options, cpu_backend(), (n, n), made.scan.probe)
    for first in range(0, len(yx_px), 10):
        for i in range(first, first + 10):
            assert engine.add(made.amplitudes[i], (yx_px[i, 0], yx_px[i, 1])) is not None
        done = 0
        while done < 10 * updates_per_frame:
            done += engine.step_slice()
    engine.finish()
    while engine.state is not EngineState.DONE:
        engine.step_slice()
    return engine


def rms(offsets: NDArray[np.float64]) -> float:
    """Per axis, about the mean."""
    return float(np.sqrt(((offsets - offsets.mean(0)) ** 2).mean()))


def test_jitter_is_found():
    made = scene(48, 200, photons=1e6)
    jitter = np.random.default_rng(3).normal(0, 1.0, (200, 2))
    engines = {r: positions_engine(made, made.yx_px + jitter, r) for r in ("off", "auto")}
    assert rms(jitter + engines["auto"].positions.offsets_px) < 0.6
    assert engines["auto"].error < 0.9 * engines["off"].error
    assert (engines["off"].positions.offsets_px == 0).all()
    assert engines["off"].positions.summary.shift_px == 0
    assert engines["auto"].positions.summary.shift_px > 0.3


def test_drift_is_followed():
    made = scene(48, 800, photons=1e6)
    drift = np.linspace(0, 1, 800)[:, None] * [5.0, -5.0]
    engines = {r: positions_engine(made, made.yx_px + drift, r, 8, passes=5) for r in ("off", "auto")}
    assert rms(drift + engines["auto"].positions.offsets_px) < 0.4
    assert engines["auto"].error < 0.7 * engines["off"].error


def test_a_faster_computer_does_not_look_more_often(made: Scene):
    """What many frames share is held by nothing but these frames: each further look lets faults of the model drive it on."""
    looks = {}
    for updates_per_frame in (20, 80):
        solver = true_solver(made, READABLE)
        refiner = refiner_of(made, solver, refine="auto")
        first = refiner._n = SETTLED_FRAMES - 100
        solver.updates = SETTLED_UPDATES
        done = []
        refiner._next_rows = lambda _, *, live, done=done: np.zeros(done.append(live) or 0, np.int64)
        for refiner._n in range(first, SETTLED_FRAMES + 200):
            refiner.after(solver, updates_per_frame, live=True)
        looks[updates_per_frame] = BATCH * len(done)
    assert looks[20] == pytest.approx(looks[80], abs=BATCH)
    assert looks[80] == pytest.approx(QUIET_LOOKS * (200 + RECENT), abs=2 * BATCH)


def test_a_pause_saves_no_looks_up(made: Scene):
    """Slow computing leaves looks undone; they are not made up for once no frames come."""
    solver = true_solver(made, READABLE)
    refiner = refiner_of(made, solver, refine="auto")
    solver.updates = SETTLED_UPDATES
    done = []
    refiner._next_rows = lambda _, *, live: np.zeros(done.append(live) or 0, np.int64)
    for refiner._n in range(SETTLED_FRAMES, SETTLED_FRAMES + 1000):
        refiner.after(solver, 1, live=True)
    assert BATCH * len(done) < 0.3 * 1000
    done.clear()
    for _ in range(10_000):
        refiner.after(solver, 1, live=True)
    assert BATCH * len(done) <= QUIET_LOOKS * RECENT


def test_offsets_of_frames_from_before_a_drift_is_followed_prove_nothing(made: Scene):
    refiner = refiner_of(made, true_solver(made, READABLE), refine="auto")
    n = refiner._n
    refiner.seen[:n], refiner.spread_px, refiner._begun = 1, 0.3, n // 2
    refiner.drift[: n // 2] = 0.5 * np.sin(np.arange(n // 2))[:, None]
    refiner.drift[n // 2 : n] = 0.5
    assert not refiner.busy
    refiner.drift[n // 2 : n] += np.linspace(0, 0.8, n - n // 2)[:, None]
    assert refiner.busy


def test_right_positions_are_left_alone():
    made = scene(48, 350, photons=1e6)
    engines = {r: positions_engine(made, made.yx_px.astype(float), r, 40, passes=5) for r in ("off", "auto")}
    assert rms(engines["auto"].positions.offsets_px) < 0.25
    assert made.judge(engines["auto"]).error < 1.05 * made.judge(engines["off"]).error
    assert not engines["auto"].positions.busy


def true_solver(made: Scene, backend: Backend) -> Solver:
    store = stored(made, backend)
    solver = Solver(backend, store, made.scan.probe, RuleOptions(), poor_probe=False)
    for row in range(len(store)):
        assert solver.admit(row)
    y, x = -np.array(solver.canvas.origin)
    height, width = made.scan.obj.shape
    solver.canvas.object[y : y + height, x : x + width] = backend.to_device(made.scan.obj.astype(np.complex64))
    return solver


def steps(solver: Solver, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = solver.shift_sums(rows)
    return np.linalg.solve(sums[:, [2, 3, 3, 4]].reshape(-1, 2, 2), sums[:, :2, None])[..., 0]
