"""The services under test: as ``run`` starts them, or each by itself over tcp and started again by this harness."""

import os
import resource
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from streamptycho.config import ServiceEndpoints
from streamptycho.wire.endpoint import SocketKind
from streamptycho_services.processes.policy import Restarts
from tests.chain import PROGRAM, Command
from tests.chaos.faults import Fault, Kind
from tests.ports import free_address, free_port
from tests.proxy import Proxy

SERVICES = ("write", "reconstruct", "receive")
INNER = ("writer", "engine", "results")
"""Addresses of the links between them."""
AGAIN_S = 0.1
"""When a service of its own is started again, as systemd would with RestartSec=100ms."""
SETTINGS = {"engine.polish_passes": 8, "engine.threads": 1, "write.result_timeout_s": 300, "write.picture": False}
"""Little to compute; and a writer that waits for a picture which does not come shows as a scan that never ends."""


class Rig(ABC):
    """Services, the proxies in their links, and the faults that are under way."""

    processes: tuple[str, ...]
    links: tuple[str, ...]

    def __init__(self, folder: Path, positions: SocketKind) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.folders = [self.out]
        """Where files of this rig lie."""
        self.endpoints = {"frames": free_address(), "positions": free_address()}
        """Where the detector binds."""
        self.positions_kind = SocketKind.PUB if positions is SocketKind.SUB else SocketKind.PUSH
        self.died: list[str] = []
        """Services that ended and were not killed, in words."""
        self._stack = ExitStack()
        self._positions = positions
        self._due: list[tuple[float, Any]] = []
        """What is to be done later: when, and what."""
        self.proxies: dict[str, Proxy] = {}

    def __enter__(self) -> "Rig":
        with self._stack as stack:
            for name in self.links:
                self.proxies[name] = stack.enter_context(Proxy(_port(self._target(name))))
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        for _, undo in sorted(self._due, key=lambda due: due[0]):
            undo()
        self._due.clear()
        with self._stack:
            self._end()

    def _target(self, link: str) -> str:
        return self.endpoints[link]

    def settings(self) -> dict[str, Any]:
        """Overrides of the configuration that every service gets."""
        frames, positions = (f"tcp://127.0.0.1:{self.proxies[name].port}" for name in ("frames", "positions"))
        detector = {
            "detector.frames": {"address": frames, "socket": "pull"},
            "detector.positions": {"address": positions, "socket": str(self._positions)},
        }
        return SETTINGS | detector | {"write.directory": str(self.out)}

    @abstractmethod
    def _start(self, stack: ExitStack) -> None: ...

    @abstractmethod
    def _end(self) -> None:
        """End all services in order."""

    @abstractmethod
    def pid(self, name: str) -> int | None:
        """Process of a service; None if it has none now."""

    @abstractmethod
    def watched(self) -> ServiceEndpoints:
        """Where the services publish."""

    def pids(self) -> dict[str, int]:
        """Processes by service."""
        return {name: pid for name in self.processes if (pid := self.pid(name)) is not None}

    @abstractmethod
    def logs(self) -> str:
        """What the services have said, once they have ended."""

    def killed(self, name: str) -> float:
        """Note a kill; seconds that are waited before the next start on purpose."""
        return 0.0

    def look(self) -> None:
        """End the faults that are over, start again what is ours to start."""
        now = time.monotonic()
        for due in [due for due in self._due if due[0] <= now]:
            self._due.remove(due)
            due[1]()

    @property
    def at_peace(self) -> bool:
        """True if no fault is under way and every service has a process."""
        return not self._due and all(self.pid(name) is not None for name in self.processes)

    def apply(self, fault: Fault) -> float | None:
        """Begin a fault; for a kill that met its process, the seconds before its next start."""
        until = time.monotonic() + fault.lasts_s
        match fault.kind:
            case Kind.KILL:
                return self.killed(fault.target) if self._signal(fault.target, signal.SIGKILL) else None
            case Kind.STOP:
                if (pid := self._signal(fault.target, signal.SIGSTOP)) is not None:
                    self._due.append((until, lambda: _send(pid, signal.SIGCONT)))
            case Kind.CUT:
                self.proxies[fault.target].cut(refuse=True, reset=fault.lasts_s % 0.2 < 0.1)
                self._due.append((until, self.proxies[fault.target].accept))
            case Kind.STALL:
                self.proxies[fault.target].stall()
                self._due.append((until, self.proxies[fault.target].go_on))
            case Kind.FULL:
                self._fill(until)
            case Kind.GONE:
                away = self.folder / f"away-{len(self.folders)}"
                with suppress(FileNotFoundError):  # nothing was written since the last time
                    self.out.rename(away)
                    self.folders.append(away)
        return None

    def _signal(self, name: str, number: signal.Signals) -> int | None:
        pid = self.pid(name)
        return pid if pid is not None and _send(pid, number) else None

    def _fill(self, until: float) -> None:
        """No file of the writer may become longer than the longest is now."""
        pid, most = self.pid("write"), resource.RLIM_INFINITY
        with suppress(ProcessLookupError):
            if pid is not None:
                longest = max((path.stat().st_size for path in self.out.glob("*.cxi")), default=0)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (longest + (1 << 16), most))
                self._due.append((until, lambda: _unlimit(pid)))

    def files(self, scan_id: str) -> Iterator[Path]:
        """All growing files of a scan, wherever they are."""
        for folder in [*self.folders[1:], self.out]:
            found = (*folder.glob(f"{scan_id}.cxi"), *folder.glob(f"{scan_id}-*.cxi"))
            yield from (path for path in found if ".strict" not in path.name)


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _unlimit(pid: int) -> None:
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _flags(settings: dict[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        yield "--set"
        yield f"{key}={_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)


class Together(Rig):
    """``streamptycho run``, which restarts its services itself; the links between them are its own."""

    processes = (*SERVICES, "page", "documents", "parent")
    links = ("frames", "positions")

    def _start(self, stack: ExitStack) -> None:
        self._restarts = {name: Restarts() for name in self.processes}
        place = self.folder / "t"
        place.mkdir()
        settings = self.settings() | {"services.documents": free_address(), "services.catch_up": free_address()}
        program = ["env", f"TMPDIR={place}", *PROGRAM]
        self.command = Command(program, "run", "--json", "--page-port", free_port(), *_flags(settings))
        stack.enter_context(self.command)
        self.command.wait_while_running(lambda: list(place.glob("streamptycho-*/display_*")), "its sockets")
        self._sockets = next(place.glob("streamptycho-*"))

    def _end(self) -> None:
        self.command.process.send_signal(signal.SIGINT)
        try:
            self.command.wait(120)
        finally:
            (self.folder / "run.log").write_text(self.command.err)
        for line in self.command.err.splitlines():
            if "it is started again" in line and "SIGKILL" not in line:
                self.died.append(line)

    def pid(self, name: str) -> int | None:
        return self.command.process.pid if name == "parent" else self.command.services().get(name)

    def watched(self) -> ServiceEndpoints:
        names = ("display_receive", "display_reconstruct", "display_write")
        return ServiceEndpoints(**{name: f"ipc://{self._sockets / name}" for name in names})

    def logs(self) -> str:
        return (self.folder / "run.log").read_text()

    def killed(self, name: str) -> float:
        now = time.monotonic()
        delay_s = self._restarts[name].died(now)
        self._restarts[name].started(now + delay_s)
        return delay_s


class Apart(Rig):
    """Each service a command of its own, with a proxy in every link."""

    processes = SERVICES
    links = ("frames", "positions", *INNER)

    def __init__(self, folder: Path, positions: SocketKind) -> None:
        super().__init__(folder, positions)
        names = [name for name in ServiceEndpoints.addresses() if name not in ("control", "documents", "catch_up")]
        self._bound = {name: free_address() for name in names}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._starts: dict[str, float] = {}
        self._ours: set[str] = set()

    def _target(self, link: str) -> str:
        return self._bound[link] if link in INNER else self.endpoints[link]

    def _start(self, stack: ExitStack) -> None:
        stack.callback(self._kill_all)
        for name in self.processes:
            self._run(name)

    def _run(self, name: str) -> None:
        through = {link: f"tcp://127.0.0.1:{self.proxies[link].port}" for link in INNER}
        binds = {"receive": ("writer", "engine"), "reconstruct": ("results",)}.get(name, ())
        addresses = self._bound | {link: address for link, address in through.items() if link not in binds}
        settings = self.settings() | {f"services.{key}": address for key, address in addresses.items()}
        with (self.folder / f"{name}.log").open("ab") as log:
            arguments = [*PROGRAM, name, *_flags(settings)]
            self._running[name] = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def look(self) -> None:
        super().look()
        now = time.monotonic()
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                if name not in self._ours:
                    self.died.append(f"{name} ended by itself with {code}")
                self._ours.discard(name)
                del self._running[name]
                self._starts[name] = now + AGAIN_S
        for name, when in list(self._starts.items()):
            if when <= now:
                del self._starts[name]
                self._run(name)

    def killed(self, name: str) -> float:
        self._ours.add(name)
        return AGAIN_S

    def _end(self) -> None:
        for name in reversed(self.processes):
            if (process := self._running.get(name)) is not None:
                process.send_signal(signal.SIGTERM)
                try:
                    code = process.wait(90)
                except subprocess.TimeoutExpired:
                    self.died.append(f"{name} does not end")
                else:
                    if code and name not in self._ours:
                        self.died.append(f"{name} ended with {code}")

    def _kill_all(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def pid(self, name: str) -> int | None:
        process = self._running.get(name)
        return process.pid if process is not None else None

    def watched(self) -> ServiceEndpoints:
        return ServiceEndpoints(**self._bound)

    def logs(self) -> str:
        return "".join((self.folder / f"{name}.log").read_text(errors="replace") for name in self.processes)
