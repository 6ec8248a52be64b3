"""Publishes batches of 1 to 1,000 for as long as it takes, and deletes and creates topics meanwhile. Judges nothing."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from tests.e2e.clients import Answer, Publisher
from tests.e2e.http import NoAnswer
from tests.soak.subject import Subject

PAUSE_S = (0.05, 0.4)
AGAIN_S = (0.05, 0.5)
RECREATED = 0.01  # share of turns
REPEATED = 0.05
UNKEYED = 0.3
SIZES = ((0.4, 1), (0.7, 50), (0.9, 500), (1.0, 1_000))  # up to this share of batches, up to so many items
TIMEOUT_S = 12.0

Item = tuple[int, bool]  # number, with a client_msg_id
_encode = msgspec.json.encode


class Load:
    """One worker for some topics: one request at a time, so that the order within a topic is known."""

    def __init__(self, name: str, urls: Sequence[str], token: str, subjects: Sequence[Subject], seed: int) -> None:
        self.answers: Counter[str] = Counter()
        self.acked = 0
        self.began = asyncio.Event()  # its topics are there
        self._name = name
        self._urls = urls
        self._token = token
        self._subjects = subjects
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
            while not stop.is_set():
                subject = self._rng.choice(self._subjects)
                if self._rng.random() < RECREATED:
                    await self._recreate(subject)
                else:
                    await self._publish(subject)
                await asyncio.sleep(self._rng.uniform(*PAUSE_S))

    async def create(self, subject: Subject) -> None:
        """Creates a topic, insisting, and waits until every ingest knows it."""
        body = {"name": subject.topic_id, "topic_id": subject.topic_id}
        await self._insist("POST", "/api/v1/topics", body, (201, 409))
        await self._is_known(subject)

    async def _recreate(self, subject: Subject) -> None:
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

    async def _publish(self, subject: Subject) -> None:
        share = self._rng.random()
        most = next(size for up_to, size in SIZES if share < up_to)
        first = subject.count + 1
        subject.count += self._rng.randint(1, most)
        items = [(n, self._rng.random() >= UNKEYED) for n in range(first, subject.count + 1)]
        left = items
        while left:
            answer = await self._call("POST", self._path(subject), self._body(subject, left))
            done = answer is not None and answer.status == 200 and self._all_good(answer)
            if done:
                break
            if answer is None or answer.status != 503:  # 503: certainly not in the log, and never will be
                subject.maybe.update((subject.life, n) for n, keyed in left if not keyed)
                left = [item for item in left if item[1]]
            await asyncio.sleep(self._rng.uniform(*AGAIN_S))
        self.acked += len(left)
        subject.settled = subject.count
        if self._rng.random() < REPEATED and (kept := [item for item in left if item[1]]):
            await self._call("POST", self._path(subject), self._body(subject, kept))

    def _path(self, subject: Subject) -> str:
        return f"/api/v1/topics/{subject.topic_id}/publish/batch"

    def _body(self, subject: Subject, items: Sequence[Item]) -> bytes:
        life, found = subject.life, []
        for n, keyed in items:
            item: dict[str, object] = {"payload": {"life": life, "n": n, "pad": "x" * (n * 7 % 100)}}
            if keyed:
                item["client_msg_id"] = f"{life}-{n}"
            found.append(item)
        return _encode(found)

    def _all_good(self, answer: Answer) -> bool:
        codes = Counter(str(result.get("code", "ok")) for result in answer.body["results"])
        self.answers.update({f"item {code}": count for code, count in codes.items() if code != "ok"})
        return set(codes) == {"ok"}

    async def _insist(self, method: str, path: str, body: object, good: Sequence[int]) -> None:
        while True:
            answer = await self._call(method, path, body)
            if answer is not None and answer.status in good:
                return
            await asyncio.sleep(self._rng.uniform(*AGAIN_S))

    async def _call(self, method: str, path: str, body: object) -> Answer | None:
        try:
            answer = await self._rng.choice(self._publishers).call(method, path, body)
        except (NoAnswer, TimeoutError) as error:
            self.answers[type(error).__name__] += 1
            return None
        self.answers[str(answer.status)] += 1
        return answer
