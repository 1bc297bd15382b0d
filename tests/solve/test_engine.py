"""The rolling engine: from the first frame to the last polish."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from streamptycho.assess.truth import Agreement
from streamptycho.files.scan import open_scan
from streamptycho.preprocess.frames import FramePreprocessor
from streamptycho.preprocess.options import FrameOptions
from streamptycho.solve.devices.backend import Backend, numpy_backend
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.equations.gradient import scale_trust
from streamptycho.solve.settings import EngineOptions, RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.start.start import FIRST_LOOK
from streamptycho_sim.forward import diffract
from streamptycho_sim.illumination import IlluminationOptions, probe
from streamptycho_sim.trajectory import Path as ScanPath
from tests.solve.helpers import Scene, engine_for, polish, random_complex, run, scene, stored

SMALL = scene(32, 40)


@pytest.fixture(scope="module")
def larger() -> Scene:
    return scene(64, 150)


# life of an engine


def test_states_with_a_probe(backend: Backend):
    engine = engine_for(SMALL, backend, SMALL.guess, polish_passes=3)
    assert engine.state is EngineState.EMPTY
    assert engine.step_slice() == 0
    assert engine.picture() is None
    assert np.isnan(engine.error)
    SMALL.add_to(engine)
    assert engine.state is EngineState.LIVE
    assert engine.updates == engine.rows_used == 0
    run(engine, 50)
    engine.finish()
    assert engine.state is EngineState.POLISHING
    polish(engine)
    assert engine.state is EngineState.DONE
    assert engine.step(1.0) == 0
    assert engine.probe_note.startswith("recorded with the scan")
    assert engine.probe_origin == "recorded with the scan"
    assert engine.flux is None


def test_states_without_a_probe(backend: Backend):
    engine = engine_for(SMALL, backend, None, search_frames=20, polish_passes=2)
    SMALL.add_to(engine, range(FIRST_LOOK - 1))
    assert engine.state is EngineState.EMPTY
    assert engine.step(60.0) == 0  # and at once
    for frames in (FIRST_LOOK, 20):
        SMALL.add_to(engine, range(len(engine.store), frames))
        assert engine.state is EngineState.SEARCHING
        search(engine)
        assert engine.state is EngineState.LIVE
        assert engine.probe_note.startswith("from the data, defocus ")
        assert engine.probe_note.startswith(engine.probe_origin)
        assert "certain" not in engine.probe_origin
        assert "not certain" in engine.probe_note or frames == 20
        run(engine, 50)
    SMALL.add_to(engine, range(20, 40))
    polish(engine)
    assert engine.state is EngineState.DONE
    assert engine.rows_used == 40


def search(engine: RollingEngine) -> None:
    """Search until there is a verdict."""
    for _ in range(1000):
        if engine.state is not EngineState.SEARCHING:
            return
        engine.step_slice()
    raise AssertionError("the search does not end")


def test_a_first_look_is_not_trusted_however_many_frames_came_meanwhile():
    made = scene(64, 100)
    engine = engine_for(made, numpy_backend(), None, search_frames=60)
    made.add_to(engine, range(FIRST_LOOK))
    engine.step_slice()
    made.add_to(engine, range(FIRST_LOOK, 100))
    notes = [engine.probe_note]
    while engine.state is EngineState.SEARCHING:
        engine.step_slice()
        if engine.probe_note != notes[-1]:
            notes.append(engine.probe_note)
    assert "not certain" in notes[1]
    assert "not certain" not in notes[-1]
    assert engine.state is EngineState.LIVE


def test_a_scan_that_ends_during_the_first_look_is_looked_at_again():
    made = scene(64, 100)
    engine = engine_for(made, numpy_backend(), None)
    made.add_to(engine, range(FIRST_LOOK))
    engine.step_slice()
    made.add_to(engine, range(FIRST_LOOK, 100))
    engine.finish()
    while engine.state is EngineState.SEARCHING:
        engine.step_slice()
    assert "not certain" not in engine.probe_note


def test_passes_after_the_end_visit_every_frame_once_each():
    engine = engine_for(SMALL, numpy_backend(), SMALL.guess, polish_passes=7, polish_tolerance=0)
    SMALL.add_to(engine)
    engine.finish()
    polish(engine)
    assert engine.updates == 7 * len(engine.store)
    assert len(engine.error_history) == 7


def test_an_uncertain_search_comes_again_with_twice_the_frames():
    engine = engine_for(SMALL, numpy_backend(), None, search_frames=8)
    seen = []
    for i in range(40):
        engine.add(SMALL.amplitudes[i], (100.0 * i, 0.0))  # without overlap nothing is certain
        while engine.state is EngineState.SEARCHING:
            if i + 1 not in seen:
                seen.append(i + 1)
            engine.step_slice()
    assert seen == [FIRST_LOOK, 8, 16, 32]
    assert "not certain" in engine.probe_note
    polish(engine)
    assert engine.state is EngineState.DONE


def test_a_scan_without_frames_is_done_when_it_ends():
    engine = engine_for(SMALL, numpy_backend(), None)
    engine.finish()
    assert engine.state is EngineState.DONE
    assert engine.picture() is None


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("given", [True, False])
def test_a_scan_of_few_frames_has_a_picture_all_the_same(frames: int, given: bool):
    engine = engine_for(SMALL, numpy_backend(), SMALL.guess if given else None, polish_passes=5)
    SMALL.add_to(engine, range(frames))
    polish(engine)
    picture = engine.picture()
    assert engine.state is EngineState.DONE
    assert picture is not None
    assert np.isfinite(picture.object).all()
    assert engine.rows_used == frames


def test_it_works_from_the_first_frame(backend: Backend):
    engine = engine_for(SMALL, backend, SMALL.guess)
    SMALL.add_to(engine, range(1))
    run(engine, 20)
    picture = engine.picture()
    assert picture is not None
    assert picture.covered.any()
    assert picture.object.shape == picture.covered.shape
    assert (picture.object[~picture.covered] == 0).all()
    assert engine.error < 0.05
    assert engine.rows_used == 1


def test_a_dark_probe_counts_as_none():
    engine = engine_for(SMALL, numpy_backend(), np.zeros((1, 32, 32), np.complex64), polish_passes=2)
    SMALL.add_to(engine)
    polish(engine)
    assert np.isfinite(engine.error)
    assert engine.probe_note.startswith("from the data")


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_a_probe_of_another_convention_is_scaled_to_the_counts(factor: float):
    engine = engine_for(SMALL, numpy_backend(), SMALL.guess * np.float32(factor))
    SMALL.add_to(engine, range(1))
    counts = (SMALL.amplitudes[0].astype(np.float64) ** 2).sum()
    expected = SMALL.guess * np.sqrt(counts / (abs(SMALL.guess.astype(np.complex128)) ** 2).sum())
    np.testing.assert_allclose(engine._solver.probe, expected, rtol=1e-4, atol=1e-4)


def ticking(step: float) -> Callable[[], float]:
    """A clock that moves on by `step` at each look."""
    times = itertools.count(0, step)
    return lambda: next(times)


def test_step_heeds_the_clock_it_is_given():
    engine = engine_for(SMALL, numpy_backend(), SMALL.guess, slice_updates=10)
    SMALL.add_to(engine)
    assert engine.step(0.5, ticking(0.1)) == 50
    assert engine.step(0.0, ticking(0.1)) == 10


# truth


def check(agreement: Agreement, error: float) -> None:
    assert agreement.phase_correlation >= 0.97
    assert agreement.error < error


@pytest.mark.parametrize("path", [ScanPath.RASTER, ScanPath.SPIRAL])
def test_the_truth_is_found_while_frames_arrive_and_after(path: ScanPath):
    made = scene(64, 150, path)
    engine = engine_for(made, numpy_backend(), made.guess)
    for first in range(0, 150, 10):
        made.add_to(engine, range(first, first + 10))
        run(engine, 100)
    live = made.judge(engine)
    assert live.phase_correlation > 0.9
    before = engine.error
    polish(engine)
    check(made.judge(engine), 0.08)
    assert engine.error < 1.03 * before
    assert engine.error_history[-1] < 0.03


def test_the_truth_is_found_from_no_probe(larger: Scene):
    engine = engine_for(larger, numpy_backend(), None)
    for first in range(0, 150, 10):
        larger.add_to(engine, range(first, first + 10))
        engine.step_slice()
    polish(engine)
    check(larger.judge(engine), 0.12)


@pytest.mark.slow
def test_two_modes_beat_one_on_partially_coherent_data():
    made = scene(64, 150, modes=2, photons=1e6)
    results = {}
    for modes in (1, 2):
        engine = engine_for(made, numpy_backend(), made.guess[:1], modes=modes, polish_passes=60, polish_tolerance=0)
        made.add_to(engine)
        polish(engine)
        results[modes] = made.judge(engine), engine.error
    assert results[2][0].phase_correlation >= 0.97
    assert results[2][0].error < 0.9 * results[1][0].error
    assert results[2][1] < 0.8 * results[1][1]


@pytest.mark.parametrize("seed", range(2))
def test_polish_makes_nothing_worse(seed: int):
    made = scene(48, 100, seed=seed)
    engine = engine_for(made, numpy_backend(), made.guess, polish_tolerance=0.0, polish_passes=60)
    made.add_to(engine)
    run(engine, 3000)
    before = made.judge(engine)
    polish(engine)
    after = made.judge(engine)
    assert after.error < 1.05 * before.error
    history = engine.error_history[30:]
    assert all(b < 1.05 * a for a, b in itertools.pairwise(history))


def test_polish_ends_early_when_nothing_improves_and_not_before_ten_passes():
    engine = engine_for(SMALL, numpy_backend(), SMALL.guess, polish_passes=500, polish_tolerance=0.003)
    SMALL.add_to(engine)
    polish(engine)
    assert 10 < len(engine.error_history) < 200
    none = engine_for(SMALL, numpy_backend(), SMALL.guess, polish_passes=0)
    SMALL.add_to(none)
    none.finish()
    polish(none)
    assert none.updates == none.rows_used == len(none.store), "each frame is used once in any case"


def test_masked_detector_regions_do_not_stop_it():
    made = scene(48, 120)
    engine = engine_for(made, numpy_backend(), made.guess)
    for amplitude, (y, x) in zip(made.amplitudes, made.yx_px.tolist(), strict=True):
        spoilt = amplitude.copy()
        spoilt[:, 20:23] = spoilt[5, :] = -1
        spoilt[30:34, 30:34] = -1
        engine.add(spoilt, (y, x))
    polish(engine)
    assert made.judge(engine).phase_correlation > 0.97


@pytest.mark.parametrize("shape", [(96, 80), (45, 63)])
def test_frames_need_not_be_square_nor_powers_of_two(shape: tuple[int, int], backend: Backend, larger: Scene):
    """Windows of any shape over the same specimen."""
    ny, nx = shape
    beam = probe(IlluminationOptions(footprint=0.3), 128, 1e5)[0]
    beam = beam[64 - ny // 2 : 64 - ny // 2 + ny, 64 - nx // 2 : 64 - nx // 2 + nx][None]
    y, x = np.mgrid[0 : larger.scan.obj.shape[0] - ny : 6, 0 : larger.scan.obj.shape[1] - nx : 6]
    corners = np.stack([y.ravel(), x.ravel()], 1)
    assert len(corners) > 10
    engine = RollingEngine(EngineOptions(polish_passes=12), backend, shape, beam)
    for corner in corners:
        window = larger.scan.obj[corner[0] : corner[0] + ny, corner[1] : corner[1] + nx]
        wave = np.fft.fft2(beam[0] * window, norm="ortho")
        assert engine.add(abs(wave).astype(np.float32), (corner[0] + ny // 2, corner[1] + nx // 2)) is not None
    polish(engine)
    picture = engine.picture()
    assert picture is not None
    assert engine.error < 0.01
    assert larger.judge(engine).phase_correlation > 0.9


# contracts


@pytest.mark.slow
def test_same_seed_same_bytes():
    def made(seed: int) -> RollingEngine:
        engine = engine_for(SMALL, numpy_backend(), None, seed=seed, search_frames=15)
        for first in range(0, 40, 20):
            SMALL.add_to(engine, range(first, first + 20))
            for _ in range(90):
                engine.step_slice()
        assert engine.state is EngineState.LIVE
        return engine

    one, two, other = made(1), made(1), made(2)
    a, b, c = one.picture(), two.picture(), other.picture()
    assert a is not None
    assert b is not None
    assert c is not None
    assert (one.updates, one.error_history) == (two.updates, two.error_history)
    assert a.object.tobytes() == b.object.tobytes() != c.object.tobytes()
    assert a.probe.tobytes() == b.probe.tobytes()


def test_positions_far_out_are_refused_and_cost_nothing(backend: Backend):
    engine = engine_for(SMALL, backend, SMALL.guess, max_object_pixels=1 << 18)
    SMALL.add_to(engine, range(20))
    run(engine, 100)
    size = engine.picture().object.shape
    for far in [(1e6, 0.0), (0.0, -1e5), (1e300, 1e300), (float("inf"), 0.0), (0.0, float("nan")), (5e3, 5e3)]:
        assert engine.add(SMALL.amplitudes[0], far) is None
    assert len(engine.store) == 20
    SMALL.add_to(engine, range(20, 40))
    run(engine, 200)
    assert engine.picture().object.shape < (4 * size[0], 4 * size[1])
    assert engine.rows_used == 40


def test_negative_positions_are_as_good_as_any():
    engines = [engine_for(SMALL, numpy_backend(), SMALL.guess) for _ in range(2)]
    shift = (-1000 * 8, 777 * 8)
    for i in range(40):
        y, x = SMALL.yx_px[i].tolist()
        engines[0].add(SMALL.amplitudes[i], (y, x))
        engines[1].add(SMALL.amplitudes[i], (y + shift[0], x + shift[1]))
    for engine in engines:
        run(engine, 500)
    a, b = (engine.picture() for engine in engines)
    assert a is not None
    assert b is not None
    assert (b.origin_px[0] - a.origin_px[0], b.origin_px[1] - a.origin_px[1]) == shift
    np.testing.assert_array_equal(a.object, b.object)


def test_replaced_amplitudes_are_used_from_then_on(backend: Backend):
    engines = [engine_for(SMALL, backend, SMALL.guess) for _ in range(2)]
    for i in range(40):
        y, x = SMALL.yx_px[i].tolist()
        engines[0].add(SMALL.amplitudes[i], (y, x))
        row = engines[1].add(SMALL.amplitudes[0] if i < 20 else SMALL.amplitudes[i], (y, x))
        assert row == i
    for i in range(40):
        engines[1].replace(i, SMALL.amplitudes[i])
    for engine in engines:
        run(engine, 200)
    a, b = (engine.picture() for engine in engines)
    np.testing.assert_array_equal(a.object, b.object)
    assert engines[0].error == engines[1].error


def test_a_picture_is_a_copy():
    engine = engine_for(SMALL, numpy_backend(), SMALL.guess)
    SMALL.add_to(engine)
    run(engine, 100)
    one = engine.picture()
    assert one is not None
    kept = (one.object.copy(), one.probe.copy(), one.covered.copy())
    run(engine, 200)
    for array, before in zip((one.object, one.probe, one.covered), kept, strict=True):
        np.testing.assert_array_equal(array, before)
    assert one.object[0].size == one.object.shape[1]
    assert one.covered.any(0).all()
    assert one.covered.any(1).all()


def test_what_was_done_is_told_truthfully():
    whole = "ePIE annealed from rPIE with momentum and centre-of-mass correction, rolling, 1 mode"
    bare = {"momentum": False, "correction": False}
    names = {
        whole: RuleOptions(),
        "ePIE annealed from rPIE, rolling, 1 mode": RuleOptions(**bare),
        "ePIE with momentum, rolling, 1 mode": RuleOptions(gamma_object=1.0, correction=False),
        "rPIE, rolling, 1 mode": RuleOptions(algorithm="rpie"),
        "ePIE, rolling, 1 mode": RuleOptions(algorithm="epie"),
    }
    for name, rule in names.items():
        assert RollingEngine(EngineOptions(rule=rule), numpy_backend(), (8, 8)).algorithm == name
    three = RollingEngine(EngineOptions(modes=3, rule=RuleOptions(algorithm="epie")), numpy_backend(), (8, 8))
    assert three.algorithm == "ePIE, rolling, 3 modes"


# solver


def test_orthogonal_modes_leave_the_model_as_it_is(backend: Backend):
    store = stored(SMALL, backend)
    rng = np.random.default_rng(0)
    given = random_complex(rng, 3, 32, 32) * np.array([1, 3, 2])[:, None, None]
    given[1] += given[0]
    solver = Solver(backend, store, given, RuleOptions(), poor_probe=False)
    obj = random_complex(rng, 40, 40)
    before = diffract(obj, given.astype(np.complex64), np.array([[2, 3], [5, 0]]))
    solver.orthogonalise()
    made = backend.to_host(solver.probe)
    np.testing.assert_allclose(diffract(obj, made, np.array([[2, 3], [5, 0]])), before, rtol=1e-3)
    flat = made.reshape(3, -1)
    gram = abs(flat @ flat.conj().T)
    assert np.diag(gram).tolist() == sorted(np.diag(gram).tolist(), reverse=True)
    assert (gram - np.diag(np.diag(gram))).max() < 1e-4 * gram.max()


def test_one_mode_is_not_rotated():
    solver = Solver(numpy_backend(), stored(SMALL, numpy_backend()), SMALL.guess, RuleOptions(), poor_probe=False)
    solver.orthogonalise()
    np.testing.assert_array_equal(solver.probe, SMALL.guess)


def test_the_rule_anneals_by_visits():
    solver = Solver(numpy_backend(), stored(SMALL, numpy_backend()), SMALL.guess, RuleOptions(), poor_probe=True)
    for row in range(40):
        solver.admit(row)
    steps = {}
    for visits in (0, 16, 32, 1000):
        solver.visits[0] = visits
        steps[visits] = solver._steps(np.array([0]))[0]
    assert [steps[v][2] for v in steps] == pytest.approx([0.2, 0.6, 1, 1])
    assert [steps[v][0] for v in steps] == pytest.approx([1, 1 / 1.5, 0.5, 0.5])
    beta = []
    for updates in (0, 1000, 9000, 10**6):
        solver.updates = updates
        beta.append(solver._steps(np.array([0]))[0, 1])
    assert beta == pytest.approx([1, 0.5, 0.1, 0.1])
    solver.poor_probe, solver.updates = False, 0
    assert solver._steps(np.array([0]))[0, 1] == pytest.approx(0.7)
    solver.rule = RuleOptions(probe_step=0)
    assert solver._steps(np.array([0]))[0, 1] == 0


@pytest.mark.parametrize(("algorithm", "gamma"), [("rpie", 0.2), ("epie", 1.0)])
def test_the_plain_algorithms_stay_what_they_are(algorithm, gamma):
    rule = RuleOptions(algorithm=algorithm, object_step=0.8)
    solver = Solver(numpy_backend(), stored(SMALL, numpy_backend()), SMALL.guess, rule, poor_probe=True)
    for row in range(40):
        solver.admit(row)
    for visits in (0, 5, 10**6):
        solver.visits[0] = visits
        assert solver._steps(np.array([0]))[0, [0, 2]] == pytest.approx([0.8, gamma])
    before = [solver.canvas.velocity.copy(), solver.canvas.cell_object.copy()]
    solver.sweep(np.arange(120) % 40)
    np.testing.assert_array_equal(solver.canvas.velocity, before[0])
    np.testing.assert_array_equal(solver.canvas.cell_object, before[1])


def test_the_smooth_part_changes_at_the_same_updates_however_they_are_handed_over():
    """The engine's slices are as long as the clock allows; what comes of the same rows must not depend on it."""
    solvers = []
    for length in (150, 24, 7):
        solver = Solver(numpy_backend(), stored(SMALL, numpy_backend()), SMALL.guess, RuleOptions(), poor_probe=True)
        for row in range(40):
            solver.admit(row)
        rows = np.random.default_rng(0).integers(0, 40, 150)
        for first in range(0, 150, length):
            solver.sweep(rows[first : first + length])
        solvers.append(solver)
    assert abs(solvers[0].canvas.velocity).max() > 0
    for other in solvers[1:]:
        difference = np.linalg.norm(other.canvas.velocity - solvers[0].canvas.velocity)
        assert difference < 0.2 * np.linalg.norm(solvers[0].canvas.velocity)


