"""Fences: from a message of a topic on, somebody may do less there (`headgate.core.wire.link_members.Fence`).

The subscriptions concerned are held at their cursors until their owner has authorised each again. Others are not
touched, and nothing is looked at when messages are delivered.
"""

from collections.abc import Iterable

from headgate.core.fanout.catchup import CatchUp
from headgate.core.fanout.connections import Connections
from headgate.core.fanout.renewals import Renewals
from headgate.core.fanout.session import Subscription, TopicFeed


class Fences:
    """Holds and releases the subscriptions of one gateway."""

    def __init__(self, connections: Connections, catchup: CatchUp, renewals: Renewals) -> None:
        self._connections = connections
        self._catchup = catchup
        self._renewals = renewals

    def concerned(self, feed: TopicFeed, user_id: str) -> list[Subscription]:
        """Returns the subscriptions of a user to a topic; those of everybody for ""."""
        if not user_id:
            return feed.subscriptions()
        found = [session.subscriptions.get(feed.topic_id) for session in self._connections.of(user_id)]
        return [subscription for subscription in found if subscription is not None and subscription.feed is feed]

    def hold(self, subscriptions: Iterable[Subscription]) -> None:
        """Holds live subscriptions and asks for each. Nothing that came before the fence may be pending."""
        held = [subscription for subscription in subscriptions if not subscription.is_over]
        for subscription in held:
            if not subscription.is_fenced:
                self._catchup.hold(subscription)
        self._renewals.want(held)

    def release(self, subscription: Subscription) -> bool:
        """Continues a subscription that was authorised; false where it was not held (after a `refresh`)."""
        if not subscription.is_fenced:
            return False
        self._catchup.release(subscription)
        return True
