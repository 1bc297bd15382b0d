"""LSQ-ML and the difference map: their gradients, their fixed points, and that they refine."""

import numpy as np
import pytest

from streamptycho.errors import MemoryBoundError
from streamptycho.solve.devices.backend import Backend, cpu_backend, numpy_backend
from streamptycho.solve.equations import difference_map, lsqml, modulus
from streamptycho.solve.equations.lsqml import BatchStep
from streamptycho.solve.frames import Frame, Frames, Model
from streamptycho.solve.kernels import kernels_for
from streamptycho.solve.polish.difference_map import DifferenceMapRefiner
from streamptycho.solve.polish.options import DifferenceMapOptions, PolishOptions
from streamptycho.solve.polish.refiner import Refiner, begin
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import random_complex, scene, stored

READABLE = numpy_backend()
BACKENDS = {True: cpu_backend(), False: READABLE}
NONE = np.zeros((0, 0), np.float32)
STEP = BatchStep(4, 0.5, 0.1, 0.9, 0.9)


def small(modes: int, shape: tuple[int, int], frames: int = 7, seed: int = 0) -> dict[str, np.ndarray]:
    """Random object, probe and frames that do not fit them, some pixels masked."""
    rng = np.random.default_rng(seed)
    amplitudes = abs(random_complex(rng, frames, *shape)) * 2
    amplitudes[:, 3:5] = -1
    return {
        "obj": random_complex(rng, shape[0] + 20, shape[1] + 20),
        "probe": random_complex(rng, modes, *shape),
        "amplitudes": amplitudes.astype(np.float32),
        "corners": rng.integers(0, 20, (frames, 2)),
        "flux": rng.uniform(0.7, 1.3, frames).astype(np.float32),
        "background": rng.uniform(0, 1, shape).astype(np.float32),
    }


def frames_of(s: dict[str, np.ndarray], rows: np.ndarray | None = None) -> Frames:
    """All of them, or some."""
    rows = np.arange(len(s["amplitudes"])) if rows is None else rows
    return Frames(s["amplitudes"], s["flux"], s["background"], rows, s["corners"][rows])


def likelihood(s: dict[str, np.ndarray]) -> float:
    return float(modulus.measure(READABLE, Model(s["obj"], s["probe"]), frames_of(s)).sum(dtype=np.float64))


@pytest.mark.parametrize("modes", [1, 2])
def test_the_change_is_half_the_steepest_descent_of_the_likelihood(modes: int):
    """Finite differences along random directions of the exit waves."""
    s = small(modes, (16, 12), frames=1)
    rng, frame = np.random.default_rng(1), Frame(s["amplitudes"][0], 1.2, s["background"])
    waves = random_complex(rng, modes, 16, 12).astype(np.complex128)

    def value(w: np.ndarray) -> float:
        return float(modulus.change(READABLE, w.copy(), frame)[1])

    found = modulus.change(READABLE, waves.copy(), frame)[0]
    for _ in range(5):
        along = random_complex(rng, modes, 16, 12).astype(np.complex128)
        slope = (value(waves + 1e-5 * along) - value(waves - 1e-5 * along)) / 2e-5
        assert slope == pytest.approx(-2 * np.vdot(along, found).real, rel=1e-4)


@pytest.mark.parametrize("part", ["obj", "probe"])
def test_the_sums_over_frames_are_the_gradient_of_the_likelihood(part: str):
    """The adjoint of exit wave and window, with masks, flux, background and two modes: against finite differences."""
    s = small(2, (16, 12))
    s["obj"], s["probe"] = s["obj"].astype(np.complex128), s["probe"].astype(np.complex128)
    gain = np.zeros_like(s[part])
    for row, (y, x) in enumerate(s["corners"].tolist()):
        at = (slice(y, y + 16), slice(x, x + 12))
        chi, _ = modulus.change(READABLE, s["probe"] * s["obj"][at], frames_of(s).frame(row))
        if part == "obj":
            gain[at] += (s["probe"].conj() * chi).sum(0)
        else:
            gain += s["obj"][at].conj() * chi
    rng = np.random.default_rng(2)
    for _ in range(3):
        along = random_complex(rng, *gain.shape).astype(np.complex128)
        values = [likelihood(s | {part: s[part] + e * along}) for e in (1e-3, -1e-3)]
        assert (values[0] - values[1]) / 2e-3 == pytest.approx(-2 * np.vdot(along, gain).real, rel=5e-3)


