"""Links against strangers and listeners on the network: what they get, what they cost, what they can end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from headgate.core.wire import link, link_hello, linkauth
from headgate.runtime.links import authentication
from headgate.runtime.links.authentication import Connection
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.links.pool import LinkPool
from headgate.runtime.links.websocket_link import Credentials, WebSocketLink, open_link
from tests.integration.test_links_websocket import RNG, SECRET, SHELL, serving, until

GREETING = b"HGL1" + bytes(32) + b"d1"


def stranger(address: str) -> connect:
    return connect(f"ws://{address}/link", proxy=None, compression=None)


async def ended(socket: ClientConnection) -> tuple[int, str]:
    """How the far end closed."""
    async with asyncio.timeout(10):
        await socket.wait_closed()
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


async def test_another_secret_is_refused_before_anything_is_parsed() -> None:
    async with serving() as (address, far):
        with pytest.raises(ConnectionError, match="the cluster secrets differ"):
            await open_link(address, Credentials(b"wrong" * 8), "ingest", "n1", RNG)
        async with stranger(address) as socket:
            await socket.recv()
            await socket.send(msgspec.msgpack.encode([[1, 1, 1, "gateway", "g", "", 0]]))
            assert await ended(socket) == (1008, "no link credentials")
        assert far.links == []
        assert [text.rpartition(": ")[2] for text in far.refusals] == [
            "the cluster secrets differ",
            "no link credentials",
        ]
        assert all(text.startswith("unauthenticated a link from ('127.0.0.1', ") for text in far.refusals)


async def test_a_message_of_a_stranger_is_read_to_its_bound() -> None:
    async with serving() as (address, far):
        async with stranger(address) as socket:
            await socket.send(b"x" * (linkauth.MAX_BYTES + 1))
            assert (await ended(socket))[0] == 1009
        async with stranger(address) as socket:
            await socket.send("text")
            assert await ended(socket) == (1008, "a text message on a link")
        assert far.links == []


async def test_a_silent_stranger_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "OPEN_S", 0.2)
    async with serving() as (address, _far), stranger(address) as socket:
        assert await ended(socket) == (1008, "nothing was proved in time")


async def test_strangers_are_bounded_and_do_not_keep_friends_out_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "MAX_STRANGERS", 5)
    monkeypatch.setattr(authentication, "OPEN_S", 1.0)
    async with serving() as (address, far):
        host, _, port = address.rpartition(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
        await asyncio.sleep(0.1)
        cut = [reader.at_eof() for reader, _ in silent]
        assert cut.count(True) <= 3
        with pytest.raises(ConnectionError):
            await open_link(address, Credentials(SECRET), "ingest", "n1", RNG)
        for _, writer in silent:
            writer.close()
        wires = []
        for number in range(8):  # those who have proved themselves do not count
            async with asyncio.timeout(5):
                wires.append(await open_until(address, f"n{number}"))
        assert len(far.links) == 8
        for wire in wires:
            wire.close("done")
            await wire.run()


async def open_until(address: str, node: str) -> WebSocketLink:
    while True:
        try:
            return await open_link(address, Credentials(SECRET), "ingest", node, RNG)
        except ConnectionError:
            await asyncio.sleep(0.05)


async def test_a_server_that_does_not_know_the_secret_is_left() -> None:
    async def liar(connection: websockets.ServerConnection) -> None:
        await connection.send(linkauth.challenge("d1", bytes(32)).encode())
        await connection.recv()
        await connection.send("é".encode() * 16)
        await connection.wait_closed()

    async with websockets.serve(liar, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError, match="does not know the cluster secret"):
            await open_link(f"127.0.0.1:{port}", Credentials(SECRET), "ingest", "n1", RNG)


@pytest.mark.parametrize(
    "said", [[], ["text"], [b"\xff" * 40], ["é"], [GREETING, "é"], [GREETING, b""], [b"x" * 100_000]],
    ids=repr,
)  # fmt: skip
async def test_whatever_answers_at_a_dispatcher_address_a_gateway_goes_on(said: list[str | bytes]) -> None:
    """A proof that was not ASCII ended the process."""

    async def odd(connection: websockets.ServerConnection) -> None:
        for message in said:
            await connection.send(message)
        await connection.close()

    async with websockets.serve(odd, "127.0.0.1", 0) as server, serving() as (address, _far):
        port = server.sockets[0].getsockname()[1]
        directory = LinkDirectory("gateway", "n1")
        pool = LinkPool(directory, [f"127.0.0.1:{port}", address], Credentials(SECRET), SHELL)
        task = asyncio.create_task(pool.run())
        await until(lambda: directory.missing() is None)
        await asyncio.sleep(0.3)
        assert not task.done() and directory.missing() is None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class Wiretap:
    """A relay in front of a dispatcher that keeps what both sides say, and may change or add to it."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.change: Callable[[bytes], bytes] = bytes
        self.far: ClientConnection | None = None

    async def serve(self, near: websockets.ServerConnection) -> None:
        with contextlib.suppress(OSError):  # the dispatcher may not be there yet
            async with stranger(self.behind) as far:
                self.far = far
                back = asyncio.create_task(self._carry(far, near, self.down))
                await self._carry(near, far, self.up)
                back.cancel()

    async def _carry(self, source: Connection, target: Connection, kept: list[bytes]) -> None:
        async for data in source:
            assert isinstance(data, bytes)
            kept.append(data)
            await target.send(self.change(data))


