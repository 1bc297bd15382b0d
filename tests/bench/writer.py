"""What a frame costs the writer beside a bare loop of h5py direct chunk writes: ``python -m tests.bench.writer``.

Processor time in one process, without links. Each frame has a position in a message of its own.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from streamptycho.files.bslz4 import compress, filter_options, load_walk
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.payload import Payload
from streamptycho.messages.stream import Frame
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.write import WriteStage
from tests.scans import positions, start

DIFFERENT = 64


def payload_of(side: int, dtype: str) -> Payload:
    """Diffraction patterns: strong in the middle, empty outside."""
    y, x = np.mgrid[:side, :side] - side / 2
    mean = 3e3 / (1 + (np.hypot(y, x) / (side / 40)) ** 3)
    return compress(np.random.default_rng(0).poisson(mean, (DIFFERENT, side, side)).astype(dtype))


def measure(side: int, dtype: str, frames: int, repeats: int) -> dict[str, float]:
    """Microseconds of processor time per frame: bare loop, `CxiWriter`, stage with positions; medians."""
    payload = payload_of(side, dtype)
    singles = [replace(payload, chunks=(chunk,)) for chunk in payload.chunks]
    rows = [np.array([i]) for i in range(frames)]
    blocks = [Frame(scan_id="s", index=row, timestamp_ns=row, payload=singles[i % DIFFERENT]) for i, row in enumerate(rows)]
    places = [positions(i) for i in range(frames)]
    begin = start(shape=(side, side), dtype=np.dtype(dtype))
    load_walk()

    def bare(folder: Path) -> None:
        with h5py.File(folder / "bare.h5", "w", libver="v110") as file:
            shape = (side, side)
            storage = {"chunks": (1, *shape), "maxshape": (None, *shape)} | filter_options("bslz4")
            dataset = file.create_dataset("data", (0, *shape), dtype, **storage)
            for i in range(frames):
                if i % 32 == 0:
                    dataset.resize(min(frames, i + 32), 0)
                dataset.id.write_direct_chunk((i, 0, 0), payload.chunks[i % DIFFERENT])
            dataset.flush()

    def writer(folder: Path) -> None:
        with CxiWriter(folder / "s.cxi", begin) as file:
            for i, block in enumerate(blocks):
                file.append(block)
                if i % 200 == 199:
                    file.flush()

    def stage(folder: Path) -> None:
        made = WriteStage(WriteOptions(directory=folder))
        for message in (begin, *(one for pair in zip(blocks, places, strict=True) for one in pair)):
            list(made.handle(message))
        list(made.finish())

    loops: list[Callable[[Path], None]] = [bare, writer, stage]
    spent = [[_cpu_s(loop) * 1e6 / frames for loop in loops] for _ in range(repeats)]
    return dict(zip((loop.__name__ for loop in loops), np.median(spent, axis=0).tolist(), strict=True))


def _cpu_s(loop: Callable[[Path], None]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        loop(Path(folder))
        return time.process_time() - began


def main(given: list[str] | None = None) -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(given)
    for side, dtype, frames in ((256, "uint16", options.frames), (1024, "uint32", options.frames // 8)):
        spent = measure(side, dtype, frames, options.repeats)
        text = ", ".join(f"{name} {us:.0f} us ({us / spent['bare']:.1f})" for name, us in spent.items())
        print(f"{side} x {side} {dtype} bslz4: {text}")


if __name__ == "__main__":
    main()
