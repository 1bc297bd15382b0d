"""The CUDA kernels, run on the CPU by fibers (emulation.hpp), against the readable form; no GPU is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.errors import BackendError
from streamptycho.solve.cuda import source
from streamptycho.solve.cuda.batch import CudaSweep, choose_fused
from streamptycho.solve.devices.backend import Backend, numpy_backend
from streamptycho.solve.equations import batch, pie
from streamptycho.solve.settings import CudaOptions, RuleOptions
from streamptycho.solve.solver import Solver
from tests.solve.cuda_host import HostDevice, compare, copied, difference, emulated, random_problem, values
from tests.solve.helpers import scene, stored

READABLE = numpy_backend()


def device_of(backend: Backend) -> HostDevice:
    assert isinstance(backend.cuda, HostDevice)
    return backend.cuda


@pytest.mark.parametrize("modes", [1, 3])
def test_a_batch_of_one_is_the_update(modes: int):
    problem = random_problem((24, 20), modes, 5, 7)
    one, other = copied(problem), copied(problem)
    pie.sweep(READABLE, *values(one))
    batch.sweep(READABLE, *values(other), 1)
    for name in ("obj", "probe", "misfit", "figures"):
        assert difference(other[name], one[name]) < 2e-5, name


@pytest.mark.parametrize(("shape", "modes", "racing"), [((24, 40), 1, 1), ((15, 21), 1, 3), ((20, 16), 3, 3)])
def test_the_library_path(kernel_folder: Path, shape: tuple[int, int], modes: int, racing: int):
    backend = emulated(kernel_folder, racing_updates=racing)
    compare(backend, random_problem(shape, modes, 9, 5), 3e-5, slices=2)
    device = device_of(backend)
    assert device.launched.count("finish") == 2
    assert device.recorded == 1, "the second slice replays what the first recorded"


@pytest.mark.parametrize(
    ("side", "team", "modes", "racing", "count"),
    [
        (64, 1, 1, 3, 4),
        (64, 1, 3, 2, 3),
        (128, 1, 1, 2, 2),
        (128, 4, 2, 1, 2),
        (256, 4, 1, 2, 3),
        pytest.param(256, 8, 1, 1, 1, marks=pytest.mark.slow),
    ],
)
def test_the_fused_path(kernel_folder: Path, side: int, team: int, modes: int, racing: int, count: int):
    backend = emulated(kernel_folder, racing_updates=racing, path="fused")
    device = device_of(backend)
    device.multiprocessors = -(-racing * team * 4 // 3)  # not enough for a larger team
    device.clusters = team > 1
    kernel = choose_fused(device, (modes, side, side))
    assert kernel is not None
    assert kernel.team == team
    slices = 2 if (side, modes) == (64, 1) else 1
    compare(backend, random_problem((side, side), modes, 8, count), 3e-5, slices)
    assert device.launched == ["prepare", "fused", "finish"] * slices


@pytest.mark.parametrize("path", ["library", "fused"])
def test_one_update_is_right_to_1e_5(kernel_folder: Path, path: str):
    compare(emulated(kernel_folder, racing_updates=1, path=path), random_problem((64, 64), 1, 2, 1, seed=3), 1e-5)


@pytest.mark.parametrize("path", ["library", "fused"])
def test_without_background_and_with_the_probe_held(kernel_folder: Path, path: str):
    problem = random_problem((64, 64), 1, 6, 5)
    problem["background"] = np.zeros((0, 0), np.float32)
    problem["steps"][:, 1] = 0
    compare(emulated(kernel_folder, racing_updates=2, path=path), problem)


@pytest.mark.parametrize("path", ["library", "fused"])
def test_the_probe_step_does_not_decay_in_batches(kernel_folder: Path, path: str):
    problem = random_problem((64, 64), 1, 6, 4)
    problem["steps"][:, 1] = 0.1, 0.2, 0.7, 0.0
    compare(emulated(kernel_folder, racing_updates=2, path=path, batch_probe_step=0.5), problem)
    compare(emulated(kernel_folder, racing_updates=1, path=path, batch_probe_step=0.5), problem)


def test_a_canvas_that_grows(kernel_folder: Path):
    """A new canvas of another size between two slices: the covers follow."""
    backend = emulated(kernel_folder, racing_updates=2, path="fused", batch_probe_step=0)
    kernels = CudaSweep(backend, device_of(backend))
    expected = random_problem((64, 64), 1, 6, 3)
    found = copied(expected)
    for grown in (0, 16):
        for problem in (expected, found):
            problem["obj"] = np.ascontiguousarray(np.pad(problem["obj"], grown, constant_values=1))
        batch.sweep(READABLE, *values(expected), 2)
        kernels(*values(found))
    assert difference(found["obj"], expected["obj"]) < 2e-5
    assert device_of(backend).launched.count("fused") == 2


def test_darkness_is_no_trouble(kernel_folder: Path):
    problem = random_problem((64, 64), 1, 6, 4)
    for name in ("obj", "probe"):
        problem[name][...] = 0
    backend = emulated(kernel_folder, racing_updates=2)
    CudaSweep(backend, device_of(backend))(*values(problem))
    assert not problem["obj"].any()
    assert not problem["probe"].any()
    assert np.isfinite(problem["figures"]).all()


def without(what: str, number: int = 0) -> Callable[[str], str]:
    """Takes out the occurrence of that `number`."""

    def change(text: str) -> str:
        parts = text.split(what)
        if len(parts) < number + 2:
            return text
        return what.join(parts[: number + 1]) + what.join(parts[number + 1 :])

    return change


MISTAKES = [
    ("fused", without("    tile.barrier();\n}\n\n// R1-point".partition("}")[0])),
    ("fused", without("        everyone(s);\n", 1)),
    ("fused", without("        everyone(s);\n", 2)),
    ("fused", without("        if (number > 0) frame.clear_cover(Batch(s, number - 1));\n")),
    ("library", without("        __syncthreads();\n", 0)),
    ("library", without("        __syncthreads();\n", 1)),
    ("library", without("s.tops[2 * (1 - batch.parity)] = s.tops[2 * (1 - batch.parity) + 1] = 0.0f;")),
]


@pytest.mark.parametrize(
    ("path", "change"),
    [MISTAKES[0], *(pytest.param(*mistake, marks=pytest.mark.slow) for mistake in MISTAKES[1:])],
    ids=["pass", "batch 1", "batch 2", "cover", "sum 0", "sum 1", "top"],
)
def test_a_missing_barrier_is_noticed(
    kernel_folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, change: Any, request: Any
):
    """The emulation itself: with a barrier, or the clearing of what the next batch adds to, taken out, it must come out."""
    text = source.text
    monkeypatch.setattr(source, "text", lambda *of: change(text(*of)))
    names = source.ON_CHIP if path == "fused" else source.LIBRARY
    assert source.text(names) != text(names)
    folder = kernel_folder / request.node.name
    folder.mkdir()
    shape = (64, 64) if path == "fused" else (40, 24)
    noticed = False
    for seed in range(3):
        try:
            compare(
                emulated(folder, 1000 * seed, racing_updates=3, path=path), random_problem(shape, 1, 9, 9), 3e-5, slices=2
            )
        except AssertionError:
            noticed = True
            break
    assert noticed


def test_what_the_kernels_refuse(kernel_folder: Path):
    problem = random_problem((64, 64), 1, 6, 3)
    problem["obj"] = problem["obj"].T
    backend = emulated(kernel_folder)
    with pytest.raises(ValueError, match="contiguous"):
        CudaSweep(backend, device_of(backend))(*values(problem))


def test_the_choice_of_the_path(tmp_path: Path):
    def chosen(side: int, modes: int = 1, **options: Any) -> int | None:
        """Blocks per frame in the fused path, None for the library path."""
        limits = {name: options.pop(name) for name in ("shared_bytes", "clusters", "multiprocessors") if name in options}
        device = HostDevice(tmp_path, CudaOptions(**options))
        for name, value in limits.items():
            setattr(device, name, value)
        kernel = choose_fused(device, (modes, side, side))
        return kernel.team if kernel else None

    assert [chosen(side) for side in (64, 96, 128, 256, 512)] == [1, None, 4, 8, None]
    assert chosen(128, path="library") is None
    assert chosen(128, shared_bytes=99 * 1024) == 4, "a quarter of the tile in each block"
    assert chosen(128, shared_bytes=99 * 1024, clusters=False) is None
    assert chosen(256, clusters=False) is None
    assert [chosen(128, racing_updates=n) for n in (24, 25, 132, 133)] == [4, 1, 1, None]
    assert [chosen(256, racing_updates=n) for n in (12, 13, 24, 25)] == [8, 4, 4, None]
    for side, message in ((96, "96 x 96"), (256, "clusters")):
        with pytest.raises(BackendError, match=message):
            chosen(side, path="fused", clusters=False)


def test_a_run_of_the_whole_rule(kernel_folder: Path):
    """The solver on the kernels comes as close to the data as on NumPy, with the same batches and one frame at a time."""
    made = scene(64, 60)
    errors = {}
    for name, backend in (
        ("sequential", READABLE),
        ("kernels, one", emulated(kernel_folder, racing_updates=1)),
        ("kernels, eight", emulated(kernel_folder, racing_updates=8)),
    ):
        store = stored(made, backend)
        solver = Solver(backend, store, made.guess, RuleOptions(), poor_probe=True)
        for row in range(len(store)):
            solver.admit(row)
        for _ in range(2):
            solver.sweep(np.random.default_rng(0).permutation(60))
        errors[name] = solver.error()
    assert errors["kernels, one"] == pytest.approx(errors["sequential"], rel=0.03)
    assert errors["sequential"] / 1.2 < errors["kernels, eight"] < 2 * errors["sequential"]
