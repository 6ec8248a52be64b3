"""Link messages about a topic's statistics, its queue, and what its strategy holds."""

from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_struct import LinkStruct
from headgate.core.wire.rights import Caller

MAX_TOP: Final = 100  # entries of a list of the first
MAX_REPORTED: Final = 1_000  # topics of one report
TOLD_SHARE: Final = 50  # a part of a topic's `queue_limit`: what waits is told from there on


class TopicDelivered(LinkStruct):
    """What happened to a topic's messages on one gateway since its last report.

    `latency_ms` is the sum over all deliveries, from the record's append time to the write.
    """

    topic_id: str
    epoch: int
    delivered: int = 0
    latency_ms: int = 0
    failed: int = 0
    retried: int = 0


class DeliveryReport(LinkStruct, tag=130):
    """A gateway tells a shard's owner what it counted, about once a second. No answer."""

    shard: int
    topics: list[TopicDelivered]


class TopicPublishes(LinkStruct):
    """A topic as one ingest sees it: publishes it refused since its last report, and how many are not numbered yet.

    `waiting` are the messages that it handed to the log and has not heard to be numbered; the newest word counts.
    `full` are the refused publishes that found the queue of a durable topic full.
    """

    topic_id: str
    epoch: int
    rejected: int = 0
    waiting: int = 0
    full: int = 0


class PublishReport(LinkStruct, tag=131):
    """An ingest tells a shard's owner of its topics, a few times a second while there is news. No answer."""

    shard: int
    topics: list[TopicPublishes]


class Numbered(LinkStruct, tag=132):
    """A dispatcher tells every ingest how far its shards are: (shard, offset below which all records are applied).

    No answer. It is sent while that moves, some twenty times a second, and once to an ingest that is new.
    """

    shards: list[tuple[int, int]]


class QueuedElsewhere(LinkStruct):
    """How many messages of a topic wait, but for those that the receiver itself has not heard to be numbered."""

    topic_id: str
    epoch: int
    count: int


class Queued(LinkStruct, tag=133):
    """A topic's owner tells an ingest how many messages wait elsewhere; 0 where that is over. No answer."""

    topics: list[QueuedElsewhere]


class AskStats(LinkStruct, tag=134):
    """Asks for a topic's statistics. Answer: StatsAnswer or Refused."""

    req: int
    topic_id: str
    caller: Caller


class TopicStats(LinkStruct):
    """A topic's statistics since it was made, as `GET /api/v1/topics/{topic_id}/stats` shows them.

    `latency_ms` is a sum over all deliveries. `queued` is the depth of its queue, but for what the ingest that asks has
    not heard to be numbered.
    """

    published: int
    delivered: int
    failed: int
    rejected: int
    dead_lettered: int
    retried: int
    queued: int
    subscriber_count: int
    latency_ms: int


class StatsAnswer(LinkStruct, tag=135):
    """Answer to AskStats."""

    req: int
    epoch: int
    stats: TopicStats


class FlushTopic(LinkStruct, tag=136):
    """Asks that every gateway writes what the topic's strategy holds. Answer: TopicFlushed or Refused."""

    req: int
    topic_id: str
    caller: Caller


class TopicFlushed(LinkStruct, tag=137):
    """Answer to FlushTopic: how many gateways were told."""

    req: int
    gateways: int


class ReleaseHeld(LinkStruct, tag=138):
    """The owner tells a gateway that hosts a topic to write what the topic's strategy holds. No answer."""

    topic_id: str
    epoch: int


class AskTop(LinkStruct, tag=139):
    """Asks the owner of a shard for its lists of the first. Answer: TopAnswer or Refused."""

    req: int
    shard: int


class TopEntry(LinkStruct):
    """A topic or a user, and a number; the true one may be above it by up to `error`."""

    id: str
    count: int
    error: int = 0


class TopLists(LinkStruct):
    """The first of a shard, largest first, each list with MAX_TOP entries at most: topics, and users by backlog.

    `messages` and `failures` are of the last hour, as far as the shard was owned here.
    """

    members: list[TopEntry] = []  # noqa: RUF012 - msgspec copies it
    messages: list[TopEntry] = []  # noqa: RUF012
    failures: list[TopEntry] = []  # noqa: RUF012
    backlogs: list[TopEntry] = []  # noqa: RUF012


class TopAnswer(LinkStruct, tag=142):
    """Answer to AskTop. `size` is how many entries a list of this owner has at most: the setting `metrics.top`."""

    req: int
    size: int
    lists: TopLists


StatsRequest = AskStats | FlushTopic | AskTop
StatsReply = StatsAnswer | TopicFlushed | TopAnswer
StatsReport = DeliveryReport | PublishReport  # of a gateway or an ingest, to the owner of a shard
StatsPush = Queued | ReleaseHeld  # of a topic's owner, to an ingest or a gateway
FromAnyDispatcher = Numbered


def queue_full(topic_id: str, depth: int) -> Refusal:
    """Returns the refusal of a publish to a topic whose queue is full."""
    return Refusal("queue_full", f"{depth} messages of topic {topic_id} wait; try again later", retry_after_ms=1_000)
