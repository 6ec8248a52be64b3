"""The socket of a session: how it pauses, and how it ends."""

import pytest

from gateway.head import read_head
from gateway.sse import SseStream
from gateway.stream import Stream
from gateway.websocket import WebSocketStream
from headgate.core.client.limits import Limits
from headgate.core.wire.errors import Refusal
from tests.gateway.bed import UPGRADE, Bed, Wire, request


def started(bed: Bed, wire: Wire) -> WebSocketStream:
    """A WebSocket that follows topic `a`."""
    bed.owners.create("a")
    stream = WebSocketStream(bed.shared, wire)
    stream.start(read_head(request("GET", "/connect?topic_id=a", *UPGRADE)))
    return stream


async def test_a_stream_takes_the_transport_with_the_marks_of_the_limits() -> None:
    bed, wire = Bed(limits=Limits(queue_bytes=4_000)), Wire()
    stream = Stream(bed.shared, wire)
    assert wire.protocol is stream and stream in bed.connections
    assert wire.marks == (1_000, 250)


async def test_our_side_is_closed_once_and_the_rest_after_five_seconds() -> None:
    bed, wire = Bed(), Wire()
    stream = Stream(bed.shared, wire)
    stream.shut()
    stream.shut()
    assert wire.ends == ["eof"]
    bed.forward(4.75)
    assert wire.ends == ["eof"]
    bed.forward(0.5)
    assert wire.ends == ["eof", "abort"]


async def test_a_transport_that_cannot_close_half_is_closed_whole() -> None:
    bed, wire = Bed(), Wire(half_closes=False)
    Stream(bed.shared, wire).shut()
    assert wire.ends == ["close"]
    bed.forward(6)
    assert wire.ends == ["close"], "it closes by itself when everything is written"


async def test_a_client_that_has_just_gone_ends_its_stream_and_nothing_else() -> None:
    bed, wire = Bed(), Wire(is_gone=True)
    Stream(bed.shared, wire).shut()
    assert wire.ends == ["abort"], "asyncio's own loop raises here, in the midst of a drain"
    bed.forward(6)


async def test_a_transport_that_closes_and_is_not_read_is_aborted() -> None:
    bed, wire = Bed(), Wire(half_closes=False)
    stream = Stream(bed.shared, wire)
    wire.stuck = True
    stream.write(b"last words")
    stream.shut()
    bed.forward(6)
    assert wire.ends == ["close", "abort"]


async def test_a_stream_that_is_closing_already_is_left_alone() -> None:
    bed, wire = Bed(), Wire()
    stream = Stream(bed.shared, wire)
    wire.close()
    stream.shut()
    assert wire.ends == ["close"] and stream.ended
    bed.forward(6)
    assert wire.ends == ["close"], "everything is written: it is over in this turn"


async def test_a_client_that_closes_its_side_and_does_not_read_keeps_no_connection() -> None:
    bed, wire = Bed(), Wire()
    stream = started(bed, wire)
    wire.stuck = True
    stream.write(b"what it does not read")
    wire.close()  # as a transport does when the client has closed its side
    bed.forward(65)
    assert stream.ended and wire.ends == ["close"], "it missed its heartbeats"
    bed.forward(6)
    assert wire.ends == ["close", "abort"]


async def test_a_full_socket_parks_its_session_and_an_empty_one_wakes_it() -> None:
    bed, wire = Bed(), Wire()
    stream = started(bed, wire)
    stream.pause_writing()
    before = wire.written
    bed.owners.publish("a", "x")
    bed.flush()
    assert wire.written == before
    stream.resume_writing()
    assert b'"payload":"x"' in wire.written


async def test_without_a_session_or_after_the_end_a_full_socket_means_nothing() -> None:
    bed, wire = Bed(), Wire()
    early = Stream(bed.shared, wire)
    early.pause_writing()
    early.resume_writing()
    stream = started(bed, wire)
    session = stream.session
    assert session is not None
    stream.shut()
    stream.pause_writing()
    assert not session.paused


async def test_a_lost_connection_ends_its_session_and_leaves_the_list() -> None:
    bed, wire = Bed(), Wire()
    stream = started(bed, wire)
    session = stream.session
    assert session is not None
    wire.goes()
    assert stream.ended and stream.session is None and session.closed
    assert stream not in bed.connections and bed.hub.session_count == 0
    assert bed.owners.topics["a"].count == 0


async def test_when_uvicorn_stops_a_session_is_told_and_the_rest_closed() -> None:
    bed, wire, bare = Bed(), Wire(), Wire()
    stream, empty = started(bed, wire), Stream(bed.shared, bare)
    stream.shutdown()
    empty.shutdown()
    assert b'"code":4601' in wire.written and wire.ends == ["eof"]
    assert bare.written == b"" and bare.ends == ["eof"]
    stream.shutdown()
    assert wire.ends == ["eof", "close"]
    stream.abort()
    assert wire.ends[-1] == "abort"


async def test_only_an_sse_request_can_be_refused_with_a_status() -> None:
    bed, wire = Bed(), Wire()
    with pytest.raises(AssertionError):
        started(bed, Wire()).refuse(Refusal("forbidden", "no"))
    SseStream(bed.shared, wire, [(b"x-cors", b"1")]).refuse(Refusal("forbidden", "no"))
    assert wire.status == 403 and b"x-cors: 1" in wire.written and wire.ends == ["eof"]


async def test_a_stream_on_a_connection_whose_last_answer_is_unread_waits_until_it_is_read() -> None:
    """The transport told the protocol before that it is full, and tells it to nobody again."""
    bed, wire = Bed(), Wire()
    bed.owners.create("a")
    bed.owners.publish("a", *["x" * 1_000] * 50)
    bed.connect(wire)
    wire.queue = 80_000
    wire.say(request("GET", "/connect?topic_id=a&from=earliest", *UPGRADE))
    bed.forward(2)
    assert b'"type":"subscribed"' in wire.written and b'"type":"message"' not in wire.written
    wire.queue = 0
    bed.forward(1)
    assert wire.written.count(b'"type":"message"') == 50
