"""What a test does to the logs directly: fills them fast, writes as a foreign producer, reads them back whole.

Must not know any headgate process. It uses the envelope's encoder, because only ours can fill a log with our records.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import ConsumerRecord, TopicPartition

from headgate.core.publish.body import PublishBody, frame_tail
from headgate.core.wire.envelope import Item, encode_message
from headgate.core.wire.ids import random_id, shard_of, topic_key

BATCH_BYTES = 900_000
IN_FLIGHT = 16


@asynccontextmanager
async def producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """Yields a plain producer with the default partitioner."""
    client = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", max_request_size=1_000_000, max_batch_size=BATCH_BYTES
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def fill(bootstrap: str, prefix: str, shards: int, topics: Mapping[str, int], records: int) -> dict[str, int]:
    """Appends message records of ours, round robin over `topics` (id -> epoch); returns how many each got."""
    log = f"{prefix}.messages"
    counts = dict.fromkeys(topics, 0)
    order = list(topics.items())
    keys = {topic: topic_key(topic) for topic in topics}
    partition = {topic: shard_of(keys[topic], shards) for topic in topics}
    gate = asyncio.Semaphore(IN_FLIGHT)
    async with producer(bootstrap) as client:
        builders = {shard: client.create_batch() for shard in range(shards)}

        async def ship(shard: int) -> None:
            async with gate:
                future = await client.send_batch(builders[shard], log, partition=shard)
                builders[shard] = client.create_batch()
                await future

        for number in range(records):
            topic, epoch = order[number % len(order)]
            key, shard = keys[topic], partition[topic]
            message_id = random_id(key, secrets.token_bytes(12))
            tail = frame_tail(message_id, "filler", PublishBody(b'{"number":%d}' % counts[topic], None, False, b""))
            value = encode_message(Item(message_id, 0, tail), epoch)
            counts[topic] += 1
            if builders[shard].append(timestamp=None, key=key, value=value) is None:
                await ship(shard)
                assert builders[shard].append(timestamp=None, key=key, value=value) is not None
        for shard in range(shards):
            if builders[shard].record_count():
                await ship(shard)
    return counts


async def ends(bootstrap: str, log: str) -> dict[int, int]:
    """Returns the offset that the next record of each partition gets."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(log, number) for number in await _partitions(consumer, log)]
        return {place.partition: end for place, end in (await consumer.end_offsets(partitions)).items()}
    finally:
        await consumer.stop()


async def cut(bootstrap: str, log: str, before: Mapping[int, int]) -> None:
    """Deletes the records of each partition before an offset, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        places = {TopicPartition(log, number): RecordsToDelete(offset) for number, offset in before.items()}
        await admin.delete_records(places)
    finally:
        await admin.close()


async def read_all(bootstrap: str, log: str) -> list[ConsumerRecord]:
    """Returns every record that stands in a log now, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(log, number) for number in sorted(await _partitions(consumer, log))]
        ends = await consumer.end_offsets(partitions)
        firsts = await consumer.beginning_offsets(partitions)
        found: list[ConsumerRecord] = []
        for partition in partitions:
            consumer.assign([partition])
            consumer.seek(partition, firsts[partition])
            while await consumer.position(partition) < ends[partition]:
                batches = await consumer.getmany(timeout_ms=500, max_records=5_000)
                found += [record for records in batches.values() for record in records]
        return found
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, log: str) -> set[int]:
    for _ in range(50):
        await consumer._client.add_topic(log)
        found = consumer.partitions_for_topic(log)
        if found:
            return set(found)
        await asyncio.sleep(0.1)
    raise AssertionError(f"no log {log}")
