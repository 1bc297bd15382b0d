"""Scans with a known answer, and how close the picture comes to it while their frames arrive."""

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.backend import Backend, cpu_backend
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.solver import RuleOptions, Solver
from streamptycho.solve.store import FrameStore

SHARED = Path(__file__).resolve().parents[3] / "shared"
CACHE = Path(tempfile.gettempdir()) / "streamptycho-bench"
STAR_PIXEL_M = 1.4089113457261918e-10 * 1.92 / (128 * 75e-6)
COVERED_DOSE = 0.01

Draw = Callable[[int, bool], NDArray[np.int64]]
"""(updates, live) to the rows to use next."""
Plan = Callable[[Solver], Draw]
"""A schedule, for the solver that it is to serve."""


@dataclass(frozen=True)
class Scan:
    """Frames in order of arrival, and how a picture is judged."""

    name: str
    amplitudes: NDArray[np.float32]
    """(k, n, n), zero frequency first."""
    corners: NDArray[np.int64]
    probe: NDArray[np.complex64]
    given: bool
    """The probe is a recorded one, not a guess."""
    judge: Callable[[Solver, int], float]
    """Picture after so many frames to its error (simulated scans), or its detail correlation (the star)."""
    chunk: int
    """Frames that arrive together."""


@dataclass(frozen=True)
class Course:
    """What came of one run."""

    live: float
    """Mean over twelve moments of the scan."""
    moments: dict[str, float]
    """After 50, 75 and 100 % of the frames, and one and five passes later: "50", "75", "100", "+1", "+5"."""
    seconds_per_update: float
    """CPU time, everything that belongs to the rule included."""


def tool(name: str) -> ModuleType:
    """A module of ../shared/tools; ends the program with a message where there is none."""
    path = SHARED / "tools" / f"{name}.py"
    if not path.is_file():
        raise SystemExit(f"{path} is not here: the benchmark needs the tools beside the checkout")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_scan(path: str, seed: int = 0) -> Scan:
    """`path` is raster or spiral (simulated, with `seed`), or star (recorded, file order)."""
    return _star() if path == "star" else _simulated(path, seed)


def _simulated(path: str, seed: int) -> Scan:
    maker, file = tool("benchmark_scan"), CACHE / f"{path}{seed}.npz"
    if not file.is_file():
        CACHE.mkdir(exist_ok=True)
        np.savez(file, **maker.build(path=path, seed=seed))
    with np.load(file) as stored:
        made = {name: stored[name] for name in stored.files}
    error = maker.LiveError(made)
    shape = made["object"].shape

    def judge(solver: Solver, frames: int) -> float:
        return float(error(_placed(solver, shape), frames))

    amplitudes = np.fft.ifftshift(np.sqrt(made["frames"].astype(np.float32)), axes=(1, 2))
    corners = made["corners"].astype(np.int64)
    return Scan(f"{path} {seed}", amplitudes, corners, made["probe_guess"], False, judge, 10)


def _placed(solver: Solver, shape: tuple[int, int]) -> NDArray[np.complex64]:
    """The object on the whole field of the truth, 1 where the canvas does not reach."""
    result = np.ones(shape, np.complex64)
    canvas = solver.canvas
    (y, x), (h, w) = canvas.origin, canvas.shape
    top, bottom, left, right = max(y, 0), min(y + h, shape[0]), max(x, 0), min(x + w, shape[1])
    result[top:bottom, left:right] = solver.backend.to_host(canvas.object)[top - y : bottom - y, left - x : right - x]
    return result


def _star() -> Scan:
    file, compare = SHARED / "data" / "siemens_star_seed.cxi", tool("compare_objects").compare
    reference = np.load(SHARED / "data" / "siemens_star_reference.npz")
    truth, support = reference["obj"].astype(np.complex128), reference["support"]
    with h5py.File(file) as stored:
        frames = stored["entry_1/data_1/data"][()]
        translation = stored["entry_1/sample_1/geometry_1/translation"][()]
        probe = stored["entry_1/instrument_1/illumination_1/probe"][()]
    corners = np.round(translation[:, 1::-1] / STAR_PIXEL_M).astype(np.int64) - 64

    def judge(solver: Solver, _frames: int) -> float:
        canvas = solver.canvas
        picture = solver.backend.to_host(np.where(canvas.dose > COVERED_DOSE, canvas.object, 0))
        return float(compare(picture.astype(np.complex128), truth, support)["detail_correlation"])

    amplitudes = np.fft.ifftshift(np.sqrt(frames.astype(np.float32)), axes=(1, 2))
    return Scan("star", amplitudes, corners, probe[None].astype(np.complex64), True, judge, 6)


def adaptive(solver: Solver) -> Draw:
    """The engine's own schedule."""
    schedule = Schedule(0)

    def draw(count: int, live: bool) -> NDArray[np.int64]:
        frames = len(solver.store)
        return schedule.draw(solver.visits[:frames], solver.store.corners[:frames], count, live=live)

    return draw


def run_live(
    scan: Scan, budget: float, rule: RuleOptions, plan: Plan = adaptive, backend: Backend | None = None, *, live: bool = True
) -> Course:
    """`budget` updates per arriving frame, then five passes over all.

    The twelve moments of the scan are judged only if `live` is wanted: judging costs as much as a thousand updates.
    """
    backend = backend or cpu_backend()
    total = len(scan.amplitudes)
    store = FrameStore(backend, scan.amplitudes.shape[1:], total)  # type: ignore[arg-type]
    solver = Solver(backend, store, scan.probe, rule, poor_probe=not scan.given)
    draw = plan(solver)
    twelve = {int(k) for k in np.linspace(total / 20, total, 12) // scan.chunk * scan.chunk} if live else set()
    marks = {int(part * total) // scan.chunk * scan.chunk: f"{part:.0%}"[:-1] for part in (0.5, 0.75, 1)}
    course: list[float] = []
    moments: dict[str, float] = {}
    spent, owed = 0.0, 0.0
    for first in range(0, total, scan.chunk):
        there = min(first + scan.chunk, total)
        for row in range(first, there):
            solver.admit(store.append(scan.amplitudes[row], (int(scan.corners[row, 0]), int(scan.corners[row, 1]))))
        owed += budget * (there - first)
        count, owed = int(owed), owed % 1
        begin = time.process_time()
        if count:
            solver.sweep(draw(count, True))
        spent += time.process_time() - begin
        if there in twelve or there in marks:
            value = scan.judge(solver, there)
            course += [value] * (there in twelve)
            moments |= {marks[there]: value} if there in marks else {}
    per_update = spent / max(solver.updates, 1)
    for one in range(1, 6):
        solver.sweep(draw(total, False))
        if one in (1, 5):
            moments[f"+{one}"] = scan.judge(solver, total)
    return Course(float(np.mean(course)) if course else float("nan"), moments, per_update)
