"""Messages to topics on schedule, over HTTP, whether earlier ones were answered or not; each says when it was due."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from itertools import count
from types import TracebackType
from typing import Self

from bench.latency import quantile
from tests.e2e.clients import Answer, Publisher
from tests.e2e.http import NoAnswer

GRACE_S = 30.0


async def newest_seq(admin: Publisher, topic: str, published: int) -> int:
    """Returns the number of a topic's newest message, once it is `published` at least. Raises AssertionError."""
    deadline = time.monotonic() + GRACE_S
    while True:
        answer = await admin.call("GET", f"/api/v1/topics/{topic}")
        assert answer.status == 200, answer
        seq: int = answer.body["seq"]
        if seq >= published:
            return seq
        assert time.monotonic() < deadline, f"{topic}: {seq} messages have a number, {published} were answered 200"
        await asyncio.sleep(0.02)


async def publish_once(admin: Publisher, topic: str, payload: object, **query: object) -> Answer:
    """Publishes a message, again under the same id where the server had closed an idle connection meanwhile."""
    own = uuid.uuid4().hex
    try:
        return await admin.publish(topic, payload, own, **query)
    except NoAnswer:
        return await admin.publish(topic, payload, own, **query)


class Messages:
    """Publishes `per_s` messages a second in all, to the topics in turn, from `async with` to its end.

    With `may_be_refused` a refusal is counted by its code, and no answer too; else they are raised at the end.
    """

    def __init__(self, admin: Publisher, topics: Sequence[str], per_s: float, *, may_be_refused: bool = False) -> None:
        self.took_ms: list[float] = []
        self.refused = Counter[str]()
        self._may_be_refused = may_be_refused
        self._admin = admin
        self._topics = topics
        self._per_s = per_s
        self._before: dict[str, int] = {}
        self._sent = Counter[str]()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for topic in self._topics:
            self._before[topic] = await newest_seq(self._admin, topic, 0)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._stop.set()
        if kind is None:
            await asyncio.wait_for(self._task, GRACE_S)
        self._task.cancel()

    async def last_seq(self, topic: str) -> int:
        """Returns the number of a topic's newest message, once all that were answered have one."""
        return await newest_seq(self._admin, topic, self._before[topic] + self._sent[topic])

    def __str__(self) -> str:
        quantiles = ", ".join(f"p{q * 100:g} {quantile(self.took_ms, q):.1f} ms" for q in (0.5, 0.95, 0.99))
        refused = "".join(f", {count} {code}" for code, count in sorted(self.refused.items()))
        return f"{len(self.took_ms)} answered 200, {quantiles}{refused}"

    async def _run(self) -> None:
        begun = time.time() + 0.05
        async with asyncio.TaskGroup() as tasks:
            for n in count():
                due = begun + n / self._per_s
                await asyncio.sleep(max(0.0, due - time.time()))
                if self._stop.is_set():
                    return
                tasks.create_task(self._send(self._topics[n % len(self._topics)], n, due))

    async def _send(self, topic: str, n: int, due: float) -> None:
        try:
            answer = await publish_once(self._admin, topic, {"n": n, "at": due})
        except (NoAnswer, TimeoutError):
            if not self._may_be_refused:
                raise
            self.refused["no answer"] += 1
            return
        if answer.status != 200 and self._may_be_refused:
            self.refused[answer.body["code"]] += 1
            return
        assert answer.status == 200, answer
        self._sent[topic] += 1
        self.took_ms.append((time.time() - due) * 1_000)
