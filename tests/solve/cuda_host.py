"""A stand-in for a CUDA device that runs the kernels on the CPU, so that they have run somewhere before they meet a GPU."""

import ctypes
import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft

from streamptycho.solve.cuda import source
from streamptycho.solve.cuda.batch import CudaSweep
from streamptycho.solve.devices.backend import Backend, numpy_backend
from streamptycho.solve.equations import batch
from streamptycho.solve.frames import Frames, Model, Outcome, Steps
from streamptycho.solve.settings import CudaOptions

EMULATION = Path(__file__).with_name("emulation.hpp")


class HostDevice:
    """The :class:`streamptycho.solve.devices.cuda.Device` of the tests; compiles with g++ into `folder`."""

    multiprocessors = 132
    shared_bytes = 227 * 1024
    clusters = True

    def __init__(self, folder: Path, options: CudaOptions, seed: int = 0) -> None:
        self.options = options
        self.seed = seed
        self.folder = folder
        self.launched: list[str] = []
        self.recorded = 0
        self._libraries: dict[str, ctypes.CDLL] = {}

    def pointer(self, array: np.ndarray) -> int:
        return array.ctypes.data

    def kernel(self, code: str, options: tuple[str, ...], name: str) -> Callable[..., None]:
        names = source.ON_CHIP if name == "fused" else source.LIBRARY
        library = self._compiled(names, options)
        function = ctypes.cast(getattr(library, name), ctypes.c_void_p)
        together = name == "fused"
        cluster = next((int(option.removeprefix("-DBLOCKS=")) for option in options if option.startswith("-DBLOCKS=")), 1)

        def launch(grid: tuple[int, ...], threads: int, argument: np.ndarray, shared_bytes: int) -> None:
            self.launched.append(name)
            self.seed += 1
            where = ctypes.c_void_p(argument.ctypes.data)
            shape = (*grid, 1)[:2]
            ended = library.emulate(
                function, where, *shape, threads, ctypes.c_size_t(shared_bytes), together, cluster, self.seed
            )
            assert ended, f"{name} waits for ever"

        return launch

    def _compiled(self, names: tuple[str, ...], options: tuple[str, ...]) -> ctypes.CDLL:
        path = self.folder / f"{names[-1]}{''.join(options[1:])}.so".replace("=", "")
        if str(path) not in self._libraries:
            if not path.exists():
                code = self.folder / f"{path.stem}.cpp"
                code.write_text(source.text(names, EMULATION.read_text("utf-8")), "utf-8")
                command = ["g++", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas", *options, "-o", path, code]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stderr
            self._libraries[str(path)] = ctypes.CDLL(str(path))
        return self._libraries[str(path)]

    def plan(self, field: np.ndarray) -> tuple[Callable[[], None], Callable[[], None]]:
        def forward() -> None:
            field[...] = scipy.fft.fft2(field)

        def inverse() -> None:
            field[...] = scipy.fft.ifft2(field) * (field.shape[1] * field.shape[2])

        return forward, inverse

    @contextmanager
    def ordered(self) -> Iterator[None]:
        yield

    def send(self, target: np.ndarray, values: np.ndarray) -> None:
        target[...] = values

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        work()
        return work


ON_THE_HOST = ("corners", "rows", "steps")
"""Arrays of a sweep that stay in host memory; the others are on the device."""


def emulated(folder: Path, seed: int = 0, **options: Any) -> Backend:
    """NumPy, but for the updates, which CUDA kernels do on the CPU."""
    return dataclasses.replace(numpy_backend(), name="emulated", cuda=HostDevice(folder, CudaOptions(**options), seed))


def values(problem: dict[str, Any]) -> tuple[Model, Frames, Steps, Outcome]:
    """Arguments of a sweep from the arrays of :func:`random_problem`."""
    p = problem
    frames = Frames(p["amplitudes"], p["flux"], p["background"], p["rows"], p["corners"])
    return Model(p["obj"], p["probe"]), frames, Steps(p["steps"]), Outcome(p["misfit"], p["figures"])


def copied(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: array.copy() for name, array in problem.items()}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compare(backend: Backend, problem: dict[str, Any], bound: float = 1e-5, slices: int = 1) -> float:
    """Sweeps by CUDA kernels and by NumPy: object, probe, misfit and figures must be the same to `bound`.

    Returns the largest relative difference.
    """
    assert backend.cuda is not None
    readable = numpy_backend()
    expected = copied(problem)
    there = {
        name: value.copy() if name in ON_THE_HOST else backend.to_device(value.copy()) for name, value in problem.items()
    }
    kernels = CudaSweep(backend, backend.cuda)
    lowest = backend.cuda.options.batch_probe_step if kernels.batch > 1 else 0.0
    beta = expected["steps"][:, 1]
    beta[beta > 0] = np.maximum(beta[beta > 0], lowest)
    for _ in range(slices):
        batch.sweep(readable, *values(expected), kernels.batch)
        kernels(*values(there))
    found = {name: value if name in ON_THE_HOST else backend.to_host(value) for name, value in there.items()}
    for name in ("obj", "probe"):
        still = name == "probe" and not beta.any()
        assert still == (difference(expected[name], problem[name]) < 1e-3), f"{name}: nothing to compare"
    differences = {name: difference(found[name], expected[name]) for name in ("obj", "probe", "misfit")}
    assert max(differences.values()) < bound, differences
    scale = np.abs(expected["figures"]).max(0)
    np.testing.assert_allclose(found["figures"] / scale, expected["figures"] / scale, atol=2e-5)
    np.testing.assert_array_equal(found["steps"], problem["steps"])
    return max(differences.values())


def random_problem(shape: tuple[int, int], modes: int, frames: int, count: int, seed: int = 0) -> dict[str, Any]:
    """Arrays of a sweep: overlapping windows, masked pixels, flux and background that matter."""
    rng = np.random.default_rng(seed)

    def wave(*size: int) -> np.ndarray:
        return (rng.normal(size=size) + 1j * rng.normal(size=size)).astype(np.complex64)

    ny, nx = shape
    obj = wave(ny + 24, nx + 37)
    amplitudes = rng.uniform(0, 30, (frames, ny, nx)).astype(np.float32)
    amplitudes[:, rng.random(shape) < 0.1] = -1
    corners = np.stack([rng.integers(0, 24, count), rng.integers(0, 37, count)], 1)
    steps = np.stack(
        [rng.uniform(0.5, 1, count), rng.uniform(0.5, 1, count), rng.uniform(0.1, 1, count), rng.uniform(0.3, 1, count)], 1
    )
    return {
        "obj": obj,
        "probe": 10 * wave(modes, ny, nx),
        "amplitudes": amplitudes,
        "corners": corners,
        "rows": np.resize(rng.permutation(frames), count),
        "steps": steps.astype(np.float32),
        "flux": rng.uniform(0.8, 1.2, frames).astype(np.float32),
        "background": rng.uniform(0, 5, shape).astype(np.float32),
        "misfit": np.zeros(frames, np.float32),
        "figures": np.zeros((count, 4), np.float32),
    }
