"""Consumers that many readers share: one follows the ends of parts, one reads history.

A reader takes from its own bounded buffer. While it is behind, the history consumer fills it; at the end of the part,
the live consumer does. So a shard that restores never delays the others. A reader that nobody reads from holds no
partition: it joins a consumer with the first read that finds the buffer empty. It leaves the history consumer when it
has caught up, and the live consumer when it does not keep up.

aiokafka drops the positions of all partitions with every `assign()`, so each is followed by a `seek()` of every one. It
also forgets the fetch under way, which the broker goes on to answer before the next one on that connection: where there
is nothing to read, after `fetch_max_wait_ms`. Ten changes in a row made a new node deaf for 5 s. So that wait is short,
and changes are collected for as long.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError, OffsetOutOfRangeError, TopicAuthorizationFailedError
from aiokafka.structs import ConsumerRecord, TopicPartition

from headgate.core.wire.records import Bounds, Record
from headgate.runtime.logging import Reminder
from headgate.runtime.logs.kafka_connect import KafkaDeployment, reached, reason
from headgate.runtime.logs.kafka_stop import stopped
from headgate.runtime.ports import LogUnavailable
from headgate.runtime.tracing import HEADER

MAX_POLL_RECORDS: Final = 2_000  # without a bound one getmany returned 62,000, and the loop was blocked meanwhile
POLL_MS: Final = 1_000
NOTE_S: Final = 1.0  # between two looks at the ends of all partitions
FETCH_WAIT_MS: Final = 100
ASSIGN_S: Final = FETCH_WAIT_MS / 1_000  # between two assignments; the first after a pause is made at once
FETCH_RETRY_S: Final = 0.5
LIVE_RECORDS: Final = 20_000  # buffered for one reader: half a second of a busy shard, then it catches up by itself
LIVE_BYTES: Final = 16 << 20
HISTORY_RECORDS: Final = 4_000
HISTORY_BYTES: Final = 2 << 20
_HEADER_BYTES: Final = 256  # of a traceparent; version 00 has 55

_log = logging.getLogger("headgate.log.kafka")


def consumer_arguments(deployment: KafkaDeployment, isolation: str = "read_committed") -> dict[str, Any]:
    """Returns the arguments of a consumer that reads records."""
    return {
        **deployment.connection(),
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": isolation,
        "fetch_min_bytes": 1,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "max_partition_fetch_bytes": 262_144,
        "check_crcs": True,
    }


class PartitionBuffer:
    """The buffer of one reader.

    `fetched` is the offset after the last buffered record, `end` the high watermark last seen, `stable` the last stable
    offset (KIP-98) of the newest fetch (None before the first).
    """

    def __init__(self, partition: TopicPartition, offset: int, end: int) -> None:
        self.partition = partition
        self.fetched = offset
        self.end = end
        self.stable: int | None = None
        self.caught_up = offset >= end  # which consumer it joins next
        self.gone = not 0 <= offset <= end  # the log does not have `fetched`, as far as is known
        self.consumer: SharedConsumer | None = None
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._refused: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is buffered."""
        return not self._records

    def is_larger_than(self, records: int, size: int) -> bool:
        """Whether more than `records` records or `size` bytes are buffered."""
        return len(self._records) > records or self._bytes > size

    def put(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Buffers records, skipping those from before its own position."""
        at = self.fetched
        for r in records:
            if r.offset >= at:
                trace = _trace_of(r.headers) if r.headers else None
                self._records.append(Record(r.offset, r.timestamp, r.key, r.value, trace))
                self._bytes += len(r.value or b"") + len(r.key or b"")
        self.advance(records[-1].offset + 1, None)
        self.wake()

    def advance(self, position: int, end: int | None) -> None:
        """Notes that everything before `position` was fetched, and the high watermark where it is known."""
        self.fetched = max(self.fetched, position)
        self.end = max(self.end if end is None else end, self.fetched)

    def take(self, count: int) -> list[Record]:
        """Returns up to `count` buffered records."""
        kept = self._records
        if len(kept) <= count:
            records = list(kept)
            kept.clear()
            self._bytes = 0
            return records
        records = [kept.popleft() for _ in range(count)]
        self._bytes -= sum(len(r.value or b"") + len(r.key or b"") for r in records)
        return records

    def refuse(self, why: str) -> None:
        """Makes the reader's next `check` raise."""
        self._refused = why

    def check(self) -> None:
        """Raises LogUnavailable, once, where the broker has refused to be read."""
        refused, self._refused = self._refused, None
        if refused is not None:
            raise LogUnavailable(refused)

    def wake(self) -> None:
        """Ends `wait`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, wait_s: float) -> None:
        """Waits at most `wait_s` seconds for records or for `wake`."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._waiter,), timeout=wait_s)
        finally:
            self._waiter = None


class SharedConsumer:
    """One aiokafka consumer that buffers many readers. `live`: a reader over its bound leaves instead of pausing."""

    def __init__(self, deployment: KafkaDeployment, *, live: bool) -> None:
        self._deployment = deployment
        self._live = live
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._buffers: dict[TopicPartition, list[PartitionBuffer]] = {}  # as assigned
        self._joining: list[PartitionBuffer] = []  # must not be fed before the seek to where they stand
        self._scheduled = False
        self._assigned_at = float("-inf")
        self._wanted = asyncio.Event()
        self._noted = 0.0  # when the ends of all partitions were noted, in the loop's seconds
        self._reminder = Reminder(time.monotonic)

    async def attach(self, buffer: PartitionBuffer) -> None:
        """Begins to buffer a reader. Raises LogUnavailable."""
        await self._start()
        buffer.consumer = self
        self._joining.append(buffer)
        self._reassign()

    def detach(self, buffer: PartitionBuffer) -> None:
        """Stops filling a reader's buffer; buffered records stay."""
        buffer.consumer = None
        if buffer in self._joining:
            self._joining.remove(buffer)
        buffers = self._buffers.get(buffer.partition, [])
        if buffer in buffers:
            buffers.remove(buffer)
            if not buffers:
                del self._buffers[buffer.partition]
                self._reassign()
        buffer.wake()

    def resume(self, buffer: PartitionBuffer) -> None:
        """Goes on with a partition that was paused for this reader's full buffer."""
        if self._consumer is not None and not buffer.is_larger_than(HISTORY_RECORDS // 2, HISTORY_BYTES // 2):
            self._consumer.resume(*(self._consumer.paused() & {buffer.partition}))

    async def stop(self) -> None:
        """Disconnects; readers that wait return."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        consumer, self._consumer, self._task = self._consumer, None, None
        if consumer is not None:
            await stopped(consumer)
        for buffer in [*self._joining, *(buffer for buffers in self._buffers.values() for buffer in buffers)]:
            buffer.consumer = None
            buffer.wake()
        self._joining.clear()
        self._buffers.clear()

    async def _start(self) -> None:
        async with self._starting:
            if self._consumer is None:
                consumer = self._consumer = await started(self._deployment, consumer_arguments(self._deployment))
                self._task = asyncio.get_running_loop().create_task(self._run(consumer), name="headgate-kafka-consumer")

    def _reassign(self) -> None:
        """Makes the changes of some time one assignment: each costs the fetch under way."""
        if not self._scheduled:
            self._scheduled = True
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), self._assigned_at + ASSIGN_S), self._assign)

    def _assign(self) -> None:
        self._scheduled = False
        self._assigned_at = asyncio.get_running_loop().time()
        consumer = self._consumer
        if consumer is None:
            return
        for buffer in self._joining:
            self._buffers.setdefault(buffer.partition, []).append(buffer)
        self._joining.clear()
        if not self._buffers:  # without partitions aiokafka would fetch the metadata of all topics every second
            consumer.pause(*consumer.assignment())
            self._wanted.clear()
            return
        consumer.assign(list(self._buffers))
        for partition, buffers in self._buffers.items():
            consumer.seek(partition, min(buffer.fetched for buffer in buffers))
            self._move_readers(consumer, partition, buffers)
        self._wanted.set()

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._wanted.wait()
            try:
                found = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_POLL_RECORDS)
                self._deliver(found)
                await self._note_positions(consumer, self._to_note(found))
            except OffsetOutOfRangeError as error:
                self._out_of_range(error.args[0])
            except TopicAuthorizationFailedError as error:
                self._refused(error)
            except ConsumerStoppedError:
                return
            except Exception as error:  # many readers share the consumer: log it and continue for the others
                self._log_failure(error)
                await asyncio.sleep(FETCH_RETRY_S)

    def _deliver(self, found: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]) -> None:
        for partition, records in found.items():
            for buffer in self._buffers.get(partition, ()):
                buffer.put(records)

    def _to_note(self, found: Collection[TopicPartition]) -> list[TopicPartition]:
        """Returns the partitions with news; now and then all: the end of one without records moves too."""
        now = asyncio.get_running_loop().time()
        if found and now - self._noted < NOTE_S:
            return list(found)
        self._noted = now
        return list(self._buffers)

    async def _note_positions(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Notes the positions of partitions, which also move over transaction markers and uncommitted records."""
        for partition in partitions:
            if partition not in consumer.assignment():
                continue
            position, end = await consumer.position(partition), consumer.highwater(partition)
            buffers = self._buffers.get(partition, [])
            for buffer in buffers:
                buffer.advance(position, end)
            self._move_readers(consumer, partition, buffers)

    def _move_readers(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, buffers: list[PartitionBuffer]
    ) -> None:
        """Releases readers that have caught up (history) or do not keep up (live), and pauses for full buffers."""
        stable = consumer.last_stable_offset(partition)
        for buffer in list(buffers):
            buffer.stable = buffer.stable if stable is None else stable
            if self._live:
                if buffer.is_larger_than(LIVE_RECORDS, LIVE_BYTES):
                    buffer.caught_up = False
                    self.detach(buffer)
            elif buffer.fetched >= (buffer.end if stable is None else stable):
                buffer.caught_up = True
                self.detach(buffer)
            elif buffer.is_larger_than(HISTORY_RECORDS, HISTORY_BYTES):
                self._stop_filling(consumer, buffer, alone=len(buffers) == 1)

    def _stop_filling(self, consumer: AIOKafkaConsumer, buffer: PartitionBuffer, *, alone: bool) -> None:
        """Keeps a full buffer from growing without holding up another reader of the same part."""
        if alone:
            consumer.pause(buffer.partition)
        else:
            self.detach(buffer)

    def _out_of_range(self, offsets: dict[TopicPartition, int]) -> None:
        for partition in offsets:
            for buffer in list(self._buffers.get(partition, ())):
                buffer.gone = True
                self.detach(buffer)

    def _refused(self, error: TopicAuthorizationFailedError) -> None:
        """Ends the reads of a topic that the user may not read; a reader that tries again joins again."""
        self._log_failure(error)
        why = f"{self._deployment.address}: {reason(error, 'Read')}"
        for partition, buffers in list(self._buffers.items()):
            if partition.topic in error.args:
                for buffer in list(buffers):
                    buffer.refuse(why)
                    self.detach(buffer)

    def _log_failure(self, error: Exception) -> None:
        why = reason(error, "Read")
        known = isinstance(error, KafkaError)
        if self._reminder.is_due(why if known else ""):  # a missing right on each topic is a fault of its own
            _log.error("%s: reading fails: %s", self._deployment.address, why, exc_info=not known)


def _trace_of(headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Returns a record's `traceparent`, if it has one of a length that can be right."""
    found = next((value for name, value in headers if name == HEADER), None)
    return found if found is not None and len(found) <= _HEADER_BYTES else None


async def started(deployment: KafkaDeployment, arguments: dict[str, Any]) -> AIOKafkaConsumer:
    """Returns a started consumer. Raises LogUnavailable."""
    consumer = AIOKafkaConsumer(**arguments)
    try:
        await reached(deployment, consumer.start())
    except BaseException:
        await stopped(consumer)
        raise
    return consumer


class BoundsClient:
    """Asks for the first offset and the high watermark of partitions, over connections of its own.

    It reads uncommitted: with `read_committed` the end would stop at a transaction that somebody left open, and the lag
    behind it would read zero.
    """

    def __init__(self, deployment: KafkaDeployment) -> None:
        self._deployment = deployment
        self._consumer: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Returns what each partition holds. Raises LogUnavailable."""
        async with self._starting:
            if self._consumer is None:
                self._consumer = await started(
                    self._deployment, consumer_arguments(self._deployment, "read_uncommitted")
                )
        firsts, ends = await reached(
            self._deployment,
            asyncio.gather(self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)),
        )
        return {partition: Bounds(firsts[partition], ends[partition]) for partition in partitions}

    async def stop(self) -> None:
        """Disconnects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stopped(consumer)
