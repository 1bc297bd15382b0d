"""The doubt about a probe: given, wrong, absent, or of the wrong scale."""

import numpy as np
import pytest
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import cpu_backend
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.equations.noise import root_count_variance
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.start.search import defocused_probe
from streamptycho.solve.start.trust import CONFIDENT, HOPELESS, Check, Trust, trust_in
from streamptycho_sim.trajectory import Path as ScanPath
from tests.solve.helpers import Scene, engine_for, polish, run, scene, stored

BACKEND = cpu_backend()


@pytest.fixture(scope="module")
def made() -> Scene:
    return scene(64, 150, ScanPath.SPIRAL)


def propagated(probe: NDArray[np.complex64], defocus_px2: float) -> NDArray[np.complex64]:
    ky, kx = (np.fft.fftfreq(n) for n in probe.shape[1:])
    phase = np.exp(1j * np.pi * defocus_px2 * (ky[:, None] ** 2 + kx[None] ** 2))
    return np.fft.ifft2(np.fft.fft2(probe) * phase).astype(np.complex64)


def true_defocus(made: Scene) -> float:
    beam = made.scan.options.illumination
    return -beam.footprint * made.scan.options.shape / (2 * beam.aperture)


def wrong_start(made: Scene, factor: float) -> NDArray[np.complex64]:
    """The true probe with its defocus multiplied."""
    return propagated(made.scan.probe[:1], (factor - 1) * true_defocus(made))


def streamed(made: Scene, engine: RollingEngine, per_frame: int) -> RollingEngine:
    for first in range(0, len(made.amplitudes), 10):
        rows = range(first, min(first + 10, len(made.amplitudes)))
        made.add_to(engine, rows)
        owed = per_frame * len(rows)
        while owed > 0 and engine.state not in (EngineState.EMPTY, EngineState.DONE):
            owed -= engine.step_slice()
    return engine


def checked(made: Scene, probe: NDArray[np.complex64]) -> float:
    check = Check(stored(made, BACKEND), probe, RuleOptions(), 0)
    assert sum(check.run()) <= 2 * check.frames
    return check.unexplained


def test_a_check_tells_right_from_wrong(made: Scene):
    """Beside the mean pattern: far better for the true beam; no better, or not to be judged, for wrong ones."""
    assert checked(made, made.scan.probe) < CONFIDENT
    for factor in (-1.0, 2.5):
        assert checked(made, wrong_start(made, factor)) > HOPELESS
    assert np.isinf(checked(made, wrong_start(made, 0.0))), "a beam so small that no frame covers another"


def test_the_figure_does_not_depend_on_dose_nor_unit(made: Scene):
    bright, dim = scene(64, 150, ScanPath.SPIRAL, photons=1e6), scene(64, 150, ScanPath.SPIRAL, photons=1e4)
    assert checked(dim, dim.scan.probe) < CONFIDENT
    assert checked(bright, bright.scan.probe) < CONFIDENT
    for factor in (1e-2, 1e2):  # a detector that does not count photons
        scaled = Scene(made.scan, made.amplitudes * np.float32(factor), made.yx_px)
        assert checked(scaled, made.scan.probe * np.float32(factor)) < CONFIDENT
        assert not checked(scaled, wrong_start(made, -1.0) * np.float32(factor)) < HOPELESS


def test_verdicts():
    values = {0.0: "confident", CONFIDENT + 0.01: "uncertain", HOPELESS + 0.01: "failed"}
    assert {value: trust_in(value).value for value in values} == values
    assert trust_in(float("inf")) is trust_in(float("nan")) is Trust.UNCERTAIN


def test_variance_of_root_counts():
    random = np.random.default_rng(0)
    for expected in (0.05, 0.7, 3.0, 30.0, 1000.0):
        drawn = np.sqrt(random.poisson(expected, 200_000)).var()
        assert root_count_variance(np.array([expected]))[0] == pytest.approx(drawn, rel=0.03)


