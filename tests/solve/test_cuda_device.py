"""The CUDA kernels on a CUDA device, through CuPy, against NumPy. `make gpu` runs these; nothing else does."""

from typing import Any

import numpy as np
import pytest

from streamptycho.errors import BackendError
from streamptycho.solve.cuda.batch import CudaSweep, choose_fused
from streamptycho.solve.devices.backend import Backend, cupy_backend, numpy_backend
from streamptycho.solve.devices.cuda import Staging
from streamptycho.solve.settings import CudaOptions, RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore
from tests.solve.cuda_host import compare, random_problem, values
from tests.solve.helpers import scene, stored

pytestmark = pytest.mark.gpu


def device_backend(**options: Any) -> Backend:
    try:
        return cupy_backend(CudaOptions(**options))
    except BackendError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (256, 256), (512, 512), (96, 120), (101, 75)])
def test_one_update(shape: tuple[int, int], modes: int, graphs: bool):
    backend = device_backend(racing_updates=1, path="library", graphs=graphs)
    compare(backend, random_problem(shape, modes, 2, 1), 1e-5)


@pytest.mark.parametrize("racing", [1, 8, 24])
@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (256, 256), (512, 512), (96, 120), (101, 75)])
def test_slices_of_batches(shape: tuple[int, int], modes: int, racing: int):
    compare(device_backend(racing_updates=racing, path="library"), random_problem(shape, modes, 40, 53), 1e-4, slices=2)


@pytest.mark.parametrize(("racing", "count"), [(1, 1), (1, 5), (8, 53), (24, 53)])
@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("side", [64, 128, 256])
def test_the_fused_path(side: int, modes: int, racing: int, count: int):
    backend = device_backend(racing_updates=racing)
    assert backend.cuda is not None
    if choose_fused(backend.cuda, (modes, side, side)) is None:
        pytest.skip(f"{backend.device} has not what the fused kernel for {side} needs")
    bound = 1e-5 if count == 1 else 1e-4
    compare(backend, random_problem((side, side), modes, 40, count), bound, slices=1 if count == 1 else 2)


@pytest.mark.parametrize("path", ["library", "auto"])
def test_a_run_is_statistically_the_same(path: str):
    made = scene(64, 120)
    errors = []
    for backend in (numpy_backend(), device_backend(racing_updates=1, path=path)):
        store = stored(made, backend)
        solver = Solver(backend, store, made.guess, RuleOptions(), poor_probe=True)
        for row in range(len(store)):
            solver.admit(row)
        for seed in range(5):
            solver.sweep(np.random.default_rng(seed).permutation(120))
        errors.append(solver.error())
    assert errors[1] == pytest.approx(errors[0], rel=0.03)


def test_frames_that_arrive_while_the_device_computes():
    """Uploads run beside the kernels: more of them than there is pinned memory for, each must arrive whole."""
    backend = device_backend()
    store = FrameStore(backend, (128, 128), 16)
    made = random_problem((128, 128), 1, 4, 4)
    kernels = CudaSweep(backend, backend.cuda)  # type: ignore[arg-type]
    there = {k: v if k in ("corners", "rows", "steps") else backend.to_device(v) for k, v in made.items()}
    frames = np.random.default_rng(0).uniform(0, 9, (10 * Staging.SLOTS, 128, 128)).astype(np.float32)
    for frame in frames:
        kernels(*values(there))
        buffer = frame.copy()
        store.append(buffer, (0, 0))
        buffer[:] = -1
    store.replace(3, frames[0])
    np.testing.assert_array_equal(backend.to_host(store.amplitudes[3]), frames[0])
    kept = backend.to_host(store.amplitudes[: len(frames)])
    np.testing.assert_array_equal(np.delete(kept, 3, 0), np.delete(frames, 3, 0))


def test_the_memory_limit_is_set():
    backend = device_backend(memory_fraction=0.25)
    free_and_total = backend.xp.cuda.runtime.memGetInfo()
    limit = backend.xp.get_default_memory_pool().get_limit()
    assert 0 < limit <= 0.26 * free_and_total[1]
    device_backend()
