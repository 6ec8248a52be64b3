"""Clients of one topic whose presence is watched: the crowd that comes and goes, and those who keep a list of it."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

_PONG = b"\x8a\x80\x00\x00\x00\x00"
_PING = b"\x89\x00"


class Watcher:
    """A client that said `presence:true` and keeps its list from what it is told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.users: dict[str, str] = {}
        self.count = 0
        self.diffs = 0
        self.typed: list[str] = []
        self._socket = socket
        self._task = asyncio.create_task(self._read(socket))

    @classmethod
    async def open(cls, address: str, topic: str, token: str) -> "Watcher":
        url = f"ws://{address}/ws/subscribe?topic_id={topic}&presence=true&token={token}"
        return cls(await connect(url, proxy=None, max_size=None))

    async def close(self) -> None:
        self._socket.transport.abort()
        await self._task
        await self._socket.wait_closed()

    async def _read(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                self._take(json.loads(text))

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "presence":
            self.users = {user["user_id"]: user["state"] for user in frame["subscribers"]}
            self.count = frame["count"]
        elif frame["type"] == "presence_diff":
            self.diffs += 1
            self.count = frame["count"]
            for user in frame["left"]:
                self.users.pop(user["user_id"], None)
            for user in (*frame["joined"], *frame["changed"]):
                self.users[user["user_id"]] = user["state"]
        elif frame["type"] == "typing":
            self.typed.append(frame["user_id"])


class Guest(asyncio.Protocol):
    """One of the crowd: it subscribes, and then only answers pings."""

    def __init__(self, at: int, user: str, request: bytes) -> None:
        self.at = at
        self.user = user
        self.is_in = asyncio.get_running_loop().create_future()
        self.is_gone = asyncio.Event()
        self._request = request
        self._tail = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.is_in.done():
            self._tail += data
            if b'"subscribed"' in self._tail:
                self.is_in.set_result(None)
                self._tail = b""
        elif data.startswith(_PING) and self._transport is not None:
            self._transport.write(_PONG)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone.set()
        if not self.is_in.done():
            self.is_in.set_exception(ConnectionError(f"{self.user} was not let in: {self._tail[-300:]!r}"))

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Crowd:
    """Users of one topic on several gateways, host:port each; `token_of` makes a user's token."""

    def __init__(self, addresses: list[str], topic: str, users: int, token_of: Callable[[str], str]) -> None:
        self.here: list[Guest] = []
        self.watchers: list[Watcher] = []
        self._addresses = addresses
        self._topic = topic
        self._users = users
        self._token_of = token_of
        self._tokens: dict[str, str] = {}
        self._rng = random.Random(1)

    async def watch(self) -> None:
        """One watcher on each gateway, `watcher0` on the first."""
        for at, address in enumerate(self._addresses):
            self.watchers.append(await Watcher.open(address, self._topic, self._token_of(f"watcher{at}")))

    async def join(self, at: int, user: str) -> None:
        token = self._tokens.setdefault(user, self._token_of(user))
        host, _, port = self._addresses[at].rpartition(":")
        request = (
            f"GET /ws/subscribe?topic_id={self._topic}&presence=false HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        guest = Guest(at, user, request.encode())
        await asyncio.get_running_loop().create_connection(lambda: guest, host, int(port))
        await guest.is_in
        self.here.append(guest)

    async def fill(self) -> None:
        """Every user joins once, 20 at a time."""
        names = [f"u{n}" for n in range(self._users)]
        for at in range(0, len(names), 20):
            part = enumerate(names[at : at + 20])
            await asyncio.gather(*(self.join((at + n) % len(self._addresses), user) for n, user in part))

    async def step(self, gateways: tuple[int, ...]) -> None:
        """One joins or one leaves."""
        there = [guest for guest in self._rng.sample(self.here, min(20, len(self.here))) if guest.at in gateways]
        if there and self._rng.random() < 0.5:
            self.here.remove(there[0])
            there[0].leave()
        else:
            await self.join(self._rng.choice(gateways), f"u{self._rng.randrange(self._users)}")

    async def churn(self, per_s: float, seconds: float, gateways: tuple[int, ...]) -> int:
        """Takes `per_s` steps a second; returns how many there were."""
        loop = asyncio.get_running_loop()
        begin, done = loop.time(), 0
        while loop.time() - begin < seconds:
            due = int((loop.time() - begin) * per_s) - done
            await asyncio.gather(*(self.step(gateways) for _ in range(due)))
            done += due
            await asyncio.sleep(0.02)
        return done

    def lose(self, at: int) -> None:
        """A gateway is gone, and all who were there."""
        self.here = [guest for guest in self.here if guest.at != at]

    def truth(self, without: frozenset[int] = frozenset()) -> dict[str, int]:
        """Returns the connections of each user, watchers included; `without` those of gateways that are away."""
        counts = Counter(guest.user for guest in self.here if guest.at not in without)
        return dict(counts) | {f"watcher{at}": 1 for at in range(len(self.watchers)) if at not in without}

    def differences(self, listed: dict[str, int], without: frozenset[int] = frozenset()) -> list[str]:
        """Returns what is wrong in a list of the server's, and in those of the watchers."""
        truth = self.truth(without)
        found = [f"{user}: {listed.get(user)}, expected {truth.get(user)}" for user in listed.keys() | truth.keys()
                 if listed.get(user) != truth.get(user)]  # fmt: skip
        for at, watcher in enumerate(self.watchers):
            if at not in without and (watcher.users.keys() != truth.keys() or watcher.count != len(truth)):
                wrong = sorted(watcher.users.keys() ^ truth.keys())[:5]
                found.append(f"watcher{at} has {len(watcher.users)} of {watcher.count}, expected {len(truth)}: {wrong}")
        return found

    async def close(self) -> None:
        for guest in self.here:
            guest.leave()
        for guest in self.here:
            await guest.is_gone.wait()
        for watcher in self.watchers:
            await watcher.close()


async def listed_by(get: Callable[[str], Awaitable[dict[str, Any]]], topic: str) -> dict[str, int]:
    """Returns the connections of each user that the server lists, and a wrong count; `get` reads a path."""
    users: dict[str, int] = {}
    page = ""
    while True:
        answer = await get(f"/api/v1/topics/{topic}/subscribers?limit=1000{page}")
        users |= {user["user_id"]: user["connections"] for user in answer["subscribers"]}
        if answer["next_page"] is None:
            return users if answer["count"] == len(users) else users | {"(count)": answer["count"]}
        page = f"&page={answer['next_page']}"
