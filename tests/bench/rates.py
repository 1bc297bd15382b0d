"""What an update costs beside two bare transforms, in one thread and in two."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from rocket_fft import c2c

from streamptycho.errors import BackendError
from streamptycho.solve.compiled.atomic import call_transform
from streamptycho.solve.compiled.transforms import LIBRARIES, aligned, plans_for
from streamptycho.solve.devices.backend import cpu_backend
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore
from tests.bench.scans import CHUNK, BenchScan

CASES = ((128, 1), (128, 2), (128, 3), (256, 1), (256, 3))
"""Sides of a frame, and modes."""


@numba.njit(nogil=True, fastmath=True)
def transforms(field, plans, count):
    """`count` pairs of transforms of `field` in place, nothing else."""
    axes, one = np.array([1, 2]), np.float32(1)
    for _ in range(count):
        if plans[0] != 0:
            call_transform(plans[0], plans[1], field.ctypes.data)
            call_transform(plans[0], plans[2], field.ctypes.data)
        else:
            c2c(field, field, axes, True, one, 1)
            c2c(field, field, axes, False, one, 1)
        field.view(np.float32)[0, 0, 0] = 0  # each pair multiplies by the number of pixels: what is 0 stays 0


@dataclass(frozen=True)
class Rate:
    """Medians over the repeats, CPU time in microseconds per update unless said."""

    library: str
    n: int
    modes: int
    two_ffts: float
    bare: float
    """Update alone: ePIE with a moving probe, no momentum, no fill, no correction."""
    rule: float
    """The whole streaming rule while frames arrive, `budget` updates for each."""
    over: float
    """Median of the ratios rule to two_ffts, each taken within one repeat."""
    bare_over: float
    wall: float
    """Wall time of the whole rule."""


class Stream:
    """Frames that go on arriving, `budget` updates for each, without end: when the scan is over it begins again."""

    def __init__(self, scan: BenchScan, rule: RuleOptions, budget: int, threads: int, library: str) -> None:
        self.scan, self.rule, self.budget = scan, rule, budget
        self.backend = cpu_backend(threads, library)
        self._begin()

    def _begin(self) -> None:
        _, ny, nx = self.scan.amplitudes.shape
        self.store = FrameStore(self.backend, (ny, nx), len(self.scan))
        self.solver = Solver(self.backend, self.store, self.scan.probe, self.rule, poor_probe=True)
        self.schedule = Schedule(0)

    def advance(self, frames: int) -> tuple[float, float]:
        """Let so many frames arrive; CPU and wall seconds of the updates, not of storing the frames."""
        cpu = wall = 0.0
        for _ in range(frames // CHUNK):
            if len(self.store) + CHUNK > len(self.scan):
                self._begin()
            first = len(self.store)
            for row in range(first, first + CHUNK):
                corner = (int(self.scan.corners[row, 0]), int(self.scan.corners[row, 1]))
                self.solver.admit(self.store.append(self.scan.amplitudes[row], corner))
            seen = first + CHUNK
            visits, corners = self.solver.visits[:seen], self.store.corners[:seen]
            order = self.schedule.draw(visits, corners, CHUNK * self.budget, live=True)
            began, started = time.process_time(), time.perf_counter()
            self.solver.sweep(order)
            cpu, wall = cpu + time.process_time() - began, wall + time.perf_counter() - started
        return cpu, wall


def measure(scan: BenchScan, library: str, budget: int, repeats: int, frames: int) -> Rate:
    """Interleaved: two transforms, the bare update, the whole rule, and again."""
    modes, n = scan.probe.shape[0], scan.probe.shape[1]
    plans, field = plans_for(library, (modes, n, n)), aligned((modes, n, n))
    plain = RuleOptions(momentum=False, correction=False, warm_fill=False)
    whole, bare = (Stream(scan, rule, budget, 1, library) for rule in (RuleOptions(), plain))
    updates = frames * budget
    for warm in (whole, bare):
        warm.advance(2 * CHUNK)
    transforms(field, plans, 10)
    rows = []
    for _ in range(repeats):
        began = time.process_time()
        transforms(field, plans, updates)
        pair = time.process_time() - began
        alone, _ = bare.advance(frames)
        cpu, wall = whole.advance(frames)
        rows.append((pair, alone, cpu, cpu / pair, alone / pair, wall))
    pair, alone, cpu, over, bare_over, wall = (float(v) for v in np.median(rows, axis=0))
    scale = 1e6 / updates
    return Rate(library, n, modes, pair * scale, alone * scale, cpu * scale, over, bare_over, wall * scale)


def libraries() -> list[str]:
    """Those that are installed here."""
    found = ["rocket"]
    for name in LIBRARIES:
        try:
            plans_for(name, (1, 16, 16))
        except BackendError:
            continue
        found.append(name)
    return found


@dataclass(frozen=True)
class Pair:
    """One thread against two."""

    speedup: float
    """Wall time of passes with the whole rule, median of ratios of interleaved slices."""
    error_ratio: float
    """E after five passes, two threads over one, mean over the orders."""
    errors: list[tuple[float, float]]
    """E of one and of two threads for each order of the frames."""


def compare_threads(scan: BenchScan, passes: int, repeats: int, orders: int) -> Pair:
    """Whole passes over all frames with the default rule: throughput, and the picture after `passes`."""

    def solver(threads: int) -> Solver:
        backend = cpu_backend(threads)
        _, ny, nx = scan.amplitudes.shape
        store = FrameStore(backend, (ny, nx), len(scan))
        made = Solver(backend, store, scan.probe, RuleOptions(), poor_probe=True)
        for row, corner in enumerate(scan.corners.tolist()):
            made.admit(store.append(scan.amplitudes[row], (corner[0], corner[1])))
        return made

    count, errors = len(scan), []
    for seed in range(orders):
        pair = []
        for threads in (1, 2):
            random, made = np.random.default_rng(seed), solver(threads)
            for _ in range(passes):
                made.sweep(random.permutation(count))
            pair.append(scan.judged(made))
        errors.append((pair[0], pair[1]))
    one, two = solver(1), solver(2)
    ratios = interleaved(lambda rows: one.sweep(rows), lambda rows: two.sweep(rows), count, repeats)
    means = np.mean(errors, axis=0)
    return Pair(float(np.median(ratios)), float(means[1] / means[0]), errors)


def interleaved(
    one: Callable[[NDArray[np.int64]], None], two: Callable[[NDArray[np.int64]], None], count: int, repeats: int
) -> list[float]:
    """Ratios of wall time, one to two, each of a hundred updates from the same rows."""
    random, ratios = np.random.default_rng(0), []
    for _ in range(repeats):
        rows, times = random.integers(0, count, 100), []
        for sweep in (one, two):
            started = time.perf_counter()
            sweep(rows)
            times.append(time.perf_counter() - started)
        ratios.append(times[0] / times[1])
    return ratios
