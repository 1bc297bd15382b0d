"""The whole chain under test: services in threads or processes, commands in a process group of their own, and what came out.

Whatever is started here is gone when its ``with`` block ends, also if the test failed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from streamptycho.config import Config, ServiceEndpoints, load
from streamptycho.files.scan import open_scan
from streamptycho.messages.stream import Frame, ScanStart
from streamptycho.sources.options import DetectorEndpoint, DetectorEndpoints
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho_services.commands.session import service_works
from streamptycho_services.processes import started
from streamptycho_services.processes.runtime import Control
from streamptycho_services.processes.services import SERVICES
from streamptycho_services.processes.supervisor import Supervisor
from streamptycho_services.processes.watch import Watcher
from streamptycho_sim.faults import FaultOptions, inject
from streamptycho_sim.scan import SimulatedScan
from streamptycho_sim.stream import Items
from streamptycho_sim.tally import ScanTally, Tally
from tests.ports import free_address

LIVE = "/entry_1/streamptycho"
PROGRAM = [sys.executable, "-m", "streamptycho_services.cli"]
SIMULATOR = [sys.executable, "-m", "streamptycho_sim"]
LONG_S = 60.0
"""More than enough for anything that is waited for."""


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = LONG_S) -> Any:
    """The first true value of `condition`; fails with `what` if none comes in time."""
    until = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(0.02)
    return value


class Command:
    """A program and all processes that it starts.

    ::

        with Command(PROGRAM, "demo", "--json") as demo:
            assert demo.wait() == 0
    """

    def __init__(self, program: Sequence[str], *arguments: object, warnings: str = "error") -> None:
        self._arguments = [*program, *map(str, arguments)]
        self._environment = os.environ | {"PYTHONWARNINGS": warnings}

    def __enter__(self) -> "Command":
        with ExitStack() as stack:
            self._out = stack.enter_context(tempfile.NamedTemporaryFile("w+"))
            self._err = stack.enter_context(tempfile.NamedTemporaryFile("w+"))
            self.process = subprocess.Popen(
                self._arguments, stdout=self._out, stderr=self._err, env=self._environment, start_new_session=True
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            if not self.gone():
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def out(self) -> str:
        """Standard output so far."""
        return Path(self._out.name).read_text()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return Path(self._err.name).read_text()

    def wait(self, timeout_s: float = LONG_S) -> int:
        """Exit code; no process that the program has started outlives it by long."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s; it said\n{self.err[-2000:]}") from None
        wait_until(self.gone, "processes are left behind", 10)
        return code

    def wait_while_running(self, condition: Callable[[], Any], what: str, timeout_s: float = LONG_S) -> None:
        """Wait for `condition`; fails with what the program said if it ends before, or if it takes too long."""
        until = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"ended before {what}; it said\n{self.err[-2000:]}"
            assert time.monotonic() < until, f"waited {timeout_s:g} s in vain for {what}; it said\n{self.err[-2000:]}"
            time.sleep(0.02)

    def gone(self) -> bool:
        """True if neither the program nor anything that it has started runs any more."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def report(self) -> dict[str, Any]:
        """The one line on standard output."""
        lines = self.out.splitlines()
        assert len(lines) == 1, (lines, self.err[-2000:])
        return json.loads(lines[0])

    def progress(self) -> list[dict[str, Any]]:
        """JSON lines on standard error."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    def services(self) -> dict[str, int]:
        """Process ids of the services that the program itself runs now, by their names."""
        found = {}
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
                arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if started.__name__.encode() in arguments:
                    found[arguments[arguments.index(started.__name__.encode()) + 1].decode()] = int(child)
        return found


def config(directory: Path, detector: DetectorEndpoints | None = None, **overrides: Any) -> Config:
    """Services at free TCP ports of this machine, writing to `directory`; ``engine__modes=2`` sets ``engine.modes``."""
    made = load(None, {"write.directory": directory} | {key.replace("__", "."): v for key, v in overrides.items()})
    services = ServiceEndpoints(**{name: free_address() for name in ServiceEndpoints.addresses()})
    return made.model_copy(update={"services": services, "detector": detector or detector_at()})


def detector_at(
    frames: str | None = None, positions: str | None = None, kind: SocketKind = SocketKind.PULL, *, bind: bool = False
) -> DetectorEndpoints:
    """The receiver's side of a detector."""
    return DetectorEndpoints(
        frames=DetectorEndpoint(address=frames or free_address(), socket=kind, bind=bind),
        positions=DetectorEndpoint(address=positions or free_address(), socket=SocketKind.SUB, bind=bind),
    )


def address_flags() -> list[str]:
    """Flags that put both detector streams, and what others listen to, at free ports."""
    frames, positions = free_address(), free_address()
    return [
        "--set", f"detector.frames={{address='{frames}', socket='pull'}}",
        "--set", f"detector.positions={{address='{positions}', socket='sub'}}",
        "--set", f"services.documents='{free_address()}'",
        "--set", f"services.catch_up='{free_address()}'",
    ]  # fmt: skip


def at(flags: Sequence[str]) -> list[str]:
    """The simulator's flags for the same detector streams."""
    frames, positions = (re.findall(r"address='([^']+)'", flag)[0] for flag in flags if "address" in flag)
    return ["--frames-address", frames, "--positions-address", positions]


