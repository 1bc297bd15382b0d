"""ophyd-async as it is installed: a fly scan whose files are followed while it flies."""

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from streamptycho.compose.options import Role
from streamptycho.errors import ProtocolError
from streamptycho.messages.facts import Began, Ended, Fact, Frames, Samples
from streamptycho.sources.listener import listen
from streamptycho.sources.options import DetectorEndpoint
from streamptycho.wire.security import NO_KEYS
from streamptycho.wire.sockets import new_context
from tests.peers.simplon import program

FLIGHT = Path(__file__).with_name("ophyd_async_flight.py")
FRAMES = 25


@pytest.mark.peers
def test_frames_and_values_of_a_fly_scan_come_while_it_flies(tmp_path: Path):
    python = program("bluesky", "python")
    command, heard = [str(python), str(FLIGHT), str(tmp_path), str(FRAMES)], list[Fact]()
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as flight, new_context(NO_KEYS) as context:
        assert flight.stdout is not None
        address = flight.stdout.readline().strip()
        endpoint = DetectorEndpoint(address=address, format="bluesky", options={"frames": "det"})
        with listen(context, {Role.FRAMES: endpoint}) as listener:
            end_s, in_flight = time.monotonic() + 120, 0
            came_s: dict[int, float] = {}
            while not any(isinstance(fact, Ended) for fact in heard):
                assert time.monotonic() < end_s, heard
                told = listener.receive(0.05)
                heard += [] if told is None else [told.fact]
                if told is not None and isinstance(told.fact, Frames):
                    came_s |= dict.fromkeys(told.fact.number.tolist(), time.time())
                in_flight += isinstance(heard[-1] if heard else None, Frames) and flight.poll() is None
        sent = [line.split() for line in flight.communicate(timeout=60)[0].splitlines()]
    waits_s = [came_s[int(stop) - 1] - float(time_s) for stop, time_s in sent]
    print(f"from stream_datum to frames: {np.median(waits_s):.3f} s, {max(waits_s):.3f} s at most, of {len(waits_s)}")
    assert [fact for fact in heard if isinstance(fact, ProtocolError)] == []
    began, end = heard[0], heard[-1]
    assert isinstance(began, Began)
    assert began.parts.metadata["sample"] == "star"
    assert end == Ended(run=began.run, count=FRAMES)
    pixels = {n: f.payload.decode(i) for f in heard if isinstance(f, Frames) for i, n in enumerate(f.number.tolist())}
    sums = {n: s for f in heard if isinstance(f, Samples) for n, s in zip(f.number, f.columns["det-sum"], strict=True)}
    assert sorted(pixels) == sorted(sums) == list(range(FRAMES))
    assert [pixels[n].sum(dtype=np.int64) for n in range(FRAMES)] == [sums[n] for n in range(FRAMES)]
    assert in_flight > 3, "blocks that came while the plan was running"
