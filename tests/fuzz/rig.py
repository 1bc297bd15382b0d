"""The real programs, each form with addresses of its own, and what their processes hold."""

import tempfile
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from streamptycho.config import ServiceEndpoints
from streamptycho_services.processes.folder import INNER, PREFIX
from tests.chain import LONG_S, PROGRAM, Command
from tests.ports import free_address, free_port

DETECTOR = ("frames", "positions")
TOKEN = "fuzz-token-of-the-page"
NAMES = ("write", "reconstruct", "receive", "page", "documents")
SETTINGS = {
    "engine.polish_passes": "20",
    "match.settle_s": "0.5",
    "match.positions_grace_s": "2",
    "match.timeout_s": "5",
    "write.result_timeout_s": "20",
    "reconstruct.allow_control": "true",
}


@dataclass(frozen=True, slots=True)
class Use:
    """What a process holds."""

    rss_bytes: int
    descriptors: int
    threads: int


def use_of(pid: int) -> Use:
    """The same for a process that runs."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    rss, threads = 1024 * int(status["VmRSS"].split()[0]), int(status["Threads"])
    return Use(rss, len(list(Path(f"/proc/{pid}/fd").iterdir())), threads)


class Rig(ABC):
    """All services, the page and the documents, while the context is entered; files go to `folder`.

    Attributes
    ----------
    addresses : of the inner sockets and the documents, by the names of the configuration, and ``frames`` and ``positions``.
    page : port of the live page.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        self.page = free_port()
        self.addresses = {name: free_address() for name in ("documents", "catch_up", "frames", "positions")}
        self._commands: dict[str, Command] = {}

    def __enter__(self) -> "Rig":
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def services(self) -> ServiceEndpoints:
        """The addresses as a viewer wants them."""
        return ServiceEndpoints(**{name: self.addresses[name] for name in ServiceEndpoints.addresses()})

    def _flags(self) -> list[str]:
        made = SETTINGS | {
            "detector.frames": f"{{address = '{self.addresses['frames']}', socket = 'pull', bind = true}}",
            "detector.positions": f"{{address = '{self.addresses['positions']}', socket = 'sub', bind = true}}",
            "write.directory": f"'{self.output}'",
        }
        made |= {f"services.{name}": f"'{address}'" for name, address in self.addresses.items() if name not in DETECTOR}
        return ["--json", *(item for key, value in made.items() for item in ("--set", f"{key}={value}"))]

    @abstractmethod
    def _start(self, stack: ExitStack) -> None: ...

    @abstractmethod
    def pids(self) -> dict[str, int]:
        """Processes by name."""

    def said(self) -> str:
        """Standard error of all programs."""
        return "".join(command.err for command in self._commands.values())

    def end(self) -> list[int]:
        """End everything in order, what sends first; the exit codes."""
        codes = []
        for command in reversed(self._commands.values()):
            command.process.terminate()
            codes.append(command.wait(LONG_S))
        return codes


class Together(Rig):
    """``streamptycho run``."""

    def _start(self, stack: ExitStack) -> None:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fz-", dir="/tmp")))
        flags = ["run", *self._flags(), "--allow-control", "--page-port", self.page, "--page-token", TOKEN]
        run = Command(["env", f"TMPDIR={temporary}", *PROGRAM], *flags)
        self._commands["run"] = stack.enter_context(run)
        run.wait_while_running(lambda: set(NAMES) <= set(run.services()), "the services")
        (sockets,) = temporary.glob(f"{PREFIX}*")
        self.addresses |= {name: f"ipc://{sockets / name}" for name in INNER}

    def pids(self) -> dict[str, int]:
        run = self._commands["run"]
        return run.services() | ({"run": run.process.pid} if run.process.poll() is None else {})


class Apart(Rig):
    """Each service as a program of its own, all over tcp."""

    def _start(self, stack: ExitStack) -> None:
        self.addresses |= {name: free_address() for name in INNER}
        for name in NAMES:
            page = ["dashboard", "--port", self.page, "--token", TOKEN, "--allow-control"]
            command = Command([*PROGRAM, *map(str, page if name == "page" else [name]), *self._flags()])
            self._commands[name] = stack.enter_context(command)

    def pids(self) -> dict[str, int]:
        return {name: command.process.pid for name, command in self._commands.items() if command.process.poll() is None}
