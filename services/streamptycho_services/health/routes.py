"""The answers for monitors and orchestrators, on the page's server and on those of single services."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streamptycho_services.health.known import Health
from streamptycho_services.health.metrics import CONTENT_TYPE, exposition


class Answers:
    """``/healthz``, ``/readyz`` and ``/metrics``."""

    def __init__(self, health: Health, alive: Callable[[], bool]) -> None:
        """`alive` is False if this process must be restarted."""
        self._health = health
        self._alive = alive

    async def healthz(self, request: Request) -> Response:
        """Whether this process lives and hears the services."""
        alive = self._alive()
        return JSONResponse({"ok": alive}, 200 if alive else 503)

    async def readyz(self, request: Request) -> Response:
        """Whether the services are there and well, and which are not."""
        report = self._health.report()
        return JSONResponse(report, 200 if report["ready"] else 503)

    async def metrics(self, request: Request) -> Response:
        """All figures, for Prometheus."""
        return Response(exposition(self._health), media_type=CONTENT_TYPE)

    def routes(self) -> list[Route]:
        """All three, open to whoever may connect."""
        return [Route(f"/{answer.__name__}", answer) for answer in (self.healthz, self.readyz, self.metrics)]
