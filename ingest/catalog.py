"""What ingest knows of topics: asked from their owners and remembered; knows neither callers nor HTTP.

An entry is used at once for 60 s and asked for again behind its use when it is older than 2 s, so that a publish never
waits for an owner (PROTOCOL section 2, Owner away). `Changed` ends an entry; one from before its owner's present link
may have missed that, so the owner is asked first, for 20 ms.
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
    """The cache. What does not exist is not remembered: a topic created elsewhere is known at the next question."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # oldest first
        self._asking: dict[str, asyncio.Future[Found]] = {}
        self._linked_at: dict[int, float] = {}  # pushes may have been missed before

    def peek(self, topic_id: str) -> TopicInfo | None:
        """Returns what may be used at once; asks for it behind its use when it is not fresh."""
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

        What is remembered is returned only where it `suffices`.
        """
        found: dict[str, Found] = {}
        unsure: dict[str, TopicInfo | None] = {}  # to be asked for, with what will do in 20 ms
        for topic_id in topic_ids:
            info = self.peek(topic_id)
            if info is not None and suffices(info):
                found[topic_id] = info
            else:
                unsure[topic_id] = self._stale(topic_id, suffices)
        return found | await self._find(unsure) if unsure else found

    async def fetch(self, topic_id: str) -> TopicInfo:
        """Returns the topic as its owner sees it now. Raises Refusal, `not_ready` whenever it is away."""
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
        """Takes the directory's news: what a new owner has changed since was pushed to nobody here."""
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

        def on_answer(answer: Answer) -> None:  # in band: a Changed behind it finds the entry
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
    """The settings are most of an entry, and nearly always the usual ones."""
    usual = _USUAL.get(info.settings["profile"])
    if info.settings == usual:
        info.settings = usual
    return info
