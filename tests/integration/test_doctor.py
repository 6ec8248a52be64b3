"""`headgate doctor` on a real Kafka and a real dispatcher: each fault is planted, and found by its name."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from headgate.core.wire.records import LogName
from headgate.runtime.doctor.links import check_links
from headgate.runtime.findings import Grade
from headgate.runtime.links.websocket_link import Credentials, WebSocketLink, serve_links
from headgate.runtime.logs.kafka_admin import KafkaAdmin
from headgate.runtime.logs.kafka_checks import check_kafka
from headgate.runtime.logs.kafka_connect import deployment_of
from headgate.runtime.logs.kafka_init import init_kafka, topic_configs
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.settings import Settings, load
from headgate.runtime.system import SystemClock, SystemRng

SECRET = "cV9yT2x1S3ZXb0pQbUZhR2hIa0xpTnhaUXdFclR5"
ONE_BROKER = {"kafka.replication": Grade.WARN}  # of the test's Kafka


@pytest.fixture
def options(kafka_bootstrap: str, log_prefix: str) -> LogOptions:
    return LogOptions(f"kafka://{kafka_bootstrap}", log_prefix, shards=2)


async def found_in(options: LogOptions, *, writes: bool = True) -> dict[str, Grade]:
    findings = [each async for each in check_kafka(options, SystemClock(), writes=writes)]
    assert all(each.mend for each in findings if each.status is not Grade.OK), "each says what to do"
    return {each.check: each.status for each in findings if each.status is not Grade.OK}


async def create_all(options: LogOptions, **configs: str) -> None:
    """Creates the topics as init would, but those of messages with other settings."""
    admin = KafkaAdmin(deployment_of(options))
    try:
        for log in LogName:
            more = {name.replace("_", "."): value for name, value in configs.items()} if log is LogName.MESSAGES else {}
            parts = 1 if log is LogName.REVOCATIONS else 2
            await admin.create(f"{options.prefix}.{log.value}", parts, 1, topic_configs(log, 1) | more)
        async with asyncio.timeout(15):
            names = [f"{options.prefix}.{log.value}" for log in LogName]
            while len(await admin.topics(names)) < len(names) or len(await admin.configs(names)) < len(names):
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def test_a_good_installation_has_nothing_to_mend(options: LogOptions) -> None:
    await init_kafka(options)
    assert await found_in(options) == ONE_BROKER


async def test_only_one_record_is_written_and_none_when_told_so(options: LogOptions) -> None:
    await init_kafka(options)
    log = KafkaLog(options)
    await log.open()
    try:
        before = (await log.bounds(LogName.MESSAGES, 0)).end
        await found_in(options, writes=False)
        assert (await log.bounds(LogName.MESSAGES, 0)).end == before
        await found_in(options)
        assert (await log.bounds(LogName.MESSAGES, 0)).end == before + 1
    finally:
        await log.close()


async def test_a_kafka_that_is_away_is_found(log_prefix: str) -> None:
    assert await found_in(LogOptions("kafka://127.0.0.1:9", log_prefix)) == {"kafka.reachable": Grade.FAIL}


async def test_topics_that_init_has_not_made_are_found(options: LogOptions) -> None:
    assert await found_in(options) == {"kafka.topics": Grade.FAIL}


@pytest.mark.parametrize(
    ("configs", "check", "status"),
    [
        ({"cleanup_policy": "compact"}, "kafka.topic_settings", Grade.FAIL),
        ({"message_timestamp_type": "CreateTime"}, "kafka.topic_settings", Grade.FAIL),
        ({"retention_ms": "3600000"}, "kafka.retention", Grade.WARN),
        ({"max_message_bytes": "10000"}, "kafka.topic_message_size", Grade.FAIL),
        ({"min_insync_replicas": "2"}, "kafka.replication", Grade.FAIL),
    ],
)
async def test_topics_with_settings_that_hurt_are_found(
    options: LogOptions, configs: dict[str, str], check: str, status: Grade
) -> None:
    await create_all(options, **configs)
    found = await found_in(options, writes=False)
    assert found[check] is status
    assert set(found) <= {check, "kafka.retention", "kafka.config", *ONE_BROKER}  # nobody wrote the config records


async def test_logs_without_a_config_record_are_found(options: LogOptions) -> None:
    await create_all(options)
    assert await found_in(options) == {"kafka.config": Grade.FAIL, **ONE_BROKER}


async def test_partitions_that_somebody_added_are_found(options: LogOptions, kafka_bootstrap: str) -> None:
    await init_kafka(options)
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await client.start()
    try:
        await client.create_partitions({f"{options.prefix}.messages": NewPartitions(3)})
    finally:
        await client.close()
    assert (await found_in(options, writes=False))["kafka.partitions"] is Grade.FAIL


async def test_another_number_of_shards_in_the_settings_is_found(options: LogOptions, kafka_bootstrap: str) -> None:
    await init_kafka(options)
    other = LogOptions(options.url, options.prefix, shards=4)
    assert (await found_in(other, writes=False))["kafka.partitions"] is Grade.FAIL


@contextlib.asynccontextmanager
async def dispatcher(secret: str) -> AsyncIterator[str]:
    """Serves links as a dispatcher does; yields its address."""
    wires: list[WebSocketLink] = []
    ignored: Callable[[str, str], Any] = lambda code, why: None  # noqa: E731
    server = await serve_links("127.0.0.1", 0, Credentials(secret.encode()), "d", SystemRng(), wires.append, ignored)
    try:
        yield f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def linked_to(address: str, secret: str) -> Settings:
    return load({"cluster.dispatchers": address, "cluster.secret": secret}, None, {})


async def test_a_dispatcher_with_another_secret_or_none_at_all_is_found() -> None:
    async with dispatcher(SECRET) as address:
        for secret, status in ((SECRET, Grade.OK), (SECRET[::-1], Grade.FAIL)):
            found = [each async for each in check_links(linked_to(address, secret), SystemRng())]
            assert [(each.check, each.status) for each in found] == [(f"links.{address}", status)]
    away = [each async for each in check_links(linked_to("127.0.0.1:9", SECRET), SystemRng())]
    assert [each.status for each in away] == [Grade.FAIL]
