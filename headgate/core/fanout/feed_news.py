"""What an owner tells of a topic beside its messages: fences, settings, heat, changed messages, what is sent again."""

from headgate.core.fanout.acknowledging import Acknowledging
from headgate.core.fanout.audience import Audience
from headgate.core.fanout.feed_input import FeedInput
from headgate.core.fanout.fence_holds import FenceHolds
from headgate.core.fanout.flush import Flush
from headgate.core.fanout.pace import known_heat
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link_dead_letters import Redeliver
from headgate.core.wire.link_groups import GroupMessages
from headgate.core.wire.link_inbox import TopicHeat
from headgate.core.wire.link_members import Fence, TopicSettings
from headgate.core.wire.link_messages import Amended

News = Fence | TopicSettings | Amended | Redeliver | GroupMessages | TopicHeat


class FeedNews:
    """Hands each to the part of the gateway that it is for."""

    def __init__(
        self, flush: Flush, feeds: FeedInput, fences: FenceHolds, acknowledging: Acknowledging, audience: Audience
    ) -> None:
        self._flush = flush
        self._input = feeds
        self._fences = fences
        self._acknowledging = acknowledging
        self._audience = audience

    def take(self, feed: TopicFeed, news: News) -> None:
        """Takes news of a topic that is followed here, in the order of its messages."""
        if isinstance(news, Fence):
            self._fences.take(feed, news)
        elif isinstance(news, Redeliver | GroupMessages):
            self._acknowledging.redeliver(feed, news)
        elif isinstance(news, Amended):
            self._flush.amend(feed, news)
            self._acknowledging.groups.amend(news)
        elif isinstance(news, TopicHeat):
            feed.warm(known_heat(news.heat))
        else:
            self._input.configure(feed, news.settings)
            self._acknowledging.configure(feed)
            self._fences.renewals.want(self._audience.presence.configure(feed, news))
