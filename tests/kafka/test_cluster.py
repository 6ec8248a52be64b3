"""The test cluster itself, with real brokers: records go in and out, and faults are what they say.

Must not know Headgate.
"""

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.kafka.cluster import KafkaCluster
from tests.kafka.fixtures import OwnKafka


@pytest.fixture(scope="module")
def cluster(kafka_jars: None) -> Iterator[KafkaCluster]:
    """Yields one broker that the tests of faults share; each of them leaves it serving."""
    with KafkaCluster() as cluster:
        yield cluster


async def test_a_record_goes_in_and_comes_out(kafka_bootstrap: str, log_prefix: str) -> None:
    topic = f"{log_prefix}.records"
    await create_topic(kafka_bootstrap, topic)
    offset = await produce(kafka_bootstrap, topic, b"hello")
    assert await read_at(kafka_bootstrap, topic, offset) == b"hello"


async def test_an_unknown_topic_is_not_created(kafka_bootstrap: str, log_prefix: str) -> None:
    with pytest.raises(KafkaError):
        await produce(kafka_bootstrap, f"{log_prefix}.never-created", b"lost")


async def test_an_acked_record_survives_kill9_and_restart_on_the_same_port(cluster: KafkaCluster) -> None:
    node, bootstrap = cluster.nodes[0], cluster.bootstrap
    await create_topic(bootstrap, "kept")
    offset = await produce(bootstrap, "kept", b"before the kill")
    first_pid = node.pid
    node.kill9()
    assert node.pid is None
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", node.port)
    await asyncio.to_thread(node.restart)
    assert node.pid not in (None, first_pid)
    assert cluster.bootstrap == bootstrap
    assert await read_at(bootstrap, "kept", offset) == b"before the kill"


async def test_a_frozen_broker_accepts_and_does_not_answer_until_thawed(cluster: KafkaCluster) -> None:
    node = cluster.nodes[0]
    await create_topic(cluster.bootstrap, "frozen")
    node.sigstop()
    _, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.close()
    with pytest.raises((KafkaError, TimeoutError)):
        await asyncio.wait_for(produce(cluster.bootstrap, "frozen", b"1"), 2)
    node.sigcont()
    offset = await produce(cluster.bootstrap, "frozen", b"2")
    assert await read_at(cluster.bootstrap, "frozen", offset) == b"2"


async def test_three_nodes_take_acked_records_while_one_is_dead(own_kafka: OwnKafka) -> None:
    cluster = await asyncio.to_thread(own_kafka, 3)
    await create_topic(cluster.bootstrap, "replicated", replicas=3)
    await produce(cluster.bootstrap, "replicated", b"with three")
    cluster.nodes[0].kill9()
    offset = await produce(cluster.bootstrap, "replicated", b"with two", patience_s=30)
    assert await read_at(cluster.bootstrap, "replicated", offset) == b"with two"


def test_stop_leaves_no_process_and_no_data(own_kafka: OwnKafka) -> None:
    cluster = own_kafka()
    folder, node = cluster.folder, cluster.nodes[0]
    cluster.stop()
    cluster.stop()
    assert node.pid is None
    assert not folder.exists()
    assert cluster.bootstrap == ""


def test_two_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="not 2"):
        KafkaCluster(2)


async def create_topic(bootstrap: str, topic: str, replicas: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, replicas)])
    finally:
        await admin.close()
    assert [error[1] for error in answer.topic_errors] == [0], answer


async def produce(bootstrap: str, topic: str, value: bytes, patience_s: float = 5) -> int:
    """The acked offset."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", request_timeout_ms=int(patience_s * 1000), metadata_max_age_ms=1000
    )
    try:
        await producer.start()
        return int((await producer.send_and_wait(topic, value, partition=0)).offset)
    finally:
        await producer.stop()


async def read_at(bootstrap: str, topic: str, offset: int) -> bytes | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none", metadata_max_age_ms=1000)
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek(place, offset)
        record = await asyncio.wait_for(consumer.getone(place), 20)
    finally:
        await consumer.stop()
    value: bytes | None = record.value
    return value
