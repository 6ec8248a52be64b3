"""Our batcher over aiokafka's producer: one open batch and one shipper a partition; knows bytes, not their meaning.

A batch leaves at the next loop tick; while it is under way the partition's next one fills. It is handed to aiokafka
whole, so what waits behind a batch that failed was certainly never handed over and ends with LogUnavailable, while the
failed batch itself ends with AppendUnknown: "timed out" is not "not written" (KAFKA.md section 4.1).
"""

import asyncio
import functools
from collections import deque
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from headgate.core.wire.records import Appended
from headgate.runtime.logs.embedded import (
    APPEND_WAIT_S,
    MAX_RECORD_BYTES,
    RECORD_OVERHEAD,
    fail,
    failed,
    record_bytes,
    too_large,
)
from headgate.runtime.logs.kafka_connect import Site, reached, reason
from headgate.runtime.logs.kafka_stop import stopped
from headgate.runtime.ports import AppendUnknown, LogError, LogUnavailable, RecordTooLarge

BATCH_BYTES: Final = 131_072
PARTITION_BYTES: Final = 8 << 20  # queued and not yet acknowledged in one partition; above it appends are refused
TOTAL_BYTES: Final = 64 << 20  # in all partitions together

_TOO_LARGE: Final = MAX_RECORD_BYTES + RECORD_OVERHEAD
_NO_HEADERS: Final[list[tuple[str, bytes]]] = []  # aiokafka wants a list


def producer_arguments(site: Site) -> dict[str, Any]:
    """Returns the producer's arguments (KAFKA.md section 0)."""
    return {
        **site.connection(),
        "acks": "all",
        "enable_idempotence": False,  # one expired batch would leave a sequence gap the broker refuses for ever
        "linger_ms": 0,
        "compression_type": None,
        "max_batch_size": BATCH_BYTES,
        "max_request_size": 1_048_576,
    }


class _Batch:
    """Records of one partition that travel together."""

    __slots__ = ("born", "builder", "ended", "expiry", "futures", "size")

    def __init__(self, builder: BatchBuilder, born: float) -> None:
        self.builder = builder
        self.born = born
        self.futures: list[asyncio.Future[Appended]] = []
        self.size = 0
        self.ended = False
        self.expiry: asyncio.TimerHandle | None = None