@asynccontextmanager
async def tapped(behind: str) -> AsyncIterator[tuple[str, Wiretap]]:
    tap = Wiretap(behind)
    async with websockets.serve(tap.serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", tap


async def test_what_was_captured_is_of_no_use_again() -> None:
    """A listener replayed a gateway's offer for 60 s and asked as an admin."""
    async with serving() as (address, far), tapped(address) as (through, tap):
        wire = await open_link(through, Credentials(SECRET), "gateway", "g1", RNG)
        wire.send(link_hello.Hello(1, 1, "gateway", "g1", "", 0))
        task = asyncio.create_task(wire.run())
        await until(lambda: far.got)
        wire.close("done")
        await task
        far.got.clear()
        for _ in range(5):
            async with stranger(address) as socket:
                await socket.recv()
                for data in tap.up:
                    await socket.send(data)
                assert await ended(socket) == (1008, "the cluster secrets differ")
        assert far.got == [] and len(far.links) == 1


@pytest.mark.parametrize("attack", ["changed", "added", "repeated"])
async def test_nobody_on_the_way_can_speak_on_a_link(attack: str) -> None:
    async with serving() as (address, far), tapped(address) as (through, tap):
        wire = await open_link(through, Credentials(SECRET), "gateway", "g1", RNG)
        task = asyncio.create_task(wire.run())
        wire.send(link.AskCount(1, 0, ["t"]))
        await until(lambda: len(far.got) == 1)
        reasons = far.reasons
        if attack == "changed":
            tap.change = lambda data: data.replace(b"t", b"u")
            wire.send(link.AskCount(2, 0, ["t"]))
        else:
            assert tap.far is not None
            await tap.far.send(tap.up[-1] if attack == "repeated" else bytes(16) + b"\x91")
        await until(lambda: reasons)
        assert reasons == ["a batch that the far end did not send, or not at this place"]
        assert len(far.got) == 1
        task.cancel()


async def test_junk_ends_the_link_and_both_ends_say_why() -> None:
    async with serving() as (address, far):
        wire = await open_link(address, Credentials(SECRET), "ingest", "n1", RNG)
        reasons: list[str] = []
        wire.deliver_to(on_close=reasons.append)
        await until(lambda: far.links)
        await wire._connection.send(wire._sent_seal.mark(b"\xc1 no msgpack"))
        await wire.run()
        await until(lambda: len(reasons) == len(far.reasons) == 1)
        assert all("not a batch of link version 1" in reason for reason in reasons + far.reasons)


async def test_what_ends_the_writer_is_the_reason_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as (address, _far):
        wire = await open_link(address, Credentials(SECRET), "ingest", "n1", RNG)
        reasons: list[str] = []
        wire.deliver_to(on_close=reasons.append)
        monkeypatch.setattr(wire._sent_seal, "mark", lambda batch: 1 / 0)
        wire.send(link.Changed("t"))
        await wire.run()
        assert reasons == ["ZeroDivisionError: division by zero"]


async def test_a_fault_with_one_message_leaves_the_link_to_the_others() -> None:
    async with serving() as (address, far):
        directory = LinkDirectory("ingest", "n1")
        wire = await open_link(address, Credentials(SECRET), "ingest", "n1", RNG)
        task = asyncio.create_task(wire.run())
        directory.add(wire)
        await until(lambda: directory.linked(0))
        directory.request(0, lambda r: link.AskCount(r, 0, []), lambda answer: 1 / 0)  # type: ignore[arg-type]
        good = directory.ask(0, lambda r: link.AskCount(r, 0, ["a"]))
        assert (await good) == link.Counts(2, [1])
        assert len(far.links) == 1
        wire.close("done")
        await task
