"""The depth of each topic's queue, as this ingest knows it, and what the owners are told of it.

Depth: what the log has and the owner has not numbered, plus what is numbered and has not reached a gateway. This ingest
counts what it handed to the log itself, until the owner tells that it is numbered; so it works while the owner is away
too. What waits elsewhere the owner tells: that of the other ingests, and what waits for gateways. While it is away
nobody can tell: then each ingest allows its share, the limit divided by the number of ingests.

Beside it the publishes are counted that were refused: the owner keeps that number for the topic's statistics.
"""

import asyncio
from collections import deque
from typing import Final

from headgate.core.wire.link import TopicInfo
from headgate.core.wire.link_stats import (
    MAX_REPORTED,
    TOLD_SHARE,
    Numbered,
    PublishReport,
    Queued,
    TopicPublishes,
    queue_full,
)
from headgate.core.wire.topic_settings import DEFAULTS
from headgate.runtime.links.port import Directory

Topic = tuple[str, int]  # its id and its epoch

REPORT_S: Final = 0.25
BLOCK_RECORDS: Final = 100  # are forgotten together, once the last of them is numbered
MAX_TOPICS: Final = 100_000  # that have a queue here; of others nothing is counted. About 300 bytes each
MAX_PARTS: Final = 200_000  # topics in all blocks together, about 100 bytes each; what comes above is not counted


