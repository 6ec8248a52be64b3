"""The topics that publishes name: found for the caller, or made for a topic's first publish."""

from collections.abc import Awaitable, Mapping
from typing import NamedTuple

from headgate.core.publish.body import PublishBody
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from headgate.core.wire.rights import Caller, unknown_topic
from headgate.runtime.http.call import Call
from headgate.runtime.ports import Clock
from ingest.access import Access, Publishable
from ingest.owners import OUTCOME_S
from ingest.topics import TopicHandlers


class BatchTopics(NamedTuple):
    """The topics of a batch: each one, or why this caller cannot publish to it; and the ids of those just made."""

    found: Mapping[str, Publishable]
    made: frozenset[str]


class PublishTopics:
    """Finds topics to publish to, and makes them where `topics.auto_create` allows it."""

    def __init__(self, access: Access, topics: TopicHandlers, clock: Clock) -> None:
        self._access = access
        self._topics = topics
        self._clock = clock

    def find(self, topic_id: str, caller: Caller) -> Awaitable[TopicInfo | None]:
        """Returns a topic that the caller may publish to, None where the publish makes it. Raises Refusal."""
        return self._access.to_publish(topic_id, caller)

    async def make(self, call: Call, topic_id: str) -> TopicInfo:
        """Makes a topic for its first publish, which must be checked before; takes the user's rates. Raises Refusal."""
        return await self._topics.make(call, topic_id)

    async def find_or_make(self, call: Call, firsts: Mapping[str, PublishBody | None]) -> BatchTopics:
        """Finds all topics at once and makes the missing ones one by one, for at most OUTCOME_S.

        `firsts` has the first good body to each topic: without one a missing topic is not made.
        """
        found: dict[str, Publishable] = {}
        made: list[str] = []
        deadline = self._clock.now() + OUTCOME_S
        for topic_id, info in (await self._access.all_to_publish(firsts, call.caller)).items():
            if info is not None:
                found[topic_id] = info
            elif firsts[topic_id] is None:
                found[topic_id] = unknown_topic(topic_id)
            else:
                found[topic_id] = await self._make_until(deadline, call, topic_id)
                made.append(topic_id)
        return BatchTopics(found, frozenset(made))

    async def _make_until(self, deadline: float, call: Call, topic_id: str) -> Publishable:
        if self._clock.now() > deadline:
            return Refusal("not_ready", "making the batch's topics took too long; send the rest again")
        try:
            return await self._topics.make(call, topic_id)
        except Refusal as refusal:
            return refusal
