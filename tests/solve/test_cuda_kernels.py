"""The CUDA kernels, run on the CPU by fibers (emulation.hpp), against the readable form; no GPU is needed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.errors import BackendError
from streamptycho.solve import batch, epie
from streamptycho.solve.backend import Backend, numpy_backend
from streamptycho.solve.cuda import source
from streamptycho.solve.cuda.options import CudaOptions
from streamptycho.solve.cuda.sweep import CudaSweep, choose_fused
from streamptycho.solve.epie import Workspace
from tests.solve.cuda_host import HostDevice, kernel_folder, random_problem  # noqa: F401

READABLE = numpy_backend()


def emulated(folder: Path, seed: int = 0, **options: Any) -> Backend:
    return dataclasses.replace(READABLE, name="emulated", cuda=HostDevice(folder, CudaOptions(**options), seed))


def copied(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: array.copy() for name, array in problem.items()}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compare(folder: Path, problem: dict[str, Any], bound: float = 1e-5, slices: int = 1, seed: int = 0, **options: Any) -> HostDevice:
    """One sweep by kernels and by NumPy: same object, probe, misfit and figures; returns the device that did it."""
    backend = emulated(folder, seed, batch_probe_step=0, **options)
    assert isinstance(backend.cuda, HostDevice)
    expected, found = copied(problem), copied(problem)
    work = Workspace(READABLE, problem["probe"].shape)
    kernels = CudaSweep(backend, backend.cuda)
    for _ in range(slices):
        batch.sweep(READABLE, kernels.batch, **expected, work=work)
        kernels(**found, work=work)
    for name in ("obj", "probe"):
        change = np.linalg.norm(expected[name] - problem[name]) / np.linalg.norm(problem[name])
        assert change > 1e-3 or name == "probe" and not problem["steps"][:, 1].any(), f"{name}: nothing to compare"
        assert difference(found[name], expected[name]) < bound, name
    assert difference(found["misfit"], expected["misfit"]) < bound
    scale = np.abs(expected["figures"]).max(0)
    np.testing.assert_allclose(found["figures"] / scale, expected["figures"] / scale, atol=2e-5)
    return backend.cuda


@pytest.mark.parametrize("modes", [1, 3])
def test_a_batch_of_one_is_the_update(modes: int):
    problem = random_problem((24, 20), modes, 5, 7)
    one, other = copied(problem), copied(problem)
    work = Workspace(READABLE, problem["probe"].shape)
    epie.sweep(READABLE, **one, work=work)
    batch.sweep(READABLE, 1, **other, work=work)
    for name in ("obj", "probe", "misfit", "figures"):
        assert difference(other[name], one[name]) < 2e-5, name


@pytest.mark.parametrize(("shape", "modes", "racing"), [((24, 40), 1, 1), ((15, 21), 1, 3), ((20, 16), 3, 3)])
def test_the_library_path(kernel_folder: Path, shape: tuple[int, int], modes: int, racing: int):  # noqa: F811
    device = compare(kernel_folder, random_problem(shape, modes, 9, 5), 3e-5, slices=2, racing_updates=racing, path="library")
    assert device.launched.count("finish") == 2
    assert device.recorded == 1, "the second slice replays what the first recorded"


@pytest.mark.parametrize(("side", "modes", "racing", "count"), [(64, 1, 3, 4), (64, 3, 2, 3), (128, 1, 2, 2), (256, 1, 1, 1)])
def test_the_fused_path(kernel_folder: Path, side: int, modes: int, racing: int, count: int):  # noqa: F811
    problem = random_problem((side, side), modes, 8, count)
    device = compare(kernel_folder, problem, 3e-5, slices=2 if (side, modes) == (64, 1) else 1, racing_updates=racing, path="fused")
    assert f"fused_{side}" in device.launched
    assert "expose" not in device.launched


def test_a_missing_barrier_is_noticed(kernel_folder: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    """The emulation itself: without the barrier between the passes of the transform, the outcome must be wrong."""
    text = source.text
    monkeypatch.setattr(source, "text", lambda *of: text(*of).replace("    tile.barrier();\n", ""))
    (kernel_folder / "broken").mkdir()
    with pytest.raises(AssertionError, match="obj"):
        compare(kernel_folder / "broken", random_problem((64, 64), 1, 2, 1), racing_updates=1, path="fused")


@pytest.mark.parametrize("path", ["library", "fused"])
def test_one_update_is_right_to_1e_5(kernel_folder: Path, path: str):  # noqa: F811
    compare(kernel_folder, random_problem((64, 64), 1, 2, 1, seed=3), 1e-5, racing_updates=1, path=path)


@pytest.mark.parametrize("path", ["library", "fused"])
def test_without_background_and_with_the_probe_held(kernel_folder: Path, path: str):  # noqa: F811
    problem = random_problem((64, 64), 1, 6, 5)
    problem["background"] = np.zeros((0, 0), np.float32)
    problem["steps"][:, 1] = 0
    compare(kernel_folder, problem, racing_updates=2, path=path)


def test_the_probe_step_does_not_decay_in_batches(kernel_folder: Path):  # noqa: F811
    problem = random_problem((64, 64), 1, 6, 4)
    problem["steps"][:, 1] = 0.1, 0.2, 0.7, 0.0
    expected, found = copied(problem), copied(problem)
    expected["steps"][:, 1] = 0.5, 0.5, 0.7, 0.0
    work = Workspace(READABLE, problem["probe"].shape)
    batch.sweep(READABLE, 2, **expected, work=work)
    backend = emulated(kernel_folder, racing_updates=2)
    CudaSweep(backend, HostDevice(kernel_folder, CudaOptions(racing_updates=2)))(**found, work=work)
    assert difference(found["probe"], expected["probe"]) < 1e-5
    np.testing.assert_array_equal(found["steps"], problem["steps"])


def test_a_canvas_that_grows(kernel_folder: Path):  # noqa: F811
    """A new canvas of another size between two slices: the covers follow."""
    backend = emulated(kernel_folder, racing_updates=2, path="fused", batch_probe_step=0)
    assert isinstance(backend.cuda, HostDevice)
    kernels = CudaSweep(backend, backend.cuda)
    expected = random_problem((64, 64), 1, 6, 3)
    found = copied(expected)
    work = Workspace(READABLE, expected["probe"].shape)
    for grown in (0, 16):
        for problem in (expected, found):
            problem["obj"] = np.ascontiguousarray(np.pad(problem["obj"], grown, constant_values=1))
        batch.sweep(READABLE, 2, **expected, work=work)
        kernels(**found, work=work)
    assert difference(found["obj"], expected["obj"]) < 2e-5
    assert backend.cuda.launched.count("fused_64") == 2


def test_what_the_kernels_refuse(kernel_folder: Path):  # noqa: F811
    problem = random_problem((64, 64), 1, 6, 3)
    problem["obj"] = problem["obj"].T
    backend = emulated(kernel_folder)
    with pytest.raises(ValueError, match="contiguous"):
        CudaSweep(backend, HostDevice(kernel_folder, CudaOptions()))(**problem, work=Workspace(READABLE, (1, 64, 64)))


def test_the_choice_of_the_path(tmp_path: Path):
    def chosen(side: int, modes: int = 1, **options: Any) -> str | None:
        limits = {name: options.pop(name) for name in ("shared_bytes", "clusters", "multiprocessors") if name in options}
        device = HostDevice(tmp_path, CudaOptions(**options))
        for name, value in limits.items():
            setattr(device, name, value)
        kernel = choose_fused(device, (modes, side, side))
        return kernel.name if kernel else None

    assert [chosen(side) for side in (64, 96, 128, 256, 512)] == ["fused_64", None, "fused_128", "fused_256", None]
    assert chosen(128, path="library") is None
    assert chosen(128, shared_bytes=99 * 1024) is None
    assert chosen(256, clusters=False) is None
    assert chosen(128, racing_updates=133) is None
    assert chosen(128, racing_updates=132) == "fused_128"
    assert chosen(256, racing_updates=25) is None
    for side, message in ((96, "96 x 96"), (256, "clusters")):
        with pytest.raises(BackendError, match=message):
            chosen(side, path="fused", clusters=False)
