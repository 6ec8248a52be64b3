"""A request for an event stream, beside what tests/integration/test_gateway_sse.py names."""

import gc
import socket
from typing import Any

import pytest

from gateway.sse import SseStream
from headgate.core.client.limits import Limits
from tests.gateway.bed import Bed, Wire, request


def asked(bed: Bed, method: str, query: str, *fields: str) -> Wire:
    return bed.asked(request(method, f"/sse/subscribe?{query}", *fields))


async def test_a_head_request_has_no_body_whatever_the_answer() -> None:
    bed = Bed()
    bed.owners.create("a")
    for query, status in (("topic_id=a", 200), ("topic_id=b", 404), ("topic_id=", 400), ("topic_id=a&from=x", 400)):
        wire = asked(bed, "HEAD", query)
        assert wire.status == status and wire.written.endswith(b"\r\n\r\n") and wire.ends == ["eof"]
        get = asked(bed, "GET", query)
        assert get.status == status and not get.written.endswith(b"\r\n\r\n")
    assert bed.numbers.refusals.count("topic_not_found") == 2


async def test_a_fault_of_the_query_is_told_only_where_the_topic_may_be_seen() -> None:
    bed = Bed(mode="jwt")
    bed.owners.create("mine", permissions="PRIVATE", owner_id="ann")
    for user, status in (("ann", 400), ("bob", 404)):
        assert asked(bed, "GET", f"topic_id=mine&from=nowhere&token={bed.token(user)}").status == status


async def test_an_answer_that_comes_after_the_client_is_gone_is_dropped() -> None:
    bed = Bed()
    bed.owners.create("a")
    bed.owners.slow = True
    wire = asked(bed, "HEAD", "topic_id=a")
    wire.goes()
    bed.owners.deliver()
    assert wire.written == b"" and bed.numbers.refusals == []


async def test_nothing_of_a_checked_request_is_kept_until_the_end_of_the_hold() -> None:
    bed = Bed(limits=Limits(hold_s=30.0))
    bed.owners.create("a")
    wire = asked(bed, "HEAD", "topic_id=a")
    assert wire.status == 200
    wire.goes()
    wire.protocol = None
    bed.forward(6)  # its linger
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, SseStream) and each.transport is wire]


@pytest.mark.parametrize(
    ("method", "query", "status"), [("HEAD", "", 503), ("HEAD", "&from=x", 400), ("GET", "&from=x", 400)]
)
async def test_a_check_that_is_never_answered_is_refused_at_the_end_of_the_hold(
    method: str, query: str, status: int
) -> None:
    bed = Bed(limits=Limits(hold_s=30.0))
    bed.owners.create("a")
    bed.owners.slow = True
    wire = asked(bed, method, f"topic_id=a{query}")
    bed.forward(29.75)
    assert wire.ends == [] and wire.written == b""
    bed.forward(0.5)
    assert wire.status == status and wire.ends == ["eof"]
    assert (b"retry-after: 1" in wire.written.lower()) == (status == 503)
    written = wire.written
    bed.owners.deliver()
    assert wire.written == written, "a late answer is dropped"


@pytest.mark.parametrize(
    ("event_id", "status"), [("17592186044417:0", 200), ("junk", 400), ("1:2:3", 400), ("12345678901234567:1", 400)]
)
async def test_an_event_id_is_two_numbers_of_at_most_sixteen_digits(event_id: str, status: int) -> None:
    bed = Bed()
    bed.owners.create("a")
    assert asked(bed, "GET", "topic_id=a", f"Last-Event-ID: {event_id}").status == status
    assert asked(bed, "GET", f"topic_id=a&last_event_id={event_id}").status == status


@pytest.mark.parametrize(("query", "detail"), [("", b"missing"), ("topic_id=a&topic_id=b", b"one stream")])
async def test_a_stream_has_exactly_one_topic(query: str, detail: bytes) -> None:
    wire = asked(Bed(), "GET", query)
    assert wire.status == 400 and detail in wire.written


async def test_bytes_behind_a_stream_request_mean_nothing() -> None:
    bed = Bed()
    bed.owners.create("a")
    wire = bed.asked(request("GET", "/sse/subscribe?topic_id=a") + request("GET", "/elsewhere"))
    before = wire.written
    wire.say(request("GET", "/elsewhere"))
    assert wire.written == before and before.count(b"HTTP/1.1") == 1


class Pipe:
    """A socket that keeps its options."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))


class Wired(Wire):
    """A transport with a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.pipe = Pipe()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.pipe if name == "socket" else default


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the option is Linux's")
async def test_the_kernel_ends_a_stream_that_takes_nothing_for_as_long_as_a_websocket_may_be_silent() -> None:
    bed = Bed(limits=Limits(heartbeat_s=10.0, heartbeat_missed=2))
    bed.owners.create("a")
    wire = Wired()
    bed.connect(wire).say(request("GET", "/sse/subscribe?topic_id=a"))
    assert wire.pipe.options == [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000)]
