"""The live page as a process: its socket, its address, its end."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from streamptycho.config import Config
from streamptycho.errors import ConfigError
from streamptycho_services.dashboard.app import make_app
from streamptycho_services.dashboard.images import snapshot_images
from streamptycho_services.dashboard.security import Access, make_access
from streamptycho_services.dashboard.state import State

log = logging.getLogger(__name__)

PORT = 8000
_LARGEST_MESSAGE = 1 << 16
"""Bytes that a viewer may send at once."""


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Where the page is, and who may use it."""

    host: str = "127.0.0.1"
    port: int = PORT
    """0 is any that is free."""
    token: str | None = None
    allow_control: bool = False
    move: bool = False
    """Take a free port where `port` is in use, instead of refusing."""


class _Server(uvicorn.Server):
    """Ends when told to; signals are the business of who started it."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], bool]) -> None:
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or self._stop()
        return await super().on_tick(counter)


def open_socket(options: PageOptions) -> socket.socket:
    """The listening socket. Raises :class:`ConfigError` if the address cannot be used."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"host {options.host}: {error.strerror}; give a name or address of this machine") from error
    for port in (options.port, 0) if options.move else (options.port,):
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], port, *address[2:]))
            listener.listen(128)
        except OSError as error:
            listener.close()
            reason = error.strerror
        else:
            listener.setblocking(False)
            return listener
    raise ConfigError(f"port {options.port} on {options.host}: {reason}; choose another, or 0 for any that is free")


def address_of(listener: socket.socket, access: Access) -> str:
    """What to open in a browser, token and all."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={access.token}" if access.token is not None else "")


def serve_page(config: Config, access: Access, listener: socket.socket, stop: Callable[[], bool]) -> None:
    """Serve on `listener`, which is closed at the end, until `stop`."""
    app = make_app(config.services, access, State(snapshot_images, time.monotonic))
    settings = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=_LARGEST_MESSAGE,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    with listener:
        _Server(settings, stop).run(sockets=[listener])


def open_page(options: PageOptions) -> tuple[Access, socket.socket]:
    """Rules and socket. Raises :class:`ConfigError` for an address or a token that cannot be used."""
    access = make_access(options.host, options.token, allow_control=options.allow_control)
    return access, open_socket(options)


class PageThread:
    """The page in a thread, for tests and programs: a context manager."""

    def __init__(self, config: Config, options: PageOptions) -> None:
        access, listener = open_page(options)
        self.address = address_of(listener, access)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=serve_page, args=(config, access, listener, self._stop.is_set), name="page")

    def __enter__(self) -> "PageThread":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
