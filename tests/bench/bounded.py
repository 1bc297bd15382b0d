"""Does anything grow? Streams a long scan through the engine and prints costs and memory for each tenth of it.

    python tests/bench/bounded.py --frames 20000

Frames are repeated: the specimen is periodic, so that a few hundred patterns serve a field of any size and the generator
takes no memory worth mentioning. Two paths: `raster` widens the field with every line, `fixed` visits places of a field of
the same size in random order, so that the canvas has its final size almost at once. CPU time, not wall time.
"""

import argparse
import json
import os
import resource
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamptycho.solve.devices.backend import choose_backend
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.warm_up import warm_up
from streamptycho_sim.illumination import IlluminationOptions, probe

STEP = 10
"""Pixels between neighbours."""
TILE = (22, 23)
"""Positions in one period of the specimen."""
PHOTONS = 1e6
PICTURES = 10
"""Snapshots per tenth."""


@dataclass
class Patterns:
    """The distinct frames of a periodic specimen, and the probe that made them."""

    n: int
    amplitudes: list[NDArray[np.float32]] = field(default_factory=list)
    probe: NDArray[np.complex64] = field(default_factory=lambda: np.zeros((1, 0, 0), np.complex64))

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.probe = probe(IlluminationOptions(), self.n, PHOTONS)[:1]
        period = (STEP * TILE[0], STEP * TILE[1])
        k = np.fft.fftfreq(period[0])[:, None] ** 2 + np.fft.fftfreq(period[1])[None] ** 2
        phase = np.fft.ifft2(np.fft.fft2(rng.normal(size=period)) * np.exp(-300 * k)).real
        obj = np.exp(1j * phase / phase.std() / 2)
        at = np.arange(self.n)
        for y in range(TILE[0]):
            for x in range(TILE[1]):
                window = obj[np.ix_((STEP * y + at) % period[0], (STEP * x + at) % period[1])]
                counts = rng.poisson(abs(np.fft.fft2(self.probe[0] * window, norm="ortho")) ** 2)
                self.amplitudes.append(np.sqrt(counts).astype(np.float32))

    def frame(self, y: int, x: int) -> tuple[NDArray[np.float32], tuple[float, float]]:
        """Amplitudes of the frame at row `y` and column `x` of the scan, and where it stands."""
        amplitude = self.amplitudes[(y % TILE[0]) * TILE[1] + x % TILE[1]]
        return amplitude, (STEP * y + self.n / 2, STEP * x + self.n / 2)


@dataclass
class Costs:
    """CPU seconds and counts since the last report."""

    add: float = 0.0
    refine: float = 0.0
    picture: float = 0.0
    frames: int = 0
    updates: int = 0
    pictures: int = 0

    def row(self) -> dict[str, float]:
        """Means, microseconds and (pictures) milliseconds."""
        return {
            "update_us": 1e6 * self.refine / max(self.updates, 1),
            "add_us": 1e6 * self.add / max(self.frames, 1),
            "picture_ms": 1e3 * self.picture / max(self.pictures, 1),
        }


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


def stream(
    engine: RollingEngine, patterns: Patterns, places: list[tuple[int, int]], updates_per_frame: float
) -> list[dict[str, float]]:
    """Feed all places in order, refine in between, look at the picture now and then; one row of costs per tenth."""
    rows, costs, due = [], Costs(), 0.0
    tenth = max(len(places) // 10, 1)
    clock = time.process_time
    for k, (y, x) in enumerate(places, 1):
        amplitude, at = patterns.frame(y, x)
        before = clock()
        if engine.add(amplitude, at) is None:
            raise RuntimeError(f"frame {k} at {at} was refused")
        costs.add += clock() - before
        costs.frames += 1
        due += updates_per_frame
        before = clock()
        while due >= engine.options.slice_updates:
            done = engine.step_slice()
            costs.updates += done
            due -= done
        costs.refine += clock() - before
        if k % max(tenth // PICTURES, 1) == 0:
            before = clock()
            picture = engine.picture()
            error = engine.error
            costs.picture += clock() - before
            costs.pictures += 1
        if k % tenth == 0:
            size = picture.object.size / 1e6 if picture else 0.0
            stored = engine.store.shape[0] * engine.store.shape[1] * 4 * len(engine.store)
            rows.append({"frames": k, **costs.row(), "megapixels": size, "error": error, "stored_mb": stored / 1e6})
            rows[-1]["peak_mb"] = peak_bytes() / 1e6
            print("  ".join(f"{name} {value:9.4g}" for name, value in rows[-1].items()), flush=True)
            costs = Costs()
    return rows


def scan_places(frames: int, path: str) -> list[tuple[int, int]]:
    """Rows and columns of a square scan."""
    side = int(np.ceil(np.sqrt(frames)))
    order = np.arange(frames)
    if path == "fixed":
        order = np.random.default_rng(1).integers(0, side * side, frames)
        order[:4] = [0, side - 1, side * (side - 1), side * side - 1]  # the corners first: the canvas has its size
    return [(int(i) // side, int(i) % side) for i in order]


def main() -> None:
    """Run and print; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--updates", type=float, default=2.0, help="per frame")
    parser.add_argument("--path", choices=["raster", "fixed"], default="raster")
    parser.add_argument("--set", action="append", default=[], metavar="RULE=VALUE", help="true or false for a switch")
    arguments = parser.parse_args()
    patterns = Patterns(arguments.size)
    backend = choose_backend("cpu")
    warm_up(backend)
    rule = dict(entry.split("=") for entry in arguments.set)
    options = EngineOptions.model_validate({"rule": rule})
    shape = (arguments.size, arguments.size)
    engine = RollingEngine(options, backend, shape, patterns.probe)
    print(f"before the first frame: {peak_bytes() / 1e6:.0f} MB", flush=True)
    rows = stream(engine, patterns, scan_places(arguments.frames, arguments.path), arguments.updates)
    picture = engine.picture()
    if picture is None:
        raise RuntimeError("no picture")
    stated = 1e6 * rows[-1]["stored_mb"] + picture.object.nbytes + picture.probe.nbytes
    outcome = {"memory_ratio": peak_bytes() / stated, "path": arguments.path, "frames": arguments.frames}
    for name in ("update_us", "add_us", "picture_ms"):
        outcome[f"{name}_last_over_second_tenth"] = rows[-1][name] / rows[1][name]
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
