"""Positions that come long after the last frame: all frames are used, and memory stays within its bound."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamptycho.messages.geometry import Geometry
from streamptycho.messages.payload import Payload
from streamptycho.messages.reasons import Stream
from streamptycho.messages.stream import Frame, Positions, ScanEnd, ScanStart
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.processes.watch import Watcher
from tests import chain

SIDE = 256
MIB = 1 << 20


def peak_bytes(pid: int) -> int:
    """Most memory that a process has had at once."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def late(
    folder: Path, count: int, delay_s: float, timeout_s: float, **settings: Any
) -> tuple[dict[str, Any], dict[str, int]]:
    """Facts of the file, and the peak memory of each process while positions were awaited and after."""
    config = chain.config(folder, engine__polish_passes=0, write__picture=False, **settings)
    geometry = Geometry(wavelength_m=1e-10, distance_m=2.0, pitch_m=(75e-6, 75e-6), frame_shape=(SIDE, SIDE))
    start = ScanStart(scan_id="late", geometry=geometry, dtype=np.dtype("uint16"), started_ns=1, expected=count)
    yx_m = np.stack(np.divmod(np.arange(count), int(np.ceil(np.sqrt(count)))), axis=1) * 0.2e-6
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    mean = 200 * np.exp(-(y**2 + x**2) / 800)
    random = np.random.default_rng(1)
    pixels = [random.poisson(mean).astype("<u2") for _ in range(32)]

    def end(stream: Stream) -> ScanEnd:
        return ScanEnd(scan_id="late", started_ns=1, stream=stream, count=count)

    with (
        chain.in_processes(config) as services,
        new_context() as context,
        Watcher(context, config.services) as watcher,
        Sender(context, chain.outlets(config.detector)[0]) as frames,
        Sender(context, chain.outlets(config.detector)[1]) as positions,
    ):
        chain.wait_until(lambda: (watcher.poll(0.05), watcher.ready)[1], "services to be ready", 300)
        for sender in (frames, positions):
            assert sender.wait_for_peer(60)
        assert frames.send(start, wait_s=60)
        for i in range(count):
            payload = Payload.raw(pixels[i % 32])
            frame = Frame(scan_id="late", index=np.array([i]), timestamp_ns=np.zeros(1, np.int64), payload=payload)
            assert frames.send(frame, wait_s=60)
        assert frames.send(end(Stream.FRAMES), wait_s=60)
        until_s = time.monotonic() + delay_s
        while time.monotonic() < until_s:
            watcher.poll(0.1)
        for rows in np.array_split(np.arange(count), max(count // 100, 1)):
            positions.send(Positions(scan_id="late", index=rows, yx_m=yx_m[rows]))
        positions.send(end(Stream.POSITIONS))
        chain.wait_written(watcher, "late", timeout_s=timeout_s)
        peaks = {name: peak_bytes(pid) for name, pid in services.pids.items()}
    return chain.facts(folder / "late.cxi"), peaks


@pytest.mark.slow
def test_frames_that_cannot_all_wait_are_used_all_the_same(tmp_path: Path):
    bounds = {"match__max_waiting_bytes": 64 * MIB, "match__max_backlog_bytes": 32 * MIB}
    found, peaks = late(tmp_path, 2000, 3.0, 300.0, **bounds)
    assert (found["complete"], found["n_frames"], found["used"], found["dropped"]) == (1, 2000, 2000, {})
    assert found["frames_used"][-1] == 2000
    assert peaks["receive"] < 600 * MIB, "2000 frames are 250 MiB, and as many are under way to the writer"