def test_the_correction_forgets_frames_seen_often():
    """A centre of mass that no object explains, because the pattern lies: its pull on the picture must end."""
    turned = []
    for visits in (0, 40):
        store = stored(SMALL, numpy_backend())
        store.centres[:40] += np.float32(0.5)
        solver = Solver(numpy_backend(), store, SMALL.guess, RuleOptions(momentum=False), poor_probe=True)
        for row in range(40):
            solver.admit(row)
        solver.prepare()
        before = solver.canvas.object.copy()
        rows = np.arange(40)
        figures = np.concatenate([store.centres[rows] - np.float32(0.5), np.ones((40, 2))], axis=1).astype(np.float32)
        solver._visited.append((rows, figures, np.full(40, visits)))
        solver._smooth()
        turned.append(np.linalg.norm(solver.canvas.object - before))
    assert turned[0] > 0.1
    assert turned[1] < 0.05 * turned[0]


def test_the_correction_does_not_believe_patterns_of_another_brightness(backend: Backend):
    figures = backend.xp.asarray(np.array([[0, 0, 1, 1], [0, 0, 1.003, 1], [0, 0, 1.1, 1], [0, 0, 0, 0]], np.float32))
    trust = backend.to_host(scale_trust(backend, figures))
    assert trust.dtype == np.float32
    np.testing.assert_allclose(trust, [1, np.exp(-(np.log(1.003) ** 2) * 1e4), 0, 1], atol=1e-3)


