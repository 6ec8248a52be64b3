"""Publishes singles and batches of up to 1,000, and deletes and creates topics meanwhile. Judges nothing.

Open loop: each publish is due at a time that no answer moves. A worker whose publish takes long sends what has become
due meanwhile right after it, and each counts from when it was due.
"""

import asyncio
import contextlib
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

import msgspec

from tests.e2e.clients import Answer, Publisher
from tests.e2e.http import NoAnswer
from tests.soak.availability import PUBLISH_S, Timely
from tests.soak.balancer import Balancer
from tests.soak.subject import Subject

AGAIN_S: Final = (0.05, 0.5)
REPEATED: Final = 0.05
UNKEYED: Final = 0.3
GIVEN_UP: Final = 0.1  # of messages without a client_msg_id that were answered 503: they must never appear
TIMEOUT_S: Final = 4.0
BURST: Final = 500  # a batch from here on

Item = tuple[int, bool]  # number, with a client_msg_id
_encode = msgspec.json.encode


class Pace(NamedTuple):
    """How a worker publishes: mean seconds between publishes, sizes, and the share of turns that recreate a topic.

    `sizes`: up to this share of publishes, up to so many messages.
    """

    every_s: float
    sizes: Sequence[tuple[float, int]]
    recreated: float


BATCHES: Final = Pace(1.8, ((0.4, 1), (0.7, 50), (0.9, 500), (1.0, 1_000)), 0.02)


def singles(every_s: float) -> Pace:
    """Returns the pace of a worker that publishes one message at a time."""
    return Pace(every_s, ((1.0, 1),), 0.001)


