"""A scan that arrives frame by frame, reconstructed with so many updates per frame: the error of the picture on the way.

As measured in the engine's notes: frames come in chunks of ten, `budget` updates per frame follow each chunk, and the object
is compared with the truth at twelve moments. Used by the bench and by whoever works on the rule.
"""

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamptycho.quality import compare
from streamptycho.solve.backend import Backend, cpu_backend
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import RuleOptions, Solver
from streamptycho.solve.store import FrameStore
from streamptycho_sim.illumination import IlluminationOptions, guess
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.trajectory import Path as ScanPath
from streamptycho_sim.trajectory import TrajectoryOptions

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / ".bench" / "scans"
TOOL = ROOT.parent / "shared" / "tools" / "benchmark_scan.py"
CHUNK = 10
MOMENTS = 12

PLAIN = RuleOptions(
    gamma_object=1.0,
    object_step=1.0,
    settled_object_step=1.0,
    probe_step=1.0,
    settled_probe_step=0.1,
    probe_memory=1000,
    momentum=False,
    correction=False,
    warm_fill=False,
)
"""ePIE as published, its probe step falling from 1 to 0.1; with 0.1 throughout its live error is a tenth larger."""


class Draws(Protocol):
    """Which frames to use next."""

    def draw(self, visits: NDArray[np.int64], corners: NDArray[np.int64], count: int, *, live: bool) -> NDArray[np.int64]:
        """The next `count` rows; `visits` and `corners` are of all frames so far, in order of arrival."""
        ...


class FullPasses:
    """Passes in random order over all frames that are there when a pass begins: what peers do."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._left = np.zeros(0, np.int64)

    def draw(self, visits: NDArray[np.int64], corners: NDArray[np.int64], count: int, *, live: bool) -> NDArray[np.int64]:
        """The next `count` rows."""
        del corners, live
        while len(self._left) < count:
            self._left = np.concatenate([self._left, self._random.permutation(len(visits))])
        taken, self._left = self._left[:count], self._left[count:]
        return taken


@dataclass(frozen=True)
class BenchScan:
    """Frames ready for the engine, and how far a picture is from the truth."""

    amplitudes: NDArray[np.float32]
    """(k, n, n), zero frequency first."""
    corners: NDArray[np.int64]
    """(k, 2) pixel of the truth under each window's first."""
    probe: NDArray[np.complex64]
    """(modes, n, n) guess to start from."""
    truth_shape: tuple[int, int]
    error: Callable[[NDArray[np.complex64], int], float]
    """Of an object laid out like the truth, over what so many first frames cover."""

    def __len__(self) -> int:
        return len(self.amplitudes)

    def error_of(self, solver: Solver, frames: int | None = None) -> float:
        """Error of a reconstruction over what `frames` cover, all by default."""
        return self.laid(solver.canvas.object, solver.canvas.origin, frames or len(self))

    def laid(self, obj: NDArray[np.complex64], origin: tuple[int, int], frames: int) -> float:
        """Error of an object whose first pixel lies at `origin` of the truth."""
        picture = np.ones(self.truth_shape, np.complex64)
        low = np.maximum(origin, 0)
        high = np.minimum(np.add(origin, obj.shape), self.truth_shape)
        here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        there = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))
        picture[here] = obj[there]
        return self.error(picture, frames)

    def counts(self) -> NDArray[np.float32]:
        """(k, n, n) with zero frequency in the middle, for the peers."""
        return np.fft.fftshift(self.amplitudes**2, axes=(1, 2))


