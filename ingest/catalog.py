"""A cache of topics, filled by their owners.

An entry is used for 60 s. When it is older than 2 s it is refreshed in the background, so that a publish never waits
for an owner (docs/protocol.md, section 2, Owner away). `Changed` ends an entry. An entry that is older than the link to
its owner may have missed that: then the owner is asked first, for 20 ms.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, AskTopic, Refused, TopicAnswer, TopicInfo
from headgate.core.wire.rights import Caller, unknown_topic
from headgate.core.wire.topic_settings import PROFILES, effective
from headgate.runtime.links.port import Directory
from headgate.runtime.ports import Clock
from ingest.owners import ASK_S, COUNT_S, away

FRESH_S: Final = 2.0
STALE_S: Final = 60.0
MAX_TOPICS: Final = 100_000  # about 55 MB with the usual settings, 200 MB with others
INGEST: Final = Caller("hg:ingest", publish=("*",), subscribe=("*",), admin=True, service=True)
_USUAL: Final = {profile: effective({"profile": profile}) for profile in PROFILES}

Found = TopicInfo | Refusal
Suffices = Callable[[TopicInfo], bool]


class _Entry(NamedTuple):
    info: TopicInfo
    at: float


class Catalog:
    """The cache. A missing topic is not remembered: once it is created elsewhere, the next question finds it."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # oldest first
        self._asking: dict[str, asyncio.Future[Found]] = {}
        self._linked_at: dict[int, float] = {}  # by shard; a `Changed` may have been missed before

    def peek(self, topic_id: str) -> TopicInfo | None:
        """Returns an entry that may be used at once, and refreshes it in the background when it is not fresh."""
        entry = self._entries.get(topic_id)
        if entry is None:
            return None
        age = self._clock.now() - entry.at
        if age > STALE_S:
            return None
        shard = self._directory.shard_of(topic_id)
        if self._directory.linked(shard):
            if entry.at < self._linked_at.get(shard, 0.0):
                return None
            if age > FRESH_S:
                self._ask(topic_id)
        return entry.info

    async def get_many(self, topic_ids: Iterable[str], suffices: Suffices) -> dict[str, Found]:
        """Returns each topic or the refusal for it, `topic_not_found` or `not_ready`; asks for all of them at once.

        An entry of the cache is returned only where it `suffices`.
        """
        found: dict[str, Found] = {}
        unsure: dict[str, TopicInfo | None] = {}  # to be asked for; the entry to use after 20 ms
        for topic_id in topic_ids:
            info = self.peek(topic_id)
            if info is not None and suffices(info):
                found[topic_id] = info
            else:
                unsure[topic_id] = self._stale(topic_id, suffices)
        return found | await self._find(unsure) if unsure else found

    async def fetch(self, topic_id: str) -> TopicInfo:
        """Returns the topic as its owner sees it now. Raises Refusal, `not_ready` when the owner is away."""
        future = self._ask(topic_id)
        await asyncio.wait((future,), timeout=ASK_S)
        found = future.result() if future.done() else self._late(topic_id, future)
        if isinstance(found, Refusal):
            raise found
        return found

    def drop(self, topic_id: str) -> None:
        """Forgets a topic that is known to have changed."""
        self._entries.pop(topic_id, None)

    def on_owner(self, shard: int, up: bool) -> None:
        """Called when the link to a shard's owner was opened (`up`) or lost; changes before it were not pushed here."""
        if up:
            self._linked_at[shard] = self._clock.now()

    def _stale(self, topic_id: str, suffices: Suffices) -> TopicInfo | None:
        entry = self._entries.get(topic_id)
        if entry is None or self._clock.now() - entry.at > STALE_S or not suffices(entry.info):
            return None
        return entry.info

    async def _find(self, unsure: dict[str, TopicInfo | None]) -> dict[str, Found]:
        asked = {topic_id: self._ask(topic_id) for topic_id in unsure}
        futures = set(asked.values())
        await asyncio.wait(futures, timeout=COUNT_S)
        if any(known is None and not asked[topic_id].done() for topic_id, known in unsure.items()):
            await asyncio.wait(futures, timeout=ASK_S - COUNT_S)
        return {topic_id: self._outcome(topic_id, future, unsure[topic_id]) for topic_id, future in asked.items()}

    def _outcome(self, topic_id: str, future: "asyncio.Future[Found]", known: TopicInfo | None) -> Found:
        if not future.done():
            return self._late(topic_id, future) if known is None else known
        answer = future.result()
        is_away = isinstance(answer, Refusal) and answer.code == "not_ready"
        return known if is_away and known is not None else answer

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

        def on_answer(answer: Answer) -> None:  # called in the link's order: a later Changed finds the entry
            if self._asking.get(topic_id) is future:
                del self._asking[topic_id]
            found = self._take(topic_id, answer)
            if not future.done():
                future.set_result(found)

        self._directory.request(shard, lambda req: AskTopic(req, topic_id, INGEST), on_answer)
        return future

    def _take(self, topic_id: str, answer: Answer) -> Found:
        if isinstance(answer, TopicAnswer):
            if topic_id not in self._entries and len(self._entries) >= MAX_TOPICS:
                self._entries.popitem(last=False)
            self._entries[topic_id] = _Entry(_with_shared_settings(answer.info), self._clock.now())
            self._entries.move_to_end(topic_id)
            return answer.info
        assert isinstance(answer, Refused)
        if answer.code == "not_ready":
            return Refusal("not_ready", answer.detail)
        self._entries.pop(topic_id, None)
        return unknown_topic(topic_id)


def _with_shared_settings(info: TopicInfo) -> TopicInfo:
    """Saves memory: the settings are most of an entry, and nearly always the defaults."""
    usual = _USUAL.get(info.profile)
    if info.settings == usual:
        info.settings = usual
    return info
