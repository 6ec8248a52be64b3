"""Publishers and listeners that go on while something is replaced under them; knows no engine and no cluster."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import httpx
import msgspec

from tests.e2e import ledger
from tests.e2e.clients import Publisher, Seen, Subscriber
from tests.e2e.harness import until
from tests.e2e.http import NoAnswer

RETRY_S: Final = 0.1
SETTLE_S: Final = 60.0


class SseListener:
    """One SSE stream over a stock HTTP client, because a proxy sends it in chunks; resumes by Last-Event-ID."""

    def __init__(self, url: str, topic_id: str, token: str) -> None:
        self.messages: list[Seen] = []
        self.subscribed = asyncio.Event()
        self.streams = 0
        self._url = url
        self._query = {"topic_id": topic_id, "from": "live"}
        self._headers = {"Authorization": f"Bearer {token}"}
        self._last_id = ""
        self._event: dict[str, str] = {}  # the fields of the event that is coming

    async def run(self) -> None:
        """Listens until cancelled; what cannot be served at the moment is asked for again."""
        # A stream without a byte for longer than four heartbeats is dead.
        timeout = httpx.Timeout(10.0, read=60.0)
        async with httpx.AsyncClient(base_url=self._url, timeout=timeout, trust_env=False) as http:
            while True:
                headers = self._headers | ({"Last-Event-ID": self._last_id} if self._last_id else {})
                try:
                    async with http.stream("GET", "/sse/subscribe", params=self._query, headers=headers) as answer:
                        assert answer.status_code in (200, 502, 503, 504), answer
                        self.streams += answer.status_code == 200
                        self._event = {}
                        async for line in answer.aiter_lines():
                            self._take(line)
                except httpx.TransportError:
                    pass
                await asyncio.sleep(RETRY_S)

    def _take(self, line: str) -> None:
        """An event counts, and its id too, when the empty line after it has come: a proxy may cut it anywhere."""
        if line:
            name, _, value = line.partition(": ")
            self._event[name] = value
            return
        event, self._event = self._event, {}
        self._last_id = event.get("id", self._last_id)
        if event.get("event") == "subscribed":
            self.subscribed.set()
        elif "event" not in event and "data" in event:
            frame = json.loads(event["data"])
            epoch = int(self._last_id.partition(":")[0])
            payload = msgspec.json.encode(frame["payload"])
            message = Seen(epoch, frame["seq"], payload, frame["message_id"], frame["publisher_id"], time.monotonic())
            self.messages.append(message)


class Traffic:
    """Listeners on a few topics and one publisher a topic that repeats a message until it is in the log.

    `url` serves HTTP, `stream_url` the streams. At the end `check` insists on every message, once, in order.
    """

    def __init__(
        self, url: str, stream_url: str, mint: Callable[[str], str], *, topics: int, listeners: int,
        pause_s: float = 0.05,
    ) -> None:  # fmt: skip
        self.sent: dict[str, list[bytes]] = {f"rolling.{number}": [] for number in range(topics)}
        self.repeats = 0
        names = list(self.sent)
        self.listeners = [
            Subscriber(f"l{n}", [stream_url], [names[n % topics], names[(n + 1) % topics]], token=mint(f"l{n}"))
            for n in range(listeners)
        ]
        self.reader = SseListener(stream_url, names[0], mint("sse"))
        self._publisher = Publisher(url, mint("publisher"), timeout_s=10.0)
        self._pause_s = pause_s
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        await self._stack.enter_async_context(self._publisher)
        for topic in self.sent:
            await self._insist("POST", "/api/v1/topics", {"name": topic, "topic_id": topic}, also=409)
        for listener in self.listeners:
            await self._stack.enter_async_context(listener)
        self._listening = [asyncio.create_task(self.reader.run())]
        await until("every subscription", lambda: all(each.connected for each in self.listeners), SETTLE_S)
        await asyncio.wait_for(self.reader.subscribed.wait(), SETTLE_S)
        self._tasks = [asyncio.create_task(self._publish(topic)) for topic in self.sent]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (*self._tasks, *self._listening):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._listening, return_exceptions=True)
        await self._stack.__aexit__(kind, error, trace)

    @property
    def published(self) -> int:
        """Messages that are in the log."""
        return sum(map(len, self.sent.values()))

    async def more(self, messages: int, timeout_s: float = SETTLE_S) -> float:
        """Waits for so many more; returns the seconds it took."""
        goal = self.published + messages
        return await until(f"{goal} messages in the log", lambda: self._failed() or self.published >= goal, timeout_s)

    async def check(self) -> str:
        """Stops publishing and insists that every listener got every message once and in order."""
        self._stop.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks), SETTLE_S)
        expected = sum(len(self.sent[topic]) for listener in self.listeners for topic in listener.topics)
        await until(f"{expected} deliveries", lambda: sum(each.count for each in self.listeners) >= expected, SETTLE_S)
        (first, *_) = self.sent
        await until("the SSE reader", lambda: len(self.reader.messages) >= len(self.sent[first]), SETTLE_S)
        for listener in self.listeners:
            for topic in listener.topics:
                ledger.complete(topic, listener.name, listener.messages[topic], self.sent[topic])
            assert not listener.of_type("gap"), listener.of_type("gap")
        ledger.complete(first, "sse", self.reader.messages, self.sent[first])
        again = sum(each.connections - 1 for each in self.listeners)
        return (
            f"{self.published} messages on {len(self.sent)} topics, {self.repeats} publishes repeated; {expected} "
            f"deliveries to {len(self.listeners)} WebSocket listeners that reconnected {again} times, "
            f"{len(self.reader.messages)} to an SSE reader over {self.reader.streams} streams; none lost, none twice, "
            "in order"
        )

    def _failed(self) -> bool:
        for task in (*self._tasks, *self._listening):
            if task.done():
                task.result()
        return False

    async def _publish(self, topic: str) -> None:
        while not self._stop.is_set():
            payload = {"topic": topic, "number": len(self.sent[topic])}
            body = {"payload": payload, "client_msg_id": f"{topic}-{payload['number']}"}
            await self._insist("POST", f"/api/v1/topics/{topic}/publish", body)
            self.sent[topic].append(msgspec.json.encode(payload))
            await asyncio.sleep(self._pause_s)

    async def _insist(self, method: str, path: str, body: object, also: int = 200) -> None:
        """Repeats a call until it is done; nothing but 2xx, `also`, 502, 503 and 504 may come."""
        while True:
            try:
                answer = await self._publisher.call(method, path, body)
            except (NoAnswer, TimeoutError, OSError):
                answer = None
            if answer is not None and answer.status in (200, 201, also):
                return
            assert answer is None or answer.status in (502, 503, 504), f"{method} {path}: {answer}"
            self.repeats += 1
            await asyncio.sleep(RETRY_S)
