"""Our batcher over aiokafka's producer: for each partition one batch under way and one that fills.

A batch leaves at the next loop tick. It is handed to aiokafka whole. So the batches behind one that failed were never
handed over and end with LogUnavailable; the failed batch itself ends with AppendUnknown, because a request that timed
out may have been written.
"""

import asyncio
import functools
import logging
import time
from collections import deque
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from headgate.core.wire.records import Appended
from headgate.runtime.logging import Reminder
from headgate.runtime.logs.embedded import (
    APPEND_WAIT_S,
    MAX_RECORD_BYTES,
    RECORD_OVERHEAD,
    fail,
    failed,
    record_bytes,
    too_large,
)
from headgate.runtime.logs.kafka_connect import KafkaDeployment, reached, reason
from headgate.runtime.logs.kafka_stop import stopped
from headgate.runtime.ports import AppendUnknown, LogError, LogUnavailable, RecordTooLarge
from headgate.runtime.tracing import APPENDING, HEADER

BATCH_BYTES: Final = 131_072
PARTITION_BYTES: Final = 8 << 20  # queued and not yet acknowledged in one partition; above it appends are refused
TOTAL_BYTES: Final = 64 << 20  # in all partitions together

_log = logging.getLogger("headgate.log.kafka")
_TOO_LARGE: Final = MAX_RECORD_BYTES + RECORD_OVERHEAD
_NO_HEADERS: Final[list[tuple[str, bytes]]] = []  # aiokafka wants a list


