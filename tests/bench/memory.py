"""Resident memory of a run, in a process of its own: ``python -m tests.bench.memory FRAMES.npz``.

The file holds `amplitudes` (k, n, n) float32 as raw bytes beside it (``.raw``), `corners` and `probe`. The last line of
standard output is JSON.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from streamptycho.solve.devices.backend import cpu_backend
from streamptycho.solve.schedule import Schedule
from streamptycho.solve.settings import RuleOptions
from streamptycho.solve.solver import Solver
from streamptycho.solve.store import FrameStore
from streamptycho.solve.warm_up import warm_up
from tests.bench.scans import CHUNK, ROOT, BenchScan

BUDGET = 4
"""Updates per frame."""


def ratio(scan: BenchScan) -> float:
    """Most memory that a run adds to what the imported and compiled program holds, over amplitudes, object and probe."""
    folder = ROOT / ".bench"
    folder.mkdir(exist_ok=True)
    file = folder / "memory.npz"
    np.savez(file, shape=scan.amplitudes.shape, corners=scan.corners, probe=scan.probe)
    scan.amplitudes.tofile(file.with_suffix(".raw"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", str(file)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    result: float = json.loads(done.stdout.splitlines()[-1])["ratio"]
    return result


def status(name: str) -> int:
    """A figure of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def main(file: Path) -> None:
    """Stream the frames from the disk into a solver, and compare the highest with what was there before."""
    stored = np.load(file)
    shape, corners, probe = tuple(stored["shape"]), stored["corners"], stored["probe"]
    backend = cpu_backend()
    warm_up(backend)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: Linux, proc(5)
    before = status("VmRSS")
    store = FrameStore(backend, shape[1:], shape[0])
    solver = Solver(backend, store, probe, RuleOptions(), poor_probe=True)
    schedule = Schedule(0)
    with file.with_suffix(".raw").open("rb") as raw:
        for first in range(0, shape[0], CHUNK):
            for row in range(first, min(first + CHUNK, shape[0])):
                frame = np.fromfile(raw, np.float32, shape[1] * shape[2]).reshape(shape[1:])
                solver.admit(store.append(frame, (int(corners[row, 0]), int(corners[row, 1]))))
            seen = len(store)
            solver.sweep(schedule.draw(solver.visits[:seen], store.corners[:seen], CHUNK * BUDGET, live=True))
    held = store.amplitudes[: len(store)].nbytes + solver.canvas.object.nbytes + solver.probe.nbytes
    print(
        json.dumps({"ratio": (status("VmHWM") - before) / held, "held_bytes": held, "peak_bytes": status("VmHWM") - before})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
