"""`init` against a real Kafka: what it creates, that it repeats, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest

from headgate.core.sequencer.snapshot import BASE, END, NO_NAME, ChunkBody, Rest, seal
from headgate.core.wire.control import Config
from headgate.core.wire.records import LogName
from headgate.runtime.logs.embedded import DAY_MS, config_record
from headgate.runtime.logs.kafka_admin import KafkaAdmin
from headgate.runtime.logs.kafka_connect import LogNotInitialised, deployment_of
from headgate.runtime.logs.kafka_init import InitConflict, init_kafka, topic_configs
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.shard_config import parse_config
from headgate.runtime.ports import LogUnavailable
from tests.opened_log import opened_log


@pytest.fixture
def options(kafka_bootstrap: str, log_prefix: str) -> LogOptions:
    return LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=2)


@asynccontextmanager
async def admin_of(options: LogOptions) -> AsyncIterator[KafkaAdmin]:
    admin = KafkaAdmin(deployment_of(options))
    try:
        yield admin
    finally:
        await admin.close()


async def create(options: LogOptions, log: LogName, partitions: int, **configs: str) -> str:
    """Creates one topic the way init would, but for what is given, and waits for it."""
    topic = f"{options.prefix}.{log.value}"
    settings = topic_configs(log, 1) | {name.replace("_", "."): value for name, value in configs.items()}
    async with admin_of(options) as admin:
        await admin.create(topic, partitions, 1, settings)
        async with asyncio.timeout(15):
            while topic not in await admin.configs([topic]) or (await admin.topics([topic]))[topic].led < partitions:
                await asyncio.sleep(0.05)
    return topic


async def test_it_creates_all_topics_as_the_design_says(options: LogOptions) -> None:
    report = await init_kafka(options)
    prefix = options.prefix
    assert sorted(report.created) == sorted(f"{prefix}.{log.value}" for log in LogName)
    assert report.configured == [0, 1]
    assert (report.changed, report.shards, report.replication, report.drift) == (True, 2, 1, [])
    async with admin_of(options) as admin:
        topics = await admin.topics(report.created)
        configs = await admin.configs(report.created)
    assert {name: topic.partitions for name, topic in topics.items()} == {
        f"{prefix}.{log.value}": 1 if log is LogName.REVOCATIONS else 2 for log in LogName
    }
    assert {configs[name]["message.timestamp.type"] for name in configs} == {"LogAppendTime"}
    assert {configs[name]["min.insync.replicas"] for name in configs} == {"1"}
    kept = {log: configs[f"{prefix}.{log.value}"]["retention.ms"] for log in LogName}
    assert kept[LogName.MESSAGES] == kept[LogName.INBOX] == str(7 * DAY_MS)
    assert kept[LogName.DEAD_LETTERS] == str(30 * DAY_MS)
    assert kept[LogName.SNAPSHOTS] == "-1"
    policies = {log: configs[f"{prefix}.{log.value}"]["cleanup.policy"] for log in LogName}
    assert [log for log, policy in policies.items() if policy == "compact"] == [LogName.OWNERSHIP, LogName.REVOCATIONS]


def test_three_replicas_want_two_in_sync() -> None:
    assert topic_configs(LogName.MESSAGES, 3)["min.insync.replicas"] == "2"
    assert topic_configs(LogName.MESSAGES, 2)["min.insync.replicas"] == "1"


async def test_the_second_run_changes_nothing_and_says_so(options: LogOptions) -> None:
    first = await init_kafka(options)
    again = await init_kafka(replace(options, shards=None))
    assert not again.changed
    assert (again.cluster_id, again.shards) == (first.cluster_id, 2)
    async with opened_log(options) as log:
        assert [await log.bounds(LogName.MESSAGES, shard) for shard in range(2)] == [(0, 1), (0, 1)]


async def test_a_run_that_was_cut_short_is_completed(options: LogOptions) -> None:
    await create(options, LogName.MESSAGES, 2)
    await create(options, LogName.OWNERSHIP, 2)
    report = await init_kafka(options)
    assert f"{options.prefix}.messages" not in report.created
    assert len(report.created) == len(LogName) - 2
    assert report.configured == [0, 1]


async def test_a_missing_config_record_gets_the_identity_of_the_others(options: LogOptions) -> None:
    for name in LogName:
        await create(options, name, 1 if name is LogName.REVOCATIONS else 2)
    log = KafkaLog(options)
    await log.connect()
    await log.append(LogName.MESSAGES, 1, *config_record("an-id", 2, 1))
    await log.close()
    report = await init_kafka(options)
    assert (report.cluster_id, report.configured) == ("an-id", [0])


async def test_several_at_once_agree(options: LogOptions) -> None:
    reports = await asyncio.gather(*(init_kafka(options) for _ in range(3)), return_exceptions=True)
    done = [report for report in reports if not isinstance(report, BaseException)]
    assert done, reports
    assert all(isinstance(report, LogUnavailable) for report in reports if report not in done), reports
    last = await init_kafka(options)
    assert {report.cluster_id for report in done} == {last.cluster_id}
    async with opened_log(options) as log:
        for shard in range(2):
            reader = await log.reader(LogName.MESSAGES, shard, 0)
            configs = [parse_config(record) for record in (await reader.read(10, 2.0)).records]
            assert {config and config.cluster_id for config in configs} == {last.cluster_id}
            await reader.close()


async def test_another_shard_count_is_refused(options: LogOptions) -> None:
    await init_kafka(options)
    with pytest.raises(InitConflict, match=r"expected 4 shards.*messages has 2 partitions.*leave log.shards unset"):
        await init_kafka(replace(options, shards=4))


@pytest.mark.parametrize(
    ("log", "configs", "message"),
    [
        (LogName.MESSAGES, {"cleanup_policy": "compact"}, r"cleanup.policy=compact, expected delete.*kafka-configs"),
        (LogName.OWNERSHIP, {"cleanup_policy": "delete"}, r"cleanup.policy=delete, expected compact"),
        (LogName.INBOX, {"message_timestamp_type": "CreateTime"}, r"timestamp.type=CreateTime, expected LogAppendTime"),
    ],
)
async def test_a_topic_that_would_not_work_is_refused_and_left_alone(
    options: LogOptions, log: LogName, configs: dict[str, str], message: str
) -> None:
    topic = await create(options, log, 2, **configs)
    with pytest.raises(InitConflict, match=message):
        await init_kafka(options)
    async with admin_of(options) as admin:
        found = (await admin.configs([topic]))[topic]
        assert {name: found[name.replace("_", ".")] for name in configs} == configs
        assert list(await admin.topics([f"{options.prefix}.{log.value}" for log in LogName])) == [topic]


async def test_retention_that_was_changed_is_only_reported(options: LogOptions) -> None:
    topic = await create(options, LogName.MESSAGES, 2, retention_ms="3600000")
    report = await init_kafka(options)
    assert report.drift == [f"{topic} has retention.ms=3600000, init would set {7 * DAY_MS}"]
    assert (await init_kafka(options)).drift == report.drift


async def test_more_replicas_than_brokers_are_refused(options: LogOptions) -> None:
    with pytest.raises(InitConflict, match=r"log.replication 9.*lower it"):
        await init_kafka(replace(options, replication=9))


async def test_a_log_that_somebody_wrote_to_before_is_refused(options: LogOptions) -> None:
    for name in LogName:
        await create(options, name, 1 if name is LogName.REVOCATIONS else 2)
    log = KafkaLog(options)
    await log.connect()
    await log.append(LogName.MESSAGES, 1, b"topic", b"{}")
    await log.close()
    with pytest.raises(InitConflict, match=r"messages\[1\] holds offsets 0 to 0 without a config record"):
        await init_kafka(options)


async def test_a_shard_of_another_cluster_is_refused(options: LogOptions) -> None:
    for name in LogName:
        await create(options, name, 1 if name is LogName.REVOCATIONS else 2)
    log = KafkaLog(options)
    await log.connect()
    for shard in range(2):
        await log.append(LogName.MESSAGES, shard, *config_record(f"cluster-{shard}", 2, shard))
    await log.close()
    with pytest.raises(InitConflict, match=r"messages\[1\].*cluster-1.*expected.*cluster-0"):
        await init_kafka(options)


async def test_a_truncated_log_is_found_by_its_snapshot(options: LogOptions) -> None:
    first = await init_kafka(options)
    async with opened_log(options) as log:
        for shard in range(2):
            await log.append(LogName.MESSAGES, shard, b"k", b"v")
            await log.truncate_before(LogName.MESSAGES, shard, 1)
    with pytest.raises(InitConflict, match="without a config record"):
        await init_kafka(options)
    log = KafkaLog(options)
    await log.connect()
    for shard in range(2):
        rest = Rest(Config(first.cluster_id, 1, 2, shard), 0, 0, bytes(32), (0, 0), 0)
        body = msgspec.msgpack.encode(ChunkBody(rest=rest))
        await log.append(LogName.SNAPSHOTS, shard, None, seal(shard, 1, BASE | END, 0, 2, NO_NAME, body))
    await log.close()
    again = await init_kafka(options)
    assert (again.cluster_id, again.changed) == (first.cluster_id, False)
    async with opened_log(options) as log:
        assert log.cluster_id == first.cluster_id


async def test_a_cluster_without_logs_says_what_to_run(options: LogOptions) -> None:
    with pytest.raises(LogNotInitialised, match="headgate init"):
        await KafkaLog(options).open()
    async with admin_of(options) as admin:
        assert await admin.topics([f"{options.prefix}.{log.value}" for log in LogName]) == {}


async def test_a_wrong_address_is_unavailable_and_names_it() -> None:
    options = LogOptions("kafka://127.0.0.1:1", "t-none")
    with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1"):
        await init_kafka(options)
    with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1"):
        await KafkaLog(options).open()


async def test_topics_are_made_with_the_retention_of_the_settings(options: LogOptions) -> None:
    keep_ms = {LogName.MESSAGES: 3_600_000, LogName.INBOX: 3_600_000, LogName.DEAD_LETTERS: 60_000}
    await init_kafka(replace(options, keep_ms=keep_ms, keep_bytes=1_000_000))
    async with admin_of(options) as admin:
        configs = await admin.configs([f"{options.prefix}.{log.value}" for log in LogName])
    kept = {log: configs[f"{options.prefix}.{log.value}"] for log in LogName}
    assert {log: kept[log]["retention.ms"] for log in keep_ms} == {log: str(ms) for log, ms in keep_ms.items()}
    assert kept[LogName.MESSAGES]["retention.bytes"] == "1000000"
    assert {kept[log]["retention.bytes"] for log in LogName if log is not LogName.MESSAGES} == {"-1"}
    assert (kept[LogName.SNAPSHOTS]["retention.ms"], kept[LogName.SNAPSHOTS]["retention.bytes"]) == ("-1", "-1")
    again = await init_kafka(options)
    assert len(again.drift) == 4, "init with other settings says what differs, and alters nothing"
