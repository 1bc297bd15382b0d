"""The demonstration: a simulated or replayed detector and all services, each its own process, until all is written."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamptycho.config import Config
from streamptycho.sources.options import DetectorEndpoint, DetectorEndpoints
from streamptycho.wire.endpoint import SocketKind
from streamptycho_services.commands.session import Beside, Session, local_session
from streamptycho_services.commands.summary import summarise
from streamptycho_services.dashboard.server import PageOptions
from streamptycho_services.errors import FailedError
from streamptycho_services.processes.folder import socket_folder

READY_S = 300.0
"""Longest time for the services to get ready: the first time ever, their kernels are compiled."""
QUIET_S = 1.0
"""How long nothing new must happen, after everything is written, before the demonstration ends."""

STOP_S = 3.0
"""How long the simulator may take to end."""


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


def run_demo(
    config: Config, source: Source, page: PageOptions | None, *, documents: bool, as_json: bool, stay: bool = False
) -> Outcome:
    """Run until every scan that was sent is written and polished; with `stay`, until interrupted.

    With `documents`, also for bluesky. Raises :class:`FailedError` if the simulator dies or the services do not get ready.
    """
    truth = config.write.directory / "truth.npz" if source.replay is None else None
    with socket_folder() as folder:
        detector = DetectorEndpoints(
            frames=DetectorEndpoint(address=f"ipc://{folder.path}/frames", socket=SocketKind.PULL),
            positions=DetectorEndpoint(address=f"ipc://{folder.path}/positions", socket=SocketKind.SUB),
        )
        config = config.model_copy(update={"detector": detector})
        with local_session(config, folder, Beside(page, documents), as_json=as_json) as session:
            _await_services(session, as_json=as_json)
            said = folder.path / "simulator.log"  # a pipe that nobody reads would stop the simulator when it is full
            with said.open("w") as log:
                simulator = subprocess.Popen(_command(source, detector, truth), stderr=log)
            try:
                complete = _watch(session, simulator, said)
                if complete and stay:
                    print("all scans are written; the live page stays until Ctrl-C", file=sys.stderr, flush=True)
                while complete and stay and not session.interrupted.is_set():
                    session.look()
            finally:
                _stop(simulator)
        services = session.services
        summary = summarise(session.watcher, truth, services.failures) | {"restarts": services.restarts}
        return Outcome(summary, not complete)


def _command(source: Source, detector: DetectorEndpoints, truth: Path | None) -> list[str]:
    """The simulator is another program: the services do not know it."""
    what = ["replay", str(source.replay)] if source.replay is not None else ["synthetic", "--truth", str(truth)]
    addresses = ["--frames-address", detector.frames.address, "--positions-address", detector.positions.address]
    rate = ["--rate-hz", str(source.rate_hz)] if source.rate_hz > 0 else []
    return [sys.executable, "-m", "streamptycho_sim", *what, *addresses, *rate, *source.arguments]


def _await_services(session: Session, *, as_json: bool) -> None:
    """Begin when the picture can form from the first frame on; raises :class:`FailedError` if that takes too long."""
    begun, announced = time.monotonic(), as_json
    while not session.watcher.ready and not session.interrupted.is_set():
        session.look()
        if session.services.looping:
            raise FailedError(f"{', '.join(session.services.looping)} cannot be kept running; the messages above say why")
        waited_s = time.monotonic() - begun
        if waited_s > 5 and not announced:
            announced = True
            print("compiling the kernels: half a minute, the first time only", file=sys.stderr, flush=True)
        if waited_s > READY_S:
            raise FailedError(f"the services are not ready after {READY_S:.0f} s")


def _watch(session: Session, simulator: "subprocess.Popen[bytes]", said: Path) -> bool:
    """Show progress until all is written (true), an interrupt (false), or a process dies (an exception)."""
    watcher = session.watcher
    quiet_since = time.monotonic()
    while not session.interrupted.is_set():
        session.look()
        code = simulator.poll()
        if code not in (None, 0) and not session.interrupted.is_set():
            raise FailedError(f"the simulator ended with exit code {code}: {said.read_text().strip()}")
        if code is None or not watcher.scans or len(watcher.written()) < len(watcher.scans):
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > QUIET_S:
            return True
    return False


def _stop(simulator: "subprocess.Popen[bytes]") -> None:
    if simulator.poll() is None:
        simulator.send_signal(signal.SIGINT)
    try:
        simulator.wait(STOP_S)
    except subprocess.TimeoutExpired:
        simulator.kill()
        simulator.wait()
