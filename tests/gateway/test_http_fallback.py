"""A connection of requests, until one of them asks for a stream."""

import asyncio

from starlette.types import Receive, Scope, Send

from gateway.http_fallback import HttpFallback
from tests.gateway.bed import UPGRADE, Bed, Wire, request

STREAM = request("GET", "/sse/subscribe?topic_id=a")


class App:
    """An application whose answers wait for `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def turns() -> None:
    """Lets the answers be written."""
    for _ in range(10):
        await asyncio.sleep(0)


def bed_of(app: App) -> tuple[Bed, Wire]:
    bed = Bed(app=app)
    bed.owners.create("a")
    return bed, bed.connect()


async def test_requests_that_are_no_streams_stay() -> None:
    app = App()
    app.go.set()
    bed, wire = bed_of(app)
    for path in ("/one", "/two"):
        wire.say(request("GET", path))
        await turns()
    assert app.paths == ["/one", "/two"] and wire.written.count(b"HTTP/1.1 200 ") == 2
    assert wire.kind == "HttpFallback" and bed.connections == {wire.protocol}


async def test_a_stream_takes_the_connection_once_everything_before_it_is_answered() -> None:
    app = App()
    bed, wire = bed_of(app)
    wire.say(request("GET", "/one") + STREAM)
    await turns()
    assert wire.kind == "HttpFallback" and wire.written == b"" and bed.hub.session_count == 0
    app.go.set()
    await turns()
    assert wire.kind == "SseStream" and bed.connections == {wire.protocol}
    before, _, stream = wire.written.partition(b"ok")
    assert before.startswith(b"HTTP/1.1 200 ") and b"event: subscribed\n" in stream
    assert app.paths == ["/one"], "the application never sees the stream"


async def test_what_came_with_the_streams_head_goes_with_it() -> None:
    app = App()
    app.go.set()
    _, wire = bed_of(app)
    wire.say(request("GET", "/one") + request("GET", "/connect", *UPGRADE) + b"\x89\x84\0\0\0\0ping")
    await turns()
    assert wire.kind == "WebSocketStream" and wire.written.endswith(b"\x8a\x04ping")


async def test_the_connection_goes_back_with_the_head_of_the_stream_only() -> None:
    app = App()
    app.go.set()
    bed, wire = bed_of(app)
    taken: list[tuple[object, object, bytes]] = []
    http = HttpFallback(bed.shared, lambda *given: taken.append(given))
    wire.protocol = http
    http.connection_made(wire)
    http.data_received(request("GET", "/one"))
    await turns()
    assert taken == []
    http.data_received(STREAM)
    assert taken == [(bed.shared, wire, STREAM)] and http not in bed.connections


async def test_the_rule_for_unread_answers_ends_with_the_last_answer() -> None:
    app = App()
    app.go.set()
    bed, wire = bed_of(app)
    http = HttpFallback(bed.shared, lambda *given: None)
    wire.protocol, wire.stuck = http, True
    http.connection_made(wire)
    http.data_received(request("GET", "/one"))
    await turns()
    assert http._unread is not None and http._unread._timer is not None
    http.data_received(STREAM)
    assert http._unread._timer is None, "it would reset the stream"
