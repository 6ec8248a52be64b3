"""A partition that somebody added to the messages changes no shard, and takes away no backup: on real Kafka."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from dispatcher.backup import tail
from dispatcher.declared_loss import report_loss
from headgate.core.wire.ids import user_shard
from headgate.core.wire.inbox_record import MembershipRecord, decode_inbox
from headgate.core.wire.records import LogName
from headgate.runtime.logs.embedded import SettingsConflict
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from tests.dispatcher.restore_bed import backup_of, lines_in
from tests.integration.test_declared_loss import cut, filled, recovered, snapshots

SHARDS = 4


@pytest.fixture
async def options(kafka_bootstrap: str, log_prefix: str) -> LogOptions:
    options = LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=SHARDS)
    await init_kafka(options)
    return options


@pytest.fixture
async def log(options: LogOptions) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(options)
    await log.open()
    yield log
    await log.close()


async def grow(options: LogOptions, bootstrap: str) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        for name in (LogName.MESSAGES, LogName.OWNERSHIP):
            await client.create_partitions({f"{options.prefix}.{name}": NewPartitions(SHARDS + 1)})
    finally:
        await client.close()


async def grown(options: LogOptions) -> KafkaLog:
    """The log as a process has it that starts once all brokers know of the partition."""
    async with asyncio.timeout(20):
        while True:
            log = KafkaLog(options)
            await log.open()
            if log.partitions == SHARDS + 1:
                return log
            await log.close()


async def test_backup_and_recover_know_the_shards_of_the_config_record(
    log: KafkaLog, options: LogOptions, kafka_bootstrap: str
) -> None:
    fill = await filled(log)
    await snapshots(log)
    before = await backup_of(log)
    await grow(options, kafka_bootstrap)
    found = await grown(options)
    try:
        assert found.shards == SHARDS
        assert lines_in(await backup_of(found))[1:] == lines_in(before)[1:], "all but the time in the manifest"
        await cut(log, fill)
        ends = [(await log.bounds(LogName.INBOX, shard)).end for shard in range(SHARDS)]
        assert (await report_loss(found, 0)).topics > 0
        assert (await recovered(found)).other_lost == ()
        users = [
            (shard, (record.key or b"").decode())
            for shard, end in enumerate(ends)
            async for records in tail(log, LogName.INBOX, shard, end)
            for record in records
            if isinstance(decode_inbox(record.value), MembershipRecord)
        ]
        assert users and all(user_shard(user, SHARDS) == shard for shard, user in users)
    finally:
        await found.close()


async def test_a_setting_is_compared_with_the_config_record(options: LogOptions, kafka_bootstrap: str) -> None:
    await grow(options, kafka_bootstrap)
    await (await grown(options)).close()
    other = KafkaLog(replace(options, shards=SHARDS + 1))
    with pytest.raises(SettingsConflict, match=f"has {SHARDS} shards, not {SHARDS + 1}"):
        await other.open()
