"""What viewers take from the reconstruction: updates per second of a demonstration with and without them, in turn.

``python -m tests.bench.crowd`` runs ``streamptycho demo``, lets it polish for long, and measures alternately without viewers
and with them. The viewers stand for other machines: they read and throw away what they get, in one process, whose time is in
what the reconstruction loses. Processor time of the page, the services and the viewers is told beside it.
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request
from typing import Any

from tests.bench.page import ITEMS, used_s
from tests.chain import PROGRAM, Command, wait_until

SETTLE_S = 2.0
HEAD = 400
"""Bytes at the beginning of a message among which its item is named."""
LONGEST_S = 900.0
PING = 0x89


class Viewer(asyncio.Protocol):
    """A viewer that costs little: it looks at the head of a message, lets the rest go by and asks for the next."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._rest = b""
        self._left = 0
        """Bytes of the present message still to come."""
        self._item = ""
        self.pictures = self.bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket; whatever the key is, the answer is not looked at."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        fields += ["Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", f"Host: {self._host}"]
        transport.write("\r\n".join(["GET /ws HTTP/1.1", *fields, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        """Follow the frames of the protocol (RFC 6455, section 5.2), which come unmasked and whole from a server."""
        self.bytes += len(data)
        here = memoryview(self._rest + data if self._rest else data)
        self._rest = b""
        while len(here):
            if not self._left:
                size = self._begin(bytes(here[: HEAD + 10]))
                if not size:
                    self._rest = bytes(here)
                    return
                here = here[size:]
            step = min(self._left, len(here))
            self._left -= step
            here = here[step:]
            if not self._left and self._item:
                self.pictures += self._item == "phase"
                self._want(self._item)

    def _begin(self, head: bytes) -> int:
        """Take in the beginning of a message; bytes before its content, 0 if there is too little of it."""
        if head.startswith(b"HTTP"):
            end = head.find(b"\r\n\r\n")
            if end >= 0:
                self._want(*ITEMS)
            return end + 4 if end >= 0 else 0
        short = head[1] & 127 if len(head) > 1 else 0
        size = {126: 4, 127: 10}.get(short, 2)
        length = short if size == 2 else int.from_bytes(head[2:size], "big")
        if len(head) < size + min(length, HEAD):
            return 0
        if head[0] == PING:
            self._transport.write(bytes([0x8A, 0x80 | length, 0, 0, 0, 0]) + head[size : size + length])
        found = re.search(rb'"item": ?"(\w+)"', head)
        self._item = found.group(1).decode() if found else ""
        self._left = length
        return size

    def _want(self, *items: str) -> None:
        text = json.dumps({"want": items}).encode()
        self._transport.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)  # masked, with zeros


def look(address: str, viewers: int, seconds: float, told: Any) -> None:
    """Look for a while after `SETTLE_S`; tells pictures per second of each, MiB/s of all and cores in use."""
    host = address.split("/")[2]

    async def watch() -> tuple[float, float, float]:
        loop, (name, port) = asyncio.get_running_loop(), host.rsplit(":", 1)
        made = [(await loop.create_connection(lambda: Viewer(host), name, int(port)))[1] for _ in range(viewers)]
        await asyncio.sleep(SETTLE_S)
        pictures, size, spent = sum(v.pictures for v in made), sum(v.bytes for v in made), time.process_time()
        begun = time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - begun
        shown = (sum(v.pictures for v in made) - pictures) / took / viewers
        return shown, (sum(v.bytes for v in made) - size) / took / 2**20, (time.process_time() - spent) / took

    told.put(asyncio.run(watch()))


def facts(address: str) -> dict[str, Any]:
    """The figures of the scan that the page gives."""
    with urllib.request.urlopen(address + "status", timeout=30) as answer:
        return json.loads(answer.read())["facts"] or {}


def parts(demo: int) -> dict[str, list[int]]:
    """Processes of a demonstration: the page, which gives way to the others, and these."""
    lines = subprocess.check_output(["ps", "-eo", "pid,ppid,ni", "--no-headers"], text=True).splitlines()
    mine = [(int(pid), int(nice)) for pid, parent, nice in map(str.split, lines) if int(parent) == demo]
    return {"page": [pid for pid, nice in mine if nice > 0], "services": [pid for pid, nice in mine if nice == 0]}


def spell(address: str, demo: int, viewers: int, seconds: float) -> dict[str, float]:
    """One spell of time: updates per second between two changes of their count, and cores in use."""
    spawn = multiprocessing.get_context("spawn")
    told = spawn.Queue()
    lookers = spawn.Process(target=look, args=(address, viewers, seconds, told))
    if viewers:
        lookers.start()
    time.sleep(2 * SETTLE_S)
    processes = parts(demo)
    before = {name: sum(map(used_s, pids)) for name, pids in processes.items()}
    begun, seen = time.monotonic(), [(0.0, facts(address)["updates"])]
    while time.monotonic() - begun < seconds - SETTLE_S:
        time.sleep(0.1)
        updates = facts(address)["updates"]
        if updates != seen[-1][1]:
            seen.append((time.monotonic(), updates))
    took = time.monotonic() - begun
    said = {f"{name}_cores": (sum(map(used_s, pids)) - before[name]) / took for name, pids in processes.items()}
    assert len(seen) > 2, f"no updates in {seconds:g} s"
    (first_s, first), (last_s, last) = seen[1], seen[-1]
    said["updates_hz"] = (last - first) / (last_s - first_s)
    if viewers:
        said["pictures_hz"], said["mib_per_s"], said["viewers_cores"] = told.get(timeout=LONGEST_S)
        lookers.join()
    return {name: round(value, 3) for name, value in said.items()}


def main() -> None:
    """Print one JSON line per pair of spells, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--frames", type=int, default=1600)
    parser.add_argument("--shape", type=int, default=256)
    parser.add_argument("--rate", type=float, default=400)
    given, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as output:
        settings = ["--set", "engine.polish_passes=100000", "--set", "engine.polish_tolerance=0"]
        source = ["--frames", given.frames, "--shape", given.shape]
        flags = ["--page-port", 0, "--rate", given.rate, "--output", output, *settings, *more, *source]
        with Command(PROGRAM, "demo", *flags, warnings="default") as demo:
            demo.wait_while_running(lambda: "live page" in demo.err, "the address", LONGEST_S)
            address = re.findall(r"live page: (\S+)", demo.err)[0]
            wait_until(lambda: facts(address).get("state") == "polishing", "the last frame", LONGEST_S)
            time.sleep(3 * SETTLE_S)
            without, among = [], []
            for _ in range(given.pairs):
                without.append(spell(address, demo.process.pid, 0, given.seconds))
                among.append(spell(address, demo.process.pid, given.viewers, given.seconds))
                print(json.dumps({"without": without[-1], "with": among[-1]}), flush=True)
            demo.process.send_signal(signal.SIGINT)
            demo.wait()
    ratios = [b["updates_hz"] / a["updates_hz"] for a, b in zip(without, among, strict=True)]
    medians = {name: round(statistics.median(one[name] for one in among), 3) for name in among[0]}
    print(json.dumps({"ratio": round(statistics.median(ratios), 3), "ratios": [round(r, 3) for r in ratios], **medians}))


if __name__ == "__main__":
    main()