def test_step_lengths_solve_the_two_by_two_system():
    rng = np.random.default_rng(3)
    u, v = random_complex(rng, 2, 8, 8), random_complex(rng, 2, 8, 8)
    found = lsqml.step_lengths(np, u, v, 0.7 * u + 1.6 * v, probe_moves=True)
    assert found == pytest.approx([0.7, 1.6], rel=1e-3)
    assert lsqml.step_lengths(np, u, v, 0.7 * u, probe_moves=False) == pytest.approx([0.7, 0], rel=1e-3)
    assert (lsqml.step_lengths(np, u, v, -u - v, probe_moves=True) == 0).all()


def lsqml_step(s: dict[str, np.ndarray], step: BatchStep, *, compiled: bool) -> tuple[np.ndarray, ...]:
    obj, probe = s["obj"].copy(), s["probe"].copy()
    frames = frames_of(s, np.random.default_rng(0).permutation(len(s["amplitudes"])))
    misfit = np.zeros(len(frames), np.float32)
    work = lsqml.Workspace(READABLE, probe.shape, obj.shape, step.size)
    lengths = kernels_for(BACKENDS[compiled]).lsqml(Model(obj, probe), frames, step, misfit, work)
    return obj, probe, misfit, lengths


@pytest.mark.parametrize(("modes", "shape"), [(1, (16, 16)), (3, (12, 20))])
@pytest.mark.parametrize("probe_damping", [0.9, 0.0])
@pytest.mark.parametrize("background", [True, False])
def test_compiled_lsqml_equals_the_readable(modes: int, shape: tuple[int, int], probe_damping: float, background: bool):
    s = small(modes, shape)
    if not background:
        s["background"] = NONE
    step = BatchStep(3, 0.5, 0.1, 0.9, probe_damping)
    for a, b in zip(lsqml_step(s, step, compiled=True), lsqml_step(s, step, compiled=False), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b)
    if probe_damping == 0:
        np.testing.assert_array_equal(lsqml_step(s, step, compiled=True)[1], s["probe"])


@pytest.mark.parametrize("modes", [1, 2])
def test_a_step_of_lsqml_lowers_the_likelihood(modes: int):
    for seed in range(3):
        s = small(modes, (16, 16), seed=seed)
        obj, probe, *_ = lsqml_step(s, BatchStep(7, 0.5, 0.1, 0.9, 0.9), compiled=True)
        assert likelihood(s | {"obj": obj, "probe": probe}) < 0.98 * likelihood(s)


def fitting(modes: int, shape: tuple[int, int] = (16, 16)) -> dict[str, np.ndarray]:
    """Frames that object and probe explain exactly."""
    s = small(modes, shape)
    for row, (y, x) in enumerate(s["corners"].tolist()):
        field = np.fft.fft2(s["probe"] * s["obj"][y : y + shape[0], x : x + shape[1]], norm="ortho")
        modulus = np.sqrt((abs(field) ** 2).sum(0) + s["background"]) * s["flux"][row]
        s["amplitudes"][row] = np.where(s["amplitudes"][row] < 0, -1, modulus)
    return s


@pytest.mark.parametrize("modes", [1, 2])
def test_the_truth_is_a_fixed_point_of_lsqml(modes: int):
    s = fitting(modes)
    obj, probe, *_ = lsqml_step(s, STEP, compiled=True)
    np.testing.assert_allclose(obj, s["obj"], atol=1e-4)
    np.testing.assert_allclose(probe, s["probe"], atol=1e-4)


def dm_iteration(s: dict[str, np.ndarray], waves: np.ndarray, *, fresh: bool, compiled: bool) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(5)
    model = Model(s["obj"].copy(), s["probe"].copy())
    kernels = kernels_for(BACKENDS[compiled])
    project, add_probe = kernels.project, kernels.add_probe
    work = difference_map.Workspace(READABLE, model.probe.shape, model.object.shape, len(waves))
    work.waves[:] = waves
    work.ratio[:] = np.exp(0.1j * rng.normal(size=work.ratio.shape))
    project(model, frames_of(s), 0.8, work, fresh=fresh)
    add_probe(model.object, frames_of(s), work)
    return work.waves, work.gain, work.weight, work.probe_gain, work.probe_weight


