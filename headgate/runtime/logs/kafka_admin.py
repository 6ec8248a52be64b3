"""Administrative requests to Kafka: topics, their configuration, truncation.

aiokafka returns errors in the response instead of raising them; here they are raised.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError, for_code
from aiokafka.structs import TopicPartition

from headgate.runtime.logs.kafka_connect import KafkaDeployment, no_right, reached
from headgate.runtime.ports import LogUnavailable

ALREADY_EXISTS: Final = 36
_NO_ERROR: Final = 0


class KafkaTopic(NamedTuple):
    """The state of a Kafka topic: its partitions, how many have a leader, and the fewest replicas of any."""

    partitions: int
    led: int
    replication: int


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
                present[topic["topic"]] = KafkaTopic(len(partitions), led, replication)
        return present

    async def configs(self, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
        """Returns the configuration of topics; a topic that was just created may be missing. Raises LogUnavailable."""
        client = await self._start()
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found: dict[str, dict[str, str | None]] = {}
        for response in await reached(self._deployment, client.describe_configs(wanted)):
            for error_code, _, _, name, entries in response.resources:
                if error_code == _NO_ERROR:
                    found[name] = {entry[0]: entry[1] for entry in entries}
                elif error_code == TopicAuthorizationFailedError.errno:
                    raise LogUnavailable(f"{self._deployment.address}: {no_right('DescribeConfigs', f'topic {name}')}")
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
