"""OwnerGroup on a real Kafka: what a member that fell out of the group says of its shards."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate.runtime.logs.kafka_group import KafkaGroup
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions

EVERYONE = frozenset(range(4))


@pytest.fixture
async def log(kafka_bootstrap: str, log_prefix: str) -> AsyncIterator[KafkaLog]:
    options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=4)
    await init_kafka(options)
    log = KafkaLog(options)
    await log.open()
    yield log
    await log.close()


async def until(group: KafkaGroup, shards: frozenset[int] | None) -> None:
    async with asyncio.timeout(20):
        while group.assigned() != shards:
            await asyncio.sleep(0.01)


def member(log: KafkaLog, name: str) -> KafkaGroup:
    group = log.group(name)
    assert isinstance(group, KafkaGroup)
    return group


async def test_a_member_that_fell_out_of_the_group_has_no_assignment_until_it_is_in_again(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.runtime.logs.kafka_group.REJOIN_RETRY_S", 3.0)
    group = member(log, "a")
    await group.start()
    await until(group, EVERYONE)
    consumer = group._consumer
    assert consumer is not None

    async def gave_up(**_: object) -> None:
        raise RuntimeError("the coordinator gave up")

    monkeypatch.setattr(consumer, "getmany", gave_up)
    await until(group, None)
    await asyncio.sleep(1.0)
    assert group.assigned() is None, "it would claim what others own by now"
    await until(group, EVERYONE)
    await group.stop()
    assert group.assigned() is None


async def test_while_a_rebalance_is_under_way_nothing_is_known(log: KafkaLog) -> None:
    a, b = member(log, "a"), member(log, "b")
    await a.start()
    await until(a, EVERYONE)
    said: list[frozenset[int] | None] = []
    real = a.on_partitions_revoked

    async def on_revoked(revoked: list[Any]) -> None:
        await real(revoked)
        said.append(a.assigned())

    a.on_partitions_revoked = on_revoked  # type: ignore[method-assign]
    await b.start()
    async with asyncio.timeout(20):
        while len(a.assigned() or ()) != 2 or len(b.assigned() or ()) != 2:
            await asyncio.sleep(0.01)
    assert said == [None]
    await a.stop()
    await b.stop()
