"""The batcher of the Kafka adapter over a producer that ends as the test says: what an append's error promises."""

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import MessageSizeTooLargeError, NotLeaderForPartitionError, RequestTimedOutError

from headgate.core.wire.records import Appended, LogName
from headgate.runtime.logs.kafka_connect import deployment_of
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.kafka_producer import Batcher, PartitionQueue
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.ports import AppendUnknown, LogUnavailable, RecordTooLarge


class Meta(NamedTuple):
    offset: int
    timestamp: int


class Builder:
    """A batch of at most two records."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, value: bytes, **_: Any) -> object | None:
        if len(self.values) == 2:
            return None
        self.values.append(value)
        return self


class Producer:
    """Takes batches and answers none of them by itself."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[bytes], asyncio.Future[Meta]]] = []

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, builder: Builder, topic: str, *, partition: int) -> "asyncio.Future[Meta]":
        future: asyncio.Future[Meta] = asyncio.get_running_loop().create_future()
        self.sent.append((builder.values, future))
        return future


def batcher() -> tuple[Batcher, Producer, PartitionQueue]:
    made, producer = Batcher(deployment_of(LogOptions("kafka://nowhere:1"), "n")), Producer()
    made._producer = producer
    made._closed = False
    return made, producer, PartitionQueue("t", 0)


def append(made: Batcher, queue: PartitionQueue, values: list[bytes]) -> list["asyncio.Future[Appended]"]:
    return [made.append(queue, b"k", value) for value in values]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("error", [RequestTimedOutError, NotLeaderForPartitionError])
async def test_batches_behind_a_failed_one_are_not_sent_on(error: type[Exception]) -> None:
    """They were never handed over, so their publishers hear that they will not appear; sent on, they would overtake."""
    made, producer, queue = batcher()
    futures = append(made, queue, [b"1", b"2", b"3", b"4", b"5"])
    await turns()
    assert [values for values, _ in producer.sent] == [[b"1", b"2"]]
    producer.sent[0][1].set_exception(error())
    await turns()
    assert [type(future.exception()) for future in futures] == [AppendUnknown] * 2 + [LogUnavailable] * 3
    assert len(producer.sent) == 1, "what was refused is not sent"
    later = append(made, queue, [b"6"])
    await turns()
    assert producer.sent[1][0] == [b"6"]
    producer.sent[1][1].set_result(Meta(70, 5))
    await turns()
    assert later[0].result() == Appended(70, 5)
    assert made._size == queue.size == 0


async def test_a_batch_that_was_too_large_fails_alone() -> None:
    made, producer, queue = batcher()
    futures = append(made, queue, [b"1", b"2", b"3"])
    await turns()
    producer.sent[0][1].set_exception(MessageSizeTooLargeError())
    await turns()
    assert [values for values, _ in producer.sent] == [[b"1", b"2"], [b"3"]]
    producer.sent[1][1].set_result(Meta(9, 5))
    await turns()
    assert isinstance(futures[0].exception(), RecordTooLarge)
    assert futures[2].result() == Appended(9, 5)


async def test_records_of_a_batch_have_its_base_offset_and_their_places() -> None:
    made, producer, queue = batcher()
    futures = append(made, queue, [b"1", b"2", b"3"])
    await turns()
    producer.sent[0][1].set_result(Meta(40, 5))
    await turns()
    producer.sent[1][1].set_result(Meta(42, 6))
    await turns()
    assert [future.result() for future in futures] == [Appended(40, 5), Appended(41, 5), Appended(42, 6)]


async def test_an_append_before_the_log_is_open_is_refused_and_never_raises() -> None:
    log = KafkaLog(LogOptions("kafka://127.0.0.1:1"))
    with pytest.raises(LogUnavailable, match="not open"):  # not KeyError: ingest would answer 500
        await log.append(LogName.MESSAGES, 0, b"k", b"v")
