"""Subscriptions are authorised again after a `refresh` (docs/protocol.md, section 3).

Each live subscription's owner is asked with the new rights. The answer comes in the order of the link's messages: what
came before it was still allowed.
"""

import enum
from collections.abc import Callable
from typing import Final

from headgate.core.fanout.session import Subscription
from headgate.core.wire.link import Answer, Refused, Request
from headgate.core.wire.link_members import Authorize, Authorized
from headgate.core.wire.rights import Caller

LOST: Final = frozenset({"forbidden", "topic_not_found"})  # any other refusal is not about rights: ask again


class Renewal(enum.Enum):
    """What an answer means for the subscription."""

    KEEP = enum.auto()
    ASK_AGAIN = enum.auto()  # the rights changed again meanwhile
    END = enum.auto()


class Renewals:
    """The questions under way, at most one a subscription, and those that wait for an owner."""

    def __init__(self) -> None:
        self._asked: dict[Subscription, Caller] = {}
        self._waiting: dict[int | None, dict[Subscription, None]] = {}  # by shard, for an owner that is away

    def ask(self, subscription: Subscription) -> Callable[[int], Request] | None:
        """Returns what builds the question; None while an answer is awaited, which the next question follows."""
        caller = subscription.session.caller
        if subscription in self._asked or caller is None or not _live(subscription):
            return None
        self._asked[subscription] = caller
        topic_id, epoch = subscription.feed.topic_id, subscription.feed.epoch

        def build(req: int) -> Request:
            return Authorize(req, topic_id, epoch, caller)

        return build

    def waiting(self) -> list[int | None]:
        """Returns the shards whose owners are waited for."""
        return list(self._waiting)

    def resend(self, shard: int | None) -> list[Subscription]:
        """Returns the subscriptions that wait for an owner of the shard: each is to be asked for again."""
        return list(self._waiting.pop(shard, ()))

    def answered(self, subscription: Subscription, answer: Answer) -> Renewal:
        """Takes the answer to a question."""
        caller = self._asked.pop(subscription)
        if not _live(subscription):
            return Renewal.KEEP
        if subscription.session.caller is not caller:
            return Renewal.ASK_AGAIN
        if isinstance(answer, Refused) and answer.code in LOST:
            return Renewal.END
        if not isinstance(answer, Authorized):
            self._waiting.setdefault(subscription.feed.shard, {})[subscription] = None
        return Renewal.KEEP


def _live(subscription: Subscription) -> bool:
    return subscription.session.subscriptions.get(subscription.feed.topic_id) is subscription
