"""The log in Kafka: puts the batcher, the consumers and the group behind the port."""

import asyncio
from collections.abc import Mapping

from aiokafka.structs import TopicPartition

from headgate.core.wire.control import Config
from headgate.core.wire.records import Appended, Batch, Bounds, LogName
from headgate.runtime.logs.embedded import (
    Place,
    SettingsConflict,
    all_places,
    counter_of,
    failed,
    read_counts,
)
from headgate.runtime.logs.kafka_admin import KafkaAdmin
from headgate.runtime.logs.kafka_connect import KafkaDeployment, LogNotInitialised, deployment_of
from headgate.runtime.logs.kafka_consumer import BoundsClient, PartitionBuffer, SharedConsumer
from headgate.runtime.logs.kafka_group import KafkaGroup
from headgate.runtime.logs.kafka_producer import Batcher, PartitionQueue
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.shard_config import find_config
from headgate.runtime.ports import LogUnavailable, OffsetGone, OwnerGroup


class KafkaLog:
    """One process's handle of a deployment's logs; implements the port `Log`."""

    durable = True
    owner_deletes = False  # the topics' own retention does
    own_clock = False  # LogAppendTime is of the brokers

    def __init__(self, options: LogOptions, *, node: str = "headgate") -> None:
        self.deployment: KafkaDeployment = deployment_of(options, node)
        self.address = self.deployment.address
        self.keep_ms: Mapping[LogName, int] = options.keep_ms
        self.records_read: dict[str, int] = read_counts()
        self._wanted_shards = options.shards
        self._batcher = Batcher(self.deployment)
        self._admin = KafkaAdmin(self.deployment)
        self._bounds_client = BoundsClient(self.deployment)
        self._live = SharedConsumer(self.deployment, live=True)
        self._history = SharedConsumer(self.deployment, live=False)
        self._queues: dict[Place, PartitionQueue] = {}
        self._shards = 0
        self.partitions = 0  # of the message log
        self._cluster_id = ""
        self._opened = False

    async def open(self) -> None:
        """Connects and reads the config record. Raises LogUnavailable, LogNotInitialised, SettingsConflict."""
        try:
            await self.connect()
            config = await self._config()
            self._check_shards(config)
            self._shards, self._cluster_id = config.shards, config.cluster_id
        except BaseException:
            await self.close()
            raise

    async def connect(self) -> None:
        """Does the part of `open` that needs no config record; for `headgate init`, which writes it."""
        await self._batcher.start()
        self._shards = self.partitions = await self._count_partitions()
        self._opened = True

    async def close(self) -> None:
        """Waits until all appends have ended, and disconnects."""
        await self._batcher.stop()
        self._opened = False
        await asyncio.gather(self._live.stop(), self._history.stop(), self._bounds_client.stop(), self._admin.close())

    @property
    def shards(self) -> int:
        """The number in the config record; before it was read, the partitions of the message log.

        Somebody may have added partitions. That changes no shard of a topic or user.
        """
        return self._shards

    @property
    def cluster_id(self) -> str:
        """The identity that `headgate init` gave the logs."""
        return self._cluster_id

    def above_limit(self) -> bool:
        """Always False: retention bounds this log."""
        return False

    def append(self, log: LogName, shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Hands one record to the batcher; see the port."""
        if not self._queues:  # an owner may be linked before the log is open
            return failed(LogUnavailable(f"{self.address} is not open yet"))
        return self._batcher.append(self._queues[log, shard], key, value)

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> "KafkaReader":
        """Opens a position. Raises LogUnavailable."""
        bounds = await self.bounds(log, shard)
        buffer = PartitionBuffer(self._partition(log, shard), offset, bounds.end)
        buffer.gone = not bounds.first <= offset <= bounds.end
        return KafkaReader(self, log, shard, buffer, counter_of(log, background=background))

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        """Returns the first offset and the high watermark of a partition. Raises LogUnavailable."""
        self.check_open()
        partition = self._partition(log, shard)
        return (await self._bounds_client.bounds([partition]))[partition]

    async def truncate_before(self, log: LogName, shard: int, offset: int) -> None:
        """Deletes the records of a partition before `offset`. Raises LogUnavailable."""
        bounds = await self.bounds(log, shard)
        if offset > bounds.first:
            await self._admin.delete_records(self._partition(log, shard), min(offset, bounds.end))

    def group(self, node: str) -> OwnerGroup:
        """Returns this node's membership in the group on the ownership log."""
        return KafkaGroup(self.deployment._replace(node=node))

    # For the reader.

    def check_open(self) -> None:
        """Raises LogUnavailable when the log is closed."""
        if not self._opened:
            raise LogUnavailable(f"{self.address} is closed")

    def consumer(self, *, live: bool) -> SharedConsumer:
        """Returns the consumer to join: live for a reader at the end of its part, else the one for history."""
        return self._live if live else self._history

    # Private.

    async def _count_partitions(self) -> int:
        found = await self._admin.topics([self.deployment.topic(log) for log in LogName])
        missing = [self.deployment.topic(log) for log in LogName if self.deployment.topic(log) not in found]
        if missing:
            raise LogNotInitialised(
                f"{self.address} has no {', '.join(missing)}; run: headgate init --log.url {self.address}"
                f" --log.prefix {self.deployment.prefix} (if they exist: the Kafka user has no right Describe on them)"
            )
        partitions = found[self.deployment.topic(LogName.MESSAGES)].partitions
        for log, shard in all_places(partitions):
            self._queues[log, shard] = PartitionQueue(self.deployment.topic(log), shard)
        await asyncio.gather(*(self._batcher.warm(self.deployment.topic(log)) for log in LogName))
        return partitions

    def _check_shards(self, config: Config) -> None:
        if self._wanted_shards not in (None, config.shards):
            raise SettingsConflict(
                f"{self.address} has {config.shards} shards, not {self._wanted_shards}; leave log.shards unset"
            )
        if config.shards > self.partitions:
            raise LogNotInitialised(
                f"{self.address}: the config record says {config.shards} shards and {self.deployment.prefix}.messages"
                f" has {self.partitions} partitions: it was made anew with fewer"
            )

    async def _config(self) -> Config:
        for shard in range(self._shards):
            config = await find_config(self, shard)
            if config is not None:
                return config
        raise LogNotInitialised(f"{self.address}: no config record in any shard; run: headgate init")

    def _partition(self, log: LogName, shard: int) -> TopicPartition:
        queue = self._queues[log, shard]
        return TopicPartition(queue.topic, queue.partition)


class KafkaReader:
    """A position in one partition."""

    def __init__(self, log: KafkaLog, name: LogName, shard: int, buffer: PartitionBuffer, counter: str) -> None:
        self._log = log
        self._name = name
        self._shard = shard
        self._buffer = buffer
        self._counter = counter

    async def read(self, max_records: int, wait_s: float) -> Batch:
        """Returns the next records; see the port."""
        buffer = self._buffer
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while buffer.is_empty:
            buffer.check()
            self._log.check_open()
            await self._prepare()
            left = deadline - loop.time()
            if left <= 0:
                break
            await buffer.wait(left)
        records = buffer.take(max_records)
        if buffer.consumer is not None:
            buffer.consumer.resume(buffer)
        self._log.records_read[self._counter] += len(records)
        next_offset = buffer.fetched if buffer.is_empty else records[-1].offset + 1
        return Batch(records, next_offset, buffer.end, buffer.stable)

    async def close(self) -> None:
        """Gives up the position."""
        if self._buffer.consumer is not None:
            self._buffer.consumer.detach(self._buffer)

    async def _prepare(self) -> None:
        """Joins a consumer. Raises OffsetGone when the log really does not have the position."""
        buffer = self._buffer
        if buffer.gone:
            first, end = await self._log.bounds(self._name, self._shard)
            if not first <= buffer.fetched <= end:
                raise OffsetGone(first, end)
            buffer.gone = False
            buffer.end = end
            buffer.caught_up = buffer.fetched >= end
        if buffer.consumer is None:
            await self._log.consumer(live=buffer.caught_up).attach(buffer)
