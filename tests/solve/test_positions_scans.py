"""Wrong positions on the benchmark scan: acceptance of the refinement. Needs ../shared/tools."""

import importlib.util
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import cpu_backend
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.settings import EngineOptions, PositionRefinement, RuleOptions

pytestmark = pytest.mark.slow
N = 128
STAR_PIXEL_M = 1.4089113457261918e-10 * 1.92 / (N * 75e-6)


@pytest.fixture(scope="module")
def made_by(shared_tools: ModuleType) -> ModuleType:
    path = Path(str(shared_tools.__file__)).with_name("benchmark_scan.py")
    if not path.is_file():
        pytest.skip("the benchmark scan is not here: no file ../shared/tools/benchmark_scan.py beside the checkout")
    spec = importlib.util.spec_from_file_location("benchmark_scan", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["raster", "spiral"])
def scan(request: pytest.FixtureRequest, made_by: ModuleType) -> dict:
    made = made_by.build(path=request.param)
    made["amplitudes"] = np.fft.ifftshift(np.sqrt(made.pop("frames").astype(np.float32)), axes=(1, 2))
    made["error"] = made_by.LiveError(made)
    made["path"] = request.param
    made["right"] = result(made, np.zeros((len(made["corners"]), 2)), "off")
    return made


def result(scan: dict, wrong: NDArray[np.float64], refine: str) -> tuple[float, float]:
    """Object error and rms of the positions per axis about the mean, 8 updates per frame and 40 passes."""
    true = scan["corners"] + N / 2
    recorded = true + wrong
    options = EngineOptions(
        backend="cpu",
        polish_tolerance=0,
        rule=RuleOptions(correction=True),
        positions=PositionRefinement(refine=refine),
    )
    engine = RollingEngine(options, cpu_backend(), (N, N), scan["probe_guess"], len(true))
    for i, (amplitude, yx) in enumerate(zip(scan["amplitudes"], recorded.tolist(), strict=True)):
        assert engine.add(amplitude, (yx[0], yx[1])) is not None
        if i == 0:
            engine._solver.poor_probe = True
        if i % 10 == 9:
            for _ in range(2):
                engine.step_slice()
    engine.finish()
    while engine.state is not EngineState.DONE:
        engine.step_slice()
    off = recorded + engine.positions.offsets_px - true
    return scan["error"](on_truth(scan, engine, off.mean(0)), len(true)), float(np.sqrt(((off - off.mean(0)) ** 2).mean()))


def on_truth(scan: dict, engine: RollingEngine, shift: NDArray[np.float64]) -> NDArray[np.complex64]:
    """The picture on the pixels of the true object."""
    picture = engine.picture()
    placed = np.ones(scan["object"].shape, np.complex64)
    first = np.array(picture.origin_px) - np.rint(shift).astype(int)
    low = np.maximum(first, 0)
    high = np.minimum(first + picture.object.shape, placed.shape)
    part = picture.object[low[0] - first[0] : high[0] - first[0], low[1] - first[1] : high[1] - first[1]]
    placed[low[0] : high[0], low[1] : high[1]] = part
    return placed


def test_right_positions_are_not_made_worse(scan: dict):
    error, off = result(scan, np.zeros((len(scan["corners"]), 2)), "auto")
    assert error < 1.02 * scan["right"][0]
    assert off < 0.2


def test_drift(scan: dict):
    n = len(scan["corners"])
    error, off = result(scan, np.linspace(0, 5, n)[:, None] * np.array([1, -0.6]) / np.hypot(1, 0.6), "auto")
    assert off < 0.3
    assert error < 1.15 * scan["right"][0]


@pytest.mark.quality
def test_jitter(scan: dict):
    n = len(scan["corners"])
    wrong = np.random.default_rng(7).normal(0, 1.5, (n, 2))
    error, off = result(scan, wrong, "auto")
    assert off < 0.3
    assert error < 1.15 * scan["right"][0]


def test_the_star_is_left_alone_by_a_fast_computer(shared_data: Path, shared_tools: ModuleType):
    """Its frames hardly overlap at first, its model is far from perfect, and its positions are right."""
    with h5py.File(shared_data / "siemens_star_seed.cxi") as file:
        patterns, probe = file["entry_1/data_1/data"][()], file["entry_1/instrument_1/illumination_1/probe"][()]
        translation_m = file["entry_1/sample_1/geometry_1/translation"][()]
    amplitudes = np.fft.ifftshift(np.sqrt(patterns.astype(np.float32)), axes=(1, 2))
    yx_px = (translation_m[:, 1::-1] / STAR_PIXEL_M).tolist()
    reference, support = shared_tools.load(str(shared_data / "siemens_star_reference.npz"))
    found: dict[str, list[float]] = {"off": [], "auto": []}
    for refine, correlations in found.items():
        positions = PositionRefinement(refine=refine)
        options = EngineOptions(backend="cpu", threads=1, polish_passes=5, polish_tolerance=0, positions=positions)
        engine = RollingEngine(options, cpu_backend(), (N, N), probe[None], len(patterns))
        done = 0
        for i, yx in enumerate(yx_px):
            assert engine.add(amplitudes[i], (yx[0], yx[1])) is not None
            while done < 40 * (i + 1):
                done += engine.step_slice()
            if i + 1 in (258, 387, 516):
                correlations.append(shared_tools.compare(engine.picture().object, reference, support)["detail_correlation"])
        engine.finish()
        while engine.state is not EngineState.DONE:
            engine.step_slice()
        correlations.append(shared_tools.compare(engine.picture().object, reference, support)["detail_correlation"])
    assert (np.array(found["auto"]) > np.array(found["off"]) - 0.002).all()
