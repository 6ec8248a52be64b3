"""The way of a checked publish, by its topic's profile: admitted, handed over, acknowledged, answered.

Between `admit` and `hand_over` there must be no await: the memory of recent publishes would not yet know the first of
two equal ones.
"""

from collections.abc import Awaitable, Sequence

from headgate.core.wire.link import TopicInfo
from ingest.admission import Answer, Publish, Wait
from ingest.durable import DurablePublishes, PendingAppend
from ingest.ephemeral import EphemeralPublishes, PendingRelay
from ingest.ports import IngestMetrics
from ingest.reply_parents import ReplyParents

Pending = PendingAppend | PendingRelay


class Publishing:
    """Takes publishes to topics of either profile, and counts them."""

    def __init__(
        self,
        durable: DurablePublishes,
        ephemeral: EphemeralPublishes,
        parents: ReplyParents,
        metrics: IngestMetrics,
    ) -> None:
        self._durable = durable
        self._ephemeral = ephemeral
        self._metrics = metrics
        self.parents = parents

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
        """Returns the answer, within 7 s. Raises Refusal."""
        if isinstance(pending, PendingAppend):
            return self._durable.answer(pending, wait)
        return self._ephemeral.answer(pending, wait)

    def count(self, outcome: str, info: TopicInfo | None) -> None:
        """Counts a publish: `accepted`, `duplicate`, or the code of its refusal; `info` where its topic was found."""
        self._metrics.publish(outcome, "durable" if info is None else info.profile)


def outcome_of(answer: Answer) -> str:
    """Returns the outcome to count for an answer."""
    return "duplicate" if answer.get("duplicate") else "accepted"