def handles_signals(process: int) -> bool:
    """True once a process handles SIGTERM, which no program does before it is asked to."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def outlets(detector: DetectorEndpoints) -> tuple[Endpoint, Endpoint]:
    """The detector's side: what fits the receiver's."""
    other = {SocketKind.PULL: SocketKind.PUSH, SocketKind.SUB: SocketKind.PUB}
    sides = (detector.frames, detector.positions)
    frames, positions = (Endpoint(address=e.address, socket=other[e.socket], bind=not e.bind) for e in sides)
    return frames, positions


@contextmanager
def in_threads(settings: Config, context: Any, others: dict[str, Config] | None = None) -> Iterator[Callable[[], None]]:
    """All services in threads of this process; ends them in order, and fails if one has failed.

    `others`: settings of services that have their own.
    What the block is given raises, when called, what a service has failed with.
    """
    controls = {name: Control(finish=threading.Event(), kill=threading.Event()) for name in SERVICES}
    failures: list[BaseException] = []

    def run(name: str) -> None:
        try:
            SERVICES[name]((others or {}).get(name, settings), controls[name], context)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(error)

    def check() -> None:
        if failures:
            raise failures[0]

    threads = {name: threading.Thread(target=run, args=(name,), name=f"test-{name}") for name in SERVICES}
    for thread in threads.values():
        thread.start()
    try:
        yield check
    except BaseException:
        for control in controls.values():
            control.kill.set()
        raise
    finally:
        for name in reversed(SERVICES):
            controls[name].finish.set()
            threads[name].join(LONG_S)
        check()


@contextmanager
def in_processes(settings: Config) -> Iterator[Supervisor]:
    """All services in processes of their own; fails if one has died."""
    with Supervisor(service_works(settings), hung_s=settings.services.hung_s) as services:
        yield services
        services.look(serving=True)
        assert set(services.pids) == set(SERVICES)


def wait_written(watcher: Watcher, *scans: str, check: Callable[[], Any] = lambda: None, timeout_s: float = LONG_S) -> None:
    """Wait until the files of all of `scans` are closed; `check` may raise a reason to give up."""

    def done() -> bool:
        check()
        watcher.poll(0.05)
        return set(scans) <= set(watcher.written())

    wait_until(done, f"{scans} to be written; so far {watcher.written()} of {watcher.scans}", timeout_s)


def sent(scan: SimulatedScan, faults: FaultOptions) -> ScanTally:
    """What a simulator that makes these faults will send of a scan, without sending it."""
    tally = Tally()
    for item in inject(scan.items(0), faults, tally):
        tally.sent(item.message, ())  # type: ignore[arg-type]
    return tally.of(scan.options.scan_id)


def pixels_of(items: Items) -> dict[str, dict[int, np.ndarray]]:
    """Scan id to frame index to pixels, of all frames with beam."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for item in items:
        message = item.message
        if isinstance(message, ScanStart):
            found.setdefault(message.scan_id, {})
        elif isinstance(message, Frame) and not message.dark:
            for i, index in enumerate(message.index.tolist()):
                found[message.scan_id][index] = message.payload.decode(i)
    return found


def assert_frames(path: Path, expected: dict[int, np.ndarray]) -> None:
    """Exactly these frames are in the file, bit for bit."""
    with open_scan(path) as scan:
        assert scan.index.tolist() == sorted(expected)
        for index, pixels in expected.items():
            np.testing.assert_array_equal(scan.frame(index), pixels, err_msg=f"frame {index} of {path.name}")


def assert_positions(path: Path, yx_m: np.ndarray, known: set[int]) -> None:
    """Exactly these positions are in the file."""
    with open_scan(path) as scan:
        assert set(np.flatnonzero(np.isfinite(scan.yx_m).all(1)).tolist()) == known
        rows = sorted(known)
        np.testing.assert_array_equal(scan.yx_m[rows], yx_m[rows])


def facts(path: Path) -> dict[str, Any]:
    """What the file of a finished scan says about it; opened as any reader would, so it must have been closed in order."""
    with h5py.File(path, "r") as file:
        live = file[LIVE]
        dropped = {name: int(value[()]) for name, value in live["counters/dropped"].items() if value[()]}
        names = ("n_frames", "received", "used", "waiting", "missing", "missing_positions")
        counters = {name: int(live[f"counters/{name}"][()]) for name in names}
        snapshots = live["snapshots"]
        return {
            "complete": int(live["complete"][()]),
            "end_reason": live["end_reason"][()].decode(),
            "config": json.loads(live["config"][()]),
            "picture_shape": file["/entry_1/image_1/data"].shape,
            "timestamp_ns": live["timestamp_ns"][()],
            "dropped": dropped,
            **counters,
            **{name: snapshots[name][()] for name in ("time_ns", "frames_used", "sequence", "shape")},
        }


def assert_adds_up(ledger: dict[str, Any]) -> None:
    """Every frame that was received is somewhere."""
    assert ledger["received"] == ledger["used"] + ledger["waiting"] + sum(ledger["dropped"].values()), ledger
