"""The network between the processes of a soak: proxies before every dispatcher and broker, cut for pairs of them.

Clients reach ingests and gateways directly: what they see of a fault is what the deployment makes of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import product
from types import TracebackType
from typing import Self

from tests.e2e.harness import Deployment, Role
from tests.e2e.partition import Partition
from tests.kafka.cluster import KafkaCluster
from tests.kafka.ports import HeldPorts
from tests.kafka.settings import NodePorts
from tests.soak.callers import naming


def broker_name(number: int) -> str:
    """Returns the name of a broker in the network."""
    return f"broker-{number}"


class Network:
    """Ports and proxies. `place` says where brokers listen, `join` puts the proxies before the dispatchers."""

    def __init__(self, brokers: int, dispatchers: int) -> None:
        self._held = HeldPorts.any(4 * brokers + dispatchers)
        ports = list(self._held.ports)
        self.placed = [
            NodePorts(n, ports.pop(), ports.pop(), 0, ports.pop(), ports.pop()) for n in range(1, brokers + 1)
        ]
        self._dispatcher_fronts = ports
        self._ways: dict[str, list[Partition]] = {}  # to each process
        self._processes: dict[str, Role] = {}
        self._cluster: KafkaCluster | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for each in self.placed:
            await self._open(broker_name(each.node_id), each.client_front, each.client)
            await self._open(broker_name(each.node_id), each.controller_front, each.controller)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._held.release()

    def know(self, cluster: KafkaCluster) -> None:
        """Takes the brokers, whose processes are callers too."""
        self._cluster = cluster

    async def join(self, deployment: Deployment) -> None:
        """Leads everybody to the dispatchers through proxies; before the deployment is started."""
        told = ",".join(f"127.0.0.1:{port}" for port in self._dispatcher_fronts)
        for role in deployment.roles:
            self._processes[role.name] = role
            role.settings["cluster.dispatchers"] = told
        for role, port in zip(deployment.dispatchers, self._dispatcher_fronts, strict=True):
            role.settings["dispatcher.advertise"] = f"127.0.0.1:{port}"
            await self._open(role.name, port, role.port)

    def cut(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Lets nothing pass between any of `one` and any of `other`, whoever opened the connection."""
        for way, caller in self._between(one, other):
            way.cut(caller)

    def heal(self, one: Iterable[str], other: Iterable[str]) -> None:
        """Lets it pass again."""
        for way, caller in self._between(one, other):
            way.heal(caller)

    def pids(self) -> Mapping[str, int | None]:
        """Returns the processes that may call."""
        nodes = () if self._cluster is None else self._cluster.nodes
        return {name: role.pid for name, role in self._processes.items()} | {
            broker_name(node.node_id): node.pid for node in nodes
        }

    def _between(self, one: Iterable[str], other: Iterable[str]) -> list[tuple[Partition, str]]:
        pairs = [*product(one, other)]
        return [(way, caller) for a, b in pairs for to, caller in ((a, b), (b, a)) for way in self._to(to)]

    def _to(self, name: str) -> Sequence[Partition]:
        return self._ways.get(name, ())

    async def _open(self, name: str, port: int, target: int) -> None:
        way = Partition(port, target, naming(self.pids))
        self._ways.setdefault(name, []).append(await self._stack.enter_async_context(way))
