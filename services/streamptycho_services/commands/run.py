"""Long-running operation: all services on this machine, or one of them here and the others elsewhere."""

import math
import os
import signal
import sys
import time
from contextlib import ExitStack
from typing import Any

from streamptycho.config import Config
from streamptycho.errors import BackendError, ConfigError, DeviceError
from streamptycho.messages.reasons import ServiceKind
from streamptycho.messages.status import ReceiveStatus
from streamptycho.sources.options import DetectorEndpoints
from streamptycho_services.commands.session import Beside, local_session, monitored
from streamptycho_services.dashboard.server import PageOptions, address_of, open_page, serve_page
from streamptycho_services.documents.service import documents as serve_documents
from streamptycho_services.processes.folder import socket_folder
from streamptycho_services.processes.host import name_process, reap_orphans
from streamptycho_services.processes.interrupt import interruptible_control
from streamptycho_services.processes.memory import memory_given_back
from streamptycho_services.processes.preflight import check
from streamptycho_services.processes.services import SERVICES
from streamptycho_services.processes.watch import Watcher

QUIET_S = 30.0
"""Time after which it is said that nothing has come."""


def run_all(
    config: Config, page: PageOptions | None, *, documents: bool, as_json: bool, metrics: tuple[str, int] | None
) -> dict[str, Any]:
    """All services on this machine until interrupted, with progress; with `documents`, also for bluesky.

    Returns the summary of the scans and how often each service was started again, empty if nothing has come and nothing has
    failed. Health and metrics are served at the host and port in `metrics`. Raises
    :class:`~streamptycho.errors.ConfigError` for what can be known not to work.
    """
    with memory_given_back(), ExitStack() as stack:
        folder = stack.enter_context(socket_folder())
        beside = Beside(page, documents, metrics)
        session = stack.enter_context(local_session(config, folder, beside, as_json=as_json))
        ready_s, quiet = math.inf, False
        while not session.interrupted.is_set():
            session.look()
            if math.isinf(ready_s) and session.watcher.recording:
                ready_s = time.monotonic()
                streams = ", ".join(f"{role.value} from {end.address}" for role, end in config.detector.by_role.items())
                print(f"ready: {streams}", file=sys.stderr, flush=True)
            if not quiet and time.monotonic() > ready_s + QUIET_S:
                quiet = True
                print("".join(unheard(session.watcher, config.detector)), end="", file=sys.stderr, flush=True)
            reap_orphans(session.services.pids.values())
    from streamptycho_services.commands.summary import summarise  # at the end: it imports much that is not needed to start

    services = session.services
    summary = summarise(session.watcher, None, services.failures) | {"restarts": services.restarts}
    return summary if any(summary[name] for name in ("scan", "refused", "stream_remarks", "failures")) else {}


def unheard(watcher: Watcher, detector: DetectorEndpoints) -> list[str]:
    """A line for each stream from which nothing has come, as long as there was no scan."""
    status = watcher.idle.get(ServiceKind.RECEIVE)
    if watcher.scans or not isinstance(status, ReceiveStatus):
        return []
    lines = []
    for role, end in detector.by_role.items():
        if role.value not in status.silence_s:
            standing = status.connections.get(role.value)
            unknown = f" at {end.address}: `streamptycho check` tells whether anybody is there"
            lines.append(f"nothing has come yet from {role.value}{f': {standing}' if standing else unknown}\n")
    return lines


def run_one(name: str, config: Config, metrics: tuple[str, int] | None) -> None:
    """One service, or the documents, in this process until interrupted, with health and metrics at this host and port.

    Raises :class:`~streamptycho.errors.ConfigError` for what cannot be used here.
    """
    check(config, name, apart=True)
    _be_alone(name)
    with interruptible_control() as control, monitored(config, [name], metrics), memory_given_back():
        try:
            (SERVICES | {"documents": serve_documents})[name](config, control)
        except DeviceError:
            raise
        except BackendError as error:
            raise ConfigError(f"engine.backend: {error}; set it to 'auto'") from error


def _be_alone(name: str) -> None:
    """What a process does that is its own master."""
    name_process(name)
    if os.getpid() == 1:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # it starts nothing: what others leave in its container may vanish


def run_page(config: Config, options: PageOptions) -> None:
    """The live page in this process, until interrupted; its address on standard error.

    Raises :class:`~streamptycho.errors.ConfigError` for an address or a token that cannot be used.
    """
    access, listener = open_page(options)
    _be_alone("page")
    print(f"live page: {address_of(listener, access)}", file=sys.stderr, flush=True)
    with interruptible_control() as control, memory_given_back():
        serve_page(config, access, listener, control)
