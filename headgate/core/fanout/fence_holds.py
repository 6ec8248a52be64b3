"""Holds subscriptions at fences: from one on, somebody may do less in a topic (`link_members.Fence`).

The subscriptions concerned are held at their cursors until their owner has authorised each again. Others are not
touched, and nothing is looked at when messages are delivered.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.connections import Connections
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.renewals import Renewals
from headgate.core.fanout.session import Session, Subscription, TopicFeed
from headgate.core.wire.link_members import Authorized, Fence

BROUGHT_UP: Final = 128  # subscriptions that a fence writes to at once: about 1 ms


class FenceActions(NamedTuple):
    """What the hub does for the fences.

    `write_out` writes what a feed has pending; where the feed is swept, `bring_up` writes it to one subscription.
    `forbid` ends a subscription for want of the right, `pump` writes to a session that has a subscription out of step.
    `permit` says whether its user may know who follows the topic.
    """

    write_out: Callable[[TopicFeed], None]
    bring_up: Callable[[Subscription], None]
    forbid: Callable[[Subscription], None]
    pump: Callable[[Session], None]
    permit: Callable[[Subscription, bool], None]


class FenceHolds:
    """Ends, holds and releases the subscriptions of one gateway."""

    def __init__(self, upstream: Upstream, connections: Connections, catchup: CatchUp, do: FenceActions) -> None:
        self.renewals = Renewals(upstream, self._decided)
        self._connections = connections
        self._catchup = catchup
        self._do = do

    def take(self, feed: TopicFeed, fence: Fence) -> None:
        """Takes a fence of a topic that is followed here, in the order of its messages."""
        feed.fenced(fence.fence)
        concerned = self._concerned(feed, fence.user_id)
        if fence.ended:
            self._write_out(feed, concerned)
            for subscription in concerned:
                if not subscription.is_over:
                    self._do.forbid(subscription)
        else:
            self._hold(feed, concerned)

    def know(self, feed: TopicFeed, fence: int, asked_for: Subscription | None = None) -> None:
        """Takes the fence that an answer names. If it did not come here, only who was asked for is authorised."""
        if feed.fenced(fence):
            self._hold(feed, [each for each in feed.subscriptions() if each is not asked_for])

    def _concerned(self, feed: TopicFeed, user_id: str) -> list[Subscription]:
        if not user_id:
            return feed.subscriptions()
        found = [session.subscriptions.get(feed.topic_id) for session in self._connections.of(user_id)]
        return [subscription for subscription in found if subscription is not None and subscription.feed is feed]

    def _write_out(self, feed: TopicFeed, concerned: list[Subscription]) -> None:
        """What came before the fence was still allowed. Very many of a sweep are held where each is."""
        if concerned and feed.blocks is None:
            self._do.write_out(feed)
        elif len(concerned) <= BROUGHT_UP:
            for subscription in concerned:
                self._do.bring_up(subscription)

    def _hold(self, feed: TopicFeed, concerned: list[Subscription]) -> None:
        self._write_out(feed, concerned)
        held = [subscription for subscription in concerned if not subscription.is_over]
        for subscription in held:
            if not subscription.is_fenced:
                self._catchup.hold(subscription)
        self.renewals.want(held)

    def _decided(self, subscription: Subscription, answer: Authorized | None) -> None:
        """Takes the decision about a live subscription, after a fence or a `refresh`."""
        if answer is None:
            self._do.forbid(subscription)
            return
        self._do.permit(subscription, answer.presence)
        self.know(subscription.feed, answer.fence, asked_for=subscription)
        if subscription.is_fenced:
            self._catchup.release(subscription)
            self._do.pump(subscription.session)
