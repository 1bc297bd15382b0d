"""All services on this machine, one process each, over ipc."""

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from streamptycho.config import Config, ServiceEndpoints
from streamptycho.errors import BackendError, StreamPtychoError
from streamptycho_services.logs import configure_logging
from streamptycho_services.runtime import Control
from streamptycho_services.services import SERVICES

log = logging.getLogger(__name__)

JOIN_S = 60.0
FOR_OTHERS = frozenset({"documents", "catch_up"})
"""Addresses that other programs look for: they stay as they are."""


def with_ipc(config: Config, directory: Path) -> Config:
    """The same configuration with the addresses between services in `directory`."""
    names = set(ServiceEndpoints.model_fields) - FOR_OTHERS
    endpoints = config.services.model_copy(update={name: f"ipc://{directory / name}" for name in names})
    return config.model_copy(update={"services": endpoints})


class LocalServices:
    """Context manager around the processes.

    Ctrl-C is the business of the process that owns this object: its children ignore it and are told through flags.
    """

    def __init__(self, config: Config, *, json_logs: bool = False) -> None:
        self.config = config
        self._spawn = multiprocessing.get_context("spawn")
        self._finish = {name: self._spawn.Event() for name in SERVICES}
        self._kill = self._spawn.Event()
        self._json_logs = json_logs
        self._processes: dict[str, multiprocessing.process.BaseProcess] = {}

    def __enter__(self) -> "LocalServices":
        # a child inherits the mask, so that a Ctrl-C cannot meet it before it has begun to ignore it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for name in SERVICES:
                process = self._spawn.Process(
                    target=_child,
                    args=(name, self.config, self._finish[name], self._kill, self._json_logs),
                    name=f"streamptycho-{name}",
                )
                process.start()
                self._processes[name] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return self

    def failed(self) -> str | None:
        """Name of a service that has died, or None."""
        for name, process in self._processes.items():
            if process.exitcode is not None and (process.exitcode != 0 or not self._finish[name].is_set()):
                return f"{name} (exit code {process.exitcode})"
        return None

    def finish(self, waiting: Callable[[], None] = lambda: None) -> None:
        """End in order, upstream first, so that all that is in flight is taken in."""
        for name in reversed(SERVICES):
            self._finish[name].set()
            deadline = time.monotonic() + JOIN_S
            process = self._processes[name]
            while process.exitcode is None and time.monotonic() < deadline and not self._kill.is_set():
                process.join(0.1)
                waiting()

    def kill(self) -> None:
        """Stop at once."""
        self._kill.set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # also if another service has died: what is in flight still reaches the file, as long as there is a writer
        if error is None or (isinstance(error, Exception) and self._processes["write"].exitcode is None):
            self.finish()
        else:
            self.kill()
        for name, process in self._processes.items():
            process.join(5)
            if process.exitcode is None:
                log.error("%s does not stop; terminating it", name)
                process.terminate()
                process.join(5)


def _child(name: str, config: Config, finish: object, kill: object, json_logs: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    configure_logging(json_logs, service=name)
    try:
        SERVICES[name](config, Control(finish=finish, kill=kill))  # type: ignore[arg-type]
    except StreamPtychoError as error:
        log.error("%s", error)  # noqa: TRY400 - a mistake of the user's, not a bug: one line is enough
        raise SystemExit(1 if isinstance(error, BackendError) else 2) from None
