"""Which requests ask for a stream, and how a head is read."""

from urllib.parse import parse_qsl

import pytest

from gateway.head import OTHER, HeadRefused, StreamRoute, read_head, route_of
from headgate.runtime.http.queries import fields_of
from tests.gateway.bed import request

WEBSOCKET = StreamRoute("websocket")
SSE = StreamRoute("sse")


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ("GET /ws/subscribe HTTP/1.1", WEBSOCKET),
        ("GET /ws/subscribe?topic_id=a HTTP/1.1", WEBSOCKET),
        ("GET /connect HTTP/1.1", WEBSOCKET),
        ("GET http://hub.example/connect HTTP/1.1", WEBSOCKET),
        ("HEAD /ws/subscribe HTTP/1.1", OTHER),
        ("HEAD /connect HTTP/1.1", OTHER),
        ("GET /sse/subscribe HTTP/1.1", SSE),
        ("HEAD /sse/subscribe#part HTTP/1.1", SSE),
        ("GET http://hub.example/sse/subscribe?topic_id=a HTTP/1.1", SSE),
        ("GET /api/v1/topics/a/subscribe HTTP/1.1", StreamRoute("sse", "a")),
        ("HEAD /api/v1/topics/a%2Fb/subscribe HTTP/1.1", StreamRoute("sse", "a/b")),
        ("GET /api/v1/topics/%2561/subscribe HTTP/1.1", StreamRoute("sse", "%61")),  # decoded once
        ("GET /api/v2/topics/a/subscribe HTTP/1.1", OTHER),
        ("GET /api/v1/topics/a/b/subscribe HTTP/1.1", OTHER),
        ("GET /api/v1/topics/a/publish HTTP/1.1", OTHER),
        ("DELETE /api/v1/topics/a/subscribe HTTP/1.1", OTHER),
        ("POST /sse/subscribe HTTP/1.1", OTHER),
        ("GET /sse%2Fsubscribe HTTP/1.1", OTHER),
        ("GET /sse/subscribe/ HTTP/1.1", OTHER),
        ("GET //sse/subscribe HTTP/1.1", OTHER),
        ("get /sse/subscribe HTTP/1.1", OTHER),
        ("GET http://[ HTTP/1.1", OTHER),
        ("GET /sse/subscribe", OTHER),
        ("GET", OTHER),
    ],
)
def test_the_request_line_alone_tells_whether_a_stream_is_asked_for(line: str, route: StreamRoute) -> None:
    assert route_of(f"{line}\r\nHost: a\r\n\r\n".encode()) == route


def test_a_path_segment_is_decoded_once() -> None:
    assert route_of(b"GET /api/v1/topics/%2561/subscribe HTTP/1.1\r\n\r\n") == StreamRoute("sse", "%61")
    assert route_of(b"GET /api/v2/topics/a/subscribe HTTP/1.1\r\n\r\n") == OTHER


def test_a_head_has_its_fields_by_lower_case_names_and_its_query_in_order() -> None:
    data = request("GET", "/connect?b=2&a=%C3%A4&b=&c", "X-One: 1 ", "ORIGIN: http://a", "x-one: 2") + b"behind"
    head = read_head(data)
    assert (head.method, head.version, head.rest, head.complete) == ("GET", "1.1", b"behind", True)
    assert head.query == [("b", "2"), ("a", "ä"), ("b", ""), ("c", "")]
    assert head.headers == {"host": "localhost", "x-one": "1, 2", "origin": "http://a"}


@pytest.mark.parametrize(
    "query", ["", "a=1&b=2", "a", "=", "=1", "a==1", "&&a=1&", "a=1;b=2", "a=1=2&a", "a=+&b", "%61=%26", "\xe4=\xff"]
)
def test_a_query_has_the_same_fields_whether_or_not_something_in_it_is_escaped(query: str) -> None:
    assert fields_of(query.encode("latin-1")) == (parse_qsl(query, keep_blank_values=True), True)


@pytest.mark.parametrize(("count", "complete"), [(2_048, True), (2_049, False), (5_000, False)])
def test_a_query_is_read_up_to_2048_fields(count: int, complete: bool) -> None:
    head = read_head(request("GET", "/connect?" + "&".join(f"f={n}" for n in range(count))))
    assert head.complete is complete
    assert head.query == [("f", str(n)) for n in range(min(count, 2_048))]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("GET", "/connect", "Transfer-Encoding: gzip, chunked"), 501),
        (request("GET", "/connect", "Host: another"), 400),
        (request("GET", "/connect", "Authorization: Bearer a", "Authorization: Bearer b"), 400),
        (b"GET /connect HTTP/1.1\r\n\r\n", 400),
        (b"GET /connect HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"NOSUCH /connect HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_a_head_that_no_application_may_see_is_refused_with_its_whole_answer(data: bytes, status: int) -> None:
    with pytest.raises(HeadRefused) as refused:
        read_head(data)
    assert refused.value.answer.startswith(b"HTTP/1.1 %d " % status)


def test_a_request_that_offers_an_upgrade_is_read_like_any_other() -> None:
    head = read_head(request("GET", "/connect", "Connection: Upgrade", "Upgrade: websocket") + b"\x81\x80")
    assert head.headers["upgrade"] == "websocket" and head.rest == b"\x81\x80"
