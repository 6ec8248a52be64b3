"""The table of endpoints, and the lookup made from it."""

import pytest

from headgate.runtime.http.call import NO_CONTENT, Call, Handler, Reply
from headgate.runtime.http.endpoints import ENDPOINTS, AnswerShape, Body, Endpoint, Role, endpoints_of
from headgate.runtime.http.paths import Paths
from headgate.runtime.limit_settings import LimitsSettings

BOUNDS = {"limits.body_bytes": 10, "limits.batch_bytes": 20}


async def nothing(_: Call) -> Reply:
    return NO_CONTENT


def handlers_for(*rows: Endpoint) -> dict[str, Handler]:
    return {row.handler: nothing for row in rows if row.handler}


def paths_of(*rows: Endpoint) -> Paths:
    return Paths(rows, handlers_for(*rows), BOUNDS)


def row(method: str, path: str, handler: str = "h", **about: object) -> Endpoint:
    return Endpoint("ingest", method, path, handler, **about)  # type: ignore[arg-type]


TREE = paths_of(row("GET", "/t"), row("GET", "/t/{id}"), row("PUT", "/t/{id}/m/{user}"), row("POST", "/p/b"))


@pytest.mark.parametrize(
    ("path", "method", "parameters"),
    [
        (b"/t", "GET", {}),
        (b"/p/b", "POST", {}),
        (b"/%70/b", "POST", {}),
        (b"/t/x", "GET", {"id": "x"}),
        (b"/t/m", "GET", {"id": "m"}),
        (b"/t/a%2Fb", "GET", {"id": "a/b"}),
        (b"/t/a%252Fb", "GET", {"id": "a%2Fb"}),
        (b"/t/%C3%A9", "GET", {"id": "\u00e9"}),
        (b"/t/\xc3\xa9", "GET", {"id": "\u00e9"}),
        (b"/t/%FF", "GET", {"id": "\0"}),
        (b"/t/%EF%BF%BD", "GET", {"id": "\ufffd"}),
        (b"/t/\xc3/m/b%20o", "PUT", {"id": "\0", "user": "b o"}),
    ],
)
def test_a_segment_is_decoded_once_and_then_matched(path: bytes, method: str, parameters: dict[str, str]) -> None:
    found = TREE.find(path)
    assert found is not None
    assert method in found[0].by_name
    assert found[1] == parameters


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"*", b"t", b"//t", b"/t/", b"/t//", b"/t//m/b", b"/t/x/m", b"/t/x/m/", b"/t/x/m/b/c", b"/p", b"/p/B",
     b"/p%2Fb", b"/t/x/n/b"],
)  # fmt: skip
def test_any_other_path_is_not_found(path: bytes) -> None:
    assert TREE.find(path) is None


def test_head_is_served_like_get_except_by_a_websocket() -> None:
    paths = paths_of(row("GET", "/a"), row("DELETE", "/a", "d"), row("GET", "/ws", "", answer=AnswerShape(101, "")))
    a, ws = paths.find(b"/a"), paths.find(b"/ws")
    assert a is not None and ws is not None
    assert a[0].by_name["HEAD"] is a[0].by_name["GET"]
    assert a[0].refusal().extra["allow"] == a[0].allow == ["DELETE", "GET", "HEAD"]
    assert ws[0].allow == ["GET"]


def test_a_row_of_a_stream_has_no_handler() -> None:
    found = paths_of(row("GET", "/sse", "", answer=AnswerShape(200, "text/event-stream"))).find(b"/sse")
    assert found is not None
    assert found[0].by_name["GET"].handler is None
    assert found[0].allow == ["GET", "HEAD"]


def test_a_bound_is_bytes_or_the_name_of_a_setting() -> None:
    found = paths_of(row("PUT", "/a", body=Body(7)), row("POST", "/a", body=Body("limits.batch_bytes"))).find(b"/a")
    assert found is not None
    assert {name: served.body_bytes for name, served in found[0].by_name.items()} == {"PUT": 7, "POST": 20}


@pytest.mark.parametrize(
    ("rows", "handlers", "error"),
    [
        ((row("GET", "/a"),), {}, "GET /a: there is no handler 'h'"),
        ((row("GET", "/a"),), {"h": nothing, "other": nothing}, "no row names other"),
        ((row("GET", "/a"), row("GET", "/a")), {"h": nothing}, "GET /a has two rows"),
        ((row("GET", "/a/{b}"), row("GET", "/a/c")), {"h": nothing}, "'c' is where another path has a parameter"),
        ((row("GET", "/a/c"), row("GET", "/a/{b}")), {"h": nothing}, "the parameter 'b' is where another path"),
        ((row("GET", "/a/{b}"), row("PUT", "/a/{c}")), {"h": nothing}, "the parameter 'c' is where another path"),
    ],
)
def test_rows_that_cannot_be_served_are_refused_at_start(
    rows: tuple[Endpoint, ...], handlers: dict[str, Handler], error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        Paths(rows, handlers)


@pytest.mark.parametrize("role", ["ingest", "gateway", "admin"])
def test_the_rows_of_a_role_can_be_served_together(role: Role) -> None:
    rows = endpoints_of(role)
    paths = paths_of(*rows)
    for one in rows:
        found = paths.find(one.path.replace("{topic_id}", "t").encode())
        assert found is not None
        assert found[0].by_name[one.method].endpoint is one


def test_the_bounds_that_rows_name_are_settings() -> None:
    named = {row.body.bound for row in ENDPOINTS if row.body is not None and isinstance(row.body.bound, str)}
    assert named == {f"limits.{name}" for name in ("body_bytes", "batch_bytes")}
    assert all(name.removeprefix("limits.") in LimitsSettings.model_fields for name in named)


def test_only_the_admin_port_a_redirect_and_the_api_documents_are_for_anyone() -> None:
    open_to_all = {row.handler for row in ENDPOINTS if row.who == "anyone" and row.role != "admin"}
    assert open_to_all == {"redirect_stream", "openapi", "asyncapi"}
    assert {row.who for row in endpoints_of("admin")} == {"anyone"}
