"""Shared consumers and the readers they feed: one follows the ends of parts, one catches up; knows no record's meaning.

A reader takes from its own bounded buffer. While it is behind, the history consumer fills it; from the end on, the live
consumer does. So a shard that restores never delays those that follow. A reader that waits for nothing holds no
partition: it joins a consumer with its first read that finds the buffer empty, and leaves when it has caught up or,
on the live side, when it does not keep up.

aiokafka drops the positions of all partitions with every `assign()`, so each is followed by a `seek()` of every one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from headgate.core.wire.records import Bounds, Record
from headgate.runtime.logs.kafka_connect import Site, reached, reason
from headgate.runtime.logs.kafka_stop import stopped

MAX_POLL_RECORDS: Final = 2_000  # one getmany once returned 62,000: the loop stood still meanwhile
POLL_MS: Final = 1_000
RETRY_S: Final = 0.5
SAY_AGAIN_S: Final = 60.0
LIVE_RECORDS: Final = 20_000  # buffered for one reader: half a second of a busy shard, then it catches up by itself
LIVE_BYTES: Final = 16 << 20
HISTORY_RECORDS: Final = 4_000
HISTORY_BYTES: Final = 2 << 20

_log = logging.getLogger("headgate.log.kafka")


def consumer_arguments(site: Site, isolation: str = "read_committed") -> dict[str, Any]:
    """Returns the arguments of a data consumer (KAFKA.md section 0)."""
    return {
        **site.connection(),
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": isolation,
        "fetch_min_bytes": 1,
        "fetch_max_wait_ms": 500,
        "max_partition_fetch_bytes": 262_144,
        "check_crcs": True,
    }


class PartitionBuffer:
    """The buffer of one reader. `fetched` is the offset after what was buffered, `end` the high watermark last seen.

    `stable` is the last stable offset (KIP-98) of the newest fetch, None before the first.
    """

    def __init__(self, partition: TopicPartition, offset: int, end: int) -> None:
        self.partition = partition
        self.fetched = offset
        self.end = end
        self.stable: int | None = None
        self.caught_up = offset >= end  # which consumer it joins next
        self.gone = not 0 <= offset <= end  # the log does not have `fetched`, as far as is known
        self.pump: Pump | None = None
        self._buffer: deque[Record] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is buffered."""
        return not self._buffer

    def is_over(self, records: int, size: int) -> bool:
        """Whether more than so much is buffered."""
        return len(self._buffer) > records or self._bytes > size

    def put(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Buffers records, skipping those from before its own position."""
        at = self.fetched
        for r in records:
            if r.offset >= at:
                self._buffer.append(Record(r.offset, r.timestamp, r.key, r.value))
                self._bytes += len(r.value or b"") + len(r.key or b"")
        self.reach(records[-1].offset + 1, None)
        self.wake()

    def reach(self, position: int, end: int | None) -> None:
        """Notes that everything before `position` was fetched, and the high watermark where it is known."""
        self.fetched = max(self.fetched, position)
        self.end = max(self.end if end is None else end, self.fetched)

    def take(self, count: int) -> list[Record]:
        """Returns up to `count` buffered records."""
        buffer = self._buffer
        if len(buffer) <= count:
            records = list(buffer)
            buffer.clear()
            self._bytes = 0
            return records
        records = [buffer.popleft() for _ in range(count)]
        self._bytes -= sum(len(r.value or b"") + len(r.key or b"") for r in records)
        return records

    def wake(self) -> None:
        """Ends `wait`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, wait_s: float) -> None:
        """Waits for records, for a reason to look again, or until the time is over."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._waiter,), timeout=wait_s)
        finally:
            self._waiter = None


class Pump:
    """One aiokafka consumer that feeds many readers. `live`: a reader over its bound leaves instead of pausing."""

    def __init__(self, site: Site, *, live: bool) -> None:
        self._site = site
        self._live = live
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._feeds: dict[TopicPartition, list[PartitionBuffer]] = {}  # as assigned
        self._joining: list[PartitionBuffer] = []  # must not be fed before the seek to where they stand
        self._scheduled = False
        self._wanted = asyncio.Event()
        self._said = float("-inf")

    async def attach(self, feed: PartitionBuffer) -> None:
        """Begins to feed a reader. Raises LogUnavailable."""
        await self._start()
        feed.pump = self
        self._joining.append(feed)
        self._reassign()

    def detach(self, feed: PartitionBuffer) -> None:
        """Stops feeding a reader; what is buffered stays."""
        feed.pump = None
        if feed in self._joining:
            self._joining.remove(feed)
        feeds = self._feeds.get(feed.partition, [])
        if feed in feeds:
            feeds.remove(feed)
            if not feeds:
                del self._feeds[feed.partition]
                self._reassign()
        feed.wake()

    def resume(self, feed: PartitionBuffer) -> None:
        """Goes on with a partition that was paused for this reader's full buffer."""
        if self._consumer is not None and not feed.is_over(HISTORY_RECORDS // 2, HISTORY_BYTES // 2):
            self._consumer.resume(*(self._consumer.paused() & {feed.partition}))

    async def stop(self) -> None:
        """Disconnects; readers that wait return."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        consumer, self._consumer, self._task = self._consumer, None, None
        if consumer is not None:
            await stopped(consumer)
        for feed in [*self._joining, *(feed for feeds in self._feeds.values() for feed in feeds)]:
            feed.pump = None
            feed.wake()
        self._joining.clear()
        self._feeds.clear()

    async def _start(self) -> None:
        async with self._starting:
            if self._consumer is None:
                consumer = self._consumer = await started(self._site, consumer_arguments(self._site))
                self._task = asyncio.get_running_loop().create_task(self._run(consumer), name="headgate-kafka-pump")

    def _reassign(self) -> None:
        """Makes the changes of one tick one assignment: each costs the fetch under way."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._assign)

    def _assign(self) -> None:
        self._scheduled = False
        consumer = self._consumer
        if consumer is None:
            return
        for feed in self._joining:
            self._feeds.setdefault(feed.partition, []).append(feed)
        self._joining.clear()
        if not self._feeds:  # without partitions aiokafka would fetch the metadata of all topics every second
            consumer.pause(*consumer.assignment())
            self._wanted.clear()
            return
        consumer.assign(list(self._feeds))
        for partition, feeds in self._feeds.items():
            consumer.seek(partition, min(feed.fetched for feed in feeds))
            self._settle(consumer, partition, feeds)
        self._wanted.set()

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._wanted.wait()
            try:
                found = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_POLL_RECORDS)
                self._deliver(found)
                await self._look(consumer, list(found or self._feeds))
            except OffsetOutOfRangeError as error:
                self._lost(error.args[0])
            except ConsumerStoppedError:
                return
            except Exception as error:  # one pump feeds many readers: say it, and go on for the others
                self._say(error)
                await asyncio.sleep(RETRY_S)

    def _deliver(self, found: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]) -> None:
        for partition, records in found.items():
            for feed in self._feeds.get(partition, ()):
                feed.put(records)

    async def _look(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Notes where partitions have got to: without records too, over transaction markers and what is uncommitted."""
        for partition in partitions:
            if partition not in consumer.assignment():
                continue
            position, end = await consumer.position(partition), consumer.highwater(partition)
            feeds = self._feeds.get(partition, [])
            for feed in feeds:
                feed.reach(position, end)
            self._settle(consumer, partition, feeds)

    def _settle(self, consumer: AIOKafkaConsumer, partition: TopicPartition, feeds: list[PartitionBuffer]) -> None:
        """Lets readers go that have caught up (history) or do not keep up (live), and pauses for full buffers."""
        stable = consumer.last_stable_offset(partition)
        for feed in list(feeds):
            feed.stable = feed.stable if stable is None else stable
            if self._live:
                if feed.is_over(LIVE_RECORDS, LIVE_BYTES):
                    feed.caught_up = False
                    self.detach(feed)
            elif feed.fetched >= (feed.end if stable is None else stable):
                feed.caught_up = True
                self.detach(feed)
            elif feed.is_over(HISTORY_RECORDS, HISTORY_BYTES):
                self._hold(consumer, feed, alone=len(feeds) == 1)

    def _hold(self, consumer: AIOKafkaConsumer, feed: PartitionBuffer, *, alone: bool) -> None:
        """Keeps a full buffer from growing without holding up another reader of the same part."""
        if alone:
            consumer.pause(feed.partition)
        else:
            self.detach(feed)

    def _lost(self, offsets: dict[TopicPartition, int]) -> None:
        for partition in offsets:
            for feed in list(self._feeds.get(partition, ())):
                feed.gone = True
                self.detach(feed)

    def _say(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said >= SAY_AGAIN_S:
            self._said = now
            known = isinstance(error, KafkaError)
            _log.error("%s: reading fails: %s", self._site.address, reason(error), exc_info=not known)


async def started(site: Site, arguments: dict[str, Any]) -> AIOKafkaConsumer:
    """Returns a started consumer. Raises LogUnavailable."""
    consumer = AIOKafkaConsumer(**arguments)
    try:
        await reached(site, consumer.start())
    except BaseException:
        await stopped(consumer)
        raise
    return consumer


class OffsetDesk:
    """Asks for the first offset and the high watermark of partitions, over connections of its own.

    It reads uncommitted: with `read_committed` the end would stop at a transaction somebody left open, and the lag of
    everybody behind it would read zero.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._consumer: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Returns what each partition holds. Raises LogUnavailable."""
        async with self._starting:
            if self._consumer is None:
                self._consumer = await started(self._site, consumer_arguments(self._site, "read_uncommitted"))
        firsts, ends = await reached(
            self._site,
            asyncio.gather(self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)),
        )
        return {partition: Bounds(firsts[partition], ends[partition]) for partition in partitions}

    async def stop(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stopped(consumer)
