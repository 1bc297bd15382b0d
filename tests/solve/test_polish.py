"""What happens after the last frame: each method end to end, and that none leaves a worse picture."""

from typing import get_args

import numpy as np
import pytest

from streamptycho.solve.devices.backend import cpu_backend, numpy_backend
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.equations.noise import root_count_variance
from streamptycho.solve.estimates.modes import ModeGrowth, add_modes
from streamptycho.solve.polish.difference_map import CLOSING
from streamptycho.solve.polish.options import METHODS, DifferenceMapOptions, LsqmlOptions, Method, PolishOptions
from streamptycho.solve.polish.polish import Polish
from streamptycho.solve.polish.refiner import begin
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.helpers import engine_for, polish, run, scene, stored

MADE = scene(48, 100)
LIVE = f"{RuleOptions().name}, rolling, 1 mode"


def live_engine(updates: int = 400, **options: object) -> RollingEngine:
    engine = engine_for(MADE, cpu_backend(), MADE.guess, **options)
    MADE.add_to(engine)
    run(engine, updates)
    return engine


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("rule", ""),
        ("epie", "; polished by ePIE"),
        ("rpie", "; polished by rPIE"),
        ("lsqml", "; polished by LSQ-ML"),
        ("dm", f"; polished by DM (15 passes, then {CLOSING} of the rule)"),
    ],
)
def test_every_method_improves_the_picture_and_is_told_truthfully(method: str, words: str):
    engine = live_engine(polish=method, polish_passes=20, polish_tolerance=0)
    assert engine.algorithm == LIVE
    before = MADE.judge(engine).error
    error, passes, updates = engine.error, len(engine.error_history), engine.updates
    polish(engine)
    assert engine.algorithm == LIVE + words
    assert len(engine.error_history) == passes + 20
    assert engine.updates == updates + 20 * 100
    assert engine.error < error
    assert MADE.judge(engine).error < before


def test_every_method_has_a_label_of_its_own_and_a_refiner():
    assert tuple(METHODS) == get_args(Method)
    labels = [entry.label for entry in METHODS.values()]
    assert len(set(labels)) == len(labels)
    engine = live_engine()
    for method in METHODS:
        refiner = begin(engine.solver, Schedule(0), PolishOptions(polish=method))
        passes = refiner.passes
        while refiner.passes == passes:
            assert refiner.step(10**6) <= len(engine.store)
        assert refiner.closing_passes >= 0


@pytest.mark.parametrize("method", ["lsqml", "dm"])
def test_methods_with_modes_and_masks(method: str):
    made = scene(48, 100, modes=2, photons=1e6)
    engine = engine_for(made, cpu_backend(), made.guess[:1], modes=2, polish=method, polish_passes=30, polish_tolerance=0)
    for amplitude, (y, x) in zip(made.amplitudes, made.yx_px.tolist(), strict=True):
        spoilt = amplitude.copy()
        spoilt[:, 20:22] = spoilt[5, :] = -1
        engine.add(spoilt, (y, x))
    run(engine, 400)
    before = engine.error
    polish(engine)
    assert engine.error < 0.7 * before
    assert made.judge(engine).phase_correlation > 0.95
    flat = engine.picture().probe.reshape(2, -1)
    gram = abs(flat @ flat.conj().T)
    assert gram[0, 0] > gram[1, 1]
    assert gram[0, 1] < 1e-3 * gram[1, 1]


def test_a_slice_is_never_longer_than_asked_for():
    engine = live_engine(polish="dm", polish_passes=8, polish_tolerance=0, slice_updates=30)
    engine.finish()
    while engine.state is not EngineState.DONE:
        assert engine.step_slice() <= 30


def test_a_method_that_diverges_is_given_up_and_the_best_picture_restored(monkeypatch: pytest.MonkeyPatch):
    """Every step of the method is made to push the object away from what it was."""
    engine = live_engine(polish="lsqml", polish_passes=12, polish_tolerance=0)
    before = MADE.judge(engine).error
    from streamptycho.solve.polish.lsqml import LsqmlRefiner

    honest = LsqmlRefiner.step

    def spoilt(self: LsqmlRefiner, count: int) -> int:
        rng = np.random.default_rng(0)
        self._solver.canvas.object += 0.3 * rng.normal(size=self._solver.canvas.shape).astype(np.float32)
        return honest(self, count)

    monkeypatch.setattr(LsqmlRefiner, "step", spoilt)
    polish(engine)
    assert engine.algorithm == LIVE + "; LSQ-ML given up after 1 passes"
    assert MADE.judge(engine).error < before


@pytest.mark.parametrize("worse", [1.3, float("nan")])
def test_the_best_picture_stays_when_the_last_is_worse(worse: float):
    engine = live_engine(polish="rule", polish_passes=3, polish_tolerance=0)
    engine.finish()
    run(engine, 250)
    made = engine._polish
    assert isinstance(made, Polish)
    kept = made._best
    assert kept.passes == 2
    honest = made._measure
    calls = []

    def measured() -> float:
        calls.append(1)
        return honest() * (worse if len(calls) == 1 else 1)

    made._measure = measured
    polish(engine)
    if np.isnan(worse):
        assert "given up" in engine.algorithm
    else:
        assert engine.algorithm.endswith("; the picture after 2 of 3 passes kept")
    np.testing.assert_allclose(engine._solver.canvas.object, kept.object)
    np.testing.assert_allclose(engine._solver.probe, kept.probe)


