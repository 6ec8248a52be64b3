"""Random faults of a deployment and its brokers, each healed after a while. Must not know what is checked."""

import asyncio
import contextlib
import random
import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.errors import KafkaError

from tests.e2e.harness import Deployment, Role
from tests.e2e.kafka_client import cut, ends
from tests.kafka.cluster import KafkaCluster
from tests.soak.readers import SocketReader

EVERY_S = (4.0, 14.0)
KEPT_S = 120.0  # of messages: a snapshot comes every 30 s, and no client is away for longer
RETAIN_S = 15.0


class Faults:
    """`run` inflicts one after the other until `stop`, and ends with everything healed.

    The last process of each role is frozen and cut off like the others, and never killed: its memory is looked at.
    """

    def __init__(
        self, deployment: Deployment, cluster: KafkaCluster, readers: Sequence[SocketReader], seed: int
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._deployment = deployment
        self._cluster = cluster
        self._readers = readers
        self._rng = random.Random(f"{seed}:faults")
        self._ends: deque[tuple[float, dict[int, int]]] = deque()

    async def run(self, stop: asyncio.Event) -> None:
        """Chooses, does, heals, waits."""
        kinds: list[tuple[str, int, Callable[[], Awaitable[None]]]] = [
            ("dispatcher killed", 4, self._dispatcher),
            ("dispatcher killed, index wiped", 3, self._wiped),
            ("gateway killed", 3, lambda: self._killed(self._deployment.gateways[:-1])),
            ("ingest killed", 3, lambda: self._killed(self._deployment.ingests[:-1])),
            ("process frozen", 4, self._frozen),
            ("broker killed", 2, self._broker_killed),
            ("broker frozen", 2, self._broker_frozen),
            ("sockets cut", 4, self._cut),
        ]
        while not await _within(stop, self._rng.uniform(*EVERY_S)):
            name, _, happen = self._rng.choices(kinds, [weight for _, weight, _ in kinds])[0]
            self.counts[name] += 1
            await happen()

    async def retain(self, stop: asyncio.Event) -> None:
        """Cuts the messages log behind KEPT_S, as retention does."""
        log, bootstrap = f"{self._deployment.prefix}.messages", self._cluster.bootstrap
        while not await _within(stop, RETAIN_S):
            with contextlib.suppress(KafkaError, AssertionError, TimeoutError):
                async with asyncio.timeout(20):
                    self._ends.append((time.monotonic(), await ends(bootstrap, log)))
                    while len(self._ends) > 1 and time.monotonic() - self._ends[0][0] > KEPT_S:
                        await cut(bootstrap, log, self._ends.popleft()[1])
                        self.counts["retention"] += 1

    async def _dispatcher(self) -> None:
        await self._killed(self._deployment.dispatchers[:-1])

    async def _wiped(self) -> None:
        role = self._rng.choice(self._deployment.dispatchers[:-1])
        role.kill9()
        shutil.rmtree(self._deployment.index(role), ignore_errors=True)
        await self._again(role)

    async def _killed(self, roles: Sequence[Role]) -> None:
        role = self._rng.choice(roles)
        role.kill9()
        await self._again(role)

    async def _again(self, role: Role) -> None:
        await asyncio.sleep(self._rng.choice((0.0, 3.0, 10.0)))
        role.start()
        await role.ready(90)

    async def _frozen(self) -> None:
        role = self._rng.choice(self._deployment.roles)
        role.signal(signal.SIGSTOP)
        await asyncio.sleep(self._rng.choice((1.0, 4.0, 9.0)))
        role.signal(signal.SIGCONT)

    async def _broker_killed(self) -> None:
        node = self._rng.choice(self._cluster.nodes)
        node.kill9()
        await asyncio.sleep(self._rng.choice((1.0, 8.0)))
        await asyncio.to_thread(node.restart)

    async def _broker_frozen(self) -> None:
        node = self._rng.choice(self._cluster.nodes)
        node.sigstop()
        await asyncio.sleep(self._rng.choice((2.0, 8.0)))
        node.sigcont()

    async def _cut(self) -> None:
        for reader in self._rng.sample(list(self._readers), max(1, len(self._readers) // 2)):
            reader.cut()


async def _within(stop: asyncio.Event, seconds: float) -> bool:
    """Waits; says whether `stop` came."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