def test_a_fixed_probe_stays_fixed():
    rule = RuleOptions(probe_step=0)
    engine = engine_for(SMALL, numpy_backend(), SMALL.guess, rule=rule)
    SMALL.add_to(engine)
    run(engine, 300)
    picture = engine.picture()
    assert picture is not None
    ratio = picture.probe / SMALL.guess
    np.testing.assert_allclose(ratio, ratio[0, 16, 16], rtol=1e-3)


def test_error_counts_only_what_was_visited():
    store = stored(SMALL, numpy_backend())
    solver = Solver(numpy_backend(), store, SMALL.scan.probe, RuleOptions(), poor_probe=False)
    for row in range(40):
        assert solver.admit(row)
    assert np.isnan(solver.error())
    solver.sweep(np.array([3, 5, 3]))
    assert solver.rows_used == 2
    assert solver.updates == 3
    misfit = solver.misfit[[3, 5]].sum() / store.power[[3, 5]].sum()
    assert solver.error() == pytest.approx(misfit)
    assert solver.error(np.array([3])) == pytest.approx(solver.misfit[3] / store.power[3])
    assert np.isnan(solver.error(np.array([0])))


def test_a_row_beyond_the_canvas_is_refused():
    store = stored(SMALL, numpy_backend())
    far = store.append(SMALL.amplitudes[0], (10**6, 0))
    solver = Solver(numpy_backend(), store, SMALL.guess, RuleOptions(), poor_probe=False, max_pixels=1 << 16)
    assert solver.admit(0)
    assert not solver.admit(far)


