"""The admin port: probes and metrics over HTTP; knows no service, only named checks that say why not."""

from collections.abc import Callable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.problem import problem_of
from headgate.runtime.http.server import HttpServer
from headgate.runtime.metrics import CONTENT_TYPE, Metrics

CONNECTIONS: Final = 64  # of the descriptors that the process keeps back from its port

Check = Callable[[], str | None]  # None: fine; else one sentence why the role is not ready


class AdminServer(HttpServer):
    """Serves the admin port. `checks` is read anew at every request, so it may grow."""

    def __init__(
        self, host: str, port: int, metrics: Metrics, checks: Mapping[str, Check], hosts: Hosts | None = None
    ) -> None:
        """Binds. Raises OSError whose message names the address."""
        app: ASGIApp = make_app(metrics, checks)
        super().__init__(host, port, app if hosts is None else hosts.guard(app), connections=CONNECTIONS)


def make_app(metrics: Metrics, checks: Mapping[str, Check]) -> Starlette:
    """Returns the application with `/livez`, `/readyz` and `/metrics`."""

    async def livez(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def readyz(_: Request) -> Response:
        failing = {name: why for name, check in checks.items() if (why := check()) is not None}
        if not failing:
            return JSONResponse({"ready": True, "checks": {}})
        return JSONResponse({"ready": False, "checks": failing}, 503, {"Retry-After": "1"})

    async def numbers(_: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", numbers)],
        exception_handlers={HTTPException: _problem},
    )


async def _problem(request: Request, error: Exception) -> Response:
    where = f"{request.method} {request.url.path}"
    if isinstance(error, HTTPException) and error.status_code == 405:
        refusal = Refusal("method_not_allowed", f"{where}: probes and metrics are read", allow=["GET", "HEAD"])
    else:
        refusal = Refusal("not_found", f"{where}: the admin port serves /livez, /readyz and /metrics")
    status, headers, body = problem_of(refusal)
    answer = Response(body, status)
    answer.raw_headers = headers
    return answer
