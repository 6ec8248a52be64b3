"""Membership of a dispatcher in the consumer group on the ownership log; reads no record.

aiokafka's group consumer does the protocol; its partitions are paused, so that it fetches nothing. During a rebalance,
and while this node is no member, its assignment is unknown: it claims nothing then. It still serves its shards, until
another owner claims them.
"""

import asyncio
import logging
import time
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.structs import TopicPartition

from headgate.core.wire.records import LogName
from headgate.runtime.logging import Reminder
from headgate.runtime.logs.kafka_connect import KafkaDeployment, reason
from headgate.runtime.logs.kafka_consumer import started
from headgate.runtime.logs.kafka_stop import stopped
from headgate.runtime.ports import LogUnavailable

POLL_MS: Final = 5_000  # well below max_poll_interval_ms: a member that does not poll is removed
SESSION_MS: Final = 6_000  # Kafka's least by default: a dispatcher that dies is missed after so long
REJOIN_RETRY_S: Final = 1.0

_log = logging.getLogger("headgate.log.kafka")


def group_arguments(deployment: KafkaDeployment) -> dict[str, Any]:
    """Returns the arguments of the ownership consumer."""
    # aiokafka's assignor keeps "what I had" on the class: one subclass a member, or members of one process mix it up.
    sticky = type("Sticky", (StickyPartitionAssignor,), {})
    return {
        **deployment.connection(),
        "group_id": deployment.group_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "session_timeout_ms": SESSION_MS,
        "heartbeat_interval_ms": 500,
        "max_poll_interval_ms": 30_000,
        "rebalance_timeout_ms": 10_000,
        "partition_assignment_strategy": (sticky,),
    }


class KafkaGroup(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """One node's membership; implements the port `OwnerGroup`."""

    def __init__(self, deployment: KafkaDeployment) -> None:
        self.changed = asyncio.Event()
        self._deployment = deployment
        self._assigned: frozenset[int] = frozenset()
        self._member = False  # from an assignment until a rebalance begins or membership is lost
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._reminder = Reminder(time.monotonic)

    async def start(self) -> None:
        """Joins; `changed` is set when the first assignment is there. Raises LogUnavailable."""
        await self._join()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="headgate-kafka-group")

    def assigned(self) -> frozenset[int] | None:
        """Returns the shards assigned, None while this node is no member or a rebalance is under way."""
        return self._assigned if self._member else None

    async def stop(self) -> None:
        """Leaves the group, so that it rebalances at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        await self._leave()
        self.changed.set()

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Notes that the assignment ends. Shards already served stay served until another owner claims them."""
        self._member = False

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Notes a new assignment; aiokafka calls it."""
        if self._consumer is not None:
            for partition in assigned:  # a position of ours, or aiokafka would ask for committed ones
                self._consumer.seek(partition, 0)
            self._consumer.pause(*assigned)
        self._member = True
        self._assigned = frozenset(partition.partition for partition in assigned)
        self.changed.set()

    async def _join(self) -> None:
        consumer = await started(self._deployment, group_arguments(self._deployment))
        self._consumer = consumer
        consumer.subscribe([self._deployment.topic(LogName.OWNERSHIP)], listener=self)

    async def _leave(self) -> None:
        self._member = False
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stopped(consumer)

    async def _run(self) -> None:
        """Polls, which keeps the membership; joins again when aiokafka's coordinator gave up."""
        while True:
            try:
                if self._consumer is None:
                    await self._join()
                assert self._consumer is not None
                await self._consumer.getmany(timeout_ms=POLL_MS)
            except LogUnavailable as error:
                self._log_failure(error)
                await asyncio.sleep(REJOIN_RETRY_S)
            except Exception as error:  # whatever it is: membership is only ever regained by joining again
                self._log_failure(error)
                await self._leave()
                await asyncio.sleep(REJOIN_RETRY_S)

    def _log_failure(self, error: Exception) -> None:
        if self._reminder.is_due():
            _log.error("%s: group %s: %s", self._deployment.address, self._deployment.group_id, reason(error))
