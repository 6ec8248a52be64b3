"""A scripted WebSocket server for the Python client: the n-th connection is served by the n-th script."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from headgate_client import Message

WAIT_S = 10.0


class Peer:
    """The server's side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []

    async def say(self, kind: str, topic: str | None = None, **fields: Any) -> None:
        """Sends a frame."""
        named = {} if topic is None else {"topic_id": topic}
        await self.socket.send(json.dumps({"type": kind, **named, **fields}, separators=(",", ":")))

    async def hear(self, kind: str | None = None) -> dict[str, Any]:
        """Waits for the next frame, of one kind."""
        async with asyncio.timeout(WAIT_S):
            while True:
                frame: dict[str, Any] = json.loads(await self.socket.recv())
                self.heard.append(frame)
                if kind in (None, frame["type"]):
                    return frame

    async def subscribed(self, topic: str, seq: int = 0, epoch: int = 7, **more: Any) -> dict[str, Any]:
        """Takes a subscribe and grants it; returns it."""
        asked = await self.hear("subscribe")
        assert asked["topic_id"] == topic
        await self.say("subscribed", topic, profile="durable", epoch=epoch, seq=seq, **more)
        return asked

    async def messages(self, topic: str, *seqs: int, **more: Any) -> None:
        """Sends messages."""
        for seq in seqs:
            await self.say("message", topic, seq=seq, ts=1, message_id=f"m{seq}", publisher_id="p", payload=seq, **more)

    async def end(self, code: int, **more: Any) -> None:
        """Ends the connection as the protocol says."""
        await self.say("disconnect", code=code, reason=f"why {code}", **more)
        await self.socket.close(code)

    def cut(self) -> None:
        """Ends the TCP connection without a word."""
        self.socket.transport.abort()

    async def stay(self) -> None:
        """Answers `ok` to what has an id, until the client goes."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = json.loads(await self.socket.recv())
                self.heard.append(frame)
                if "id" in frame:
                    await self.say("ok", frame.get("topic_id"), id=frame["id"])


Script = Callable[[Peer], Awaitable[None]]


class Streams:
    """The server; its last script serves all later connections."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.peers: list[Peer] = []
        self.paths: list[str] = []
        self.tokens: list[str | None] = []
        self.refusals: list[int] = []  # statuses for the next handshakes
        self.errors: list[BaseException] = []
        self.test = asyncio.current_task()
        self.url = ""

    async def serve(self, socket: ServerConnection) -> None:
        """Serves a connection with its script."""
        script = self.scripts[min(len(self.peers), len(self.scripts) - 1)]
        peer = Peer(socket)
        self.peers.append(peer)
        with contextlib.suppress(ConnectionClosed):
            await peer.say("welcome", connection_id="c", user_id="u", limits={})
            try:
                await script(peer)
            except (AssertionError, TimeoutError) as error:
                self.errors.append(error)
                if self.test is not None:
                    self.test.cancel()  # it might wait for ever for what this connection was to bring

    def handshake(self, socket: ServerConnection, request: Request) -> Response | None:
        """Notes what was presented; refuses where the test says so."""
        self.paths.append(request.path)
        self.tokens.append(request.headers.get("Authorization"))
        if not self.refusals:
            return None
        return socket.respond(HTTPStatus(self.refusals.pop(0)), "refused")


@contextlib.asynccontextmanager
async def streams(*scripts: Script) -> AsyncIterator[Streams]:
    """Runs a server; an assertion that failed in a script fails the test."""
    running = Streams()
    running.scripts = list(scripts)
    server: Server
    async with serve(running.serve, "127.0.0.1", 0, process_request=running.handshake, compression=None) as server:
        (listening,) = server.sockets
        running.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield running
        except asyncio.CancelledError:
            if not running.errors:
                raise
    assert running.errors == []


async def take(messages: AsyncIterator[Message], count: int) -> list[int | None]:
    """The seqs of the next messages."""
    async with asyncio.timeout(10):
        return [(await anext(messages)).seq for _ in range(count)]


async def until(condition: Callable[[], object]) -> None:
    """Polls until it holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def gives(topic: str, *seqs: int, head: int = 0, **more: Any) -> Script:
    """Grants a subscribe, sends messages and stays."""

    async def script(peer: Peer) -> None:
        await peer.subscribed(topic, head, **more)
        await peer.messages(topic, *seqs)
        await peer.stay()

    return script


def ends(topic: str, how: int | None, *seqs: int, **more: Any) -> Script:
    """Grants a subscribe, sends messages and ends the connection; None: cuts it."""

    async def script(peer: Peer) -> None:
        await peer.subscribed(topic)
        await peer.messages(topic, *seqs)
        if how is None:
            await asyncio.sleep(0.05)
            peer.cut()
        elif how >= 4000:
            await peer.end(how, reconnect=True, **more)
        else:
            await peer.socket.close(how)

    return script
