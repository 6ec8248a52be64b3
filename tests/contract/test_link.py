"""One contract suite over all links: in memory, in memory through the wire format, and over a real WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headgate.core.wire import link
from headgate.core.wire.rights import Caller
from headgate.runtime.links.memory_link import memory_link
from headgate.runtime.links.websocket_link import Credentials, WebSocketLink, open_link, serve_links
from headgate.runtime.ports import Link
from headgate.runtime.system import SystemRng
from headgate.runtime.testing.encoded_link import encoded_link

SECRET = b"k" * 32


class End:
    """One end of a link and what it heard."""

    def __init__(self, wire: Link) -> None:
        self.wire = wire
        self.got: list[link.Message] = []
        self.closed: list[str] = []
        wire.deliver_to(self.got.extend, self.closed.append)


@asynccontextmanager
async def in_memory() -> AsyncIterator[tuple[End, End]]:
    near, far = memory_link()
    yield End(near), End(far)
    near.close("test over")
    await asyncio.sleep(0)


@asynccontextmanager
async def encoded() -> AsyncIterator[tuple[End, End]]:
    near, far = encoded_link()
    yield End(near), End(far)
    near.close("test over")
    await asyncio.sleep(0)


@asynccontextmanager
async def over_websocket() -> AsyncIterator[tuple[End, End]]:
    arrived: asyncio.Queue[WebSocketLink] = asyncio.Queue()
    server = await serve_links("127.0.0.1", 0, Credentials(SECRET), "d1", SystemRng(), arrived.put_nowait, print)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    near = await open_link(address, Credentials(SECRET), "gateway", "n1", SystemRng())
    far = End(await arrived.get())
    task = asyncio.create_task(near.run())
    try:
        yield End(near), far
    finally:
        near.close("test over")
        await task
        server.close()
        await server.wait_closed()


PAIRS = pytest.mark.parametrize("pair", [in_memory, encoded, over_websocket])
ENCODED_PAIRS = pytest.mark.parametrize("pair", [encoded, over_websocket])


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.005)


def numbered(seq: int, size: int = 10) -> link.Messages:
    return link.Messages("t", 1, seq, [seq], [b"x" * size])


@PAIRS
async def test_messages_arrive_once_and_in_order_both_ways(pair: object) -> None:
    async with pair() as (near, far):  # type: ignore[operator]
        for seq in range(1, 501):
            near.wire.send(numbered(seq))
            far.wire.send(numbered(-seq))
            if seq % 97 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(near.got) == len(far.got) == 500)
        assert far.got == [numbered(n) for n in range(1, 501)]
        assert near.got == [numbered(-n) for n in range(1, 501)]


@PAIRS
async def test_an_answer_stands_in_band_between_what_came_before_and_after(pair: object) -> None:
    async with pair() as (near, far):  # type: ignore[operator]
        for message in (numbered(1), link.Counts(7, [3]), numbered(2)):
            far.wire.send(message)
        await until(lambda: len(near.got) == 3)
        assert [type(m) for m in near.got] == [link.Messages, link.Counts, link.Messages]


@PAIRS
async def test_what_is_queued_is_counted_and_drains(pair: object) -> None:
    async with pair() as (near, far):  # type: ignore[operator]
        for seq in range(1, 21):
            near.wire.send(numbered(seq, 50_000))
        assert near.wire.pending_bytes >= 1_000_000
        async with asyncio.timeout(10):
            await near.wire.drained(1)
        assert near.wire.pending_bytes == 0
        await until(lambda: len(far.got) == 20)


@PAIRS
async def test_a_close_is_heard_once_at_both_ends_and_sends_after_it_are_nothing(pair: object) -> None:
    async with pair() as (near, far):  # type: ignore[operator]
        near.wire.close("enough")
        await until(lambda: near.closed and far.closed)
        near.wire.send(numbered(1))
        far.wire.send(numbered(1))
        near.wire.close("again")
        await asyncio.sleep(0.05)
        assert (near.closed, len(far.closed)) == (["enough"], 1)
        assert near.got == far.got == []
        async with asyncio.timeout(5):
            await near.wire.drained(1)


@PAIRS
async def test_far_more_than_one_batch_may_hold_arrives_whole(pair: object) -> None:
    """A resume storm queues hundreds of pages in one turn; the link cuts them by size and lives."""
    async with pair() as (near, far):  # type: ignore[operator]
        for seq in range(1, 451):
            near.wire.send(numbered(seq, 256 * 1024))
        await until(lambda: len(far.got) == 450)
        assert [m.seq for m in far.got] == list(range(1, 451))
        assert near.closed == far.closed == []


@ENCODED_PAIRS
async def test_a_message_that_cannot_be_sent_is_dropped_alone_and_answered(pair: object) -> None:
    """One client's claim took the link down for everybody, at every reconnect again."""
    async with pair() as (near, far):  # type: ignore[operator]
        near.wire.send(numbered(1))
        near.wire.send(link.AskSubscribe(7, "t", Caller("eve", subscribe=("\ud83d*",))))
        near.wire.send(link.Changed("\ud83d"))
        near.wire.send(numbered(2))
        far.wire.send(link.TopicAnswer(8, object()))  # type: ignore[arg-type]
        far.wire.send(numbered(3))
        await until(lambda: len(far.got) == 2 and len(near.got) == 3)
        assert far.got == [numbered(1), numbered(2)]
        refused = {m.req: m.code for m in near.got if isinstance(m, link.Refused)}
        assert refused == {7: "internal", 8: "internal"}
        assert near.closed == far.closed == []
