"""A topic's statistics, and the flush by hand of what its strategy holds. Its owner answers both."""

from typing import Any

from headgate.core.wire import rights
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link_stats import AskStats, FlushTopic, StatsAnswer, TopicFlushed, TopicStats
from headgate.runtime.http.call import Call, Reply, reply
from ingest.access import Access
from ingest.audit import AuditLog
from ingest.owners import OwnerQueries
from ingest.queues import Queues
from ingest.rates import Rates


class TopicStatsHandlers:
    """The handlers of `/api/v1/topics/{topic_id}/stats` and `.../flush`."""

    def __init__(self, access: Access, owners: OwnerQueries, queues: Queues, rates: Rates, audit: AuditLog) -> None:
        self._access = access
        self._owners = owners
        self._queues = queues
        self._rates = rates
        self._audit = audit

    async def show(self, call: Call) -> Reply:
        """GET .../stats: for whoever may see the topic. Raises Refusal."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        self._rates.read(call.caller)
        shard = self._owners.shard_of(topic_id)
        answer = await self._owners.ask(shard, lambda req: AskStats(req, topic_id, call.caller))
        assert isinstance(answer, StatsAnswer)
        return reply(stats_shown(answer.stats, self._queues.waiting(topic_id, answer.epoch)))

    async def flush(self, call: Call) -> Reply:
        """POST .../flush: for the topic's admins; 202, for the gateways write behind the answer. Raises Refusal."""
        topic_id = check_topic_id(call.path_parameters["topic_id"])
        with self._audit.operation(call, "topic.flush", topic_id):
            await self._access.ask(topic_id, call.caller, rights.may_administer, "flush")
            call.check_key()
            self._rates.change_member(call.caller)
            shard = self._owners.shard_of(topic_id)
            answer = await self._owners.store(shard, lambda req: FlushTopic(req, topic_id, call.caller))
            assert isinstance(answer, TopicFlushed)
            return reply({"topic_id": topic_id, "gateways": answer.gateways}, 202)


def stats_shown(stats: TopicStats, waiting: int) -> dict[str, Any]:
    """Returns the statistics as the answer shows them; `waiting` is what this ingest itself waits for."""
    return {
        "published": stats.published,
        "delivered": stats.delivered,
        "failed": stats.failed,
        "rejected": stats.rejected,
        "dead_lettered": stats.dead_lettered,
        "retried": stats.retried,
        "queue_length": stats.queued + waiting,
        "subscriber_count": stats.subscriber_count,
        "latency_ms_avg": round(stats.latency_ms / stats.delivered, 3) if stats.delivered else 0,
    }
