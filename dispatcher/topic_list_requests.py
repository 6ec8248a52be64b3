"""Requests for the list of a shard's topics: a page of those that the caller may see, made in steps."""

from collections.abc import Callable, Generator, Mapping
from typing import Final

from dispatcher.answering import answer_in_steps
from dispatcher.shard import Destination, ShardOwner
from dispatcher.sliced_work import SlicedWork
from headgate.core.sequencer.rows import Row
from headgate.core.wire import rights
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link import AskTopics, TopicInfo, TopicsAnswer
from headgate.core.wire.rights import Caller

SLICE_TOPICS: Final = 1_000  # topics that one step looks at, about a millisecond: most may be hidden from the caller


class TopicListRequests:
    """Answers them for one shard; `info` describes a topic. The `handlers` raise Refusal."""

    def __init__(self, owner: ShardOwner, info: Callable[[Row], TopicInfo], long_work: SlicedWork) -> None:
        self._owner = owner
        self._info = info
        self._long_work = long_work
        self.handlers: Mapping[type, Callable[..., None]] = {AskTopics: self._list}

    def _list(self, peer: Destination, ask: AskTopics) -> None:
        answer_in_steps(self._long_work, peer, ask, self._page(peer, ask))

    def _page(self, peer: Destination, ask: AskTopics) -> Generator[None, None, TopicsAnswer]:
        """Makes a page; topics may come and go between two steps."""
        page: list[TopicInfo] = []
        after = self._look(ask, ask.after, page)
        while after is not None and peer.open:
            yield
            after = self._look(ask, after, page)
        return TopicsAnswer(ask.req, page)

    def _look(self, ask: AskTopics, after: str, page: list[TopicInfo]) -> str | None:
        """Adds some of the topics above `after`. Returns the last one looked at; None where the page is made."""
        for looked_at, topic_id in enumerate(self._owner.topics.above(after, ask.prefix), 1):
            row = self._owner.rows[topic_key(topic_id)]
            if self._is_shown(ask.caller, row):
                page.append(self._info(row))
                if len(page) >= ask.limit:
                    return None
            if looked_at == SLICE_TOPICS:
                return topic_id
        return None

    def _is_shown(self, caller: Caller, row: Row) -> bool:
        role = self._owner.shard.role(topic_key(row.topic_id), row, caller.user_id)
        return rights.may_see(caller, row, role) and rights.may_inspect(caller, row, role)
