"""Administrative requests to Kafka: topics, their configuration, truncation.

aiokafka returns errors in the response instead of raising them; here they are raised.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.structs import TopicPartition

from headgate.runtime.logs.kafka_connect import KafkaDeployment, no_right, reached, reason
from headgate.runtime.ports import LogUnavailable

ALREADY_EXISTS: Final = 36
COORDINATOR_S: Final = 15.0
COORDINATOR_POLL_S: Final = 0.5
_NO_ERROR: Final = 0
_NO_COORDINATOR: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)


class NoDescribeConfigs(LogUnavailable):
    """The Kafka user may not read the settings of a topic."""


class KafkaTopic(NamedTuple):
    """The state of a Kafka topic: its partitions, how many have a leader; the fewest replicas, and in sync, of any."""

    partitions: int
    led: int
    replication: int
    in_sync: int


class KafkaAdmin:
    """One admin client, connected with its first request."""

    def __init__(self, deployment: KafkaDeployment) -> None:
        self._deployment = deployment
        self._client: AIOKafkaAdminClient | None = None
        self._starting = asyncio.Lock()

    async def brokers(self) -> int:
        """Returns the number of brokers. Raises LogUnavailable."""
        client = await self._start()
        cluster = await reached(self._deployment, client.describe_cluster())
        return len(cluster["brokers"])

    async def topics(self, names: Sequence[str]) -> dict[str, KafkaTopic]:
        """Returns the topics of `names` that exist. Raises LogUnavailable.

        Asks for all topics: asking for one that does not exist would create it where auto.create.topics.enable is true.
        """
        client = await self._start()
        present: dict[str, KafkaTopic] = {}
        for topic in await reached(self._deployment, client.describe_topics()):
            if topic["topic"] in names and topic["error_code"] == _NO_ERROR:
                partitions = topic["partitions"]
                led = sum(partition["leader"] >= 0 for partition in partitions)
                replication = min((len(partition["replicas"]) for partition in partitions), default=0)
                in_sync = min((len(partition["isr"]) for partition in partitions), default=0)
                present[topic["topic"]] = KafkaTopic(len(partitions), led, replication, in_sync)
        return present

    async def configs(self, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
        """Returns the configuration of topics; a topic that was just created may be missing.

        Raises LogUnavailable, NoDescribeConfigs.
        """
        client = await self._start()
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found: dict[str, dict[str, str | None]] = {}
        for response in await reached(self._deployment, client.describe_configs(wanted)):
            for error_code, _, _, name, entries in response.resources:
                if error_code == _NO_ERROR:
                    found[name] = {entry[0]: entry[1] for entry in entries}
                elif error_code == TopicAuthorizationFailedError.errno:
                    why = no_right("DescribeConfigs", f"topic {name}")
                    raise NoDescribeConfigs(f"{self._deployment.address}: {why}")
        return found

    async def broker_configs(self) -> dict[str, dict[str, str | None] | None]:
        """Returns the configuration of every broker by its node id, None of one that does not answer.

        Empty without the right to read them. Raises LogUnavailable.
        """
        client = await self._start()
        cluster = await reached(self._deployment, client.describe_cluster())
        found: dict[str, dict[str, str | None] | None] = {}
        for node in sorted(str(each["node_id"]) for each in cluster["brokers"]):
            wanted = [ConfigResource(ConfigResourceType.BROKER, node)]
            try:
                responses = await reached(self._deployment, client.describe_configs(wanted))
            except LogUnavailable:
                found[node] = None
                continue
            for error_code, _, _, name, entries in (each for response in responses for each in response.resources):
                if error_code == _NO_ERROR:
                    found[name] = {entry[0]: entry[1] for entry in entries}
        return found

    async def create(self, name: str, partitions: int, replication: int, configs: Mapping[str, str]) -> bool:
        """Creates a topic; returns False when it existed. Raises LogUnavailable."""
        client = await self._start()
        topic = NewTopic(name, partitions, replication, topic_configs=dict(configs))
        response = await reached(self._deployment, client.create_topics([topic]))
        for _, error_code, *message in response.topic_errors:
            if error_code == TopicAuthorizationFailedError.errno:
                raise LogUnavailable(f"{self._deployment.address}: {no_right('Create', f'topic {name}')}")
            if error_code not in (_NO_ERROR, ALREADY_EXISTS):
                what = next((text for text in message if text), None) or for_code(error_code).__name__
                raise LogUnavailable(f"{self._deployment.address}: cannot create {name}: {what}")
            if error_code == ALREADY_EXISTS:
                return False
        return True

    async def group_members(self, group_id: str) -> list[str]:
        """Returns the hosts of a consumer group's members; empty for one that does not exist. Raises LogUnavailable.

        Asks again for COORDINATOR_S seconds while the group has no coordinator: a Kafka that never had a group makes
        the topic for them then, and one whose broker has died chooses another.
        """
        client = await self._start()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + COORDINATOR_S
        while True:
            try:
                found = await _described(client, group_id)
            except _NO_COORDINATOR as error:
                if loop.time() > deadline:
                    raise LogUnavailable(f"{self._deployment.address}: {reason(error)}") from error
                await asyncio.sleep(COORDINATOR_POLL_S)
            except GroupAuthorizationFailedError:
                raise LogUnavailable(
                    f"{self._deployment.address}: {no_right('Describe', f'group {group_id}')}"
                ) from None
            except (KafkaError, OSError, TimeoutError) as error:
                raise LogUnavailable(f"{self._deployment.address}: group {group_id}: {reason(error)}") from error
            else:
                return found

    async def delete_records(self, partition: TopicPartition, before: int) -> None:
        """Forgets the records of a partition before an offset. Raises LogUnavailable."""
        client = await self._start()
        deleted = client.delete_records({partition: RecordsToDelete(before)})
        await reached(self._deployment, deleted, "Delete", partition.topic)

    async def close(self) -> None:
        """Disconnects."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _start(self) -> AIOKafkaAdminClient:
        async with self._starting:
            if self._client is None:
                arguments: dict[str, Any] = self._deployment.connection()
                client = AIOKafkaAdminClient(**arguments)
                try:
                    await reached(self._deployment, client.start())
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client


async def _described(client: AIOKafkaAdminClient, group_id: str) -> list[str]:
    """Returns the hosts of a group's members. Raises KafkaError."""
    hosts: list[str] = []
    for response in await client.describe_consumer_groups([group_id]):
        for group in response.to_object()["groups"]:
            if group["error_code"] != _NO_ERROR:
                raise for_code(group["error_code"])(group_id)
            hosts += [member["client_host"].removeprefix("/") for member in group["members"]]
    return hosts
