"""Scans with a known answer, ready for the engine, and how close a picture comes to that answer."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.assess.truth import compare
from streamptycho.solve.solver import Solver
from streamptycho_sim.illumination import IlluminationOptions, guess
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.trajectory import Path as ScanPath
from streamptycho_sim.trajectory import TrajectoryOptions

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / ".bench" / "scans"
SHARED = ROOT.parent / "shared"
CHUNK = 10
"""Frames of a simulated scan that arrive together."""
STAR_CHUNK = 6
STAR_PIXEL_M = 1.4089113457261918e-10 * 1.92 / (128 * 75e-6)
COVERED_DOSE = 0.01

Judge = Callable[[NDArray[np.complex64], tuple[int, int], NDArray[np.bool_] | None, int], float]
"""Object, its first pixel in the truth, what of it counts as covered (None: all), and frames used, to a figure."""


@dataclass(frozen=True)
class BenchScan:
    """Frames in order of arrival, and how a picture is judged."""

    amplitudes: NDArray[np.float32]
    """(k, n, n), zero frequency first."""
    corners: NDArray[np.int64]
    """(k, 2) pixel of the truth under each window's first."""
    probe: NDArray[np.complex64]
    """(modes, n, n) to start from."""
    judge: Judge
    """Error against the truth (simulated scans), or detail correlation with the reference (star)."""
    given: bool = False
    """The probe is a recorded one, not a guess."""
    chunk: int = CHUNK
    """Frames that arrive together."""

    def __len__(self) -> int:
        return len(self.amplitudes)

    def judged(self, solver: Solver, frames: int | None = None) -> float:
        """Figure of a reconstruction over what `frames` cover, all by default."""
        canvas, host = solver.canvas, solver.backend.to_host
        return self.judge(host(canvas.object), canvas.origin, host(canvas.dose) > COVERED_DOSE, frames or len(self))

    def counts(self) -> NDArray[np.float32]:
        """(k, n, n) with zero frequency in the middle, for the peers."""
        return np.fft.fftshift(self.amplitudes**2, axes=(1, 2))


def load(path: str = "raster", seed: int = 0, n: int = 128, frames: int = 1000, modes: int = 1) -> BenchScan:
    """A raster or spiral, by the shared generator or, where there is none, the simulator; or the recorded star, as it is."""
    if path == "star":
        return star()
    maker = tool("benchmark_scan")
    if maker is None:
        return simulated(path, seed, n, frames, modes)
    file = STORE / f"{path}{seed}_{n}_{frames}_{modes}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"unfinished{os.getpid()}.npz")
        np.savez(unfinished, **maker.build(n=n, frames=frames, path=path, modes=modes, seed=seed))
        unfinished.replace(file)
    with np.load(file) as stored:
        scan = {name: stored[name] for name in stored.files}
    judge = judge_of(maker.LiveError(scan), scan["object"].shape)
    return BenchScan(amplitudes_of(scan["frames"]), scan["corners"].astype(np.int64), scan["probe_guess"], judge)


def tool(name: str) -> ModuleType | None:
    """A module of `../shared/tools`, None where it is not beside the checkout."""
    path = SHARED / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def amplitudes_of(frames: NDArray[np.generic]) -> NDArray[np.float32]:
    """Of counts (k, n, n) with zero frequency in the middle."""
    return np.fft.ifftshift(np.sqrt(frames.astype(np.float32)), axes=(1, 2))


def judge_of(error: Callable[[NDArray[np.complex64], int], float], shape: tuple[int, int]) -> Judge:
    """By the error of a picture laid out like the truth, which knows by itself what so many frames cover."""

    def judge(obj: NDArray[np.complex64], origin: tuple[int, int], _covered: NDArray[np.bool_] | None, frames: int) -> float:
        return float(error(laid(obj, origin, shape), frames))

    return judge


def laid(obj: NDArray[np.complex64], origin: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.complex64]:
    """An object whose first pixel lies at `origin`, on the whole field of the truth; 1 where it does not reach."""
    picture = np.ones(shape, np.complex64)
    low, high = np.maximum(origin, 0), np.minimum(np.add(origin, obj.shape), shape)
    here = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    there = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, origin, strict=True))
    picture[here] = obj[there]
    return picture


def simulated(path: str, seed: int, n: int, frames: int, modes: int) -> BenchScan:
    """By the project's own simulator."""
    options = SyntheticOptions(
        shape=n,
        frames=frames,
        seed=seed,
        illumination=IlluminationOptions(modes=modes),
        trajectory=TrajectoryOptions(path=ScanPath(path)),
    )
    scan = SimulatedScan(options)

    def error(obj: NDArray[np.complex64], count: int) -> float:
        covered = np.zeros(scan.obj.shape, bool)
        for y, x in scan.corners[:count]:
            covered[y + n // 4 : y + n - n // 4, x + n // 4 : x + n - n // 4] = True
        agreement = compare(obj, covered, (0, 0), scan.obj, scan.support, (0, 0))
        return agreement.error if agreement is not None else float("nan")

    amplitudes = amplitudes_of(np.array(list(scan.counts())))
    probe = guess(options.illumination, n, options.detector.photons)
    return BenchScan(amplitudes, scan.corners, probe, judge_of(error, (scan.obj.shape[0], scan.obj.shape[1])))


def star() -> BenchScan:
    """The recorded Siemens star in file order; ends the program with a message where it is not beside the checkout."""
    comparison = tool("compare_objects")
    if comparison is None:
        raise SystemExit(f"{SHARED} has no tools/compare_objects.py: the star needs the tools and data beside the checkout")
    with np.load(SHARED / "data" / "siemens_star_reference.npz") as reference:
        truth, support = reference["obj"].astype(np.complex128), reference["support"]
    with h5py.File(SHARED / "data" / "siemens_star_seed.cxi") as stored:
        frames = stored["entry_1/data_1/data"][()]
        translation = stored["entry_1/sample_1/geometry_1/translation"][()]
        probe = stored["entry_1/instrument_1/illumination_1/probe"][()]
    corners = np.round(translation[:, 1::-1] / STAR_PIXEL_M).astype(np.int64) - 64

    def judge(
        obj: NDArray[np.complex64], _origin: tuple[int, int], covered: NDArray[np.bool_] | None, _frames: int
    ) -> float:
        picture = obj if covered is None else np.where(covered, obj, 0)
        return float(comparison.compare(picture.astype(np.complex128), truth, support)["detail_correlation"])

    return BenchScan(amplitudes_of(frames), corners, probe[None].astype(np.complex64), judge, given=True, chunk=STAR_CHUNK)
