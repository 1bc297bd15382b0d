"""The answers for monitors where there is no live page: beside a service that runs alone, or in ``run --no-page``."""

import logging
import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType

from starlette.applications import Starlette
from starlette.middleware import Middleware

from streamptycho.config import Config
from streamptycho.wire.endpoint import Endpoint, SocketKind
from streamptycho.wire.security import is_loopback
from streamptycho.wire.sockets import Receiver, new_context
from streamptycho_services.dashboard.guard import Guard
from streamptycho_services.dashboard.security import Access
from streamptycho_services.health.known import Health
from streamptycho_services.health.metrics import COUNTED
from streamptycho_services.health.routes import Answers
from streamptycho_services.processes.http import open_socket, serve_http
from streamptycho_services.processes.runtime import Control

log = logging.getLogger(__name__)

QUEUE = 32
"""Statuses that wait to be taken in; more are lost, and newer ones come."""
MAX_REQUESTS = 16
"""Requests answered at once."""
_POLL_S = 0.2


class HealthServer:
    """Context manager around the server and the thread that listens to `services`, by what they publish for displays.

    What it says is therefore what others hear as well. Prints the address to standard error. Raises
    :class:`~streamptycho.errors.ConfigError` for an address that cannot be used.
    """

    def __init__(self, config: Config, services: Iterable[str], port: int, host: str = "127.0.0.1") -> None:
        self._config = config
        self._services = tuple(services)
        self.health = Health(COUNTED, time.monotonic, self._services)
        self._listener = open_socket(host, port)
        self.port: int = self._listener.getsockname()[1]
        answers = Answers(self.health, self._hears)
        # a page of another site must not read figures through a name of its own that points here
        self._app = Starlette(routes=answers.routes(), middleware=[Middleware(Guard, access=Access(host))])
        self._stop = threading.Event()
        self._control = Control(finish=self._stop, kill=threading.Event())
        self._threads = [
            threading.Thread(target=work, name=name) for name, work in (("listen", self._listen), ("health", self._serve))
        ]
        print(f"health and metrics: http://{host}:{self.port}/metrics", file=sys.stderr, flush=True)
        if not is_loopback(host):
            log.warning("figures and scan ids are open to everyone who reaches port %d of %s", self.port, host)

    def __enter__(self) -> "HealthServer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _hears(self) -> bool:
        return self._threads[0].is_alive()

    def _listen(self) -> None:
        addresses = [getattr(self._config.services, f"display_{name}") for name in self._services]
        inlets = [Endpoint(address=address, socket=SocketKind.SUB, queue=QUEUE) for address in addresses]
        with new_context(self._config.security) as context, Receiver(context, inlets) as receiver:
            while not self._stop.is_set():
                self.health.take(receiver.receive(_POLL_S))

    def _serve(self) -> None:
        serve_http(self._app, self._listener, self._control, limit_concurrency=MAX_REQUESTS, ws="none")
