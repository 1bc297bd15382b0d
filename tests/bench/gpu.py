"""CuPy against NumPy on this machine: correctness first, then figures. Run by `make gpu`; needs a CUDA device.

The last line of standard output is one JSON object with the figures.
"""

import json
import sys
import time

import numpy as np

from streamptycho.errors import BackendError
from streamptycho.solve.backend import Backend, cupy_backend, numpy_backend
from streamptycho.solve.solver import RuleOptions, Solver
from streamptycho.solve.store import FrameStore
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions


def solver_for(backend: Backend, side: int, frames: int) -> Solver:
    """A solver with a simulated scan in its store, ready to sweep."""
    scan = SimulatedScan(SyntheticOptions(frames=frames, shape=side, probe_start="guess"))
    store = FrameStore(backend, (side, side), frames)
    solver = Solver(backend, store, scan.start(0).probe, RuleOptions(), poor_probe=True)
    for i in range(frames):
        amplitude = np.fft.ifftshift(np.sqrt(scan.frame(i).astype(np.float32)))
        y, x = np.round(scan.yx_m[i] / scan.pixel_m).astype(int)
        solver.admit(store.append(amplitude, (int(y) - side // 2, int(x) - side // 2)))
    return solver


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    """|| a - b || / || b ||."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def check(host: Backend, device: Backend) -> dict[str, float]:
    """One update, then a hundred, on both; raises SystemExit if they differ by more than rounding."""
    figures = {}
    for updates, bound in ((1, 1e-5), (100, 1e-3)):
        solvers = [solver_for(backend, 128, 100) for backend in (host, device)]
        for solver in solvers:
            solver.sweep(np.arange(updates))
        probes, objects = zip(
            *((s.backend.to_host(s.probe), s.backend.to_host(s.canvas.object)) for s in solvers), strict=True
        )
        for name, (a, b) in (("probe", probes), ("object", objects)):
            difference = relative_difference(b, a)
            figures[f"{name}_difference_{updates}"] = difference
            if not difference < bound:
                raise SystemExit(f"{name} differs by {difference:.2e} after {updates} updates; the bound is {bound}")
    return figures


def speed(backend: Backend, side: int, frames: int = 200, repeats: int = 5) -> float:
    """Median updates per second of whole sweeps, momentum and fill included."""
    solver = solver_for(backend, side, frames)
    order = np.arange(frames)
    solver.sweep(order)
    times = []
    for _ in range(repeats):
        backend.synchronize()
        start = time.perf_counter()
        solver.sweep(order)
        backend.synchronize()
        times.append(time.perf_counter() - start)
    return frames / float(np.median(times))


def main() -> None:
    """Check, then measure."""
    host = numpy_backend()
    try:
        device = cupy_backend()
    except BackendError as error:
        sys.exit(str(error))
    figures: dict[str, object] = {"device": device.device, **check(host, device)}
    print(f"{device.device}: agrees with NumPy")
    for side in (128, 256, 512):
        rates = [speed(backend, side) for backend in (host, device)]
        figures |= {f"numpy_updates_per_s_{side}": rates[0], f"cupy_updates_per_s_{side}": rates[1]}
        print(f"{side:4d} px: NumPy {rates[0]:8.0f} updates/s, CuPy {rates[1]:8.0f}, ratio {rates[1] / rates[0]:.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
