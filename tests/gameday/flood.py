"""Large messages to topics that a slow client and an absent member follow; keeps what was acknowledged."""

import asyncio
import contextlib
import json
import socket
from types import TracebackType
from typing import Any, Final, Self

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.e2e import ledger
from tests.e2e.clients import Publisher
from tests.e2e.harness import token
from tests.e2e.http import NoAnswer

TOPICS: Final = tuple(f"flood.{number}" for number in range(8))  # so that each dispatcher owns some
SETTINGS: Final = {"on_slow": "drop_oldest"}
TEXT: Final = "x" * 4_000
BATCH: Final = 100
PAUSE_S: Final = 0.4
OWNER: Final = "flood"
MEMBER: Final = "absent"
SLOW_S: Final = 0.02  # between two messages: what waits in the kernel is read within 20 s, then the gap frame
SOCKET_BYTES: Final = 16_384
NOT_NOW: Final = (408, 429, 503, 504)


class Flood:
    """Publishes from `start` to `stop`, any number of times."""

    def __init__(self, url: str) -> None:
        self.acked: dict[str, dict[str, str]] = {topic: {} for topic in TOPICS}  # client_msg_id: message_id
        self._publisher = Publisher(url, token(OWNER, service=True))
        self._number = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._publisher.__aenter__()
        for topic in TOPICS:
            answer = await self._publisher.create(topic, settings=SETTINGS)
            assert answer.status == 201, answer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._publisher.__aexit__(kind, error, trace)

    async def join(self) -> None:
        """Makes the absent user a member of every topic."""
        for topic in TOPICS:
            answer = await self._publisher.call("PUT", f"/api/v1/topics/{topic}/members/{MEMBER}", {"role": "member"})
            assert answer.status in (200, 201), answer

    async def leave(self) -> None:
        """Takes the absent user out again: an inbox that nobody reads would fill with the next flood."""
        for topic in TOPICS:
            answer = await self._publisher.call("DELETE", f"/api/v1/topics/{topic}/members/{MEMBER}")
            assert answer.status == 204, answer

    def start(self) -> None:
        """Publishes from now on."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Publishes no more. Raises what publishing died of."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def check(self) -> int:
        """Insists that everything acknowledged is in the history once; returns how many that is."""
        for topic in TOPICS:
            history = await self._publisher.history(topic)
            ledger.dense(topic, [message["seq"] for message in history])
            ledger.acknowledged_once(topic, self.acked[topic], history)
        return sum(map(len, self.acked.values()))

    async def _run(self) -> None:
        while True:
            topic = TOPICS[self._number // BATCH % len(TOPICS)]
            names = [f"{topic}-{self._number + n}" for n in range(BATCH)]
            self._number += BATCH
            items = [{"client_msg_id": name, "payload": {"name": name, "text": TEXT}} for name in names]
            with contextlib.suppress(NoAnswer, TimeoutError):
                answer = await self._publisher.call("POST", f"/api/v1/topics/{topic}/publish/batch", items)
                assert answer.status == 200 or answer.status in NOT_NOW, answer
                if answer.status == 200:
                    self._take(topic, names, answer.body["results"])
            await asyncio.sleep(PAUSE_S)

    def _take(self, topic: str, names: list[str], results: list[dict[str, Any]]) -> None:
        for name, result in zip(names, results, strict=True):
            if result["status"] == 200:
                self.acked[topic][name] = result["message_id"]


class SlowClient:
    """Follows the topics of the flood over a WebSocket and takes some messages a second, from a small socket buffer."""

    def __init__(self, url: str) -> None:
        self._address = url.removeprefix("http://")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connects, and reads until `stop`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Leaves."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {token('slow')}"}
        while True:
            with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError):
                async with connect(
                    f"ws://{self._address}/ws/subscribe", sock=self._socket(), additional_headers=headers,
                    compression=None, max_queue=1, max_size=None,
                ) as client:  # fmt: skip
                    for topic in TOPICS:
                        await client.send(json.dumps({"type": "subscribe", "topic_id": topic, "from": "live"}))
                    async for _ in client:
                        await asyncio.sleep(SLOW_S)
            await asyncio.sleep(SLOW_S)

    def _socket(self) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        host, port = self._address.split(":")
        made.connect((host, int(port)))
        made.setblocking(False)
        return made
