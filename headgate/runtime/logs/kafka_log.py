"""The log in Kafka: puts the batcher, the consumers and the group behind the port; knows no application topic."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from aiokafka.structs import TopicPartition

from headgate.core.wire.control import Config
from headgate.core.wire.records import Appended, Batch, Bounds, LogName
from headgate.runtime.logs.beginning import first_config, snapshot_config
from headgate.runtime.logs.embedded import (
    Place,
    SettingsConflict,
    all_places,
    counter_of,
    read_counts,
)
from headgate.runtime.logs.kafka_admin import KafkaAdmin
from headgate.runtime.logs.kafka_connect import LogNotInitialised, Site, site_of
from headgate.runtime.logs.kafka_consumer import OffsetDesk, PartitionBuffer, Pump
from headgate.runtime.logs.kafka_group import KafkaGroup
from headgate.runtime.logs.kafka_producer import Batcher, PartitionQueue
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.ports import Log, LogUnavailable, OffsetGone, OwnerGroup

ConfigFinder = Callable[[Log, int], Awaitable[Config | None]]  # finds the config in the newest snapshot of a shard


class KafkaLog:
    """One process's handle of a deployment's logs; implements the port `Log`.

    `find_config` is asked for a shard whose first record retention has already taken.
    """

    durable = True
    keep_ms: Mapping[LogName, int] = MappingProxyType({})  # the topics' own retention drops records

    def __init__(
        self, options: LogOptions, *, node: str = "headgate", find_config: ConfigFinder = snapshot_config
    ) -> None:
        self.site: Site = site_of(options, node)
        self.address = self.site.address
        self.records_read: dict[str, int] = read_counts()
        self._wanted_shards = options.shards
        self._find_config = find_config
        self._batcher = Batcher(self.site)
        self._admin = KafkaAdmin(self.site)
        self._desk = OffsetDesk(self.site)
        self._live = Pump(self.site, live=True)
        self._history = Pump(self.site, live=False)
        self._lanes: dict[Place, PartitionQueue] = {}
        self._shards = 0
        self._cluster_id = ""
        self._opened = False

    async def open(self) -> None:
        """Connects and reads the config record. Raises LogUnavailable, LogNotInitialised, SettingsConflict."""
        try:
            await self.connect()
            self._cluster_id = (await self._config()).cluster_id
        except BaseException:
            await self.close()
            raise

    async def connect(self) -> None:
        """Does the part of `open` that needs no config record; for `headgate init`, which writes it."""
        await self._batcher.start()
        self._shards = await self._count_shards()
        self._opened = True

    async def close(self) -> None:
        """Waits for the verdict on what was handed over, and disconnects."""
        await self._batcher.stop()
        self._opened = False
        await asyncio.gather(self._live.stop(), self._history.stop(), self._desk.stop(), self._admin.close())

    @property
    def shards(self) -> int:
        """The number of partitions of the message log."""
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
        return self._batcher.append(self._lanes[log, shard], key, value)

    async def reader(self, log: LogName, shard: int, offset: int, *, background: bool = False) -> "KafkaReader":
        """Opens a position. Raises LogUnavailable."""
        bounds = await self.bounds(log, shard)
        feed = PartitionBuffer(self._partition(log, shard), offset, bounds.end)
        feed.gone = not bounds.first <= offset <= bounds.end
        return KafkaReader(self, log, shard, feed, counter_of(log, background=background))

    async def bounds(self, log: LogName, shard: int) -> Bounds:
        """Returns the first offset and the high watermark of a partition. Raises LogUnavailable."""
        self.check_open()
        partition = self._partition(log, shard)
        return (await self._desk.bounds([partition]))[partition]

    async def truncate_before(self, log: LogName, shard: int, offset: int) -> None:
        """Deletes the records of a partition before `offset`. Raises LogUnavailable."""
        bounds = await self.bounds(log, shard)
        if offset > bounds.first:
            await self._admin.delete_records(self._partition(log, shard), min(offset, bounds.end))

    def group(self, node: str) -> OwnerGroup:
        """Returns this node's membership in the group on the ownership log."""
        return KafkaGroup(self.site._replace(node=node))

    # For the reader.

    def check_open(self) -> None:
        """Raises LogUnavailable when the log is closed."""
        if not self._opened:
            raise LogUnavailable(f"{self.address} is closed")

    def pump(self, *, live: bool) -> Pump:
        """Returns the consumer that a reader at the end, or behind it, is to join."""
        return self._live if live else self._history

    # Private.

    async def _count_shards(self) -> int:
        found = await self._admin.topics([self.site.topic(log) for log in LogName])
        missing = [self.site.topic(log) for log in LogName if self.site.topic(log) not in found]
        if missing:
            raise LogNotInitialised(
                f"{self.address} has no {', '.join(missing)}; run: headgate init --log.url {self.address}"
                f" --log.prefix {self.site.prefix}"
            )
        shards = found[self.site.topic(LogName.MESSAGES)].partitions
        if self._wanted_shards not in (None, shards):
            raise SettingsConflict(
                f"{self.address} has {shards} shards, not {self._wanted_shards}; leave log.shards unset"
            )
        for log, shard in all_places(shards):
            self._lanes[log, shard] = PartitionQueue(self.site.topic(log), shard)
        await asyncio.gather(*(self._batcher.warm(self.site.topic(log)) for log in LogName))
        return shards

    async def _config(self) -> Config:
        for shard in range(self._shards):
            config = await first_config(self, shard)
            if config is None:
                config = await self._find_config(self, shard)
            if config is not None:
                return config
        raise LogNotInitialised(f"{self.address}: no config record in any shard; run: headgate init")

    def _partition(self, log: LogName, shard: int) -> TopicPartition:
        lane = self._lanes[log, shard]
        return TopicPartition(lane.topic, lane.partition)


class KafkaReader:
    """A position in one partition."""

    def __init__(self, log: KafkaLog, name: LogName, shard: int, feed: PartitionBuffer, counter: str) -> None:
        self._log = log
        self._name = name
        self._shard = shard
        self._feed = feed
        self._counter = counter

    async def read(self, max_records: int, wait_s: float) -> Batch:
        """Returns the next records; see the port."""
        feed = self._feed
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while feed.is_empty:
            self._log.check_open()
            await self._prepare()
            left = deadline - loop.time()
            if left <= 0:
                break
            await feed.wait(left)
        records = feed.take(max_records)
        if feed.pump is not None:
            feed.pump.resume(feed)
        self._log.records_read[self._counter] += len(records)
        next_offset = feed.fetched if feed.is_empty else records[-1].offset + 1
        return Batch(records, next_offset, feed.end, feed.stable)

    async def close(self) -> None:
        """Gives up the position."""
        if self._feed.pump is not None:
            self._feed.pump.detach(self._feed)

    async def _prepare(self) -> None:
        """Joins a consumer. Raises OffsetGone when the log really does not have the position."""
        feed = self._feed
        if feed.gone:
            first, end = await self._log.bounds(self._name, self._shard)
            if not first <= feed.fetched <= end:
                raise OffsetGone(first, end)
            feed.gone = False
            feed.end = end
            feed.caught_up = feed.fetched >= end
        if feed.pump is None:
            await self._log.pump(live=feed.caught_up).attach(feed)
