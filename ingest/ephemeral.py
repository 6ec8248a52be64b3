"""Publishes to ephemeral topics: relayed over the link to the topic's owner, never to the log, and answered."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from headgate.core.publish.recent_publishes import LogPlace, RecentPublish
from headgate.core.wire.envelope import LOW, UNMETERED
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer as LinkAnswer
from headgate.core.wire.link_ephemeral import Relay, Relayed
from headgate.core.wire.rights import unknown_topic
from headgate.runtime.links.port import AnswerLost, Directory
from headgate.runtime.ports import Clock
from ingest.admission import Admission, Answer, Publish, Wait, answer_to, counted
from ingest.catalog import Catalog
from ingest.delivery_questions import DeliveryQuestions
from ingest.owners import OUTCOME_S, away

SHED: Final = "backpressure"  # the member `dropped` of an answer: the owner is overloaded, and the message was LOW


class PendingRelay(NamedTuple):
    """A publish whose answer is due: `relay` is the owner's answer, None where its entry (`is_repeat`) knows it."""

    publish: Publish
    relay: "asyncio.Future[LinkAnswer] | None"
    is_repeat: bool


class EphemeralPublishes:
    """Relays publishes and answers them. Remembers the answers as for durable topics: no sequencer does."""

    def __init__(
        self,
        directory: Directory,
        catalog: Catalog,
        admission: Admission,
        deliveries: DeliveryQuestions,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._catalog = catalog
        self._admission = admission
        self._recent = admission.recent
        self._deliveries = deliveries
        self._clock = clock

    def admit(self, publish: Publish) -> PendingRelay | None:
        """Returns the pending answer of a repeat, None for a publish to hand over.

        Raises Refusal, `not_ready` when the owner is away.
        """
        shard = self._directory.shard_of(publish.info.topic_id)
        entry = self._admission.admit(publish)
        if entry is not None and entry.is_answered:
            return PendingRelay(publish, entry.attempt, True)
        if not self._directory.linked(shard):
            raise publish.unknown("an earlier attempt is open, and the owner is away") if entry else away(shard)
        return None

    def hand_over(self, publishes: Sequence[Publish]) -> list[PendingRelay]:
        """Sends admitted publishes to one topic to its owner, in order; returns the pending answer of each."""
        shard = self._directory.shard_of(publishes[0].info.topic_id)
        return [self._relay(publish, shard) for publish in publishes]

    async def answer(self, pending: PendingRelay, wait: Wait) -> Answer:
        """Returns the answer once the owner has relayed it. Raises Refusal. An ephemeral message has no `seq`."""
        publish, relay, is_repeat = pending
        known: Answer = {"duplicate": True} if is_repeat else {}
        if wait.sequenced:
            known = {"duplicate": is_repeat, "epoch": publish.info.epoch}
        if relay is None:
            assert publish.entry is not None
            relayed = Relayed(0, publish.entry.subscriptions)
        else:
            relayed = await self._relayed(publish, relay)
        publish.ts = self._clock.wall_ms()
        answer = answer_to(publish, relayed.count) | known | {"dropped": SHED if relayed.shed else relayed.count == 0}
        if wait.delivered_s is None or is_repeat or relayed.shed:  # a repeat is not delivered again
            return answer
        return counted(answer, await self._deliveries.count(publish, wait.delivered_s) if relayed.count else 0)

    def _relay(self, publish: Publish, shard: int) -> PendingRelay:
        info, item = publish.info, publish.item
        relay = self._directory.ask(
            shard,
            lambda req: Relay(
                req,
                info.topic_id,
                info.epoch,
                item.tail,
                bool(item.flags & LOW),
                bool(item.flags & UNMETERED),
                publish.id if publish.is_counted else b"",
            ),
        )
        if publish.is_given:
            publish.entry = self._recent.attempt(publish.key, publish.fingerprint, relay, self._clock.now())
        relay.add_done_callback(partial(self._ended, publish, shard))
        return PendingRelay(publish, relay, False)

    async def _relayed(self, publish: Publish, relay: "asyncio.Future[LinkAnswer]") -> Relayed:
        """Returns how many subscriptions the owner sent it to. Raises Refusal."""
        topic_id = publish.info.topic_id
        await asyncio.wait((relay,), timeout=OUTCOME_S)
        if not relay.done():
            raise publish.unknown("the topic's owner has not answered")
        try:
            answer = relay.result()
        except Refusal as refusal:
            if refusal.code == "topic_not_found":
                self._catalog.drop(topic_id)
                raise unknown_topic(topic_id) from None
            if isinstance(refusal, AnswerLost):
                raise publish.unknown("the link to the topic's owner was lost before it answered") from None
            raise
        assert isinstance(answer, Relayed)
        return answer

    def _ended(self, publish: Publish, shard: int, relay: "asyncio.Future[LinkAnswer]") -> None:
        """Writes the outcome of a relay into the memory; runs before anybody who waits for it."""
        error = None if relay.cancelled() else relay.exception()
        entry = publish.entry
        if entry is None:
            return
        if relay.cancelled() or isinstance(error, AnswerLost):
            self._recent.unknown(publish.key, entry, self._clock.now())
        elif error is not None:
            self._recent.refused(publish.key, entry)
        else:
            answer = relay.result()
            assert isinstance(answer, Relayed)
            self._answered(publish, entry, answer, shard)

    def _answered(self, publish: Publish, entry: RecentPublish, relayed: Relayed, shard: int) -> None:
        if relayed.shed:  # nobody got it: a repeat is tried again
            self._recent.refused(publish.key, entry)
            return
        entry.subscriptions = relayed.count
        self._recent.acknowledged(publish.key, entry, LogPlace(shard, 0, 0), self._clock.now())
