"""What a frame costs the writer beside a bare loop of h5py, and its memory: ``python -m tests.bench.writer``.

Processor time in one process, without links. Each frame has a position in a message of its own.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from streamptycho.files.bslz4 import compress, decodes, filter_options, load_walk
from streamptycho.files.durable.disk import LIBVER
from streamptycho.files.options import WriterOptions
from streamptycho.files.writer import CxiWriter
from streamptycho.messages.payload import Payload
from streamptycho.messages.stream import Frame
from streamptycho.pipeline.options import WriteOptions
from streamptycho.pipeline.write import WriteStage
from tests.files.factories import snapshot
from tests.scans import positions, start

DIFFERENT = 64
FLUSH = 200


def payload_of(side: int, dtype: str) -> Payload:
    """Diffraction patterns: strong in the middle, empty outside."""
    y, x = np.mgrid[:side, :side] - side / 2
    mean = 3e3 / (1 + (np.hypot(y, x) / (side / 40)) ** 3)
    return compress(np.random.default_rng(0).poisson(mean, (DIFFERENT, side, side)).astype(dtype))


def measure(side: int, dtype: str, frames: int, repeats: int, mode: str = "direct") -> dict[str, float]:
    """Microseconds of processor time per frame, medians: bare loops of h5py, `CxiWriter`, stage with positions.

    All flush after `FLUSH` frames. ``direct`` stores chunks as they come, of which the writer first makes sure that they
    decode: ``checked`` is the bare loop with the same check. ``filter`` compresses raw frames, ``raw`` stores them.
    """
    payload = payload_of(side, dtype)
    pixels = np.stack([payload.decode(i) for i in range(DIFFERENT)]).reshape(DIFFERENT, side, side)
    if mode != "direct":
        payload = Payload.raw(pixels)
    singles = [replace(payload, chunks=(chunk,)) for chunk in payload.chunks]
    rows = [np.array([i]) for i in range(frames)]
    blocks = [Frame(scan_id="s", index=row, timestamp_ns=row, payload=singles[i % DIFFERENT]) for i, row in enumerate(rows)]
    places = [positions(i) for i in range(frames)]
    begin = start(shape=(side, side), dtype=np.dtype(dtype))
    compression: Literal["bslz4", "none"] = "none" if mode == "raw" else "bslz4"
    load_walk()

    def bare(folder: Path, *, check: bool = False) -> None:
        with h5py.File(folder / "bare.h5", "w", libver=LIBVER) as file:
            shape = (side, side)
            storage = {"chunks": (1, *shape), "maxshape": (None, *shape)} | filter_options(compression)
            dataset = file.create_dataset("data", (0, *shape), dtype, **storage)
            count = file.create_dataset("n", data=0)
            file.flush()
            file.swmr_mode = True
            for first in range(0, frames, FLUSH):
                end = min(frames, first + FLUSH)
                dataset.resize(end, 0)
                for i in range(first, end):
                    k = i % DIFFERENT
                    if mode == "direct":
                        assert not check or decodes(payload, k)
                        dataset.id.write_direct_chunk((i, 0, 0), payload.chunks[k])
                    else:
                        dataset[i] = pixels[k]
                dataset.flush()
                count[()] = end
                count.flush()

    def checked(folder: Path) -> None:
        bare(folder, check=True)

    def writer(folder: Path) -> None:
        with CxiWriter(folder / "s.cxi", begin, options=WriterOptions(compression=compression)) as file:
            for i, block in enumerate(blocks):
                file.append(block)
                if i % FLUSH == FLUSH - 1:
                    file.flush()

    def stage(folder: Path) -> None:
        made = WriteStage(WriteOptions(directory=folder, compression=compression))
        for message in (begin, *(one for pair in zip(blocks, places, strict=True) for one in pair)):
            list(made.handle(message))
        list(made.finish())

    loops: list[Callable[[Path], None]] = [bare, *([checked] if mode == "direct" else []), writer, stage]
    spent = [[_cpu_s(loop) * 1e6 / frames for loop in loops] for _ in range(repeats)]
    return dict(zip((loop.__name__ for loop in loops), np.median(spent, axis=0).tolist(), strict=True))


def memory(side: int, frames: int, looks: int = 10) -> list[float]:
    """MiB of this process after each of so many equal parts of a scan, each frame with a position and 40 pictures in all."""
    payload, seen = payload_of(side, "uint16"), []
    singles = [replace(payload, chunks=(chunk,)) for chunk in payload.chunks]
    with tempfile.TemporaryDirectory() as folder, CxiWriter(Path(folder) / "s.cxi", start(shape=(side, side))) as file:
        for i in range(frames):
            row = np.array([i])
            file.append(Frame(scan_id="s", index=row, timestamp_ns=row, payload=singles[i % DIFFERENT]))
            file.positions(positions(i))
            if i % FLUSH == FLUSH - 1:
                file.flush()
            if i % max(1, frames // 40) == 0:
                file.snapshot(snapshot(i, (300, 300), scan_id="s", started_ns=1))
            if (i + 1) % (frames // looks) == 0:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                seen.append(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20))
    return seen


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
    parser.add_argument("--memory", type=int, default=50_000, help="frames over which memory is watched; 0 for none")
    options = parser.parse_args(given)
    for mode in ("direct", "filter", "raw"):
        for side, dtype, frames in ((256, "uint16", options.frames), (1024, "uint32", options.frames // 8)):
            spent = measure(side, dtype, frames if mode == "direct" else frames // 4, options.repeats, mode)
            text = ", ".join(f"{name} {us:.0f} us ({us / spent['bare']:.2f})" for name, us in spent.items())
            print(f"{side} x {side} {dtype} {mode}: {text}", flush=True)
    if options.memory:
        print("MiB over the scan:", ", ".join(f"{mib:.0f}" for mib in memory(128, options.memory)))


if __name__ == "__main__":
    main()
