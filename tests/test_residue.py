"""What scans leave behind in services that go on: nothing that grows with their number."""

import gc
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from streamptycho.compose import watch
from streamptycho.files.durable import disk
from streamptycho.messages.run import RunId
from streamptycho.messages.stream import ScanEnd, ScanStart
from streamptycho.wire.sockets import Sender, new_context
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.scan import SimulatedScan, SyntheticOptions
from streamptycho_sim.stream import Stream
from tests.chain import config, in_threads, outlets, wait_until, wait_written

SCANS = 4
"""Between two looks."""
FULL, BURSTS = 2, 5
"""After so many, what is remembered of the last scans (`ENDED_SCANS`) is; after so many at most there is nothing more."""
SETTLE_S = 20.0
"""More than the last words on a scan are repeated."""
REMEMBERED = {f"{RunId.__module__}.{RunId.__name__}", "collections.deque"}
"""The last runs are remembered, up to some hundred or thousand of them."""


def held() -> Counter[str]:
    """Objects of this process by type, its descriptors and its threads."""
    gc.collect()
    objects = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    return objects + Counter(descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()), threads=threading.active_count())


def grown(before: Counter[str]) -> dict[str, int]:
    """What there is more of: a descriptor, a thread, or an object for each scan."""
    more = held() - before
    least = dict.fromkeys(("descriptors", "threads"), 1)
    return {name: n for name, n in more.items() if n >= least.get(name, SCANS) and name not in REMEMBERED}


def grown_for_good(before: Counter[str]) -> dict[str, int]:
    """The same once last words are not repeated any more."""
    until_s = time.monotonic() + SETTLE_S
    while (more := grown(before)) and time.monotonic() < until_s:
        time.sleep(0.5)
    return more


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what a process holds")
def test_scans_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "SLOW_S", 60.0)  # no matter how busy the machine is
    monkeypatch.setattr(watch, "_KEPT", SCANS)  # remembered up to a number, which is reached here before the first look
    settings = config(tmp_path, engine__polish_passes=1, engine__threads=1)
    simulated = SimulatedScan(SyntheticOptions(frames=30, shape=32, probe_start="guess"))
    with new_context() as context, in_threads(settings, context) as check:
        senders = {
            stream: Sender(context, outlet, linger_s=0)
            for stream, outlet in zip((Stream.FRAMES, Stream.POSITIONS), outlets(settings.detector), strict=True)
        }

        def run(first: int) -> None:
            names = [f"s{n}" for n in range(first, first + SCANS)]
            with Watcher(context, settings.services) as watcher:
                wait_until(lambda: watcher.poll(0.05) or watcher.ready, "the services")
                wait_until(lambda: all(sender.wait_for_peer(0.1) for sender in senders.values()), "the receiver")
                for n, name in enumerate(names, first + 1):
                    for item in simulated.items():
                        message = replace(item.message, scan_id=name)
                        if isinstance(message, ScanStart | ScanEnd):
                            message = replace(message, started_ns=n)
                        assert senders[item.stream].send(message, wait_s=60)
                    wait_written(watcher, name, check=check)

        try:
            for burst in range(FULL):
                run(burst * SCANS)
            for burst in range(FULL, BURSTS):
                before = held()
                run(burst * SCANS)
                left = grown_for_good(before)
                if not left:
                    break  # what is made once is made at some time: only what every burst leaves is a residue
            assert not left, f"each {SCANS} scans leave {left}"
        finally:
            for sender in senders.values():
                sender.close()
