"""The routes of the live page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamptycho.config import ServiceEndpoints
from streamptycho_services.dashboard.feed import Feed
from streamptycho_services.dashboard.hub import Hub
from streamptycho_services.dashboard.security import Access, cookie_name, token_of
from streamptycho_services.dashboard.state import State
from streamptycho_services.dashboard.viewer import Viewer

STATIC = Path(__file__).parent / "static"
MAX_VIEWERS = 100
_NEEDS_TOKEN = "This page needs its token: open the whole address that was printed when it started (?token=...).\n"
_FOREIGN_NAME = "This page answers to localhost only: it was started for this machine.\n"
_HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'self'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-cache",
}


class Page:
    """What the routes share."""

    def __init__(self, services: ServiceEndpoints, access: Access, state: State) -> None:
        self.services = services
        self.access = access
        self.state = state
        self.viewers = 0
        self.hub: Hub
        self.feed: Feed

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Listen to the services while the page is served."""
        self.hub = Hub(self.state)
        try:
            with Feed(self.services, self.state, self.hub.news, control=self.access.allow_control) as self.feed:
                yield
        finally:
            self.hub.close()

    def token(self, connection: HTTPConnection) -> str | None:
        """The token that a request brings."""
        return token_of(connection.query_params, connection.headers, connection.cookies, connection.url.port or 80)

    def may_view(self, connection: HTTPConnection) -> bool:
        """Whether a request may be answered."""
        return self.access.may_view(self.token(connection))

    async def index(self, request: Request) -> Response:
        """The page; a token in the address becomes a cookie."""
        given = request.query_params.get("token")
        if self.access.token is not None and given is not None:
            if not self.access.is_token(given):
                return PlainTextResponse("The token is wrong. " + _NEEDS_TOKEN, 403)
            rest = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != "token"])
            response = RedirectResponse(f"./?{rest}" if rest else "./", 303)
            response.set_cookie(cookie_name(request.url.port or 80), given, httponly=True, samesite="lax")
            return response
        if not self.may_view(request):
            return PlainTextResponse(_NEEDS_TOKEN, 403)
        return FileResponse(STATIC / "index.html")

    async def picture(self, request: Request) -> Response:
        """The newest object phase; ``?scan=KEY`` for another scan."""
        if not self.may_view(request):
            return PlainTextResponse(_NEEDS_TOKEN, 403)
        png = await self.hub.png(request.query_params.get("scan"))
        if png is None:
            return PlainTextResponse("There is no picture yet.\n", 404)
        return Response(png, media_type="image/png")

    async def status(self, request: Request) -> Response:
        """The figures of the health strip."""
        if not self.may_view(request):
            return JSONResponse({"error": _NEEDS_TOKEN.strip()}, 403)
        return JSONResponse(self.state.report(request.query_params.get("scan")) | {"viewers": self.viewers})

    async def healthz(self, request: Request) -> Response:
        """Whether the page hears the services; needs no token and tells nothing else."""
        return JSONResponse({"ok": self.feed.alive}, 200 if self.feed.alive else 503)

    async def live(self, socket: WebSocket) -> None:
        """One viewer."""
        if not self.access.same_origin(socket.headers.get("origin"), socket.headers.get("host", "")):
            await socket.send_denial_response(PlainTextResponse("Another site may not look at this page.\n", 403))
            return
        if not self.may_view(socket):
            await socket.send_denial_response(PlainTextResponse(_NEEDS_TOKEN, 403))
            return
        if self.viewers >= MAX_VIEWERS:
            await socket.send_denial_response(PlainTextResponse(f"{MAX_VIEWERS} viewers are looking already.\n", 503))
            return
        self.viewers += 1
        try:
            await socket.accept()
            await Viewer(socket, self.hub, self.feed, control=self.access.may_control(self.token(socket))).serve()
        finally:
            self.viewers -= 1


class Guard:
    """Answers to our own names only, and sends headers that keep other sites out."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if not self._access.answers_to(connection.headers.get("host", "")):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": _FOREIGN_NAME.strip()})
            else:
                await PlainTextResponse(_FOREIGN_NAME, 400)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(h for h in _HEADERS.items() if h[0] not in present)]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def make_app(services: ServiceEndpoints, access: Access, state: State) -> Starlette:
    """The application: ``/``, ``/ws``, ``/object.png``, ``/status``, ``/healthz`` and ``/static``."""
    page = Page(services, access, state)
    routes = [
        Route("/", page.index),
        Route("/object.png", page.picture),
        Route("/status", page.status),
        Route("/healthz", page.healthz),
        WebSocketRoute("/ws", page.live),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, lifespan=page.lifespan, middleware=[Middleware(Guard, access=access)])
    app.state.page = page
    return app
