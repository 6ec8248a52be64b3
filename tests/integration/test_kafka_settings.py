"""The settings of our Kafka clients, and that each client is constructed with them; needs no broker."""

import asyncio
import ssl
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaConnectionError
from aiokafka.record import default_records, memory_records, util
from aiokafka.structs import TopicPartition

from headgate.runtime.logs import kafka_admin, kafka_consumer, kafka_producer
from headgate.runtime.logs.embedded import APPEND_WAIT_S
from headgate.runtime.logs.kafka_admin import KafkaAdmin
from headgate.runtime.logs.kafka_connect import KafkaDeployment, deployment_of
from headgate.runtime.logs.kafka_consumer import MAX_POLL_RECORDS, BoundsClient, consumer_arguments
from headgate.runtime.logs.kafka_group import POLL_MS, KafkaGroup, group_arguments
from headgate.runtime.logs.kafka_producer import Batcher, producer_arguments
from headgate.runtime.logs.options import LogOptions, LogSecurity
from headgate.runtime.ports import LogUnavailable
from tests.certificates import Authority, Pair

URL = "kafka://one:9092,two:9093"
CONNECTION = {
    "bootstrap_servers": ["one:9092", "two:9093"],
    "client_id": "headgate-node-1",
    "request_timeout_ms": 5_000,
    "metadata_max_age_ms": 1_000,
    "retry_backoff_ms": 100,
    "security_protocol": "PLAINTEXT",
}


def deployment(**security: Any) -> KafkaDeployment:
    return deployment_of(LogOptions(URL, "pre", security=LogSecurity(**security)), "node-1")


def test_the_producer() -> None:
    assert producer_arguments(deployment()) == {
        **CONNECTION,
        "acks": "all",
        "enable_idempotence": False,  # one expired batch would poison it for ever
        "linger_ms": 0,
        "compression_type": None,
        "max_batch_size": 131_072,
        "max_request_size": 1_048_576,
    }


def test_our_own_wait_is_a_little_longer_than_the_producers() -> None:
    assert 5.0 < APPEND_WAIT_S < 7.0


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_the_data_consumer(isolation: str) -> None:
    assert consumer_arguments(deployment(), isolation) == {
        **CONNECTION,
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": isolation,
        "fetch_min_bytes": 1,
        "fetch_max_wait_ms": 100,
        "max_partition_fetch_bytes": 262_144,
        "check_crcs": True,
    }
    assert consumer_arguments(deployment())["isolation_level"] == "read_committed"
    assert MAX_POLL_RECORDS == 2_000


def test_the_ownership_consumer() -> None:
    arguments = group_arguments(deployment())
    (assignor,) = arguments.pop("partition_assignment_strategy")
    assert issubclass(assignor, StickyPartitionAssignor)
    assert arguments == {  # no group_instance_id: no static membership
        **CONNECTION,
        "group_id": "pre.dispatchers",
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "session_timeout_ms": 6_000,
        "heartbeat_interval_ms": 500,
        "max_poll_interval_ms": 30_000,
        "rebalance_timeout_ms": 10_000,
    }
    assert arguments["max_poll_interval_ms"] > POLL_MS * 2


class Refusing:
    """A client of aiokafka that notes its arguments and never connects."""

    def __init__(self, given: list[dict[str, Any]], **arguments: Any) -> None:
        given.append(arguments)

    async def start(self) -> None:
        raise KafkaConnectionError

    async def stop(self) -> None:
        pass

    async def close(self) -> None:
        pass


async def test_each_client_is_constructed_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    at, given = deployment(), list[dict[str, Any]]()
    monkeypatch.setattr(kafka_producer, "AIOKafkaProducer", lambda **arguments: Refusing(given, **arguments))
    monkeypatch.setattr(kafka_consumer, "AIOKafkaConsumer", lambda **arguments: Refusing(given, **arguments))
    monkeypatch.setattr(kafka_admin, "AIOKafkaAdminClient", lambda **arguments: Refusing(given, **arguments))
    part = TopicPartition("pre.messages", 0)
    buffer = kafka_consumer.PartitionBuffer(part, 0, 0)
    for start in (
        Batcher(at).start(),
        kafka_consumer.SharedConsumer(at, live=True).attach(buffer),
        BoundsClient(at).bounds([part]),
        KafkaGroup(at).start(),
        KafkaAdmin(at).brokers(),
    ):
        with pytest.raises(LogUnavailable):
            await start
    group = {**given[3], "partition_assignment_strategy": ()}
    assert [*given[:3], group, given[4]] == [
        producer_arguments(at),
        consumer_arguments(at),
        consumer_arguments(at, "read_uncommitted"),
        {**group_arguments(at), "partition_assignment_strategy": ()},
        at.connection(),
    ]


