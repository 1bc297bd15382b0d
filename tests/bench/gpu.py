"""The CUDA path on this machine: correctness first, then figures. `make gpu` runs it; needs a CUDA device.

1. Kernels against NumPy, one update and a slice of batches, for every shape and path of the table.
2. Updates per second of the bare kernels, and the memory traffic that this means as a part of the measured copy bandwidth.
3. Error against wall time: frames arrive at 2 kHz, the engine computes what it can; error at the last frame against what
   the sequential rule reaches on the CPU with 20 updates per frame and no clock.

The last line of standard output is one JSON object with the figures. Run from the root of the repository.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from streamptycho.errors import BackendError
from streamptycho.solve.cuda.batch import CudaSweep, choose_fused
from streamptycho.solve.devices.backend import Backend, cpu_backend, cupy_backend
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.settings import CudaOptions, EngineOptions
from tests.solve.cuda_host import compare, random_problem, values
from tests.solve.helpers import Scene, scene

SIDES = (128, 256, 512)
MODES = (1, 3)
LIVE_SIDES = (128, 256)
RATE_HZ = 2000
LIVE_FRAMES = 1000
SEQUENTIAL_UPDATES = 20
"""Per frame, what live pictures are held to."""


def with_options(backend: Backend, **options: Any) -> Backend:
    """The same device with other settings; made anew, since recordings and streams belong to them."""
    old = backend.cuda.options  # type: ignore[union-attr]
    return cupy_backend(CudaOptions(**(old.model_dump() | options)))


def variants(backend: Backend, side: int, modes: int) -> list[tuple[str, Backend]]:
    """(path, backend) for small batches and for as many frames as fill the device, by both paths where possible."""
    assert backend.cuda is not None
    many = backend.cuda.multiprocessors
    found = []
    for racing in (1, 8, 32, many):
        found.append(("library", with_options(backend, path="library", racing_updates=racing)))
        fused = with_options(backend, path="auto", racing_updates=min(racing, many * 3 // 16) if side == 256 else racing)
        if choose_fused(fused.cuda, (modes, side, side)):  # type: ignore[arg-type]
            found.append(("fused", fused))
    return found


def check(backend: Backend) -> dict[str, float]:
    """Largest relative differences from NumPy; raises AssertionError beyond 1e-5 for an update, 1e-4 for two slices."""
    figures = {}
    for side in SIDES:
        for modes in MODES:
            for path in ("library", "auto"):
                one = compare(
                    with_options(backend, racing_updates=1, path=path), random_problem((side, side), modes, 2, 1), 1e-5
                )
                slices = random_problem((side, side), modes, 30, 35)
                some = compare(with_options(backend, racing_updates=8, path=path), slices, 1e-4, slices=2)
                figures[f"difference_{path}_{side}_{modes}"] = one
                print(f"{side:4d} px, {modes} mode(s), {path:7s}: {one:.1e} in one update, {some:.1e} after 70", flush=True)
    return figures


def timed(backend: Backend, work: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds of `work`, from an idle device to an idle device; once unmeasured before."""
    times = []
    for _ in range(repeats + 1):
        backend.synchronize()
        start = time.perf_counter()
        work()
        backend.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def copy_bandwidth(backend: Backend, size: int = 1 << 30) -> float:
    """Bytes read and written per second by a copy within the device."""
    source = backend.xp.zeros(size // 4, np.float32)
    target = backend.xp.empty_like(source)
    return 2 * size / timed(backend, lambda: backend.xp.copyto(target, source))


def traffic(path: str, side: int, modes: int) -> int:
    """Bytes per update that the path has to move, whether memory or the cache serves them.

    library: each pass over a field counts once (a two-dimensional transform reads and writes it once); fused: amplitudes,
    the window (read three times, written by atomics once) and the changes of the probe.
    """
    complex_pixel, pixels = 8, side * side
    if path == "library":
        expose, transforms, project, apply = 2 + modes, 2 * 2 * modes, 2 * modes, modes + 1 + 2
        return pixels * (complex_pixel * (expose + transforms + project + apply) + 4 * 6)
    kept = 8 * modes if modes > 1 else 0  # several modes go out and back four times
    return pixels * (complex_pixel * (3 + 2 + modes + 2 * modes + kept) + 4 * 6)


def rate(backend: Backend, side: int, modes: int, updates: int = 2048) -> float:
    """Updates per second of the kernels alone, in slices of 1024."""
    assert backend.cuda is not None
    problem = random_problem((side, side), modes, 256, updates)
    problem["obj"] = np.ones((side + 400, side + 400), np.complex64)
    problem["corners"] = np.random.default_rng(0).integers(0, 400, (updates, 2))
    there = {k: v if k in ("corners", "rows", "steps") else backend.to_device(v) for k, v in problem.items()}
    kernels = CudaSweep(backend, backend.cuda)
    per_row = ("corners", "rows", "steps", "figures")

    def sweep() -> None:
        for first in range(0, updates, 1024):
            some = {k: v[first : first + 1024] if k in per_row else v for k, v in there.items()}
            kernels(*values(some))

    return updates / timed(backend, sweep)


def table(backend: Backend) -> dict[str, float]:
    """Print and return updates per second, alone and as part of the copy bandwidth."""
    bandwidth = copy_bandwidth(backend)
    figures = {"copy_bytes_per_s": bandwidth}
    print(f"\ncopy {bandwidth / 1e12:.2f} TB/s\n  px modes path    batch  updates/s  of copy bandwidth")
    for side in SIDES:
        for modes in MODES:
            for path, variant in variants(backend, side, modes):
                batch = variant.cuda.options.racing_updates  # type: ignore[union-attr]
                per_s = rate(variant, side, modes)
                part = per_s * traffic(path, side, modes) / bandwidth
                figures[f"updates_per_s_{path}_{side}_{modes}_{batch}"] = per_s
                figures[f"of_copy_{path}_{side}_{modes}_{batch}"] = part
                print(f"{side:4d} {modes:5d} {path:7s} {batch:5d} {per_s:10.0f} {part:6.2f}", flush=True)
    return figures


def sequential_error(made: Scene, side: int) -> float:
    """Error at the last frame, frames in chunks of 10 with 20 updates each, on the CPU."""
    engine = RollingEngine(EngineOptions(slice_updates=50), cpu_backend(), (side, side), made.guess)
    done = 0
    for first in range(0, len(made.amplitudes), 10):
        made.add_to(engine, range(first, min(first + 10, len(made.amplitudes))))
        while done < SEQUENTIAL_UPDATES * (first + 10):
            done += engine.step_slice()
    return made.judge(engine).error


def live(backend: Backend, made: Scene, side: int) -> tuple[float, float, float]:
    """Frames at RATE_HZ: (error at the last frame, updates per frame, seconds until that picture was there)."""
    for warm in (True, False):  # compiling and recording are not what is measured
        engine = RollingEngine(EngineOptions(), backend, (side, side), made.guess, len(made.amplitudes))
        frames = min(100, len(made.amplitudes)) if warm else len(made.amplitudes)
        start, added = time.perf_counter(), 0
        while added < frames:
            due = min(int((time.perf_counter() - start) * RATE_HZ) + 1, frames)
            made.add_to(engine, range(added, due))
            added = due
            engine.step_slice()
        late = time.perf_counter()
        engine.picture()
        late = time.perf_counter() - late
    return made.judge(engine).error, engine.updates / frames, late


def live_table(backend: Backend) -> dict[str, float]:
    """Error at the last frame for several batch sizes and floors of the probe's step."""
    figures: dict[str, float] = {}
    print(f"\n{RATE_HZ} frames/s; error relative to the sequential rule with {SEQUENTIAL_UPDATES} updates per frame")
    print("  px batch probe step  updates/frame  error  relative  picture after s")
    for side in LIVE_SIDES:
        made = scene(side, LIVE_FRAMES, photons=1e6)
        aim = sequential_error(made, side)
        figures[f"error_sequential_{side}"] = aim
        for racing in (1, 4, 8, 16):
            for floor in (0.0, 0.5, 1.0) if racing > 1 else (0.0,):
                variant = with_options(backend, racing_updates=racing, batch_probe_step=floor)
                error, updates, late = live(variant, made, side)
                figures[f"live_error_{side}_{racing}_{floor}"] = error
                figures[f"live_updates_per_frame_{side}_{racing}_{floor}"] = updates
                print(
                    f"{side:4d} {racing:5d} {floor:10.1f} {updates:14.1f} {error:6.4f} {error / aim:9.2f} {late:16.3f}",
                    flush=True,
                )
        best = min(v for k, v in figures.items() if k.startswith(f"live_error_{side}_"))
        figures[f"live_over_sequential_{side}"] = best / aim
    return figures


def main() -> None:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=int, default=0)
    arguments = parser.parse_args()
    try:
        backend = cupy_backend(CudaOptions(device=arguments.device))
    except BackendError as error:
        sys.exit(str(error))
    print(backend.device)
    figures: dict[str, object] = {"device": backend.device, **check(backend), **table(backend), **live_table(backend)}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
