"""A client of the inbox: one device of one user reads what it missed, marks it, and notes what it was told."""

import asyncio
import contextlib
import random
from collections import Counter
from types import TracebackType
from typing import Any, Final, Self

from tests.e2e.clients import Answer, Publisher
from tests.e2e.http import NoAnswer

PAGE: Final = 40
AGAIN_S: Final = 0.1
IDLE_S: Final = 0.05
AWAY: Final = (503, 504)
PLACES: Final = ("head_seq", "cursor_seq", "read_seq")


class InboxReader:
    """Reads from `async with` to its end. Each assertion begins with the name of its invariant (I1 to I3).

    I1: no message is lost. I2: what was acknowledged does not come again, and no place goes back. I3: `unread` is the
    number of messages above the read mark. The first fault is kept for `check`.
    """

    def __init__(self, user: str, url: str, token: str, seed: int) -> None:
        self.user = user
        self.got: dict[str, Counter[int]] = {}  # topic: how often each message came
        self.cursors: Counter[str] = Counter()  # by topic: where the answer 204 said that the device is
        self.reads: Counter[str] = Counter()
        self.requests = 0
        self.is_idle = False  # the last answer had no message, and nothing was left
        self._told: dict[tuple[str, str], int] = {}  # topic and place: the highest that was answered
        self._rng = random.Random(seed)
        self._http = Publisher(url, token)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        self._task = asyncio.create_task(self._run(), name=f"inbox-{self.user}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, AssertionError):
            await self._task
        await self._http.__aexit__(kind, error, trace)

    def check(self) -> None:
        """Raises the first fault."""
        if self._task is not None and self._task.done():
            self._task.result()

    async def places(self) -> dict[str, dict[str, Any]]:
        """Returns the inbox by topic; no place in it has gone back."""
        answer = await self._final("GET", "/api/v1/inbox", device_id="desk", limit=1_000)
        assert answer.status == 200, answer
        found = {entry["topic_id"]: entry for entry in answer.body["topics"]}
        for topic, entry in found.items():
            for place in PLACES:
                before = self._told.get((topic, place), 0)
                assert entry[place] >= before, f"I2: {self.user}: {place} of {topic} is {entry[place]} after {before}"
                self._told[topic, place] = entry[place]
        return found

    async def _run(self) -> None:
        while True:
            answer = await self._final("GET", "/api/v1/inbox/messages", device_id="desk", limit=PAGE)
            assert answer.status == 200, answer
            newest = self._take(answer.body["messages"])
            for topic, seq in newest.items():
                await self._mark(topic, seq)
            await self.places()
            self.is_idle = not newest and not answer.body["more"]
            if not newest:
                await asyncio.sleep(IDLE_S)

    def _take(self, frames: list[dict[str, Any]]) -> dict[str, int]:
        newest: dict[str, int] = {}
        for frame in frames:
            topic, seq = frame["topic_id"], frame["seq"]
            acked = self.cursors[topic]
            assert seq > acked, f"I2: {seq} of {topic} comes to {self.user} again, who has acknowledged {acked}"
            assert seq > newest.get(topic, 0), f"I1: {seq} of {topic} comes behind {newest.get(topic)}"
            assert "kind" not in frame, f"I1: an event is no message: {frame}"
            self.got.setdefault(topic, Counter())[seq] += 1
            newest[topic] = seq
        return newest

    async def _mark(self, topic: str, seq: int) -> None:
        """Acknowledges a place; every other time reads too, up to some message."""
        await self._ack(topic, seq, "delivered")
        self.cursors[topic] = self._told[topic, "cursor_seq"] = max(seq, self.cursors[topic])
        if self._rng.random() < 0.5:
            read = self._rng.choice(sorted(self.got[topic])[-10:])
            await self._ack(topic, read, "read")
            self.reads[topic] = self._told[topic, "read_seq"] = max(read, self.reads[topic])

    async def _ack(self, topic: str, seq: int, kind: str) -> None:
        body = {"device_id": "desk", "topic_id": topic, "seq": seq, "kind": kind}
        answer = await self._final("POST", "/api/v1/inbox/ack", body)
        assert answer.status == 204, f"I2: {kind} {seq} of {topic}: {answer}"

    async def _final(self, method: str, path: str, body: object = None, **query: object) -> Answer:
        """Asks until the answer is final."""
        async with asyncio.timeout(60):
            while True:
                self.requests += 1
                with contextlib.suppress(NoAnswer, TimeoutError):
                    answer = await self._http.call(method, path, body, **query)
                    if answer.status not in AWAY:
                        return answer
                await asyncio.sleep(AGAIN_S)
