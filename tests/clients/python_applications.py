"""Applications that use the Python client as their authors would, and note what they got: readers and a publisher."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from headgate_client import Client, Event, Gap, Message, Subscribed
from headgate_client.frames import encode
from tests.e2e import ledger
from tests.e2e.clients import Seen

EVERY_S = 0.02


class Reader:
    """One application: a loop over a subscription. It has no code for lost connections."""

    def __init__(
        self, name: str, urls: Sequence[str], stream_urls: Sequence[str], topics: Sequence[str],
        start: str = "live", **more: Any,
    ) -> None:  # fmt: skip
        self.name = name
        self.topics = tuple(topics)
        self.client = Client(urls, stream_url=stream_urls, trust_env=False, **more)
        self.seen: dict[str, list[Seen]] = {topic: [] for topic in topics}
        self.back: list[float] = []  # when a topic was subscribed, monotonic seconds
        self.gaps: list[Gap] = []
        self.subscription = self.client.subscribe(*topics, from_=start, on_gap=self._gap, on_event=self._event)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        await self.client.close()
        async with asyncio.timeout(10):
            await self._task

    @property
    def count(self) -> int:
        """Messages so far."""
        assert self._task is not None
        if self._task.done():
            self._task.result()
        return sum(map(len, self.seen.values()))

    def check(self, sent: dict[str, list[bytes]]) -> None:
        """Every message once, in order, and nothing else. Raises AssertionError with the smallest witness."""
        assert self.gaps == [], f"{self.name} was told of gaps: {self.gaps}"
        for topic in self.topics:
            ledger.complete(topic, self.name, self.seen[topic], sent[topic])

    async def _read(self) -> None:
        async for message in self.subscription:
            self._note(message)

    def _note(self, message: Message) -> None:
        assert message.seq is not None and message.epoch is not None
        text = encode(message.payload).encode()
        seen = Seen(message.epoch, message.seq, text, message.message_id, message.publisher_id, time.monotonic())
        self.seen[message.topic_id].append(seen)

    def _event(self, event: Event) -> None:
        if isinstance(event, Subscribed):
            self.back.append(time.monotonic())

    def _gap(self, gap: Gap) -> None:
        self.gaps.append(gap)


class Writer:
    """Publishes with the client, one message a topic at a time, so the order in each is known."""

    def __init__(self, urls: Sequence[str], topics: Sequence[str], **more: Any) -> None:
        self.sent: dict[str, list[bytes]] = {topic: [] for topic in topics}
        self._client = Client(urls, trust_env=False, **more)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write(topic)) for topic in self.sent]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    @property
    def total(self) -> int:
        """Messages published. Raises what a loop died of."""
        for task in self._tasks:
            if task.done():
                task.result()
        return sum(map(len, self.sent.values()))

    async def stop(self) -> None:
        """Ends after the messages under way."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _write(self, topic: str) -> None:
        number = 0
        while not self._stop.is_set():
            payload = {"topic": topic, "number": number}
            await self._client.publish(topic, payload)
            self.sent[topic].append(encode(payload).encode())
            number += 1
            await asyncio.sleep(EVERY_S * len(self.sent))


async def entered(stack: AsyncExitStack, readers: list[Reader]) -> None:
    """Starts readers and waits until each follows its topics."""
    for reader in readers:
        await stack.enter_async_context(reader)
    async with asyncio.timeout(60):
        await asyncio.gather(*(reader.subscription.ready() for reader in readers))


def spread(readers: Sequence[Reader], since: float) -> tuple[float, float, int]:
    """Returns the 95th percentile and the longest of the times to be back (s), and the most in 100 ms."""
    times = sorted(min(at for at in reader.back if at > since) - since for reader in readers)
    bins = Counter(int(took * 10) for took in times)
    return times[int(len(times) * 0.95)], times[-1], max(bins.values())
