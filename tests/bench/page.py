"""What viewers cost: CPU and memory of the page's process while many look at a large object, and while some sleep.

``python -m tests.bench.page`` publishes snapshots, runs ``streamptycho dashboard`` as a process and connects viewers that
ask for the next phase, status, probe and curve when they have the last, as a browser does.
"""

import argparse
import asyncio
import json
import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import websockets

from streamptycho_services.dashboard.images import unpack
from tests.chain import PROGRAM
from tests.chain import Command as Program
from tests.dashboard.show import Show, Stage

ITEMS = ("phase", "status", "probe", "curve")
TICKS_PER_S = 100.0


def used_s(process: int) -> float:
    """Processor time of a process so far, seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_mib(process: int) -> float:
    """Memory of a process, MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


class Source(threading.Thread):
    """Publishes a snapshot of `side` squared pixels and the statuses, `rate_hz` times a second."""

    def __init__(self, stage: Stage, side: int, rate_hz: float) -> None:
        super().__init__()
        self.stage, self.rate_hz = stage, rate_hz
        self.stop = threading.Event()
        self.show = Show(frames=50, shape=128)
        base = np.resize(self.show.scan.obj, (side, side)).astype(np.complex64)
        self.first = self.show.snapshot(1)
        self.published = 0
        self.objects = [np.roll(base, 3 * i, axis=0) for i in range(4)]
        self.covered = np.ones((side, side), np.bool_)

    def run(self) -> None:
        """Until stopped."""
        due = time.monotonic()
        while not self.stop.is_set():
            self.published += 1
            obj, now = self.objects[self.published % len(self.objects)], time.time_ns()
            snapshot = replace(self.first, sequence=self.published, object=obj, covered=self.covered, time_ns=now)
            self.stage.send(snapshot, *self.show.statuses(0.9))
            due += 1 / self.rate_hz
            self.stop.wait(max(0, due - time.monotonic()))


class Viewer:
    """One browser, without drawing."""

    def __init__(self, address: str) -> None:
        self.address = address.replace("http", "ws") + "ws"
        self.pictures = 0
        self.bytes = 0
        self.asleep = False
        self.pauses_s: list[float] = []

    async def look(self) -> None:
        """Ask, take, ask again; while asleep take nothing."""
        async with websockets.connect(self.address, max_size=None, compression=None) as socket:
            await socket.send(json.dumps({"want": ITEMS}))
            while True:
                while self.asleep:
                    await asyncio.sleep(0.05)
                message = await socket.recv()
                self.bytes += len(message)
                header = json.loads(message) if isinstance(message, str) else unpack(message)[0]
                self.pictures += header["item"] == "phase"
                await socket.send(json.dumps({"want": [header["item"]]}))


async def measure(source: Source, address: str, process: int, viewers: int, sleepers: int, seconds: float) -> dict[str, Any]:
    """Rates and costs over `seconds`, after two seconds to settle."""
    made = [Viewer(address) for _ in range(viewers)]
    tasks = [asyncio.create_task(viewer.look()) for viewer in made]
    await asyncio.sleep(2)
    for viewer in made[:sleepers]:
        viewer.asleep = True
    await asyncio.sleep(0.5)
    pictures, sent = [viewer.pictures for viewer in made], sum(viewer.bytes for viewer in made)
    published = source.published
    cpu, begun, memory = used_s(process), time.monotonic(), [resident_mib(process)]
    while time.monotonic() - begun < seconds:
        await asyncio.sleep(0.5)
        memory.append(resident_mib(process))
    took = time.monotonic() - begun
    awake = [(v.pictures - before) / took for v, before in zip(made, pictures, strict=True)][sleepers:]
    report = {
        "viewers": viewers,
        "asleep": sleepers,
        "published_hz": round((source.published - published) / took, 2),
        "pictures_hz": round(float(np.mean(awake)), 2) if awake else None,
        "slowest_hz": round(min(awake), 2) if awake else None,
        "mib_per_s": round((sum(v.bytes for v in made) - sent) / took / 2**20, 1),
        "cpu_percent": round(100 * (used_s(process) - cpu) / took, 1),
        "memory_mib": [round(memory[0]), round(max(memory)), round(memory[-1])],
    }
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return report


def main() -> None:
    """Print one JSON line per number of viewers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rate-hz", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--viewers", default="0,1,5,20,20/5", help="Numbers of viewers; 20/5: of 20, 5 sleep.")
    given = parser.parse_args()
    with Stage() as stage:
        settings = [f"services.{name}={value}" for name, value in stage.services.model_dump().items()]
        flags = [part for setting in settings for part in ("--set", setting)]
        with Program(PROGRAM, "dashboard", "--port", 0, *flags, warnings="default") as page:
            page.wait_while_running(lambda: "live page" in page.err, "the address")
            address = re.findall(r"live page: (\S+)", page.err)[0]
            stage.wait()
            source = Source(stage, given.side, given.rate_hz)
            source.start()
            try:
                for case in given.viewers.split(","):
                    viewers, _, sleepers = case.partition("/")
                    numbers = (int(viewers), int(sleepers or 0))
                    report = measure(source, address, page.process.pid, *numbers, given.seconds)
                    print(json.dumps(asyncio.run(report)), flush=True)
            finally:
                source.stop.set()
                source.join()
            sys.stderr.write(page.err)


if __name__ == "__main__":
    main()
