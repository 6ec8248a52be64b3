"""Links over real sockets: authentication before parsing, order, loss, back-pressure, reconnection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headgate.core.wire import link, link_hello, linkcodec
from headgate.core.wire.errors import Refusal
from headgate.runtime.links import websocket_link
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.pool import LinkPool
from headgate.runtime.links.websocket_link import Credentials, WebSocketLink, open_link, serve_links
from headgate.runtime.ports import Shell
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link

SECRET = b"s" * 32
CLOCK, RNG = SystemClock(), SystemRng()
SHELL = Shell(CLOCK, RNG, None)


class FarEnd:
    """A dispatcher's end that answers HELLO and counts what comes."""

    def __init__(self) -> None:
        self.links: list[WebSocketLink] = []
        self.got: list[link.Message] = []
        self.refusals: list[str] = []
        self.reasons: list[str] = []  # why links ended

    def refused(self, code: str, detail: str) -> None:
        self.refusals.append(f"{code} {detail}")

    def accept(self, wire: WebSocketLink) -> None:
        self.links.append(wire)
        wire.deliver_to(lambda messages: self._take(wire, messages), self.reasons.append)

    def _take(self, wire: WebSocketLink, messages: list[link.Message]) -> None:
        self.got.extend(messages)
        for message in messages:
            if isinstance(message, link_hello.Hello):
                wire.send(link_hello.Welcome(1, "d1", "c", 1, 1, [link_hello.Owner(0, 9, "x", True)]))
            if isinstance(message, link.AskCount):
                wire.send(link.Counts(message.req, [len(message.topic_ids)]))


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, FarEnd]]:
    far = FarEnd()
    server = await serve_links("127.0.0.1", 0, Credentials(SECRET), "d1", RNG, far.accept, far.refused)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}", far
    finally:
        server.close()
        await server.wait_closed()


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_a_request_is_answered_and_order_is_kept() -> None:
    async with serving() as (address, _far):
        directory = LinkDirectory("ingest", "n1")
        wire = await open_link(address, Credentials(SECRET), "ingest", "n1", RNG)
        task = asyncio.create_task(wire.run())
        directory.add(wire)
        await until(lambda: directory.linked(0))
        order: list[int] = []

        def counted(answer: link.Answer) -> None:
            assert isinstance(answer, link.Counts)
            order.append(answer.counts[0])

        for n in range(50):
            directory.request(0, lambda r, n=n: link.AskCount(r, 0, ["t"] * n), counted)  # type: ignore[misc]  # a lambda's default
        await until(lambda: len(order) == 50)
        assert order == list(range(50))
        wire.close("test over")
        await task
        with pytest.raises(Refusal, match="not_ready"):
            await directory.ask(0, lambda r: link.AskCount(r, 0, []))


async def test_requests_on_a_lost_link_are_refused_not_forgotten() -> None:
    async with serving() as (address, far):
        directory = LinkDirectory("ingest", "n1")
        wire = await open_link(address, Credentials(SECRET), "ingest", "n1", RNG)
        task = asyncio.create_task(wire.run())
        directory.add(wire)
        await until(lambda: directory.linked(0))
        asked = directory.ask(0, lambda r: link.AskVerdict(r, 0, 5))
        await until(lambda: any(isinstance(m, link.AskVerdict) for m in far.got))
        far.links[0].close("crash")
        with pytest.raises(Refusal, match="link was lost"):
            await asked
        await task


@pytest.mark.parametrize("end", ["stops", "closes", "is cut"])
async def test_only_a_process_that_stops_says_that_it_has_left(end: str) -> None:
    async with serving() as (address, far):
        wire = await open_link(address, Credentials(SECRET), "gateway", "g1", RNG)
        task = asyncio.create_task(wire.run())
        await asyncio.sleep(0)  # a task that was never begun closes nothing
        await until(lambda: far.links)
        if end == "stops":
            task.cancel()
        elif end == "closes":
            wire.close("a fault")
        else:
            wire._connection.transport.abort()
        await asyncio.wait([task])
        await until(lambda: far.reasons)
        assert far.links[0].far_has_left is (end == "stops")


async def test_pending_bytes_are_counted_until_the_socket_has_them() -> None:
    async with serving() as (address, far):
        wire = await open_link(address, Credentials(SECRET), "ingest", "n1", RNG)
        frame = b"x" * 100_000
        for seq in range(1, 31):
            wire.send(link.Messages("t", 1, seq, [1], [frame]))
        assert wire.pending_bytes >= 3_000_000
        task = asyncio.create_task(wire.run())
        await asyncio.wait_for(wire.drained(1_000), 10)
        await until(lambda: len(far.got) == 30)
        wire.close("done")
        await task


async def test_a_message_of_the_largest_size_is_a_batch_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 3 * websocket_link.SLICE_BYTES
    monkeypatch.setattr(linkcodec, "MAX_BYTES", largest)
    monkeypatch.setattr(websocket_link, "MAX_BATCH_BYTES", largest + 4_096)
    async with serving() as (address, far):
        wire = await open_link(address, Credentials(SECRET), "ingest", "n1", RNG)
        for size in (websocket_link.SLICE_BYTES - 10_000, largest - 100, 1_000):
            wire.send(link.Messages("t", 1, 1, [1], [b"x" * size]))
        task = asyncio.create_task(wire.run())
        await until(lambda: len(far.got) == 3 or far.reasons)
        assert far.reasons == []
        wire.close("done")
        await task


async def test_the_pool_comes_back_after_the_dispatcher_does() -> None:
    async with serving() as (address, far):
        directory = LinkDirectory("gateway", "n1")
        pool = LinkPool(directory, [address], Credentials(SECRET), SHELL)
        task = asyncio.create_task(pool.run())
        await until(lambda: directory.missing() is None)
        far.links[0].close("restart")
        await until(lambda: len(far.links) == 2 and directory.missing() is None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_of_two_owners_the_higher_epoch_is_kept_and_the_lower_told() -> None:
    directory = LinkDirectory("gateway", "n1")
    ends = []
    for name, epoch in (("d1", 5), ("d2", 9), ("d3", 7)):
        near, far = encoded_link()
        got: list[link.Message] = []
        far.deliver_to(got.extend)
        directory.add(near)
        far.send(link_hello.Welcome(1, name, "c", 1, 1, [link_hello.Owner(0, epoch, "x", True)]))
        ends.append((far, got))
        await asyncio.sleep(0.01)
    directory.send(0, link.Leave("t", 1))
    await asyncio.sleep(0.01)
    assert [any(isinstance(m, link.Leave) for m in got) for _, got in ends] == [False, True, False]
    assert link_hello.Refuse(0, 9) in ends[0][1]
    assert link_hello.Refuse(0, 9) in ends[2][1]


async def test_a_second_address_of_a_linked_node_is_left_alone() -> None:
    async with serving() as (address, far):
        directory = LinkDirectory("gateway", "n1")
        port = address.rpartition(":")[2]
        pool = LinkPool(directory, [address, f"127.0.0.2:{port}", f"localhost:{port}"], Credentials(SECRET), SHELL)
        task = asyncio.create_task(pool.run())
        await until(lambda: directory.missing() is None and len(far.links) >= 2)
        await asyncio.sleep(0.5)
        assert len(far.links) <= 3
        assert directory.missing() is None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
