"""Wrong positions on the benchmark scan: acceptance of the refinement. Needs ../shared/tools."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from streamptycho.solve.backend import cpu_backend
from streamptycho.solve.engine import EngineState, RollingEngine
from streamptycho.solve.positions import PositionRefinement
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.solver import RuleOptions

pytestmark = pytest.mark.slow
N = 128


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
    off = recorded + engine.position_offsets_px - true
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


def test_jitter(scan: dict):
    n = len(scan["corners"])
    wrong = np.random.default_rng(7).normal(0, 1.5, (n, 2))
    error, off = result(scan, wrong, "auto")
    assert off < 0.3
    assert error < 1.15 * scan["right"][0]