class TopicQueue:
    """One topic. `waiting` is what this ingest handed over and has not heard to be numbered.

    `elsewhere` is what its owner told, `told` what that was told of `waiting`; `rejected` are publishes since then,
    `full` those that found the queue full.
    """

    __slots__ = ("elsewhere", "full", "is_full", "limit", "rejected", "told", "waiting")

    def __init__(self) -> None:
        self.limit: int = DEFAULTS["queue_limit"]
        self.waiting = 0
        self.elsewhere = 0
        self.told = 0
        self.rejected = 0
        self.full = 0
        self.is_full = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it has to be remembered."""
        return not (self.waiting or self.elsewhere or self.told or self.rejected or self.full or self.is_full)


class _Records:
    """Some records that the log has: how many messages of each topic, and the highest offset."""

    __slots__ = ("counts", "last", "records")

    def __init__(self) -> None:
        self.counts: dict[Topic, int] = {}
        self.last = -1
        self.records = 0


class Queues:
    """The queues of one ingest. Starts no task; while there is news one timer runs."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._topics: dict[Topic, TopicQueue] = {}
        self._blocks: dict[int, deque[_Records]] = {}  # by shard
        self._parts = 0
        self._heard: dict[int, int] = {}  # shards whose present owner tells what is numbered: how far it is
        self._ingests = 1
        self._news: dict[Topic, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    # What owners and dispatchers tell

    def share(self, ingests: int) -> None:
        """Takes how many ingests there are."""
        self._ingests = max(1, ingests)

    def on_owner(self, shard: int, up: bool) -> None:
        """The link to a shard's owner was opened (`up`) or lost. A new one is told everything, and tells anew."""
        self._heard.pop(shard, None)
        if not up:
            return
        for topic, queue in list(self._topics.items()):
            if self._directory.shard_of(topic[0]) == shard:
                queue.elsewhere = queue.told = 0
                self._note(topic)

    def told(self, message: Numbered | Queued) -> None:
        """Takes what an owner says of the queues of its shard."""
        if isinstance(message, Numbered):
            self.numbered(message)
        else:
            self.queued(message)

    def numbered(self, told: Numbered) -> None:
        """Takes how far shards are."""
        for shard, offset in told.shards:
            self._heard[shard] = offset
            blocks = self._blocks.get(shard)
            while blocks and blocks[0].last < offset:
                counts = blocks.popleft().counts
                self._parts -= len(counts)
                for topic, count in counts.items():
                    self._less(topic, count)

    def queued(self, told: Queued) -> None:
        """Takes what waits elsewhere."""
        for each in told.topics:
            topic = (each.topic_id, each.epoch)
            queue = self._queue(topic) if each.count else self._topics.get(topic)
            if queue is not None:
                queue.elsewhere = each.count
                self._note(topic)

    # What publishes need

    def require(self, info: TopicInfo) -> None:
        """Raises Refusal `queue_full` where the topic's depth has reached its `queue_limit`, until it is below half."""
        queue = self._topics.get((info.topic_id, info.epoch))
        if queue is None:
            return
        limit = queue.limit = info.settings["queue_limit"]
        depth = self._depth(info.topic_id, queue)
        queue.is_full = depth >= (limit / 2 if queue.is_full else limit)
        if queue.is_full:
            queue.full += 1
            self._note((info.topic_id, info.epoch))
            raise queue_full(info.topic_id, depth)

    def waiting(self, topic_id: str, epoch: int) -> int:
        """Returns what this ingest itself has not heard to be numbered, of one topic."""
        queue = self._topics.get((topic_id, epoch))
        return 0 if queue is None else queue.waiting

    def enter(self, info: TopicInfo) -> None:
        """A message is handed to the log."""
        topic = (info.topic_id, info.epoch)
        queue = self._queue(topic)
        if queue is not None:
            queue.waiting += 1
            queue.limit = info.settings["queue_limit"]
            self._note(topic)

    def appended(self, shard: int, offset: int, info: TopicInfo, count: int) -> None:
        """The log has a record with so many messages that were entered."""
        topic = (info.topic_id, info.epoch)
        if offset < self._heard.get(shard, 0):  # numbered before the log's answer came here
            self._less(topic, count)
            return
        blocks = self._blocks.setdefault(shard, deque())
        if not blocks or (blocks[-1].records >= BLOCK_RECORDS and self._parts < MAX_PARTS):
            blocks.append(_Records())
        block = blocks[-1]
        if topic not in block.counts:
            if self._parts >= MAX_PARTS:
                self._less(topic, count)
                return
            self._parts += 1
        block.counts[topic] = block.counts.get(topic, 0) + count
        block.records += 1
        block.last = max(block.last, offset)

    def lost(self, info: TopicInfo, count: int) -> None:
        """The log did not take so many messages that were entered, or nobody knows."""
        self._less((info.topic_id, info.epoch), count)

    def rejected(self, info: TopicInfo) -> None:
        """A publish to the topic was refused."""
        topic = (info.topic_id, info.epoch)
        queue = self._queue(topic)
        if queue is not None:
            queue.rejected += 1
            self._note(topic)

    def deepest(self) -> int:
        """Returns the depth of the deepest queue."""
        return max((self._depth(topic_id, queue) for (topic_id, _), queue in self._topics.items()), default=0)

    # Reports

    def report(self) -> None:
        """Tells the owners what is new."""
        if self._timer is not None:
            self._timer.cancel()
        news, self._news, self._timer = self._news, {}, None
        reports: dict[int, list[TopicPublishes]] = {}
        for topic in news:
            self._report(topic, reports)
        for shard, topics in reports.items():
            for at in range(0, len(topics), MAX_REPORTED):
                self._directory.send(shard, PublishReport(shard, topics[at : at + MAX_REPORTED]))

    def _report(self, topic: Topic, reports: dict[int, list[TopicPublishes]]) -> None:
        queue = self._topics.get(topic)
        if queue is None:
            return
        waiting = queue.waiting if queue.waiting * TOLD_SHARE >= queue.limit else 0
        shard = self._directory.shard_of(topic[0])
        queue.is_full = queue.is_full and self._depth(topic[0], queue) >= queue.limit / 2
        if (queue.rejected or queue.full or waiting != queue.told) and self._directory.linked(shard):
            reports.setdefault(shard, []).append(TopicPublishes(*topic, queue.rejected, waiting, queue.full))
            queue.rejected, queue.full, queue.told = 0, 0, waiting
        if queue.waiting or queue.rejected or queue.full:
            self._note(topic)
        elif queue.is_idle:
            del self._topics[topic]

    def _note(self, topic: Topic) -> None:
        self._news[topic] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REPORT_S, self.report)

    def _queue(self, topic: Topic) -> TopicQueue | None:
        queue = self._topics.get(topic)
        if queue is None and len(self._topics) < MAX_TOPICS:
            queue = self._topics[topic] = TopicQueue()
        return queue

    def _less(self, topic: Topic, count: int) -> None:
        queue = self._topics.get(topic)
        if queue is not None:
            queue.waiting = max(queue.waiting - count, 0)
            self._note(topic)

    def _depth(self, topic_id: str, queue: TopicQueue) -> int:
        shard = self._directory.shard_of(topic_id)
        if not self._directory.linked(shard):
            return max(queue.waiting * self._ingests, queue.waiting + queue.elsewhere)
        # An owner that tells nothing does not know these messages, or has just come: what waits is not known.
        return queue.waiting + queue.elsewhere if shard in self._heard else queue.elsewhere