def benchmark_tool() -> ModuleType | None:
    """The shared generator of benchmark scans, None where it is not beside the checkout."""
    if not TOOL.is_file():
        return None
    spec = importlib.util.spec_from_file_location("benchmark_scan", TOOL)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(path: str = "raster", seed: int = 0, n: int = 128, frames: int = 1000, modes: int = 1) -> BenchScan:
    """A benchmark scan; by the shared generator and kept in `.bench/scans`, or, where there is none, by the simulator."""
    tool = benchmark_tool()
    if tool is None:
        return simulated(path, seed, n, frames, modes)
    file = STORE / f"{path}{seed}_{n}_{frames}_{modes}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **tool.build(n=n, frames=frames, path=path, modes=modes, seed=seed))
    with np.load(file) as stored:
        scan: dict[str, Any] = {name: stored[name] for name in stored.files}
    amplitudes = np.fft.ifftshift(np.sqrt(scan["frames"].astype(np.float32)), axes=(1, 2))
    error = tool.LiveError(scan)
    return BenchScan(amplitudes, scan["corners"].astype(np.int64), scan["probe_guess"], scan["object"].shape, error)


def simulated(path: str, seed: int, n: int, frames: int, modes: int) -> BenchScan:
    """The same with the project's own simulator."""
    options = SyntheticOptions(
        shape=n,
        frames=frames,
        seed=seed,
        illumination=IlluminationOptions(modes=modes),
        trajectory=TrajectoryOptions(path=ScanPath(path)),
    )
    scan = SimulatedScan(options)
    amplitudes = np.array([np.fft.ifftshift(np.sqrt(counts.astype(np.float32))) for counts in scan.counts()])

    def error(obj: NDArray[np.complex64], count: int) -> float:
        covered = np.zeros(scan.obj.shape, bool)
        for y, x in scan.corners[:count]:
            covered[y + n // 4 : y + n - n // 4, x + n // 4 : x + n - n // 4] = True
        agreement = compare(obj, covered, (0, 0), scan.obj, scan.support, (0, 0))
        return agreement.error if agreement is not None else float("nan")

    probe = guess(options.illumination, n, options.detector.photons)
    return BenchScan(amplitudes, scan.corners, probe, (scan.obj.shape[0], scan.obj.shape[1]), error)


@dataclass(frozen=True)
class LiveResult:
    """Errors on the way, and what the updates cost."""

    live: float
    """Mean over twelve moments of the scan."""
    last: float
    """When the last frame has had its updates."""
    later: float
    """After `passes` more passes over all frames."""
    cpu_us: float
    """CPU time per update during the scan, all of the rule included."""
    wall_us: float


def run_live(
    scan: BenchScan,
    budget: int,
    rule: RuleOptions | None = None,
    schedule: Draws | None = None,
    backend: Backend | None = None,
    passes: int = 0,
) -> LiveResult:
    """Stream `scan` with `budget` updates per frame; the rule and schedule of the engine unless others are given."""
    backend = backend or cpu_backend()
    draws: Draws = schedule or Schedule(0)
    count = len(scan)
    store = FrameStore(backend, (scan.amplitudes.shape[1], scan.amplitudes.shape[2]), count)
    solver = Solver(backend, store, scan.probe, rule or RuleOptions(), poor_probe=True)
    moments = set((np.linspace(50, count, MOMENTS).astype(int) // CHUNK * CHUNK).tolist())
    errors: list[float] = []
    cpu = wall = 0.0
    for first in range(0, count, CHUNK):
        for row in range(first, first + CHUNK):
            solver.admit(store.append(scan.amplitudes[row], (int(scan.corners[row, 0]), int(scan.corners[row, 1]))))
        seen = first + CHUNK
        began, started = time.process_time(), time.perf_counter()
        solver.sweep(draws.draw(solver.visits[:seen], store.corners[:seen], CHUNK * budget, live=True))
        cpu, wall = cpu + time.process_time() - began, wall + time.perf_counter() - started
        if seen in moments:
            errors.append(scan.error_of(solver, seen))
    last = scan.error_of(solver)
    for _ in range(passes):
        solver.sweep(draws.draw(solver.visits[:count], store.corners[:count], count, live=False))
    later = scan.error_of(solver) if passes else last
    updates = count * budget
    return LiveResult(float(np.mean(errors)), last, later, cpu / updates * 1e6, wall / updates * 1e6)
