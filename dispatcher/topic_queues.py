"""The depth of each topic's queue, as the owner of its shard knows it, and what ingests are told of it.

Depth: the messages that the log has and the owner has not numbered, plus those that are numbered and wait on the link
of the slowest gateway. An ingest counts the first for itself and tells the owner; the owner adds up what the others
told and what waits on the links. A gateway that is served from the index does not count: nothing waits for it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Generic, Protocol, TypeVar

from headgate.core.sequencer.routes import Routes
from headgate.core.sequencer.rows import Row
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_stats import TOLD_SHARE, Queued, QueuedElsewhere, TopicPublishes, queue_full
from headgate.core.wire.topic_settings import DEFAULTS

MAX_WAITING: Final = 20_000  # topics of one shard with messages that ingests wait for; the others count as empty
MAX_TOLD: Final = 1_000  # topics of one message to an ingest


class QueueingLink(Protocol):
    """A link as a topic's queue needs it."""

    @property
    def backlog(self) -> Mapping[str, int]:
        """How many messages of each topic wait on it."""


L = TypeVar("L", bound=QueueingLink)


class TopicQueues(Generic[L]):
    """The queues of one shard's topics; `rows` are by topic key."""

    def __init__(self, rows: Mapping[bytes, Row], routes: Routes[L]) -> None:
        self._rows = rows
        self._routes = routes
        self._waiting: dict[str, dict[L, int]] = {}  # by topic and ingest
        self._told: dict[L, dict[str, int]] = {}
        self._full: set[str] = set()  # ephemeral topics that are being refused

    def report(self, ingest: L, topic: TopicPublishes) -> None:
        """Takes how many messages of a topic an ingest waits for."""
        found = self._waiting.get(topic.topic_id)
        if topic.waiting > 0:
            if found is None and len(self._waiting) < MAX_WAITING:
                found = self._waiting[topic.topic_id] = {}
            if found is not None:
                found[ingest] = topic.waiting
        elif found is not None:
            found.pop(ingest, None)
            if not found:
                del self._waiting[topic.topic_id]

    def left(self, peer: L) -> None:
        """A link was closed."""
        self._told.pop(peer, None)
        for topic_id in [topic_id for topic_id, found in self._waiting.items() if peer in found]:
            del self._waiting[topic_id][peer]
            if not self._waiting[topic_id]:
                del self._waiting[topic_id]

    def depth(self, topic_id: str, but: L | None = None) -> int:
        """Returns a topic's depth without what the ingest `but` waits for."""
        waiting = sum(count for ingest, count in self._waiting.get(topic_id, {}).items() if ingest is not but)
        return waiting + self._on_links(topic_id)

    def all(self, backlog: Iterable[str]) -> int:
        """Returns the depths of all topics together; `backlog` are those of which messages wait on links."""
        return sum(self.depth(topic_id) for topic_id in dict.fromkeys((*self._waiting, *backlog)))

    def require(self, row: Row) -> None:
        """Raises Refusal `queue_full` for an ephemeral topic whose messages wait on a link."""
        depth, limit = self._on_links(row.topic_id), _limit_of(row)
        if not depth and not self._full:
            return
        if depth >= (limit / 2 if row.topic_id in self._full else limit):
            self._full.add(row.topic_id)
            raise queue_full(row.topic_id, depth)
        self._full.discard(row.topic_id)

    def news(self, ingest: L, backlog: Iterable[str]) -> list[Queued]:
        """Returns what an ingest is to be told now; `backlog` are the topics of which messages wait on links."""
        told = self._told.setdefault(ingest, {})
        topics: list[QueuedElsewhere] = []
        for topic_id in dict.fromkeys((*self._waiting, *backlog, *told)):
            row = self._rows.get(topic_key(topic_id))
            count = 0 if row is None else self.depth(topic_id, but=ingest)
            if row is not None and count < _limit_of(row) / TOLD_SHARE:
                count = 0
            if count != told.get(topic_id, 0):
                topics.append(QueuedElsewhere(topic_id, 0 if row is None else row.epoch, count))
                told[topic_id] = count
                if not count:
                    del told[topic_id]
        return [Queued(topics[at : at + MAX_TOLD]) for at in range(0, len(topics), MAX_TOLD)]

    def _on_links(self, topic_id: str) -> int:
        hosts = self._routes.hosts(topic_id)
        return max((route.gateway.backlog.get(topic_id, 0) for route in hosts if not route.behind), default=0)


def _limit_of(row: Row) -> int:
    return int(row.settings.get("queue_limit") or DEFAULTS["queue_limit"])
