"""Reports about the topics of one shard, and the questions about them: statistics, and the flush by hand."""

from collections.abc import Callable, Mapping
from typing import Final

from dispatcher.shard import Destination, ShardOwner
from headgate.core.sequencer.routes import Route
from headgate.core.sequencer.rows import Row, Tally
from headgate.core.wire import rights
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_stats import (
    AskStats,
    AskTop,
    DeliveryReport,
    FlushTopic,
    PublishReport,
    ReleaseHeld,
    StatsAnswer,
    TopAnswer,
    TopicFlushed,
    TopicPublishes,
    TopicStats,
)
from headgate.runtime.ports import Clock

LINK_VERSION: Final = 2  # the lowest of a gateway that holds messages


class StatsRequests:
    """Takes reports and answers; `row_of` finds a topic. It and the `handlers` raise Refusal."""

    def __init__(self, owner: ShardOwner, row_of: Callable[[str], Row], clock: Clock) -> None:
        self._owner = owner
        self._clock = clock
        self._row_of = row_of
        self.handlers: Mapping[type, Callable[..., None]] = {
            DeliveryReport: self._delivered,
            PublishReport: self._published,
            AskStats: self._stats,
            FlushTopic: self._flush,
            AskTop: self._top,
        }

    def _delivered(self, peer: Destination, report: DeliveryReport) -> None:
        for topic in report.topics:
            self._owner.tallies.delivered(topic)

    def _published(self, peer: Destination, report: PublishReport) -> None:
        for topic in report.topics:
            self._owner.tallies.rejected(topic)
            self._owner.queues.report(peer, topic)
            if topic.full:
                self._tell_full(topic)

    def _tell_full(self, topic: TopicPublishes) -> None:
        row = self._owner.rows.get(topic_key(topic.topic_id))
        if row is not None and row.epoch == topic.epoch:
            depth, now = self._owner.queues.depth(topic.topic_id), self._clock.wall_ms()
            self._owner.owner_events.queue_full(topic.topic_id, topic.epoch, topic.full, depth, now)

    def _stats(self, peer: Destination, ask: AskStats) -> None:
        row = self._row_of(ask.topic_id)
        role = self._owner.shard.role(topic_key(row.topic_id), row, ask.caller.user_id)
        rights.require(rights.may_inspect(ask.caller, row, role), ask.caller, row, role, "see")
        tally = row.tally or Tally()
        peer.send(
            StatsAnswer(
                ask.req,
                row.epoch,
                TopicStats(
                    published=tally.relayed if row.ephemeral else row.n,
                    delivered=tally.delivered,
                    failed=tally.failed,
                    rejected=tally.rejected,
                    dead_lettered=tally.dead_lettered,
                    retried=tally.retried,
                    queued=self._owner.queues.depth(row.topic_id, but=peer),
                    subscriber_count=self._owner.routes.count(row.topic_id),
                    latency_ms=tally.latency_ms,
                ),
            )
        )

    def _top(self, peer: Destination, ask: AskTop) -> None:
        tops = self._owner.tallies.tops
        peer.send(TopAnswer(ask.req, tops.size, tops.lists))

    def _flush(self, peer: Destination, ask: FlushTopic) -> None:
        row = self._row_of(ask.topic_id)
        role = self._owner.shard.role(topic_key(row.topic_id), row, ask.caller.user_id)
        rights.require(rights.may_administer(ask.caller, row, role), ask.caller, row, role, "flush")
        self._owner.send_open()  # what is numbered so far is flushed too
        hosts = [route.gateway for route in self._owner.routes.hosts(row.topic_id) if _knows(route)]
        for gateway in hosts:
            gateway.send(ReleaseHeld(row.topic_id, row.epoch))
        peer.send(TopicFlushed(ask.req, len(hosts)))


def _knows(route: Route[Destination]) -> bool:
    return route.gateway.version >= LINK_VERSION
