"""Who answers a connection is decided by its first head."""

import sys

import pytest

from gateway.http_fallback import HttpFallback
from gateway.protocol import GatewayProtocol
from gateway.sse import SseStream
from gateway.websocket import WebSocketStream
from headgate.core.client.limits import Limits
from headgate.runtime.http.heads import HeadBudget
from tests.gateway.bed import UPGRADE, Bed, Wire, request

PING = b"\x89\x84\0\0\0\0ping"  # masked with zeros


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (request("GET", "/connect", *UPGRADE), WebSocketStream),
        (request("GET", "/sse/subscribe?topic_id=a"), SseStream),
        (request("GET", "/api/v1/topics/a/subscribe"), SseStream),
        (request("GET", "/elsewhere"), HttpFallback),
    ],
)
async def test_the_head_in_any_pieces_chooses_the_protocol(data: bytes, kind: type) -> None:
    bed = Bed()
    bed.owners.create("a")
    for size in (1, 7, len(data)):
        wire = bed.connect()
        first = wire.protocol
        for at in range(0, len(data), size):
            assert wire.protocol is first
            wire.say(data[at : at + size])
        assert wire.kind == kind.__name__
        assert first not in bed.connections and wire.protocol in bed.connections
    assert bed.shared.budget.held == 0
    assert bed.hub.subscription_count == (3 if kind is SseStream else 0)


async def test_bytes_behind_a_handshake_are_frames() -> None:
    bed = Bed()
    wire = bed.asked(request("GET", "/connect", *UPGRADE) + PING)
    assert wire.written.startswith(b"HTTP/1.1 101 ") and wire.written.endswith(b"\x8a\x04ping")


async def test_bytes_behind_a_handshake_that_ends_are_nothing() -> None:
    bed = Bed(mode="jwt")
    wire = bed.asked(request("GET", "/connect", *UPGRADE, "Authorization: Bearer junk") + PING)
    assert b'"code":4401' in wire.written and b"ping" not in wire.written


async def test_empty_lines_before_a_head_are_skipped() -> None:
    assert Bed().asked(b"\r\n\r\n" + request("GET", "/connect", *UPGRADE)).kind == "WebSocketStream"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Host: evil.example", *UPGRADE), 421),
        (("Host: evil.example", *UPGRADE, "Origin: http://evil.example"), 421),
        (("Host: localhost", *UPGRADE, "Origin: http://evil.example"), 403),
        (("Host: localhost",), 426),
        (("Host: localhost", "Host: localhost", *UPGRADE), 400),
    ],
)
async def test_a_handshake_is_refused_in_the_order_head_host_headers_origin(
    fields: tuple[str, ...], status: int
) -> None:
    bed = Bed()
    data = "\r\n".join(["GET /connect HTTP/1.1", *fields, "\r\n"]).encode()
    wire = bed.asked(data)
    assert wire.status == status and wire.ends == ["eof"] and not wire.reads
    assert bed.hub.session_count == 0
    assert wire.protocol in bed.connections, "uvicorn must be able to end it"
    wire.goes()
    assert bed.connections == set()


async def test_a_busy_gateway_refuses_a_websocket_and_lets_an_event_stream_come_back() -> None:
    bed = Bed(limits=Limits(connections=0))
    assert bed.asked(request("GET", "/connect", *UPGRADE)).status == 503
    wire = bed.asked(request("GET", "/sse/subscribe?topic_id=a"))
    assert wire.status == 200 and b'"code":4503' in wire.written and wire.ends == ["eof"]


async def test_what_comes_behind_a_refusal_is_not_read() -> None:
    bed = Bed()
    wire = bed.asked(b"\x16\x03\x01")
    refused = wire.written
    assert wire.status == 400
    wire.say(request("GET", "/connect", *UPGRADE))
    assert wire.written == refused


@pytest.mark.parametrize(("size", "status"), [(1_000, None), (1_001, 431)])
async def test_a_head_may_have_so_many_bytes(size: int, status: int | None) -> None:
    bed = Bed(limits=Limits(head_bytes=1_000))
    begin = b"GET /connect HTTP/1.1\r\nX: "
    wire = bed.asked(begin + b"x" * (size - len(begin)))
    assert (wire.status if wire.written else None) == status


async def test_a_complete_head_is_measured_too() -> None:
    bed = Bed(limits=Limits(head_bytes=300))
    assert bed.asked(request("GET", "/elsewhere", "X: " + "x" * 300)).status == 431


async def test_incomplete_heads_share_one_budget_and_give_it_back() -> None:
    bed = Bed()
    bed.bound_heads(HeadBudget(30))
    first, second = bed.asked(b"GET /connect HTTP/1.1"), bed.connect()
    second.say(b"GET /connect")
    assert second.status == 503 and bed.shared.budget.held == 21
    first.goes()
    assert bed.shared.budget.held == 0
    third = bed.asked(b"GET /connect HTTP/1.1")
    assert third.written == b"" and bed.shared.budget.held == 21


async def test_a_protocol_that_handed_over_is_freed_at_the_next_tick() -> None:
    bed = Bed()
    wire = bed.connect()
    first = wire.protocol
    wire.say(request("GET", "/connect", *UPGRADE))
    assert isinstance(wire.protocol, WebSocketStream)
    bed.forward(0.5)
    assert sys.getrefcount(first) == 2  # `first` and the argument


async def test_a_head_that_began_is_late_with_an_answer_and_one_that_did_not_without() -> None:
    bed = Bed(limits=Limits(head_s=10.0))
    silent, slow = bed.connect(), bed.asked(b"GET /connect HTTP/1.1\r\n")
    bed.forward(9.75)
    assert silent.ends == slow.ends == []
    bed.forward(0.5)
    assert silent.written == b"" and silent.ends == ["close"]
    assert slow.status == 408 and slow.ends == ["eof"]
    assert bed.shared.budget.held == 0


async def test_a_connection_that_was_handed_over_is_not_late() -> None:
    bed = Bed(limits=Limits(head_s=10.0))
    wire = bed.asked(request("GET", "/connect", *UPGRADE))
    bed.forward(12)
    assert wire.ends == []


async def test_waiting_heads_end_with_the_server() -> None:
    bed = Bed()
    first, second = bed.connect(), bed.connect()
    first.protocol.shutdown()
    second.protocol.abort()
    assert (first.ends, second.ends) == (["close"], ["abort"])
    assert bed.connections == set()
    refused = bed.asked(b"\x16")
    refused.protocol.shutdown()
    refused.protocol.abort()
    assert refused.ends == ["eof"], "close_after ends it"


async def test_a_server_has_one_set_of_shared_things_for_all_its_connections() -> None:
    bed = Bed()
    made = [bed.service.protocol(bed.shared.config, bed.state, {}) for _ in range(2)]
    assert all(isinstance(protocol, GatewayProtocol) for protocol in made)
    wires = [Wire(), Wire()]
    for protocol, wire in zip(made, wires, strict=True):
        wire.protocol = protocol
        protocol.connection_made(wire)
        wire.say(b"GET /")
    (shared,) = bed.service._servers.values()
    assert shared.budget.held == 10 and shared.connections is bed.state.connections
