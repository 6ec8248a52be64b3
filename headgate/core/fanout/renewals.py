"""Subscriptions are authorised again after a `refresh` (PROTOCOL section 3); knows neither tokens nor sockets.

Each live subscription's owner is asked with the new rights, in band: what comes before the answer was still allowed.
"""

from functools import partial
from typing import Final, Protocol

from headgate.core.fanout.feed import Subscription
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import Session
from headgate.core.wire.link import Answer, Refused, Request
from headgate.core.wire.link_members import Authorize, Authorized
from headgate.core.wire.rights import Caller

LOST: Final = frozenset({"forbidden", "topic_not_found"})  # any other refusal says nothing of rights: ask again


class Ender(Protocol):
    """What renewals ask of the hub."""

    upstream: Upstream

    def unsubscribe(self, subscription: Subscription, reason: str) -> None:
        """Ends one subscription and says so."""


class Renewals:
    """The questions under way, at most one a subscription."""

    def __init__(self, hub: Ender) -> None:
        self._hub = hub
        self._asked: dict[Subscription, Caller] = {}
        self._waiting: dict[int, dict[Subscription, None]] = {}  # by shard, for an owner that is away

    def begin(self, session: Session) -> None:
        """Asks for every subscription of a session whose rights are new."""
        for subscription in list(session.subscriptions.values()):
            self.ask(subscription)

    def ask(self, subscription: Subscription) -> None:
        """Asks for one; while an answer is awaited the next question follows it."""
        caller = subscription.session.caller
        if subscription in self._asked or caller is None:
            return
        self._asked[subscription] = caller
        feed = subscription.feed

        def build(req: int) -> Request:
            return Authorize(req, feed.topic_id, feed.epoch, caller)

        self._hub.upstream.request(feed.shard, build, partial(self._answered, subscription))

    def resend(self, shard: int) -> None:
        """Asks again what waits for an owner of the shard."""
        for subscription in self._waiting.pop(shard, ()):
            if _live(subscription):
                self.ask(subscription)

    def tick(self) -> None:
        """Asks again where an owner is linked; called about once a second."""
        for shard in [shard for shard in self._waiting if self._hub.upstream.linked(shard)]:
            self.resend(shard)

    def _answered(self, subscription: Subscription, answer: Answer) -> None:
        caller = self._asked.pop(subscription)
        if not _live(subscription):
            return
        if subscription.session.caller is not caller:  # refreshed again meanwhile
            self.ask(subscription)
        elif isinstance(answer, Refused) and answer.code in LOST:
            self._hub.unsubscribe(subscription, "forbidden")
        elif not isinstance(answer, Authorized):
            self._waiting.setdefault(subscription.feed.shard, {})[subscription] = None


def _live(subscription: Subscription) -> bool:
    return subscription.session.subscriptions.get(subscription.feed.topic_id) is subscription
