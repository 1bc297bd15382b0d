"""The routes of the live page."""

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamptycho.config import ServiceEndpoints
from streamptycho.wire.security import NO_KEYS, SecurityOptions
from streamptycho_services.dashboard.attempts import Attempts
from streamptycho_services.dashboard.feed import Feed
from streamptycho_services.dashboard.guard import Guard
from streamptycho_services.dashboard.hub import Hub
from streamptycho_services.dashboard.security import Access, cookie_name, token_of
from streamptycho_services.dashboard.state import State
from streamptycho_services.dashboard.viewer import Viewer
from streamptycho_services.health.routes import Answers

STATIC = Path(__file__).parent / "static"
MAX_VIEWERS = 100
_NEEDS_TOKEN = "This page needs its token: open the whole address that was printed when it started (?token=...).\n"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a request may do."""

    view: bool
    holder: bool = False
    """It brought the right token."""
    control: bool = False
    wait_s: float = 0.0
    """How long no token from its address is looked at."""

    def refusal(self, text: str = _NEEDS_TOKEN) -> Response:
        """The answer to a request that may not do what it asks for."""
        if self.wait_s:
            seconds = math.ceil(self.wait_s)
            return PlainTextResponse(
                f"Too many wrong tokens: try again in {seconds} s.\n", 429, {"retry-after": str(seconds)}
            )
        return PlainTextResponse(text, 403)


class Page:
    """What the routes share."""

    def __init__(self, services: ServiceEndpoints, access: Access, state: State, security: SecurityOptions) -> None:
        self.services = services
        self.access = access
        self.state = state
        self.security = security
        self.attempts = Attempts(time.monotonic)
        self.answers = Answers(state.health, lambda: self.feed.alive)
        self.viewers = 0
        self.hub: Hub
        self.feed: Feed

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Listen to the services while the page is served."""
        self.hub = Hub(self.state)
        try:
            control, security = self.access.allow_control, self.security
            with Feed(self.services, self.state, self.hub.news, control=control, security=security) as self.feed:
                yield
        finally:
            self.hub.close()

    def standing(self, connection: HTTPConnection) -> Standing:
        """What a request may do; a wrong token is counted, and after too many none is looked at."""
        port = connection.url.port or 80
        token = token_of(connection.query_params, connection.headers, connection.cookies, port)
        if token is None or self.access.token is None:
            return Standing(self.access.may_view(None))
        address = connection.client.host if connection.client is not None else ""
        wait_s = self.attempts.wait_s(address)
        if wait_s > 0:
            return Standing(self.access.may_view(None), wait_s=wait_s)
        holder = self.access.is_token(token)
        if holder:
            self.attempts.right(address)
        else:
            self.attempts.wrong(address, token, cookie=token == connection.cookies.get(cookie_name(port)))
        return Standing(self.access.may_view(token), holder, self.access.may_control(token))

    async def index(self, request: Request) -> Response:
        """The page; a token in the address becomes a cookie."""
        given, standing = request.query_params.get("token"), self.standing(request)
        if self.access.token is not None and given is not None:
            if not standing.holder:
                return standing.refusal("The token is wrong. " + _NEEDS_TOKEN)
            rest = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != "token"])
            response = RedirectResponse(f"./?{rest}" if rest else "./", 303)
            secure = request.url.scheme == "https"  # also behind a proxy, if it is trusted
            response.set_cookie(cookie_name(request.url.port or 80), given, httponly=True, samesite="lax", secure=secure)
            return response
        if not standing.view:
            return standing.refusal()
        return FileResponse(STATIC / "index.html")

    async def picture(self, request: Request) -> Response:
        """The newest object phase; ``?scan=KEY`` for another scan."""
        standing = self.standing(request)
        if not standing.view:
            return standing.refusal()
        png = await self.hub.png(request.query_params.get("scan"))
        if png is None:
            return PlainTextResponse("There is no picture yet.\n", 404)
        return Response(png, media_type="image/png")

    async def status(self, request: Request) -> Response:
        """The figures of the health strip."""
        standing = self.standing(request)
        if not standing.view:
            return standing.refusal()
        return JSONResponse(self.state.report(request.query_params.get("scan")) | {"viewers": self.viewers})

    async def metrics(self, request: Request) -> Response:
        """Figures of all services: they name scans, so that whoever may not view does not get them either."""
        standing = self.standing(request)
        return await self.answers.metrics(request) if standing.view else standing.refusal()

    async def live(self, socket: WebSocket) -> None:
        """One viewer, who may be gone before the answer."""
        with suppress(WebSocketDisconnect, OSError):
            await self._live(socket)

    async def _live(self, socket: WebSocket) -> None:
        if not self.access.same_origin(socket.headers.get("origin"), socket.headers.get("host", "")):
            await socket.send_denial_response(PlainTextResponse("Another site may not view this page.\n", 403))
            return
        standing = self.standing(socket)
        if not standing.view:
            await socket.send_denial_response(standing.refusal())
            return
        if self.viewers >= MAX_VIEWERS:
            await socket.send_denial_response(PlainTextResponse(f"{MAX_VIEWERS} viewers are connected already.\n", 503))
            return
        self.viewers += 1
        try:
            await socket.accept()
            await Viewer(socket, self.hub, self.feed, control=standing.control).serve()
        finally:
            self.viewers -= 1


def make_app(services: ServiceEndpoints, access: Access, state: State, security: SecurityOptions = NO_KEYS) -> Starlette:
    """The application: ``/``, ``/ws``, ``/object.png``, ``/status``, ``/static``, and what monitors ask for."""
    page = Page(services, access, state, security)
    routes = [
        Route("/", page.index),
        Route("/object.png", page.picture),
        Route("/status", page.status),
        Route("/metrics", page.metrics),
        Route("/healthz", page.answers.healthz),
        Route("/readyz", page.answers.readyz),
        WebSocketRoute("/ws", page.live),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, lifespan=page.lifespan, middleware=[Middleware(Guard, access=access)])
    app.state.page = page
    return app
