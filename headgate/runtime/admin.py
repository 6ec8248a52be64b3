"""The admin port: probes and metrics over HTTP. Readiness is asked of named checks, which return the reason why not."""

from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import ASGIApp

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.application import HttpApp
from headgate.runtime.http.call import Call, Reply, reply
from headgate.runtime.http.endpoints import endpoints_of
from headgate.runtime.http.hosts import Hosts
from headgate.runtime.http.paths import Paths
from headgate.runtime.http.problem import RETRY_AFTER_S
from headgate.runtime.http.queries import fields_of
from headgate.runtime.http.server import HttpServer
from headgate.runtime.metrics import CONTENT_TYPE, OPENMETRICS_TYPE, Metrics

CONNECTIONS: Final = 64  # of the descriptors that the process keeps back from its port

Check = Callable[[], str | None]  # None: ready; else one sentence why the role is not


class AdminServer(HttpServer):
    """Serves the admin port. `checks` is read anew at every request, so it may grow."""

    def __init__(
        self, host: str, port: int, metrics: Metrics, checks: Mapping[str, Check], hosts: Hosts | None = None
    ) -> None:
        """Binds. Raises OSError whose message names the address."""
        app: ASGIApp = make_app(metrics, checks)
        super().__init__(host, port, app if hosts is None else hosts.guard(app), connections=CONNECTIONS)


def make_app(metrics: Metrics, checks: Mapping[str, Check]) -> HttpApp:
    """Returns the application with `/livez`, `/readyz` and `/metrics`."""

    async def live(_: Call) -> Reply:
        return reply({"live": True})

    async def ready(call: Call) -> Reply:
        left_out = excluded(call.query_string)
        if unknown := sorted(left_out - checks.keys()):
            raise Refusal(
                "bad_request", f"exclude: no check {unknown[0]!r} here; there are {', '.join(sorted(checks))}"
            )
        failing = {name: why for name, check in checks.items() if name not in left_out and (why := check()) is not None}
        if not failing:
            return reply({"ready": True, "checks": {}})
        return reply({"ready": False, "checks": failing}, 503, ((b"retry-after", b"%d" % RETRY_AFTER_S),))

    async def numbers(call: Call) -> Reply:
        if metrics.has_exemplars and call.accepts_openmetrics:
            return Reply(200, metrics.render_openmetrics(), content_type=OPENMETRICS_TYPE.encode())
        return Reply(200, metrics.render(), content_type=CONTENT_TYPE.encode())

    handlers = {"live": live, "ready": ready, "metrics": numbers}
    return HttpApp(Paths(endpoints_of("admin"), handlers), None)


def excluded(query_string: bytes) -> frozenset[str]:
    """Returns the checks that `/readyz?exclude=<name>` leaves out; the field may be repeated, as Kubernetes' own."""
    return frozenset(value for name, value in fields_of(query_string)[0] if name == "exclude")