@pytest.mark.parametrize(("modes", "shape"), [(1, (16, 16)), (3, (12, 20))])
@pytest.mark.parametrize("fresh", [True, False])
def test_compiled_difference_map_equals_the_readable(modes: int, shape: tuple[int, int], fresh: bool):
    s = small(modes, shape)
    waves = random_complex(np.random.default_rng(4), 7, modes, *shape)
    readable, made = (dm_iteration(s, waves, fresh=fresh, compiled=compiled) for compiled in (False, True))
    for a, b in zip(made, readable, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("modes", [1, 2])
def test_the_truth_is_a_fixed_point_of_the_difference_map(modes: int):
    s = fitting(modes)
    waves = np.stack([s["probe"] * s["obj"][y : y + 16, x : x + 16] for y, x in s["corners"].tolist()])
    moved, gain, weight, pull, seen = dm_iteration(s, waves, fresh=True, compiled=True)
    np.testing.assert_allclose(moved, waves, atol=1e-4)
    obj, probe = s["obj"].copy(), s["probe"].copy()
    difference_map.divide(obj, gain, weight, 1e-3)
    difference_map.divide(probe, pull, seen, 1e-3)
    np.testing.assert_allclose(obj, s["obj"], atol=1e-4)
    np.testing.assert_allclose(probe, s["probe"], atol=1e-4)


def test_compiled_measure_equals_the_readable_and_changes_nothing():
    s = small(2, (12, 20))
    rows = np.array([4, 1])
    results = []
    for kernels in map(kernels_for, BACKENDS.values()):
        before = s["obj"].copy()
        results.append(kernels.measure(Model(s["obj"], s["probe"]), frames_of(s, rows)))
        np.testing.assert_array_equal(s["obj"], before)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)
    assert results[0].shape == (2,)
    assert (results[0] > 0).all()


# refiners on a simulated scan

MADE = scene(48, 100, photons=1e6)


def solver_on(backend: Backend, passes: int = 3, rule: RuleOptions | None = None) -> Solver:
    store = stored(MADE, backend)
    solver = Solver(backend, store, MADE.guess, rule or RuleOptions(), poor_probe=True)
    for row in range(len(store)):
        solver.admit(row)
    for _ in range(passes):
        solver.sweep(np.random.default_rng(0).permutation(len(store)))
    return solver


def fourier_error(solver: Solver) -> float:
    rows = np.arange(len(solver.store))
    corners = solver.store.corners[rows] - np.array(solver.canvas.origin)
    amplitudes = solver.backend.to_host(solver.store.amplitudes)
    model = Model(*(solver.backend.to_host(array) for array in (solver.canvas.object, solver.probe)))
    misfits = modulus.measure(READABLE, model, Frames(amplitudes, np.ones(len(rows), np.float32), NONE, rows, corners))
    return float(misfits.sum() / solver.store.power[rows].sum())


def through(refiner: Refiner, passes: int, count: int = 23) -> int:
    """So many passes in slices; returns the updates. No slice is longer than asked for, to a batch."""
    total = 0
    while refiner.passes < passes:
        done = refiner.step(count)
        assert done <= max(count, 16)
        total += done
    return total


@pytest.mark.parametrize("kind", ["lsqml", "dm", "epie", "rpie", "rule"])
def test_every_refiner_lowers_the_fourier_error(kind: str, backend: Backend):
    solver = solver_on(backend)
    before = fourier_error(solver)
    refiner = begin(solver, Schedule(0), PolishOptions(polish=kind))
    updates = solver.updates
    assert through(refiner, 8) == 8 * 100 == solver.updates - updates
    assert fourier_error(solver) < 0.9 * before


def test_the_difference_map_finds_the_picture_by_itself():
    """From one pass of the rule, hardly a picture."""
    solver = solver_on(cpu_backend(), passes=1)
    before = fourier_error(solver)
    through(begin(solver, Schedule(0), PolishOptions(polish="dm")), 60, 100)
    assert fourier_error(solver) < 0.35 * before


def bounded(n_bytes: float) -> PolishOptions:
    return PolishOptions(dm=DifferenceMapOptions(memory_gib=n_bytes / 2**30))


def test_the_difference_map_refuses_before_it_allocates():
    solver = solver_on(cpu_backend(), passes=1)
    needed = 100 * 48 * 48 * 8
    with pytest.raises(MemoryBoundError, match=rf"{needed} bytes for 100 frames of 48 x 48.*lsqml"):
        DifferenceMapRefiner(solver, Schedule(0), bounded(0.99 * needed))
    DifferenceMapRefiner(solver, Schedule(0), bounded(1.01 * needed))


@pytest.mark.parametrize("kind", ["lsqml", "dm"])
def test_a_probe_that_is_to_stay_stays(kind: str):
    solver = solver_on(cpu_backend(), rule=RuleOptions(probe_step=0))
    probe = solver.probe.copy()
    through(begin(solver, Schedule(0), PolishOptions(polish=kind)), 3)
    np.testing.assert_array_equal(solver.probe, probe)
