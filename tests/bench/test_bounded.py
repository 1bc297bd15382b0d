"""The bounds in small: nothing that the benchmark prints may grow in kind. Counts and bytes, never time."""

import json
import subprocess
import sys

import numpy as np
import pytest

from streamptycho.solve.devices.backend import cpu_backend, numpy_backend
from streamptycho.solve.engine import RollingEngine
from streamptycho.solve.settings import EngineOptions
from streamptycho.solve.store import FrameStore
from tests.bench import bounded
from tests.bench.bounded import Patterns, scan_places, stream


def test_the_benchmark_runs():
    patterns = Patterns(32)
    engine = RollingEngine(EngineOptions(), cpu_backend(), (32, 32), patterns.probe)
    rows = stream(engine, patterns, scan_places(300, "raster"), 2.0)
    assert len(rows) == 10
    assert 200 < engine.updates <= 660  # looks at the probe take their part of 600, and may begin the object again
    assert rows[-1]["error"] < 0.1
    assert len(set(scan_places(300, "raster"))) == 300


def test_amplitudes_are_never_copied():
    store = FrameStore(numpy_backend(), (64, 64))
    first = store.amplitudes.ctypes.data
    frame = np.ones((64, 64), np.float32)
    for i in range(3000):
        store.append(frame, (i, 0))
    assert store.amplitudes.ctypes.data == first
    assert len(store.amplitudes) == 4096


def test_where_no_address_space_is_to_be_had_it_doubles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streamptycho.solve.store._lazy_memory", lambda: 0)
    store = FrameStore(numpy_backend(), (4, 4))
    for i in range(300):
        store.append(np.full((4, 4), i, np.float32), (i, 0))
    assert len(store.amplitudes) == 512
    assert store.amplitudes[:300, 0, 0].tolist() == list(range(300))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_thousand_frames_take_little_more_than_their_amplitudes():
    command = [sys.executable, bounded.__file__, "--frames", "20000", "--updates", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["frames"] == 20_000
    assert outcome["memory_ratio"] < 1.5
