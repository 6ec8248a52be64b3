"""The settings of a test broker, as text.

Must not know processes, folders' contents or where the settings end up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Without a file of ours log4j prints errors alone, and the line that says "started" is missing.
LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


@dataclass(frozen=True, slots=True)
class NodePorts:
    """Where one combined node listens on 127.0.0.1.

    `client_front` and `controller_front` are where clients and other nodes are told to find it: a proxy's ports.
    """

    node_id: int
    client: int
    controller: int
    secure: int = 0
    client_front: int = 0
    controller_front: int = 0

    @property
    def client_told(self) -> int:
        """The port that clients and other nodes are told."""
        return self.client_front or self.client

    @property
    def controller_told(self) -> int:
        """The port of the controller that other nodes are told."""
        return self.controller_front or self.controller


def common(nodes: int) -> dict[str, str]:
    """What every node of a cluster of that size is given, wherever it runs."""
    min_isr = "2" if nodes >= 3 else "1"
    return {
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(nodes),
        "min.insync.replicas": min_isr,
        # A dead broker is noticed after 3 s, not 9, and a killed one may come back after 3 s.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.num.partitions": "3",
        "offsets.topic.replication.factor": str(nodes),
        "transaction.state.log.num.partitions": "3",
        "transaction.state.log.replication.factor": str(nodes),
        "transaction.state.log.min.isr": min_isr,
        "share.coordinator.state.topic.num.partitions": "3",
        "share.coordinator.state.topic.replication.factor": str(nodes),
        "share.coordinator.state.topic.min.isr": min_isr,
        "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),  # the default, 128 MiB, is a third of the heap
    }


@dataclass(frozen=True, slots=True)
class Secured:
    """A second listener, SASL over TLS, for users who have only the rights that somebody gives them.

    On the plain listener everybody may do everything: it is for the test itself. `authority` and `keystore` are PEM
    files, the latter with the private key and the certificate. `users`: name -> password, for PLAIN and SCRAM-SHA-512.
    """

    authority: Path
    keystore: Path
    users: Mapping[str, str]

    @property
    def format_arguments(self) -> list[str]:
        """What Kafka's StorageTool needs so that the users exist from the start."""
        credentials = [f"SCRAM-SHA-512=[name={name},password={word}]" for name, word in self.users.items()]
        return [argument for credential in credentials for argument in ("--add-scram", credential)]

    def properties(self) -> dict[str, str]:
        """What a node is given besides its ports."""
        listener = "listener.name.secure"
        known = " ".join(f'user_{name}="{word}"' for name, word in self.users.items())
        return {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            f"{listener}.plain.sasl.jaas.config": (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {known};"
            ),
            f"{listener}.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            f"{listener}.ssl.keystore.type": "PEM",
            f"{listener}.ssl.keystore.location": str(self.keystore),
            f"{listener}.ssl.truststore.type": "PEM",
            f"{listener}.ssl.truststore.location": str(self.authority),
        }


def server(
    node: NodePorts,
    all_nodes: Sequence[NodePorts],
    data: Path,
    secured: Secured | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """The server.properties of one combined node with a static controller quorum; `more` counts before ours."""
    voters = ",".join(f"{each.node_id}@127.0.0.1:{each.controller_told}" for each in all_nodes)
    own = {
        "process.roles": "broker,controller",
        "node.id": str(node.node_id),
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": f"PLAINTEXT://127.0.0.1:{node.client},CONTROLLER://127.0.0.1:{node.controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.client_told}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
    }
    if node.controller_front:
        own["advertised.listeners"] += f",CONTROLLER://127.0.0.1:{node.controller_front}"
    if secured is not None:
        for name in ("listeners", "advertised.listeners"):
            own[name] += f",SECURE://127.0.0.1:{node.secure}"
        own["listener.security.protocol.map"] += ",SECURE:SASL_SSL"
        own |= secured.properties()
    return properties(own | common(len(all_nodes)) | dict(more or {}))


def properties(settings: Mapping[str, str]) -> str:
    """Java's properties format; values here need no escape."""
    return "".join(f"{key}={value}\n" for key, value in settings.items())