def test_a_fit_that_is_judged_otherwise_is_not_measured_against_what_was_before():
    """Without the bias of counting noise modes fit worse and are better: the picture from before must not come back."""
    engine = live_engine(polish="rule", polish_passes=4, polish_tolerance=0)
    engine.finish()
    run(engine, 250)
    made = engine._polish
    assert isinstance(made, Polish)
    judged = iter([True])
    engine._modes.settle = lambda _: next(judged, False)
    honest, calls = made._measure, []

    def measured() -> float:
        calls.append(1)
        return honest() * (1 if len(calls) == 1 else 1.5)

    made._measure = measured
    polish(engine)
    assert "kept" not in engine.algorithm
    assert made._best.passes == 4


def test_modes_lose_the_bias_of_counting_noise_once():
    """Where noise limits the fit; and not where the patterns lie."""
    for error, expected in ((1.0, True), (1.4, False)):
        made = scene(32, 60)
        store = stored(made, numpy_backend())
        solver = Solver(numpy_backend(), store, add_modes(made.guess, 2), RuleOptions(), poor_probe=True)
        for row in range(60):
            solver.admit(row)
        solver.sweep(np.arange(60))
        rows = np.arange(60)
        noise = root_count_variance(store.mean_intensity(rows)).sum() / store.power[rows].mean()
        solver.error = lambda error=error, noise=noise: error * noise
        modes = ModeGrowth(2, 0)
        assert modes.settle(solver) == expected
        assert (solver.count_floor > 0) == expected
        assert not modes.settle(solver)


def test_a_difference_map_that_is_refused_is_said_to_be():
    engine = live_engine(polish="dm", dm=DifferenceMapOptions(memory_gib=1e-6), polish_passes=3, polish_tolerance=0)
    polish(engine)
    assert engine.algorithm.startswith(LIVE + "; DM refused (engine.dm.memory_gib: ")
    assert "1843200 bytes" in engine.algorithm
    assert "polished by" not in engine.algorithm


def test_polishing_ends_when_nothing_improves():
    for method, least in (("lsqml", 10), ("dm", 20)):
        engine = live_engine(polish=method, polish_passes=500, polish_tolerance=0.01)
        passes = len(engine.error_history)
        polish(engine)
        assert least < len(engine.error_history) - passes < 200


def test_the_readable_backend_polishes_too():
    engine = engine_for(MADE, numpy_backend(), MADE.guess, polish="lsqml", lsqml=LsqmlOptions(batch=10), polish_passes=3)
    MADE.add_to(engine)
    run(engine, 200)
    before = engine.error
    polish(engine)
    assert engine.error < before


def test_plain_rules_neither_anneal_nor_carry_on():
    for method, gamma in (("epie", 1.0), ("rpie", 0.3)):
        engine = live_engine(polish=method, rule=RuleOptions(gamma_object=0.3), polish_passes=1)
        polish(engine)
        steps = engine._solver._steps(np.arange(100))
        assert steps[:, 2] == pytest.approx(gamma)
        assert steps[:, 0] == pytest.approx(1.0)
        assert not engine._solver.rule.momentum


@pytest.mark.parametrize("method", ["rule", "lsqml", "dm"])
def test_a_frame_after_the_end_is_refused(method: str):
    """The refiners' arrays have the size of the canvas at the end; compiled code knows no bounds."""
    engine = live_engine(polish=method, polish_passes=8, polish_tolerance=0)
    engine.finish()
    engine.step_slice()
    assert engine.add(MADE.amplitudes[0], (900.0, 900.0)) is None
    polish(engine)
    assert len(engine.store) == len(MADE.amplitudes)


def test_polishing_follows_the_rule_as_it_was_chosen():
    engine = live_engine(rule={"algorithm": "epie"}, polish="rpie", polish_passes=2)
    engine.finish()
    engine.step_slice()
    assert engine._solver.rule.gamma_object == pytest.approx(RuleOptions().gamma_object)
    engine._polish._give_up()
    assert engine._solver.rule.algorithm == "epie"
    assert engine._solver.rule.gamma_object == 1


def test_the_best_picture_finds_its_place_on_a_grown_canvas():
    engine = live_engine(polish_passes=2)
    engine.finish()
    engine.step_slice()
    canvas, polishing = engine._solver.canvas, engine._polish
    kept = polishing._best.object.copy()
    assert canvas.ensure((canvas.origin[0] - 300, canvas.origin[1] - 300), engine.store.shape)
    polishing._restore()
    at = canvas.window(polishing._best.origin, kept.shape)
    np.testing.assert_array_equal(canvas.object[at], kept)


def test_starting_over_while_polishing_keeps_the_modes_asked_for():
    for passes, words in ((28, "polished by LSQ-ML"), (15, "LSQ-ML not begun: modes were still being added")):
        engine = live_engine(modes=2, polish="lsqml", polish_passes=passes, polish_tolerance=0)
        engine.finish()
        engine.step_slice()
        engine._begin(MADE.guess, poor=True)
        polish(engine)
        assert len(engine.picture().probe) == 2
        assert f"2 modes; {words}" in engine.algorithm
