"""The demonstration: a simulated or replayed detector and all services, each its own process, until the picture is done."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamptycho.config import Config, DetectorEndpoints
from streamptycho.errors import ConfigError
from streamptycho.transport import Endpoint, SocketKind
from streamptycho_services.dashboard.server import PageOptions
from streamptycho_services.documents.beside import DocumentsBeside
from streamptycho_services.local import with_ipc
from streamptycho_services.session import Session, local_session
from streamptycho_services.summary import problems, summarise

READY_S = 300.0
"""Longest time for the services to get ready: the first time ever, their kernels are compiled."""
QUIET_S = 1.0
"""How long nothing new must happen, after everything is written, before the demonstration ends."""


class DemoFailedError(RuntimeError):
    """The simulator ended before its time."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is sent."""

    replay: Path | None
    """Recorded scan; None simulates one."""
    rate_hz: float
    arguments: Sequence[str] = ()
    """Further flags for the simulator."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the demonstration went."""

    summary: dict[str, Any]
    interrupted: bool
    problems: Sequence[str] = ()
    """What the services say went wrong with a scan."""


def run_demo(
    config: Config, source: Source, page: PageOptions | None, *, documents: bool, as_json: bool, stay: bool = False
) -> Outcome:
    """Run until every scan that was sent is written and polished; with `stay` until somebody interrupts.

    With `documents`, also for bluesky.

    Raises :class:`DemoFailedError` if the simulator dies, :class:`ServiceDiedError` if a service does.
    """
    directory = config.write.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be created ({error.strerror}); choose another --output") from error
    truth = directory / "truth.npz" if source.replay is None else None
    with tempfile.TemporaryDirectory(prefix="streamptycho-") as name:
        config = with_ipc(config, Path(name)).model_copy(update={"detector": _detector(name)})
        beside = DocumentsBeside(config, json_logs=as_json) if documents else nullcontext()
        with beside, local_session(config, page, as_json=as_json) as session:
            _await_services(session, as_json=as_json)
            said = Path(name) / "simulator.log"  # a pipe that nobody reads would stop the simulator when it is full
            with said.open("w") as log:
                simulator = subprocess.Popen(_command(source, name, truth), stderr=log)
            try:
                complete = _watch(session, simulator, said)
                if complete and stay:
                    _stay(session)
            finally:
                _stop(simulator)
        summary = summarise(session.watcher, truth)
        return Outcome(summary, not complete, problems(summary))


def _detector(directory: str) -> DetectorEndpoints:
    return DetectorEndpoints(
        frames=Endpoint(address=f"ipc://{directory}/frames", socket=SocketKind.PULL),
        positions=Endpoint(address=f"ipc://{directory}/positions", socket=SocketKind.SUB),
    )


def _command(source: Source, directory: str, truth: Path | None) -> list[str]:
    """The simulator is another program: the services do not know it."""
    what = ["replay", str(source.replay)] if source.replay is not None else ["synthetic", "--truth", str(truth)]
    addresses = ["--frames-address", f"ipc://{directory}/frames", "--positions-address", f"ipc://{directory}/positions"]
    rate = ["--rate-hz", str(source.rate_hz)] if source.rate_hz > 0 else []
    return [sys.executable, "-m", "streamptycho_sim", *what, *addresses, *rate, *source.arguments]


def _await_services(session: Session, *, as_json: bool) -> None:
    """Begin when the picture can form from the first frame on; raises :class:`DemoFailedError` if that takes too long."""
    begun, told = time.monotonic(), as_json
    while not session.watcher.ready and not session.interrupted.is_set():
        session.look()
        waited_s = time.monotonic() - begun
        if waited_s > 5 and not told:
            told = True
            print("compiling the kernels: half a minute, the first time only", file=sys.stderr, flush=True)
        if waited_s > READY_S:
            raise DemoFailedError(f"the services are not ready after {READY_S:.0f} s")


def _watch(session: Session, simulator: "subprocess.Popen[bytes]", said: Path) -> bool:
    """Show progress until all is written (true), somebody interrupts (false), or something dies (an exception)."""
    watcher = session.watcher
    quiet_since = time.monotonic()
    while not session.interrupted.is_set():
        session.look()
        code = simulator.poll()
        if code not in (None, 0) and not session.interrupted.is_set():
            raise DemoFailedError(f"the simulator ended with exit code {code}: {said.read_text().strip()}")
        if code is None or not watcher.scans or len(watcher.written()) < len(watcher.scans):
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > QUIET_S:
            return True
    return False


def _stay(session: Session) -> None:
    """Leave all as it is, so that the page can be looked at."""
    print("finished; the live page stays until Ctrl-C", file=sys.stderr, flush=True)
    while not session.interrupted.is_set():
        session.look()


def _stop(simulator: "subprocess.Popen[bytes]") -> None:
    if simulator.poll() is None:
        simulator.send_signal(signal.SIGINT)
    try:
        simulator.wait(15)
    except subprocess.TimeoutExpired:
        simulator.kill()
        simulator.wait()