def test_a_right_probe_is_confirmed_and_kept(made: Scene):
    engine = streamed(made, engine_for(made, BACKEND, made.guess), 8)
    polish(engine)
    assert engine.trust is Trust.CONFIDENT
    assert engine.probe_note == "recorded with the scan"
    assert engine.unexplained < CONFIDENT
    assert made.judge(engine).phase_correlation > 0.95


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.4, 1.8])
def test_a_wrong_probe_is_found_out_and_replaced(made: Scene, factor: float):
    engine = streamed(made, engine_for(made, BACKEND, wrong_start(made, factor)), 8)
    polish(engine)
    agreement = made.judge(engine)
    assert agreement.phase_correlation > 0.95
    assert agreement.error < 0.12
    assert engine.trust is Trust.CONFIDENT


def test_a_flat_phase_is_found_out(made: Scene):
    flat = defocused_probe((made.amplitudes.astype(np.float64) ** 2).mean(0), 0.0)
    engine = streamed(made, engine_for(made, BACKEND, flat), 8)
    polish(engine)
    assert engine.probe_note.startswith("from the data")
    assert made.judge(engine).phase_correlation > 0.95


@pytest.mark.parametrize("given", [True, False])
def test_nonsense_is_never_trusted(made: Scene, given: bool):
    """Positions shuffled among the frames: the engine says so itself."""
    order = np.random.default_rng(1).permutation(len(made.yx_px))
    shuffled = Scene(made.scan, made.amplitudes, made.yx_px[order])
    engine = streamed(shuffled, engine_for(shuffled, BACKEND, made.guess if given else None, polish_passes=5), 4)
    polish(engine)
    assert engine.trust is Trust.FAILED
    assert "FAILED" in engine.probe_note


def test_frames_without_overlap_are_not_judged():
    small = scene(32, 30)
    engine = engine_for(small, BACKEND, small.guess, polish_passes=3)
    for i in range(30):
        engine.add(small.amplitudes[i], (100.0 * i, 0.0))
    polish(engine)
    assert engine.trust is Trust.UNCERTAIN
    assert "not certain" in engine.probe_note


def test_an_empty_specimen_is_not_judged():
    """Patterns that do not differ tell nothing of the beam."""
    made = scene(32, 60)
    random = np.random.default_rng(0)
    mean = abs(np.fft.fft2(made.scan.probe[0], norm="ortho")) ** 2
    counts = random.poisson(np.broadcast_to(mean, (60, 32, 32)))
    engine = engine_for(made, BACKEND, made.guess, polish_passes=3)
    for i in range(60):
        engine.add(np.sqrt(counts[i]).astype(np.float32), tuple(made.yx_px[i].tolist()))
    polish(engine)
    assert engine.trust is not Trust.CONFIDENT


def test_checks_are_few(made: Scene):
    """What a right probe costs: looks at growing numbers of frames, of two sweeps each."""
    engine = engine_for(made, BACKEND, made.scan.probe)
    spent = 0
    for first in range(0, 150, 10):
        made.add_to(engine, range(first, first + 10))
        before = engine.updates
        done = 0
        while done < 80:
            done += engine.step_slice()
        spent += done - (engine.updates - before)
    assert 0 < spent <= 2 * 128
    assert engine.trust is Trust.CONFIDENT


def test_a_shutter_on_its_way_does_not_set_the_scale(made: Scene):
    engine = engine_for(made, BACKEND, made.scan.probe)
    engine.add(made.amplitudes[0] * np.float32(0.2), tuple(made.yx_px[0].tolist()))
    run(engine, 10)
    for i in range(1, 40):
        made.add_to(engine, range(i, i + 1))
        run(engine, 4)
    picture = engine.picture()
    assert picture is not None
    # with the scale of the first frame it would be five times as much
    assert np.median(abs(picture.object[picture.covered])) < 1.7 * np.median(abs(made.scan.obj))
