"""A killed server may cut a stream in the middle of a line: the clients of these tests count whole events only."""

import asyncio

import pytest

from tests.e2e.clients import SseReader
from tests.e2e.http import HttpAnswer

HELLO = b'event: subscribed\nid: 7:40\ndata: {"type":"subscribed"}\n\n'
MESSAGE = b'id: 7:41\ndata: {"type":"message","topic_id":"t","seq":41,"payload":1,"message_id":"m"}\n\n'
OPEN = HttpAnswer(200, {}, b"")


async def read(data: bytes, status: HttpAnswer = OPEN) -> SseReader:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    found = SseReader("http://127.0.0.1:1", "t")
    await found._read(status, stream)
    return found


async def test_an_event_that_is_cut_anywhere_moves_nothing() -> None:
    for cut in range(len(MESSAGE)):
        found = await read(HELLO + MESSAGE[:cut])
        assert (found._last_id, found.messages) == ("7:40", []), MESSAGE[:cut]
    found = await read(HELLO + MESSAGE)
    assert found._last_id == "7:41" and [seen.seq for seen in found.messages] == [41]


async def test_a_server_that_is_not_ready_is_asked_again_and_any_other_refusal_fails() -> None:
    assert (await read(b"", HttpAnswer(503, {}, b""))).messages == []
    with pytest.raises(AssertionError, match="SSE of t"):
        await read(b"", HttpAnswer(500, {}, b""))