@pytest.mark.parametrize("off", [{"momentum": False}, {"correction": False}, {"warm_fill": False}, {"gamma_object": 1.0}])
def test_every_accelerator_can_be_switched_off(off):
    made = scene(48, 100)
    engine = engine_for(made, numpy_backend(), made.guess, rule=RuleOptions(**off))
    made.add_to(engine)
    polish(engine)
    assert made.judge(engine).phase_correlation > 0.9


def test_the_accelerators_are_worth_having():
    """On few updates per frame, against plain ePIE."""
    made = scene(64, 150)
    results = []
    for rule in (RuleOptions(), RuleOptions(algorithm="epie")):
        engine = engine_for(made, numpy_backend(), made.guess, rule=rule)
        for first in range(0, 150, 10):
            made.add_to(engine, range(first, first + 10))
            run(engine, 50)
        results.append(made.judge(engine).error)
    assert results[0] < 0.8 * results[1]


# the real star


def star_engine(shared_data: Path, *, given: bool, updates_per_frame: int) -> RollingEngine:
    """The whole scan in its own order, refined as it comes."""
    with open_scan(shared_data / "siemens_star_seed.cxi") as scan:
        start = scan.start("star", 0)
        made = FramePreprocessor(FrameOptions(), start)
        engine = RollingEngine(
            EngineOptions(), numpy_backend(), made.shape, made.fit_probe(start.probe) if given else None, len(scan)
        )
        for k, i in enumerate(scan.index.tolist()):
            for prepared in made.add(i, scan.frame(i)):
                if prepared.key == i:
                    engine.add(prepared.amplitude, tuple((scan.yx_m[i] / made.pixel_m).tolist()))
                else:
                    engine.replace(prepared.key, prepared.amplitude)
            if k % 25 == 24:
                engine.step_slice() if engine.state is EngineState.SEARCHING else run(engine, 25 * updates_per_frame)
    return engine


def star_detail(engine: RollingEngine, shared_data: Path, shared_tools: ModuleType) -> float:
    picture = engine.picture()
    assert picture is not None
    reference = np.load(shared_data / "siemens_star_reference.npz")
    obj: NDArray[np.complex128] = picture.object.astype(np.complex128)
    return float(
        shared_tools.compare(obj, reference["obj"].astype(np.complex128), reference["support"])["detail_correlation"]
    )


def test_the_star_from_the_recorded_probe(shared_data: Path, shared_tools: ModuleType):
    engine = star_engine(shared_data, given=True, updates_per_frame=4)
    assert star_detail(engine, shared_data, shared_tools) > 0.95
    engine.finish()
    run(engine, 5 * 516)
    assert star_detail(engine, shared_data, shared_tools) > 0.98
    assert engine.error < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False])
def test_the_star_polished_to_the_end(given: bool, shared_data: Path, shared_tools: ModuleType):
    engine = star_engine(shared_data, given=given, updates_per_frame=8)
    polish(engine)
    assert star_detail(engine, shared_data, shared_tools) > 0.985
    assert engine.error < 0.0145