def producer_arguments(deployment: KafkaDeployment) -> dict[str, Any]:
    """Returns the arguments of the producer."""
    return {
        **deployment.connection(),
        "acks": "all",
        "enable_idempotence": False,  # one expired batch would leave a sequence gap that the broker refuses for ever
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
    """The batches of one partition: the one under way and those behind it, of which the last is open."""

    __slots__ = ("batches", "partition", "size", "topic", "under_way")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.batches: deque[_Batch] = deque()
        self.under_way: _Batch | None = None
        self.size = 0


class Batcher:
    """All appends of a process to Kafka."""

    def __init__(self, deployment: KafkaDeployment) -> None:
        self._deployment = deployment
        self._producer: AIOKafkaProducer | None = None
        self._size = 0
        self._ready: list[PartitionQueue] = []  # queues to ship at the next tick
        self._sending: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Event = asyncio.Event()
        self._closed = True
        self._reminder = Reminder(time.monotonic)  # a fault is a topic of ours

    async def start(self) -> None:
        """Connects. Raises LogUnavailable."""
        producer = AIOKafkaProducer(**producer_arguments(self._deployment))
        try:
            await reached(self._deployment, producer.start())
        except BaseException:
            await stopped(producer)
            raise
        self._producer = producer
        self._idle.set()
        self._closed = False

    async def warm(self, topic: str) -> None:
        """Makes a topic known to the producer, so that its first append does not wait. Raises LogUnavailable."""
        assert self._producer is not None
        await reached(self._deployment, self._producer.partitions_for(topic))

    async def stop(self) -> None:
        """Waits until all appends have ended, at most APPEND_WAIT_S, and disconnects."""
        self._closed = True
        if self._producer is None:
            return
        await self._idle.wait()
        producer, self._producer = self._producer, None
        await stopped(producer)

    def append(self, queue: PartitionQueue, key: bytes | None, value: bytes | None) -> "asyncio.Future[Appended]":
        """Puts one record into the queue's open batch; the future ends as the port says."""
        size = record_bytes(key, value) + RECORD_OVERHEAD
        if self._closed or size > _TOO_LARGE or queue.size + size > PARTITION_BYTES or self._size + size > TOTAL_BYTES:
            return failed(self._refusal(queue, size))
        loop = asyncio.get_running_loop()
        batches = queue.batches
        batch = batches[-1] if batches else None
        trace = APPENDING.get()
        headers = _NO_HEADERS if trace is None else [(HEADER, trace)]
        if batch is None or batch.builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            batch = _Batch(self._builder(), loop.time())
            batch.builder.append(timestamp=None, key=key, value=value, headers=headers)
            batches.append(batch)
        future: asyncio.Future[Appended] = loop.create_future()
        batch.futures.append(future)
        batch.size += size
        queue.size += size
        self._size += size
        if queue.under_way is None and len(batches) == 1 and len(batch.futures) == 1:
            self._schedule(queue, loop)
        return future

    def _refusal(self, queue: PartitionQueue, size: int) -> LogError:
        if self._closed:
            return LogUnavailable(f"{self._deployment.address} is closed")
        if size > _TOO_LARGE:
            return too_large(size - RECORD_OVERHEAD)
        return LogUnavailable(
            f"{self._deployment.address}: {queue.size} bytes wait for {queue.topic}[{queue.partition}]"
        )

    def _builder(self) -> BatchBuilder:
        assert self._producer is not None
        return self._producer.create_batch()

    def _schedule(self, queue: PartitionQueue, loop: asyncio.AbstractEventLoop) -> None:
        self._idle.clear()
        if not self._ready:
            loop.call_soon(self._ship_ready)
        self._ready.append(queue)

    def _ship_ready(self) -> None:
        ready, self._ready = self._ready, []
        for queue in ready:
            self._ship(queue)

    def _ship(self, queue: PartitionQueue) -> None:
        batch = queue.under_way = queue.batches.popleft()
        task = asyncio.get_running_loop().create_task(self._send(queue, batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, queue: PartitionQueue, batch: _Batch) -> None:
        assert self._producer is not None
        loop = asyncio.get_running_loop()
        deadline = batch.born + APPEND_WAIT_S
        try:
            async with asyncio.timeout_at(deadline):
                sent = await self._producer.send_batch(batch.builder, queue.topic, partition=queue.partition)
        except (KafkaError, TimeoutError, AssertionError) as error:  # raised before the batch is aiokafka's
            self._failed(queue, batch, LogUnavailable(f"{self._deployment.address}: not handed over: {reason(error)}"))
            return
        except Exception as error:  # a fault of the client's own: the queue must go on, and nobody knows the outcome
            self._failed(queue, batch, AppendUnknown(f"{self._deployment.address}: {reason(error)}"))
            return
        batch.expiry = loop.call_at(deadline, self._expired, queue, batch)
        sent.add_done_callback(functools.partial(self._answered, queue, batch))

    def _answered(self, queue: PartitionQueue, batch: _Batch, sent: "asyncio.Future[RecordMetadata]") -> None:
        error = sent.exception()
        if batch.ended:
            return
        if error is not None:
            self._failed(queue, batch, self._verdict(error))
            return
        base, ts = sent.result().offset, sent.result().timestamp
        for offset, future in enumerate(batch.futures, base):
            if not future.done():
                future.set_result(Appended(offset, ts))
        self._end(queue, batch)

    def _verdict(self, error: BaseException) -> LogError:
        if isinstance(error, MessageSizeTooLargeError):
            return RecordTooLarge(f"{self._deployment.address}: {reason(error)}")
        if isinstance(error, TopicAuthorizationFailedError):  # nothing was written
            why = reason(error, "Write")
            if self._reminder.is_due(why):
                _log.error("%s: appending fails: %s", self._deployment.address, why)
            return LogUnavailable(f"{self._deployment.address}: {why}")
        return AppendUnknown(f"{self._deployment.address}: {reason(error)}")

    def _expired(self, queue: PartitionQueue, batch: _Batch) -> None:
        if not batch.ended:
            self._failed(
                queue, batch, AppendUnknown(f"{self._deployment.address} gave no answer in {APPEND_WAIT_S:g} s")
            )

    def _failed(self, queue: PartitionQueue, batch: _Batch, verdict: LogError) -> None:
        for future in batch.futures:
            fail(future, verdict)
        if not isinstance(verdict, RecordTooLarge):
            self._drop_behind(queue, verdict)
        self._end(queue, batch)

    def _drop_behind(self, queue: PartitionQueue, verdict: LogError) -> None:
        behind = LogUnavailable(f"not handed over, an append before it failed: {verdict}")
        for batch in queue.batches:
            for future in batch.futures:
                fail(future, behind)
            self._forget(queue, batch)
        queue.batches.clear()

    def _end(self, queue: PartitionQueue, batch: _Batch) -> None:
        self._forget(queue, batch)
        queue.under_way = None
        if queue.batches:
            self._ship(queue)
        elif self._size == 0:
            self._idle.set()

    def _forget(self, queue: PartitionQueue, batch: _Batch) -> None:
        batch.ended = True
        if batch.expiry is not None:
            batch.expiry.cancel()
        queue.size -= batch.size
        self._size -= batch.size
