"""The live page as a process: its socket, its address, its end."""

import socket
import time
from dataclasses import dataclass

from streamptycho.config import Config
from streamptycho_services.dashboard.app import make_app
from streamptycho_services.dashboard.images import snapshot_images
from streamptycho_services.dashboard.security import Access, make_access
from streamptycho_services.dashboard.state import State
from streamptycho_services.processes.http import open_socket, serve_http
from streamptycho_services.processes.runtime import Control
from streamptycho_services.processes.started import BESIDE, Work

PORT = 8000
ORPHANED_S = 6.0
"""If the parent is gone, the page stays for what the services say at their end."""
_LARGEST_MESSAGE = 1 << 16
"""Bytes that a viewer may send at once."""


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Address and access of the page."""

    host: str = "127.0.0.1"
    port: int = PORT
    """0 is any that is free."""
    token: str | None = None
    allow_control: bool = False
    move: bool = False
    """Take a free port where `port` is in use, instead of refusing."""
    trusted_proxies: tuple[str, ...] = ()
    """`page.trusted_proxies`."""


def address_of(listener: socket.socket, access: Access) -> str:
    """What to open in a browser, token and all."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={access.token}" if access.token is not None else "")


def serve_page(config: Config, access: Access, listener: socket.socket, control: Control) -> None:
    """Serve on `listener`, which is closed at the end, until asked to stop."""
    app = make_app(config.services, access, State(snapshot_images, time.monotonic), config.security)
    serve_http(
        app,
        listener,
        control,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=_LARGEST_MESSAGE,
        proxy_headers=bool(access.proxies),
        forwarded_allow_ips=list(access.proxies),
    )


def open_page(options: PageOptions) -> tuple[Access, socket.socket]:
    """Rules and socket. Raises :class:`ConfigError` for an address or a token that cannot be used."""
    proxies = options.trusted_proxies
    access = make_access(options.host, options.token, allow_control=options.allow_control, proxies=proxies)
    return access, open_socket(options.host, options.port, move=options.move)


def page_work(config: Config, access: Access, listener: socket.socket) -> Work:
    """The page for a process of its own; `listener` stays open here, so that viewers wait while it is started again."""
    number = listener.fileno()
    return Work("page", _page, (config, access, number), (number,), BESIDE, needed=False, orphaned_s=ORPHANED_S)


def _page(config: Config, access: Access, descriptor: int, control: Control) -> None:
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    serve_page(config, access, listener, control)