class PartitionQueue:
    """One partition: the batch under way and those behind it, the last of which is open."""

    __slots__ = ("flying", "partition", "queue", "size", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.queue: deque[_Batch] = deque()
        self.flying: _Batch | None = None
        self.size = 0


class Batcher:
    """All appends of a process to Kafka."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._producer: AIOKafkaProducer | None = None
        self._size = 0
        self._ready: list[PartitionQueue] = []  # lanes to ship at the next tick
        self._sending: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Event = asyncio.Event()
        self._closed = True

    async def start(self) -> None:
        """Connects. Raises LogUnavailable."""
        producer = AIOKafkaProducer(**producer_arguments(self._site))
        try:
            await reached(self._site, producer.start())
        except BaseException:
            await stopped(producer)
            raise
        self._producer = producer
        self._idle.set()
        self._closed = False

    async def warm(self, topic: str) -> set[int]:
        """Makes a topic known to the producer, so that its first append does not wait; returns its partitions."""
        assert self._producer is not None
        partitions: set[int] = await reached(self._site, self._producer.partitions_for(topic))
        return partitions

    async def stop(self) -> None:
        """Waits for the verdict on everything handed over, at most APPEND_WAIT_S, and disconnects."""
        self._closed = True
        if self._producer is None:
            return
        await self._idle.wait()
        producer, self._producer = self._producer, None
        await stopped(producer)

    def append(self, lane: PartitionQueue, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Puts one record into the lane's open batch; the future ends as the port says."""
        size = record_bytes(key, value) + RECORD_OVERHEAD
        if self._closed or size > _TOO_LARGE or lane.size + size > PARTITION_BYTES or self._size + size > TOTAL_BYTES:
            return failed(self._refusal(lane, size))
        loop = asyncio.get_running_loop()
        queue = lane.queue
        batch = queue[-1] if queue else None
        if batch is None or batch.builder.append(timestamp=None, key=key, value=value, headers=_NO_HEADERS) is None:
            batch = _Batch(self._builder(), loop.time())
            batch.builder.append(timestamp=None, key=key, value=value, headers=_NO_HEADERS)
            queue.append(batch)
        future: asyncio.Future[Appended] = loop.create_future()
        batch.futures.append(future)
        batch.size += size
        lane.size += size
        self._size += size
        if lane.flying is None and len(queue) == 1 and len(batch.futures) == 1:
            self._schedule(lane, loop)
        return future

    def _refusal(self, lane: PartitionQueue, size: int) -> LogError:
        if self._closed:
            return LogUnavailable(f"{self._site.address} is closed")
        if size > _TOO_LARGE:
            return too_large(size - RECORD_OVERHEAD)
        return LogUnavailable(f"{self._site.address}: {lane.size} bytes wait for {lane.topic}[{lane.partition}]")

    def _builder(self) -> BatchBuilder:
        assert self._producer is not None
        return self._producer.create_batch()

    def _schedule(self, lane: PartitionQueue, loop: asyncio.AbstractEventLoop) -> None:
        self._idle.clear()
        if not self._ready:
            loop.call_soon(self._ship_ready)
        self._ready.append(lane)

    def _ship_ready(self) -> None:
        ready, self._ready = self._ready, []
        for lane in ready:
            self._ship(lane)

    def _ship(self, lane: PartitionQueue) -> None:
        batch = lane.flying = lane.queue.popleft()
        task = asyncio.get_running_loop().create_task(self._send(lane, batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, lane: PartitionQueue, batch: _Batch) -> None:
        assert self._producer is not None
        loop = asyncio.get_running_loop()
        deadline = batch.born + APPEND_WAIT_S
        try:
            async with asyncio.timeout_at(deadline):
                sent = await self._producer.send_batch(batch.builder, lane.topic, partition=lane.partition)
        except (KafkaError, TimeoutError, AssertionError) as error:  # raised before the batch is aiokafka's
            self._failed(lane, batch, LogUnavailable(f"{self._site.address}: not handed over: {reason(error)}"))
            return
        except Exception as error:  # a fault of the client's own: the lane must go on, and nobody knows the outcome
            self._failed(lane, batch, AppendUnknown(f"{self._site.address}: {reason(error)}"))
            return
        batch.expiry = loop.call_at(deadline, self._expired, lane, batch)
        sent.add_done_callback(functools.partial(self._answered, lane, batch))

    def _answered(self, lane: PartitionQueue, batch: _Batch, sent: "asyncio.Future[RecordMetadata]") -> None:
        error = sent.exception()
        if batch.ended:
            return
        if error is not None:
            self._failed(lane, batch, self._verdict(error))
            return
        base, ts = sent.result().offset, sent.result().timestamp
        for offset, future in enumerate(batch.futures, base):
            if not future.done():
                future.set_result(Appended(offset, ts))
        self._end(lane, batch)

    def _verdict(self, error: BaseException) -> LogError:
        if isinstance(error, MessageSizeTooLargeError):
            return RecordTooLarge(f"{self._site.address}: {reason(error)}")
        return AppendUnknown(f"{self._site.address}: {reason(error)}")

    def _expired(self, lane: PartitionQueue, batch: _Batch) -> None:
        if not batch.ended:
            self._failed(lane, batch, AppendUnknown(f"{self._site.address} gave no answer in {APPEND_WAIT_S:g} s"))

    def _failed(self, lane: PartitionQueue, batch: _Batch, verdict: LogError) -> None:
        for future in batch.futures:
            fail(future, verdict)
        if not isinstance(verdict, RecordTooLarge):
            self._drop_behind(lane, verdict)
        self._end(lane, batch)

    def _drop_behind(self, lane: PartitionQueue, verdict: LogError) -> None:
        behind = LogUnavailable(f"not handed over, an append before it failed: {verdict}")
        for batch in lane.queue:
            for future in batch.futures:
                fail(future, behind)
            self._forget(lane, batch)
        lane.queue.clear()

    def _end(self, lane: PartitionQueue, batch: _Batch) -> None:
        self._forget(lane, batch)
        lane.flying = None
        if lane.queue:
            self._ship(lane)
        elif self._size == 0:
            self._idle.set()

    def _forget(self, lane: PartitionQueue, batch: _Batch) -> None:
        batch.ended = True
        if batch.expiry is not None:
            batch.expiry.cancel()
        lane.size -= batch.size
        self._size -= batch.size
