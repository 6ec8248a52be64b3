"""What ingest knows of topics: asked from their owners, cached for a moment; knows neither callers nor HTTP.

Rights are checked by whoever asks, so an entry serves every caller. While the owner is linked an entry is good for 2 s
(`Changed` ends it earlier); while it is away, for 60 s after the owner last confirmed it (PROTOCOL section 2).
"""

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

from headgate.core.errors import Refusal
from headgate.core.link import Answer, AskTopic, Refused, Topic, TopicInfo
from headgate.core.rights import Caller, unknown_topic
from headgate.runtime.directory import Directory
from headgate.runtime.ports import Clock
from ingest.owners import ASK_S, away

FRESH_S: Final = 2.0
STALE_S: Final = 60.0
MAX_TOPICS: Final = 100_000  # about 100 MB
INGEST: Final = Caller("hg:ingest", publish=("*",), subscribe=("*",), admin=True, service=True)

Found = TopicInfo | Refusal


class _Entry(NamedTuple):
    info: TopicInfo
    at: float


class Catalog:
    """The cache. What does not exist is not remembered: a topic created elsewhere is known at the next question."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._entries: dict[str, _Entry] = {}  # oldest first
        self._asking: dict[str, asyncio.Future[Found]] = {}
        self._linked_at: dict[int, float] = {}  # pushes may have been missed before

    def peek(self, topic_id: str) -> TopicInfo | None:
        """Returns the topic if what is known of it is fresh."""
        entry = self._entries.get(topic_id)
        if entry is None or self._clock.now() - entry.at > FRESH_S:
            return None
        shard = self._directory.shard_of(topic_id)
        if entry.at < self._linked_at.get(shard, 0.0):
            return None
        return entry.info

    async def get(self, topic_id: str) -> TopicInfo:
        """Returns the topic. Raises Refusal `topic_not_found`, or `not_ready` when its owner is away too long."""
        info = self.peek(topic_id)
        if info is not None:
            return info
        return _info((await self._find([topic_id]))[topic_id])

    async def get_many(self, topic_ids: Iterable[str]) -> dict[str, Found]:
        """Returns each topic or the refusal that `get` would raise; asks for all of them at once."""
        found: dict[str, Found] = {}
        missing: list[str] = []
        for topic_id in topic_ids:
            info = self.peek(topic_id)
            if info is None:
                missing.append(topic_id)
            else:
                found[topic_id] = info
        return found | await self._find(missing) if missing else found

    async def fetch(self, topic_id: str) -> TopicInfo:
        """Returns the topic as its owner sees it now. Raises Refusal as `get`, `not_ready` whenever it is away."""
        future = self._ask(topic_id)
        await asyncio.wait((future,), timeout=ASK_S)
        return _info(future.result() if future.done() else self._late(topic_id, future))

    def drop(self, topic_id: str) -> None:
        """Forgets a topic that is known to have changed."""
        self._entries.pop(topic_id, None)

    def on_owner(self, shard: int, up: bool) -> None:
        """Takes the directory's news: what a new owner has changed since was pushed to nobody here."""
        if up:
            self._linked_at[shard] = self._clock.now()

    async def _find(self, topic_ids: list[str]) -> dict[str, Found]:
        asked = {topic_id: self._ask(topic_id) for topic_id in topic_ids}
        await asyncio.wait(set(asked.values()), timeout=ASK_S)
        found: dict[str, Found] = {}
        for topic_id, future in asked.items():
            answer = future.result() if future.done() else self._late(topic_id, future)
            is_away = isinstance(answer, Refusal) and answer.code == "not_ready"
            found[topic_id] = self._stale(topic_id) or answer if is_away else answer
        return found

    def _stale(self, topic_id: str) -> TopicInfo | None:
        entry = self._entries.get(topic_id)
        return entry.info if entry is not None and self._clock.now() - entry.at <= STALE_S else None

    def _late(self, topic_id: str, future: "asyncio.Future[Found]") -> Refusal:
        if self._asking.get(topic_id) is future:
            del self._asking[topic_id]
        return away(self._directory.shard_of(topic_id))

    def _ask(self, topic_id: str) -> "asyncio.Future[Found]":
        future = self._asking.get(topic_id)
        if future is not None:
            return future
        future = asyncio.get_running_loop().create_future()
        try:
            shard = self._directory.shard_of(topic_id)
        except Refusal as refusal:  # no dispatcher has answered yet
            future.set_result(refusal)
            return future
        if not self._directory.linked(shard):
            future.set_result(away(shard))
            return future
        self._asking[topic_id] = future

        def on_answer(answer: Answer) -> None:  # in band: a Changed behind it finds the entry
            if self._asking.get(topic_id) is future:
                del self._asking[topic_id]
            found = self._take(topic_id, answer)
            if not future.done():
                future.set_result(found)

        self._directory.request(shard, lambda req: AskTopic(req, topic_id, INGEST), on_answer)
        return future

    def _take(self, topic_id: str, answer: Answer) -> Found:
        if isinstance(answer, Topic):
            self._entries.pop(topic_id, None)
            while len(self._entries) >= MAX_TOPICS:
                del self._entries[next(iter(self._entries))]
            self._entries[topic_id] = _Entry(answer.info, self._clock.now())
            return answer.info
        assert isinstance(answer, Refused)
        if answer.code == "not_ready":
            return Refusal("not_ready", answer.detail)
        self._entries.pop(topic_id, None)
        return unknown_topic(topic_id)


def _info(found: Found) -> TopicInfo:
    if isinstance(found, Refusal):
        raise found
    return found
