"""An HTTP server of ours: its socket, and its end when its process says so."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from streamptycho.errors import ConfigError
from streamptycho_services.processes.runtime import Control


class _Server(uvicorn.Server):
    """Ends when `control` says so; the process that started it handles signals."""

    def __init__(self, config: uvicorn.Config, control: Control) -> None:
        super().__init__(config)
        self._control = control

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        self._control.beat()
        self.should_exit = self.should_exit or self._control.ended()
        return await super().on_tick(counter)


def open_socket(host: str, port: int, *, move: bool = False) -> socket.socket:
    """A listening socket at `port`, 0 for any that is free; with `move`, at a free one if that is in use.

    Raises :class:`ConfigError` if the address cannot be used.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"host {host}: {error.strerror}; give a name or address of this machine") from error
    for each in (port, 0) if move else (port,):
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], each, *address[2:]))
            listener.listen(128)
        except OSError as error:
            listener.close()
            reason = error.strerror
        else:
            listener.setblocking(False)
            return listener
    raise ConfigError(f"port {port} on {host}: {reason}; choose another, or 0 for any that is free")


def serve_http(app: ASGIApp, listener: socket.socket, control: Control, **settings: Any) -> None:
    """Serve on `listener`, which is closed at the end, until asked to stop; `settings` are those of uvicorn."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        **({"proxy_headers": False} | settings),
    )
    with listener:
        _Server(config, control).run(sockets=[listener])
