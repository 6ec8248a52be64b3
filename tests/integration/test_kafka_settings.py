"""The settings of KAFKA.md section 0, on the aiokafka objects that the adapter constructs; needs no broker."""

import ssl
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.record import default_records, memory_records, util

from headgate.runtime.logs.embedded import APPEND_WAIT_S
from headgate.runtime.logs.kafka_connect import Site, site_of
from headgate.runtime.logs.kafka_consumer import MAX_POLL_RECORDS, consumer_arguments
from headgate.runtime.logs.kafka_group import POLL_MS, group_arguments
from headgate.runtime.logs.kafka_producer import producer_arguments
from headgate.runtime.logs.options import LogOptions, LogSecurity

URL = "kafka://one:9092,two:9093"


def site(**security: Any) -> Site:
    return site_of(LogOptions(URL, "pre", security=LogSecurity(**security)), "node-1")


@asynccontextmanager
async def producer(at: Site) -> AsyncIterator[AIOKafkaProducer]:
    made = AIOKafkaProducer(**producer_arguments(at))
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def consumer(arguments: dict[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    made = AIOKafkaConsumer(**arguments)
    try:
        yield made
    finally:
        await made.stop()


async def test_the_producer() -> None:
    async with producer(site()) as made:
        assert made._sender._acks == -1, "all"
        assert made._txn_manager is None, "no idempotence: one expired batch would poison it for ever"
        accumulator = made._message_accumulator
        assert accumulator._linger_time == 0
        assert accumulator._compression_type == 0, "none"
        assert accumulator._batch_size == 131_072
        assert made._max_request_size == 1_048_576
        assert made._request_timeout_ms == 5_000
        assert made._sender._retry_backoff == 0.1
        assert made.client._metadata_max_age_ms == 1_000
        assert made.client._bootstrap_servers == ["one:9092", "two:9093"]
        assert made.client._client_id == "headgate-node-1"


def test_our_own_wait_stands_a_little_behind_the_producers() -> None:
    assert 5.0 < APPEND_WAIT_S < 7.0


@pytest.mark.parametrize(("isolation", "kept"), [("read_committed", 1), ("read_uncommitted", 0)])
async def test_the_data_consumer(isolation: str, kept: int) -> None:
    async with consumer(consumer_arguments(site(), isolation)) as made:
        assert made._group_id is None
        assert made._enable_auto_commit is False
        assert made._auto_offset_reset == "none"
        assert made._isolation_level == ("read_committed" if kept else "read_uncommitted")
        assert made._fetch_min_bytes == 1
        assert made._fetch_max_wait_ms == 500
        assert made._max_partition_fetch_bytes == 262_144
        assert made._check_crcs is True
        assert made._client._metadata_max_age_ms == 1_000
        assert made._request_timeout_ms == 5_000
    assert MAX_POLL_RECORDS == 2_000


async def test_the_ownership_consumer() -> None:
    async with consumer(group_arguments(site())) as made:
        assert made._group_id == "pre.dispatchers"
        assert made._group_instance_id is None, "no static membership"
        assert made._session_timeout_ms == 6_000
        assert made._heartbeat_interval_ms == 500
        assert made._max_poll_interval_ms == 30_000 > POLL_MS * 2
        assert made._rebalance_timeout_ms == 10_000
        assert made._enable_auto_commit is False
        assert made._auto_offset_reset == "earliest"
        (assignor,) = made._partition_assignment_strategy
        assert issubclass(assignor, StickyPartitionAssignor)


def test_members_of_one_process_do_not_share_what_the_assignor_remembers() -> None:
    first, second = (group_arguments(site())["partition_assignment_strategy"][0] for _ in range(2))
    first.on_generation_assignment(7)
    assert second.generation != 7
    assert StickyPartitionAssignor.generation != 7


async def test_sasl_reaches_all_constructors() -> None:
    at = site(protocol="SASL_PLAINTEXT", mechanism="SCRAM-SHA-512", user="me", password="secret")
    async with producer(at) as made, consumer(consumer_arguments(at)) as data, consumer(group_arguments(at)) as group:
        admin = AIOKafkaAdminClient(**at.connection())
        for client in (made.client, data._client, group._client, admin._client):
            assert client._security_protocol == "SASL_PLAINTEXT"
            assert client._sasl_mechanism == "SCRAM-SHA-512"
            assert (client._sasl_plain_username, client._sasl_plain_password) == ("me", "secret")
        await admin.close()
    assert "secret" not in repr(at)
    assert "secret" not in at.address


async def test_tls_reaches_all_constructors(tmp_path: Path) -> None:
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None:
        pytest.skip("no system CA file to load")
    at = site(protocol="SASL_SSL", ca=paths.cafile, user="me", password="secret")
    async with producer(at) as made, consumer(consumer_arguments(at)) as data, consumer(group_arguments(at)) as group:
        for client in (made.client, data._client, group._client):
            assert client._security_protocol == "SASL_SSL"
            assert client._ssl_context.verify_mode is ssl.CERT_REQUIRED
            assert client._ssl_context.check_hostname


def test_credentials_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="user and a password"):
        LogSecurity(protocol="SASL_SSL")
    with pytest.raises(ValueError, match="SASL_SSL"):
        LogSecurity(protocol="TLS")


def test_aiokafkas_c_extension_is_there() -> None:
    """A source build without a compiler falls back to pure Python, several times slower, without a word."""
    for thing in (
        default_records.DefaultRecordBatchBuilder,
        default_records.DefaultRecordBatch,
        memory_records.MemoryRecords,
    ):
        assert thing.__module__.startswith("aiokafka.record._crecords"), thing
    assert not isinstance(util.calc_crc32c, types.FunctionType), "crc32c is in Python"
