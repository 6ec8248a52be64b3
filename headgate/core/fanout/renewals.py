"""Subscriptions are authorised again: after a `refresh` (docs/protocol.md, section 3) and after a fence.

Each live subscription's owner is asked with the present rights. The answer comes in the order of the link's messages:
what came before it was still allowed, and it counts for every fence that came before it.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import Subscription
from headgate.core.wire.link import Answer, Refused, Request
from headgate.core.wire.link_members import Authorize, Authorized
from headgate.core.wire.rights import Caller

LOST: Final = frozenset({"forbidden", "topic_not_found"})  # any other refusal is not about rights: ask again
UNDER_WAY: Final = 1_000  # questions that are not answered yet: 10 ms of the loop of an owner

Decided = Callable[[Subscription, Authorized | None], None]


class Renewals:
    """The questions of all subscriptions: wanted, under way (at most one a subscription), or waiting for an owner.

    `decided` is called with each decision about a live subscription; None: its user may not follow the topic.
    """

    def __init__(self, upstream: Upstream, decided: Decided) -> None:
        self._upstream = upstream
        self._decided = decided
        self._wanted: OrderedDict[Subscription, None] = OrderedDict()
        self._asked: dict[Subscription, Caller] = {}
        self._waiting: dict[int, dict[Subscription, None]] = {}  # by shard, for an owner that is away
        self._is_asking = False

    def want(self, subscriptions: Iterable[Subscription]) -> None:
        """Asks for subscriptions, now or when fewer questions are under way.

        Where one is under way already, its answer decides: it is given with the rights of its own time.
        """
        for subscription in subscriptions:
            self._wanted[subscription] = None
        self._ask_wanted()

    def waiting(self) -> list[int]:
        """Returns the shards whose owners are waited for."""
        return list(self._waiting)

    def resend(self, shard: int) -> None:
        """Asks again for the subscriptions that wait for an owner of the shard."""
        self.want(self._waiting.pop(shard, ()))

    def _ask_wanted(self) -> None:
        """Asks until enough is under way. An owner in this process answers meanwhile: only the first call loops."""
        if self._is_asking:
            return
        self._is_asking = True
        try:
            while self._wanted and len(self._asked) < UNDER_WAY:
                self._ask(self._wanted.popitem(last=False)[0])
        finally:
            self._is_asking = False

    def _ask(self, subscription: Subscription) -> None:
        caller = subscription.session.caller
        if subscription in self._asked or caller is None or subscription.is_over:
            return
        self._asked[subscription] = caller
        feed = subscription.feed

        def build(req: int) -> Request:
            return Authorize(req, feed.topic_id, feed.epoch, caller, subscription.member)

        self._upstream.request(feed.shard, build, partial(self._answered, subscription))

    def _answered(self, subscription: Subscription, answer: Answer) -> None:
        caller = self._asked.pop(subscription)
        if subscription.is_over:
            pass
        elif subscription.session.caller is not caller:  # the rights changed again meanwhile
            self._wanted[subscription] = None
        elif isinstance(answer, Authorized):
            subscription.authorised(member=answer.member)
            self._decided(subscription, answer)
        elif isinstance(answer, Refused) and answer.code in LOST:
            self._decided(subscription, None)
        else:
            self._waiting.setdefault(subscription.feed.shard, {})[subscription] = None
        self._ask_wanted()
