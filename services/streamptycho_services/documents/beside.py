"""The documents beside services that run on this machine: a process of its own that may fail without them."""

import logging
import multiprocessing
import os
import signal
from types import TracebackType

from streamptycho.config import Config
from streamptycho.errors import StreamPtychoError
from streamptycho_services.documents.service import documents
from streamptycho_services.logs import configure_logging
from streamptycho_services.runtime import Control

log = logging.getLogger(__name__)

JOIN_S = 10.0
NICENESS = 5
"""The reconstruction goes first."""


class DocumentsBeside:
    """Context manager around the process; enter it before the services, so that it outlives them and hears their last words.

    If it dies, for example because its address is in use, it says so and the services go on.
    """

    def __init__(self, config: Config, *, json_logs: bool) -> None:
        self._config = config
        self._json_logs = json_logs
        spawn = multiprocessing.get_context("spawn")
        self._finish = spawn.Event()
        self._kill = spawn.Event()
        self._process = spawn.Process(
            target=_child, args=(config, self._finish, self._kill, json_logs), name="streamptycho-documents"
        )

    def __enter__(self) -> "DocumentsBeside":
        # a child inherits the mask, so that a Ctrl-C cannot meet it before it has begun to ignore it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        (self._finish if error is None or isinstance(error, Exception) else self._kill).set()
        self._process.join(JOIN_S)
        if self._process.exitcode is None:
            log.error("documents do not stop; terminating them")
            self._process.terminate()
            self._process.join(5)


def _child(config: Config, finish: object, kill: object, json_logs: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICENESS)
    configure_logging(json_logs, service="documents")
    try:
        documents(config, Control(finish=finish, kill=kill))  # type: ignore[arg-type]
    except StreamPtychoError as error:
        log.warning("no bluesky documents are sent, all else goes on: %s", error)
        raise SystemExit(1) from None
