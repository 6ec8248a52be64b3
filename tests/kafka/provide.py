"""Finds a Kafka for a test run: a given one, the pinned jars, or a container, in that order.

Must not know pytest: what a missing Kafka means for a test is the fixtures' decision.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.kafka import jars, settings
from tests.kafka.cluster import KafkaCluster
from tests.kafka.node import READY, READY_TIMEOUT_S
from tests.kafka.ports import HeldPorts

GIVEN = "HEADGATE_TEST_KAFKA"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
CONNECT_TIMEOUT_S = 5.0


class NoKafka(RuntimeError):
    """None of the ways leads to a Kafka on this machine; the text says why for each."""


@dataclass(frozen=True, slots=True)
class Provided:
    """A running Kafka with at least one node."""

    bootstrap: str
    source: str


@contextmanager
def provide() -> Iterator[Provided]:
    """Yield a Kafka and stop it afterwards, unless it was a given one.

    Raises NoKafka where something is missing (network, Docker engine). What is there and fails raises its own error: a
    given address that does not answer (ConnectionError), a jar with a wrong hash, a broker that does not start.
    """
    given = os.environ.get(GIVEN)
    if given:
        _check_answers(given)
        yield Provided(given, GIVEN)
        return
    try:
        jars.fetch()
    except jars.JarUnavailable as error:
        with _container(f"jars: {error}") as provided:
            yield provided
        return
    with KafkaCluster() as cluster:
        yield Provided(cluster.bootstrap, "jars")


def container_env(host: str, port: int) -> dict[str, str]:
    """The image's environment for one combined node that clients reach at host:port."""
    own = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        # The same port inside and outside: the broker's address for itself is the clients' address.
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://0.0.0.0:9093",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    both = own | settings.common(1)
    return {"KAFKA_" + key.upper().replace(".", "_"): value for key, value in both.items()}


def _check_answers(bootstrap: str) -> None:
    failures = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not port.isdigit():
            raise ValueError(f"{GIVEN}={bootstrap!r}: expected host:port[,host:port...]")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            failures.append(f"{address}: {error}")
        else:
            return
    raise ConnectionError(f"{GIVEN} is set, but nothing answers there: {'; '.join(failures)}")


@contextmanager
def _container(without_jars: str) -> Iterator[Provided]:
    # Imported where a container is really wanted: the import costs 0.1 s and most runs never come here.
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415 - ships no types
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.docker_client import get_docker_host  # noqa: PLC0415
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

    image = f"apache/kafka:{jars.kafka_version()}"
    try:
        _check_engine(get_docker_host() or DEFAULT_ENGINE)
        container = DockerContainer(image)
    except (DockerException, OSError) as error:
        raise NoKafka(f"{without_jars}; Docker: {error}; {GIVEN} is not set") from error
    with ExitStack() as stack:
        stack.callback(container.stop)
        held = HeldPorts.any(1)
        stack.callback(held.release)
        (port,) = held.ports
        host = container.get_docker_client().host()
        container.with_envs(**container_env(host, port)).with_bind_ports(port, port)
        container.waiting_for(LogMessageWaitStrategy(READY.decode()).with_startup_timeout(int(READY_TIMEOUT_S)))
        try:
            container.start()
        except DockerException as error:  # most often: the image cannot be pulled
            raise NoKafka(f"{without_jars}; {image}: {error}; {GIVEN} is not set") from error
        yield Provided(f"{host}:{port}", image)


def _check_engine(address: str) -> None:
    # Before docker-py does: it leaks its socket when nothing answers, and our tests make that warning an error.
    if not address.startswith("unix://"):
        return
    path = address.removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError as error:
            raise ConnectionError(f"no engine answers at {address}: {error.strerror or error}") from error
