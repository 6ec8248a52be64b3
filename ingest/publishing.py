"""The way of a checked publish, by its topic's profile: admitted, handed over, acknowledged, answered.

Between `admit` and `hand_over` there must be no await: the memory of recent publishes would not yet know the first of
two equal ones.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import TopicInfo
from ingest.admission import Answer, Publish, Wait
from ingest.delivery_questions import DeliveryQuestions
from ingest.durable import DurablePublishes, PendingAppend
from ingest.ephemeral import SHED, EphemeralPublishes, PendingRelay
from ingest.ports import IngestMetrics
from ingest.queues import Queues
from ingest.reply_parents import ReplyParents

_NOT_REJECTED: Final = frozenset({"accepted", "duplicate", "outcome_unknown"})
Pending = PendingAppend | PendingRelay


class Publishing:
    """Takes publishes to topics of either profile, and counts them."""

    def __init__(
        self,
        durable: DurablePublishes,
        ephemeral: EphemeralPublishes,
        parents: ReplyParents,
        deliveries: DeliveryQuestions,
        metrics: IngestMetrics,
        queues: Queues,
    ) -> None:
        self._queues = queues
        self._durable = durable
        self._ephemeral = ephemeral
        self._deliveries = deliveries
        self._metrics = metrics
        self.parents = parents

    @asynccontextmanager
    async def counting(self, publishes: Sequence[Publish | Refusal], wait: Wait) -> AsyncIterator[None]:
        """Has the publishes counted where the publisher waits for their delivery: from `admit` to their answers."""
        if wait.delivered_s is None:
            yield
            return
        await self._deliveries.expect(publishes)
        try:
            yield
        finally:
            self._deliveries.forget(publishes)

    def keep_counting(self, publishes: Sequence[Publish | Refusal], pending: Sequence[Pending | Refusal]) -> None:
        """Ends the counting of those that were refused, or are repeats: an owner counts a bounded number for all."""
        pairs = zip(publishes, pending, strict=True)
        self._deliveries.forget([item for item, outcome in pairs if isinstance(outcome, Refusal) or outcome.is_repeat])

    def admit(self, publish: Publish) -> Pending | None:
        """Returns the pending answer of a repeat, None for a publish to hand over. Raises Refusal."""
        return self._ephemeral.admit(publish) if publish.is_ephemeral else self._durable.admit(publish)

    def hand_over(self, publishes: Sequence[Publish]) -> Sequence[Pending]:
        """Hands admitted publishes to one topic over, in order; returns the pending answer of each.

        Those to a durable topic become one record: the caller keeps them within its bounds.
        """
        route = self._ephemeral if publishes[0].is_ephemeral else self._durable
        return route.hand_over(publishes)

    def answer(self, pending: Pending, wait: Wait) -> Awaitable[Answer]:
        """Returns the answer, within 7 s and the time that the publisher waits for deliveries. Raises Refusal."""
        if isinstance(pending, PendingAppend):
            return self._durable.answer(pending, wait)
        return self._ephemeral.answer(pending, wait)

    def count(self, outcome: str, info: TopicInfo | None) -> None:
        """Counts a publish by its outcome, or the code of its refusal; `info` where its topic was found."""
        self._metrics.publish(outcome, "durable" if info is None else info.profile)
        if info is not None and outcome not in _NOT_REJECTED:
            self._queues.rejected(info)


def outcome_of(answer: Answer) -> str:
    """Returns the outcome to count for an answer."""
    if answer["dropped"] == SHED:
        return "shed"
    return "duplicate" if answer.get("duplicate") else "accepted"
