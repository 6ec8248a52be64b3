"""Steady traffic while a test inflicts a fault: some workers, each with topics of its own, one message at a time.

So the order within a topic is known, and `sent` is what every reader must see. Judges answers, no reader.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from types import TracebackType
from typing import Any, Self

import msgspec

from tests.e2e.clients import Publisher
from tests.e2e.http import NoAnswer

WORKERS = 4
EVERY_S = 0.01
AGAIN_S = 0.05
PATIENCE = 400
_RETRIED = (408, 429, 503, 504)


class Traffic:
    """Publishes from `async with` to its end. `strict`: every answer must be 200, else it is retried elsewhere."""

    def __init__(self, urls: Sequence[str], token: str, topics: Sequence[str], *, strict: bool = True) -> None:
        self.sent: dict[str, list[bytes]] = {topic: [] for topic in topics}
        self.answers: Counter[str] = Counter()
        self.acked: dict[str, dict[str, str]] = {topic: {} for topic in topics}  # topic: client_msg_id: message_id
        self._urls = list(urls)
        self._token = token
        self._strict = strict
        self._at = 0  # the place in `urls` of the ingest that answered last, counted on
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        topics = list(self.sent)
        self._tasks = [asyncio.create_task(self._work(topics[n::WORKERS])) for n in range(WORKERS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def total(self) -> int:
        """Messages acknowledged. Raises what a worker died of."""
        for task in self._tasks:
            if task.done():
                task.result()
        return sum(map(len, self.sent.values()))

    async def stop(self) -> None:
        """Ends after the messages under way."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _work(self, topics: list[str]) -> None:
        async with AsyncExitStack() as stack:
            publishers = [await stack.enter_async_context(Publisher(url, self._token)) for url in self._urls]
            for number in count():
                if self._stop.is_set():
                    return
                await self._send(publishers, topics[number % len(topics)], number)
                await asyncio.sleep(EVERY_S)

    async def _send(self, publishers: list[Publisher], topic: str, number: int) -> None:
        payload = {"number": number, "at": time.monotonic()}
        client_msg_id = f"{topic}-{number}"
        for _ in range(PATIENCE):
            at = self._at
            try:
                answer = await publishers[at % len(publishers)].publish(topic, payload, client_msg_id)
            except (NoAnswer, TimeoutError) as error:
                self.answers[type(error).__name__] += 1
                assert not self._strict, f"no answer to a publish to {topic}: {error}"
                self._at = at + 1
                await asyncio.sleep(AGAIN_S)
                continue
            self.answers[str(answer.status)] += 1
            if answer.status == 200:
                self.sent[topic].append(msgspec.json.encode(payload))
                self.acked[topic][client_msg_id] = answer.body["message_id"]
                return
            assert not self._strict and answer.status in _RETRIED, f"a publish to {topic}: {answer}"
            self._at = at + 1
            await asyncio.sleep(AGAIN_S)
        raise AssertionError(f"a publish to {topic} was never accepted: {dict(self.answers)}")


def sent_at(payload: bytes) -> float:
    """Returns the monotonic second at which a payload of this traffic was made."""
    found: dict[str, Any] = msgspec.json.decode(payload)
    return float(found["at"])