class Load:
    """One worker for some topics: one request at a time, so that the order within a topic is known."""

    def __init__(
        self, name: str, urls: Sequence[str], token: str, subjects: Sequence[Subject], seed: int, pace: Pace,
        balancer: Balancer | None = None,
    ) -> None:  # fmt: skip
        self.answers: Counter[str] = Counter()
        self.acked = 0  # messages
        self.publishes = 0  # requests that were acknowledged
        self.refused = 0  # messages that were answered 503, each time
        self.began = asyncio.Event()  # its topics are there
        self.timely = Timely(PUBLISH_S)
        self.does = "waits"  # or: publishes, bursts, recreates
        self._name = name
        self._urls = urls
        self._token = token
        self._subjects = subjects
        self._pace = pace
        self._balancer = balancer or Balancer(len(urls))
        self._rng = random.Random(f"{seed}:{name}")
        self._publishers: list[Publisher] = []
        self._epochs: dict[str, tuple[int, int]] = {}  # of each topic: epoch, and the life it is of

    async def run(self, stop: asyncio.Event) -> None:
        """Creates its topics, works until `stop`, and ends with every message's fate known."""
        async with AsyncExitStack() as stack:
            for url in self._urls:
                publisher = Publisher(url, self._token, timeout_s=TIMEOUT_S)
                self._publishers.append(await stack.enter_async_context(publisher))
            for subject in self._subjects:
                await self.create(subject)
            self.began.set()
            due = time.monotonic()
            while not await _until(stop, due):
                subject = self._rng.choice(self._subjects)
                if self._rng.random() < self._pace.recreated:
                    await self._recreate(subject)
                    due = time.monotonic()  # there was no topic to publish to
                else:
                    await self._publish(subject, due)
                self.does = "waits"
                due += self._pace.every_s * self._rng.uniform(0.5, 1.5)

    async def create(self, subject: Subject) -> None:
        """Creates a topic, insisting, and waits until every ingest knows it."""
        body = {"name": subject.topic_id, "topic_id": subject.topic_id}
        await self._insist("POST", "/api/v1/topics", body, (201, 409))
        await self._is_known(subject)

    async def _recreate(self, subject: Subject) -> None:
        self.does = "recreates"
        await self._insist("DELETE", f"/api/v1/topics/{subject.topic_id}", None, (204, 404))
        subject.recreated()
        await self.create(subject)

    async def _is_known(self, subject: Subject) -> None:
        """Waits until every ingest knows the new topic: a publish to the old one would be a dead letter, as it should.

        Ingests cache a topic for seconds; showing it asks its owner.
        """
        for publisher in self._publishers:
            while True:
                try:
                    answer = await publisher.call("GET", f"/api/v1/topics/{subject.topic_id}")
                except (NoAnswer, TimeoutError):
                    answer = None
                if answer is not None and answer.status == 200 and self._is_new(subject, answer.body["epoch"]):
                    break
                await asyncio.sleep(self._rng.uniform(*AGAIN_S))

    def _is_new(self, subject: Subject, epoch: int) -> bool:
        """Says whether an epoch is of the topic's present life."""
        before, life = self._epochs.get(subject.topic_id, (0, 0))
        if life == subject.life:
            return epoch == before
        if epoch > before:
            self._epochs[subject.topic_id] = (epoch, subject.life)
        return epoch > before

    async def _publish(self, subject: Subject, due: float) -> None:
        share = self._rng.random()
        most = next(size for up_to, size in self._pace.sizes if share < up_to)
        first = subject.count + 1
        subject.count += self._rng.randint(1, most)
        self.does = "bursts" if subject.count - first + 1 >= BURST else "publishes"
        items = [(n, self._rng.random() >= UNKEYED) for n in range(first, subject.count + 1)]
        left = await self._insist_on(subject, items)
        now = time.monotonic()
        self.timely.add(due, now if left else math.inf)
        self.acked += len(left)
        self.publishes += bool(left)
        subject.acknowledge((n for n, _ in left), now)
        subject.settled = subject.count
        if self._rng.random() < REPEATED and (kept := [item for item in left if item[1]]):
            await self._send(subject, kept)

    async def _insist_on(self, subject: Subject, items: list[Item]) -> list[Item]:
        """Sends until the answer is 200; returns what was acknowledged: what may not be sent again is left out."""
        left = items
        while left:
            answer = await self._send(subject, left)
            if answer is not None and answer.status == 200 and self._all_good(answer):
                break
            if answer is not None and answer.status == 503:  # certainly not in the log, and never will be
                self.refused += len(left)
                left = self._without_given_up(subject, left)
            else:
                subject.maybe.update((subject.life, n) for n, keyed in left if not keyed)
                left = [item for item in left if item[1]]
            await asyncio.sleep(self._rng.uniform(*AGAIN_S))
        return left

    def _without_given_up(self, subject: Subject, left: list[Item]) -> list[Item]:
        gone = {n for n, keyed in left if not keyed and self._rng.random() < GIVEN_UP}
        subject.refused.update((subject.life, n) for n in gone)
        return [item for item in left if item[0] not in gone]

    async def _send(self, subject: Subject, items: Sequence[Item]) -> Answer | None:
        path = f"/api/v1/topics/{subject.topic_id}/publish"
        found = [self._item(subject.life, n, keyed) for n, keyed in items]
        if len(found) == 1:
            return await self._call("POST", path, _encode(found[0]))
        return await self._call("POST", f"{path}/batch", _encode(found))

    def _item(self, life: int, n: int, keyed: bool) -> dict[str, object]:
        item: dict[str, object] = {"payload": {"life": life, "n": n, "pad": padding(n)}}
        return item | {"client_msg_id": f"{life}-{n}"} if keyed else item

    def _all_good(self, answer: Answer) -> bool:
        codes = Counter(str(result.get("code", "ok")) for result in answer.body.get("results", ()))
        self.answers.update({f"item {code}": count for code, count in codes.items() if code != "ok"})
        return set(codes) <= {"ok"}

    async def _insist(self, method: str, path: str, body: object, good: Sequence[int]) -> None:
        while True:
            answer = await self._call(method, path, body)
            if answer is not None and answer.status in good:
                return
            await asyncio.sleep(self._rng.uniform(*AGAIN_S))

    async def _call(self, method: str, path: str, body: object) -> Answer | None:
        number = self._balancer.choose(self._rng)
        try:
            answer = await self._publishers[number].call(method, path, body)
        except (NoAnswer, TimeoutError) as error:
            self.answers[type(error).__name__] += 1
            self._balancer.failed(number)
            return None
        self.answers[str(answer.status)] += 1
        if answer.status in (503, 504):
            self._balancer.failed(number)
        return answer


def padding(number: int) -> str:
    """Returns what a message has besides its number, so that a changed one is noticed."""
    return "x" * (number * 7 % 100)


async def _until(stop: asyncio.Event, due: float) -> bool:
    """Waits until something is due; says whether `stop` came before."""
    if (seconds := due - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
    return stop.is_set()
