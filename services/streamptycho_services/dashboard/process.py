"""The page as a process beside the services: it ends with them, and its own end stops nothing."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
from typing import Any

from streamptycho.config import Config
from streamptycho_services.dashboard.security import Access
from streamptycho_services.dashboard.server import PageOptions, address_of, open_page, serve_page
from streamptycho_services.logs import configure_logging
from streamptycho_services.runtime import Control

log = logging.getLogger(__name__)

JOIN_S = 5.0
NICENESS = 5
"""The reconstruction goes first."""


class PageProcess:
    """Context manager around the process; the address is told on standard error.

    Raises :class:`~streamptycho.errors.ConfigError` for an address or a token that cannot be used.
    """

    def __init__(self, config: Config, options: PageOptions, *, json_logs: bool = False) -> None:
        access, self._listener = open_page(options)
        self.address = address_of(self._listener, access)
        spawn = multiprocessing.get_context("spawn")
        self._finish = spawn.Event()
        arguments = (config, access, self._listener, self._finish, json_logs)
        self.process = spawn.Process(target=_child, args=arguments, name="streamptycho-page", daemon=True)
        self._told = False

    def __enter__(self) -> "PageProcess":
        # a child inherits the mask, so that a Ctrl-C cannot meet it before it has begun to ignore it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._listener.close()
        print(f"live page: {self.address}", file=sys.stderr, flush=True)
        return self

    def look(self) -> None:
        """Say once if the page has ended by itself; all else goes on."""
        if self.process.exitcode is not None and not self._told:
            self._told = True
            log.warning("the live page has ended (exit code %s); the scan goes on without it", self.process.exitcode)

    def __exit__(self, *exc: object) -> None:
        self._finish.set()
        self.process.join(JOIN_S)
        if self.process.exitcode is None:
            self.process.terminate()
            self.process.join(JOIN_S)


def _child(config: Config, access: Access, listener: socket.socket, finish: Any, json_logs: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICENESS)
    configure_logging(json_logs, service="page")
    control = Control(finish=finish, kill=finish)
    serve_page(config, access, listener, control.killed)
