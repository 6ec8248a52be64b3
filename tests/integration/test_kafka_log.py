"""What only the Kafka adapter has: foreign transactions, full queues, readers that do not keep up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer

from headgate.core.wire.records import Batch, LogName, Record
from headgate.runtime.logs import kafka_consumer, kafka_producer
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.ports import LogUnavailable, Reader
from tests.contract.log_suite import fill, take

INBOX = LogName.INBOX


@pytest.fixture
async def log(kafka_bootstrap: str, log_prefix: str) -> AsyncIterator[KafkaLog]:
    options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=2)
    await init_kafka(options)
    log = KafkaLog(options)
    await log.open()
    yield log
    await log.close()


@pytest.mark.parametrize("live", [True, False])
async def test_a_foreign_transaction_left_open_is_lag_and_ends(
    log: KafkaLog, kafka_bootstrap: str, log_prefix: str, live: bool
) -> None:
    await fill(log, INBOX, 0, 2)
    reader = await log.reader(INBOX, 0, 2 if live else 0)
    async with (
        busy_beside(log),
        AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=f"{log_prefix}-x") as foreign,
    ):
        await foreign.begin_transaction()
        await foreign.send_and_wait(f"{log_prefix}.inbox", b"aborted", partition=0)
        ours = await log.append(INBOX, 0, b"k", b"ours")
        assert ours.offset == 3, "a publish is accepted"
        assert (await log.bounds(INBOX, 0)).end == 4, "the end counts to the high watermark"
        if not live:
            assert [r.value for r in await take(reader, 2)] == [b"v0", b"v1"]
        batch = await read_until(reader, lambda batch: batch.end == 4)
        assert (batch.records, batch.next_offset) == ([], 2), "the partition waits"
        await foreign.abort_transaction()
    assert [r.value for r in await take(reader, 1)] == [b"ours"]
    batch = await read_until(reader, lambda batch: batch.next_offset == 5)  # the abort marker is not a record
    assert (batch.records, batch.end) == ([], 5)
    await reader.close()


@asynccontextmanager
async def busy_beside(log: KafkaLog) -> AsyncIterator[None]:
    """Another partition gets records all the while, more often than a fetch waits."""
    reader = await log.reader(INBOX, 1, 0)

    async def go_on() -> None:
        while True:
            await log.append(INBOX, 1, b"k", b"beside")
            await reader.read(10, 0.05)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await reader.close()


async def read_until(reader: Reader, condition: Callable[[Batch], bool]) -> Batch:
    """Reads batches without records until one fulfils the condition."""
    async with asyncio.timeout(10):
        while not condition(batch := await reader.read(10, 0.2)):
            assert not batch.records
    return batch


async def test_a_full_queue_refuses_and_hands_nothing_over(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_producer, "PARTITION_BYTES", 50_000)
    futures = [log.append(INBOX, 0, None, bytes(10_000)) for _ in range(10)]
    elsewhere = log.append(INBOX, 1, None, b"x")
    ends = await asyncio.gather(*futures, return_exceptions=True)
    taken = [end for end in ends if not isinstance(end, BaseException)]
    assert len(taken) == 4
    assert all(isinstance(end, LogUnavailable) for end in ends[4:])
    await elsewhere
    assert (await log.bounds(INBOX, 0)).end == 4
    await log.append(INBOX, 0, None, b"there is room again")


async def test_a_reader_that_does_not_keep_up_loses_nothing(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_consumer, "LIVE_RECORDS", 100)
    monkeypatch.setattr(kafka_consumer, "HISTORY_RECORDS", 100)
    slow, fast = await log.reader(INBOX, 0, 0), await log.reader(INBOX, 0, 0)
    assert not (await slow.read(1, 0.1)).records
    assert not (await fast.read(1, 0.1)).records
    records: list[Record] = []
    for first in range(0, 3000, 500):
        await fill(log, INBOX, 0, 500, first)
        records += await take(fast, 500)
    assert [r.value for r in records] == [b"v%d" % i for i in range(3000)]
    late: list[Record] = []
    while len(late) < 3000:
        late += await take(slow, 250)
    assert [r.value for r in late] == [b"v%d" % i for i in range(3000)]
    await slow.close()
    await fast.close()


async def test_records_of_one_tick_share_batches(log: KafkaLog) -> None:
    """Each batch has one log time: so few times mean few batches."""
    acked = await fill(log, INBOX, 0, 5000)
    assert [appended.offset for appended in acked] == list(range(5000))
    assert len({appended.ts for appended in acked}) < 200


async def test_a_log_that_is_closed_says_so(log: KafkaLog) -> None:
    reader = await log.reader(INBOX, 0, 0)
    waiting = asyncio.ensure_future(reader.read(1, 30.0))
    await asyncio.sleep(0.1)
    await log.close()
    with pytest.raises(LogUnavailable, match="closed"):
        await waiting
    with pytest.raises(LogUnavailable, match="closed"):
        await log.bounds(INBOX, 0)


async def test_a_burst_of_new_readers_of_empty_partitions_is_not_deaf_to_the_first_record(
    kafka_bootstrap: str, log_prefix: str
) -> None:
    """Each new assignment leaves a fetch at the broker that answers when its time is over, one behind the other."""
    options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=24)
    await init_kafka(options)
    log = KafkaLog(options)
    await log.open()
    reading = []
    try:
        for shard in range(24):
            reader = await log.reader(LogName.MESSAGES, shard, (await log.bounds(LogName.MESSAGES, shard)).end)
            reading.append(asyncio.create_task(read_until(reader, lambda batch: bool(batch.records))))
            await asyncio.sleep(0.02 if shard else 2)  # the consumer is there when the burst begins
        began = asyncio.get_running_loop().time()
        await log.append(LogName.MESSAGES, 23, b"k", b"first")  # the fetches before the last do not ask for it
        await asyncio.wait_for(reading[23], 10)
        assert asyncio.get_running_loop().time() - began < 3, (
            "5 s when each fetch waited for 500 ms, and each change was made at once"
        )
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        await log.close()