async def test_aiokafka_takes_all_settings() -> None:
    """It raises for a name or value that it does not know."""
    at = deployment(protocol="SASL_PLAINTEXT", mechanism="SCRAM-SHA-512", user="me", password="secret")
    for client in (
        AIOKafkaProducer(**producer_arguments(at)),
        AIOKafkaConsumer(**consumer_arguments(at)),
        AIOKafkaConsumer(**group_arguments(at)),
    ):
        await client.stop()
    await AIOKafkaAdminClient(**at.connection()).close()


def test_members_of_one_process_do_not_share_what_the_assignor_remembers() -> None:
    first, second = (group_arguments(deployment())["partition_assignment_strategy"][0] for _ in range(2))
    first.on_generation_assignment(7)
    assert second.generation != 7
    assert StickyPartitionAssignor.generation != 7


def test_sasl_is_in_the_settings_of_every_client() -> None:
    at = deployment(protocol="SASL_PLAINTEXT", mechanism="SCRAM-SHA-512", user="me", password="secret")
    for arguments in (producer_arguments(at), consumer_arguments(at), group_arguments(at), at.connection()):
        assert arguments["security_protocol"] == "SASL_PLAINTEXT"
        assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
        assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("me", "secret")
    assert "secret" not in repr(at)
    assert "secret" not in at.address


def test_tls_is_in_the_settings_of_every_client() -> None:
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None:
        pytest.skip("no system CA file to load")
    at = deployment(protocol="SASL_SSL", ca=paths.cafile, user="me", password="secret")
    for arguments in (producer_arguments(at), consumer_arguments(at), group_arguments(at), at.connection()):
        assert arguments["security_protocol"] == "SASL_SSL"
        assert arguments["ssl_context"].verify_mode is ssl.CERT_REQUIRED
        assert arguments["ssl_context"].check_hostname


def test_credentials_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="user and a password"):
        LogSecurity(protocol="SASL_SSL")
    with pytest.raises(ValueError, match="SASL_SSL"):
        LogSecurity(protocol="TLS")


@pytest.mark.parametrize(("security", "says"), [
    ({"ca": "ca.pem"}, "log protocol PLAINTEXT uses no TLS, but ca is set"),
    ({"protocol": "SASL_PLAINTEXT", "user": "u", "password": "p", "certificate": "c"}, "uses no TLS, but certificate"),
    ({"protocol": "SSL", "user": "u"}, "log protocol SSL logs nobody in, but user is set"),
    ({"protocol": "SSL", "password": "p"}, "logs nobody in, but password is set"),
    ({"protocol": "SSL", "mechanism": "SCRAM-SHA-256"}, "logs nobody in, but mechanism is set"),
    ({"protocol": "SSL", "key": "k"}, "key is set, but the certificate"),
])  # fmt: skip
def test_credentials_that_the_protocol_would_ignore_are_refused(security: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LogSecurity(**security)
    LogSecurity(protocol="SASL_SSL", user="u", password="p", ca="a", certificate="c", key="k", mechanism="PLAIN")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_renewed_certificate_is_shown_to_the_broker_by_the_next_connection(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Kafka's client keeps one context for its life; a broker sees who we are in each handshake."""
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    broker = authority.sign("broker")
    server.load_cert_chain(broker.certificate, broker.key)
    server.load_verify_locations(authority.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    mine = Pair(tmp_path / "mine.pem", tmp_path / "mine.key")
    seen: list[str] = []

    def renew(pair: Pair) -> None:
        for new, old in zip(pair, mine, strict=True):
            old.write_bytes(new.read_bytes())

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("peercert")
        seen.append(dict(part[0] for part in shown["subject"])["commonName"])
        writer.close()

    async def scene() -> None:
        renew(authority.sign("first"))
        at = deployment(protocol="SSL", ca=str(authority.ca), certificate=str(mine.certificate), key=str(mine.key))
        context = at.connection()["ssl_context"]
        async with await asyncio.start_server(met, "127.0.0.1", 0, ssl=server) as listening:
            port = listening.sockets[0].getsockname()[1]

            async def connect() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                assert await reader.read() == b""
                writer.close()

            await connect()
            renew(authority.sign("second"))
            await connect()
            mine.key.write_bytes(other.sign("third").key.read_bytes())
            await connect()
            renew(authority.sign("fourth"))
            await connect()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scene())
    assert seen == ["first", "second", "second", "fourth"], "files that do not belong together are not used"


def test_aiokafkas_c_extension_is_there() -> None:
    """A source build without a compiler falls back to pure Python, several times slower, without a word."""
    for thing in (
        default_records.DefaultRecordBatchBuilder,
        default_records.DefaultRecordBatch,
        memory_records.MemoryRecords,
    ):
        assert thing.__module__.startswith("aiokafka.record._crecords"), thing
    assert not isinstance(util.calc_crc32c, types.FunctionType), "crc32c is in Python"
