"""Random faults of processes, brokers and network, each healed after a while. Must not know what is checked."""

import asyncio
import contextlib
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from aiokafka.errors import KafkaError

from tests.e2e.harness import ROOT, Deployment, Role, until
from tests.e2e.kafka_client import cut, ends
from tests.kafka.cluster import KafkaCluster
from tests.kafka.node import KafkaNode
from tests.soak import hog
from tests.soak.availability import Episode
from tests.soak.interposer import Interposer
from tests.soak.network import Network, broker_name
from tests.soak.readers import SocketReader
from tests.soak.states import AFTER, BURST, RECREATED, Surroundings

EVERY_S: Final = (6.0, 16.0)
SOON_S: Final = (0.5, 2.0)  # after a fault that may not be over
SOON: Final = 0.15
WAITED_FOR: Final = (None, None, BURST, RECREATED)
WAITED_S: Final = 8.0
STRUCK_S: Final = 30.0
SECOND: Final = 0.15  # share of faults that strike while another one lasts
SECOND_AFTER_S: Final = (0.3, 2.0)
KEPT_S: Final = 120.0  # of messages: a snapshot comes every 30 s, and no client is away for longer
RETAIN_S: Final = 15.0
READY_S: Final = 90.0
DRAIN_S: Final = 60.0
CUT_S: Final = (2.0, 8.0, 20.0)  # a link waits 10 s for a sign of life
CLOCK_S: Final = (-300.0, -30.0, 30.0, 300.0)
CLOCK_FOR_S: Final = (5.0, 15.0)
DISK_S: Final = (0.01, 0.05)  # of each write and fsync
DISK_FOR_S: Final = (5.0, 12.0)
HOG_FOR_S: Final = 10.0

Thing = TypeVar("Thing", Role, KafkaNode)


class Kind(NamedTuple):
    """A fault by name and weight; `of_brokers`: it hits brokers, so that another one may hit a role meanwhile."""

    name: str
    weight: int
    happen: Callable[[], Awaitable[None]]
    of_brokers: bool = False


@dataclass
class Scene:
    """All that faults act on. `interposers` by the name of a process; there are none where nothing was compiled."""

    deployment: Deployment
    cluster: KafkaCluster
    network: Network
    readers: Sequence[SocketReader]
    interposers: Mapping[str, Interposer]
    surroundings: Surroundings


class Faults:
    """`run` inflicts one after the other until `stop`, sometimes two at once, and ends with everything healed.

    The last process of each role is frozen and cut off like the others, and never killed: its memory is looked at.
    """

    def __init__(self, scene: Scene, seed: int, only: str = "") -> None:
        """`only`: a pattern for the names of faults; raises ValueError when there is none such."""
        self.episodes: list[Episode] = []
        self.retained = 0
        self._scene = scene
        self._deployment = scene.deployment
        self._cluster = scene.cluster
        self._rng = random.Random(f"{seed}:faults")
        self._ends: deque[tuple[float, dict[int, int]]] = deque()
        self._busy: set[str] = set()  # processes that a fault has now
        self.kinds = [kind for kind in self._kinds() if re.search(only, kind.name)]
        if not self.kinds:
            raise ValueError(f"no fault is like {only!r}; there are {', '.join(kind.name for kind in self._kinds())}")

    def _kinds(self) -> list[Kind]:
        roles, cluster = self._deployment, self._cluster
        dispatchers, gateways, ingests = roles.dispatchers, roles.gateways, roles.ingests
        kinds = [
            Kind("dispatcher killed", 4, lambda: self._killed(dispatchers[:-1])),
            Kind("dispatcher killed, index wiped", 3, self._wiped),
            Kind("gateway killed", 3, lambda: self._killed(gateways[:-1])),
            Kind("ingest killed", 3, lambda: self._killed(ingests[:-1])),
            Kind("process stopped in order", 3, self._drained),
            Kind("process frozen", 4, self._frozen),
            Kind("sockets cut", 2, self._sockets_cut),
            Kind("dispatcher cut off from other roles", 3, self._dispatcher_alone),
            Kind("role cut off from one dispatcher", 3, self._role_from_dispatcher),
            Kind("role cut off from all brokers", 3, lambda: self._role_from_brokers(len(cluster.nodes))),
            Kind("role cut off from one broker", 3, lambda: self._role_from_brokers(1)),
            Kind("broker killed", 2, self._broker_killed, of_brokers=True),
            Kind("broker frozen", 2, self._broker_frozen, of_brokers=True),
            Kind("broker cut off from other brokers", 3, lambda: self._broker_alone(everybody=False), of_brokers=True),
            Kind("broker cut off from all", 3, lambda: self._broker_alone(everybody=True), of_brokers=True),
            Kind("memory taken by a neighbour", 2, self._hogged),
        ]
        if self._scene.interposers:
            kinds += [
                Kind("clock of a role wrong", 3, self._clock_wrong),
                Kind("slow disk of a dispatcher", 2, lambda: self._slow(dispatchers)),
                Kind("slow disk of a broker", 2, lambda: self._slow(cluster.nodes), of_brokers=True),
            ]
        return kinds

    async def run(self, stop: asyncio.Event) -> None:
        """Chooses, does, heals, waits. Every kind comes once before chance decides."""
        waiting = self._rng.sample(self.kinds, len(self.kinds))
        while not await _within(stop, self._rng.uniform(*(SOON_S if self._rng.random() < SOON else EVERY_S))):
            await self._play(waiting.pop() if waiting else self._choice(self.kinds))

    async def _play(self, kind: Kind) -> None:
        """Inflicts one fault, and sometimes another while it lasts; returns when all is healed."""
        before = len(self.episodes)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(self._inflict(kind))
            if self._rng.random() < SECOND:
                await until("it struck", lambda: len(self.episodes) > before, STRUCK_S)
                await asyncio.sleep(self._rng.uniform(*SECOND_AFTER_S))
                others = [other for other in self.kinds if other.of_brokers != kind.of_brokers]
                if others and not first.done():
                    tasks.create_task(self._inflict(self._choice(others), is_second=True))
        for episode in self.episodes[before:]:
            episode.healed = time.monotonic()

    async def retain(self, stop: asyncio.Event) -> None:
        """Cuts the messages log behind KEPT_S, as retention does."""
        log, bootstrap = f"{self._deployment.prefix}.messages", self._cluster.bootstrap
        while not await _within(stop, RETAIN_S):
            with contextlib.suppress(KafkaError, AssertionError, TimeoutError):
                async with asyncio.timeout(20):
                    self._ends.append((time.monotonic(), await ends(bootstrap, log)))
                    while len(self._ends) > 1 and time.monotonic() - self._ends[0][0] > KEPT_S:
                        await cut(bootstrap, log, self._ends.popleft()[1])
                        self.retained += 1

    def _choice(self, kinds: Sequence[Kind]) -> Kind:
        return self._rng.choices(kinds, [kind.weight for kind in kinds])[0]

    async def _inflict(self, kind: Kind, *, is_second: bool = False) -> None:
        wanted = self._rng.choice(WAITED_FOR)
        if wanted is not None and not is_second:
            await self._scene.surroundings.comes(wanted, WAITED_S)
        state = await self._scene.surroundings.state(another=is_second)
        episode = Episode(kind.name, state, time.monotonic(), is_second=state in AFTER)
        self.episodes.append(episode)
        await kind.happen()
        episode.healed = time.monotonic()
        took = episode.healed - episode.struck
        print(
            f"{time.strftime('%H:%M:%S')} {kind.name}, {took:.1f} s; struck when: {state}", file=sys.stderr, flush=True
        )

    @asynccontextmanager
    async def _one(self, things: Sequence[Thing]) -> AsyncIterator[Thing]:
        """Yields a process that no other fault has."""
        thing = self._rng.choice([each for each in things if _name(each) not in self._busy] or list(things))
        self._busy.add(_name(thing))
        try:
            yield thing
        finally:
            self._busy.discard(_name(thing))

    async def _wiped(self) -> None:
        async with self._one(self._deployment.dispatchers[:-1]) as role:
            role.kill9()
            shutil.rmtree(self._deployment.index(role), ignore_errors=True)
            await self._again(role)

    async def _killed(self, roles: Sequence[Role]) -> None:
        async with self._one(roles) as role:
            role.kill9()
            await self._again(role)

    async def _drained(self) -> None:
        """Stopped and started again as an upgrade does."""
        deployment = self._deployment
        roles = [*deployment.dispatchers[:-1], *deployment.gateways[:-1], *deployment.ingests[:-1]]
        async with self._one(roles) as role:
            role.sigterm()
            await role.ended(DRAIN_S)
            role.start()
            await role.ready(READY_S)

    async def _again(self, role: Role) -> None:
        await asyncio.sleep(self._rng.choice((0.0, 3.0, 10.0)))
        role.start()
        await role.ready(READY_S)

    async def _frozen(self) -> None:
        async with self._one(self._deployment.roles) as role:
            role.signal(signal.SIGSTOP)
            await asyncio.sleep(self._rng.choice((1.0, 4.0, 9.0)))
            role.signal(signal.SIGCONT)

    async def _broker_killed(self) -> None:
        async with self._one(self._cluster.nodes) as node:
            node.kill9()
            await asyncio.sleep(self._rng.choice((1.0, 8.0)))
            await asyncio.to_thread(node.restart)

    async def _broker_frozen(self) -> None:
        async with self._one(self._cluster.nodes) as node:
            node.sigstop()
            await asyncio.sleep(self._rng.choice((2.0, 8.0)))
            node.sigcont()

    async def _sockets_cut(self) -> None:
        readers = list(self._scene.readers)
        for reader in self._rng.sample(readers, max(1, len(readers) // 2)):
            reader.cut()

    async def _dispatcher_alone(self) -> None:
        async with self._one(self._deployment.dispatchers) as role:
            await self._cut_for([role.name], [other.name for other in self._deployment.roles if other is not role])

    async def _role_from_dispatcher(self) -> None:
        dispatcher = self._rng.choice(self._deployment.dispatchers)
        async with self._one([*self._deployment.gateways, *self._deployment.ingests]) as role:
            await self._cut_for([role.name], [dispatcher.name])

    async def _role_from_brokers(self, count: int) -> None:
        brokers = self._rng.sample([broker_name(node.node_id) for node in self._cluster.nodes], count)
        async with self._one(self._deployment.roles) as role:
            await self._cut_for([role.name], brokers)

    async def _broker_alone(self, *, everybody: bool) -> None:
        async with self._one(self._cluster.nodes) as node:
            others = [broker_name(other.node_id) for other in self._cluster.nodes if other is not node]
            roles = [role.name for role in self._deployment.roles] if everybody else []
            await self._cut_for([broker_name(node.node_id)], others + roles)

    async def _cut_for(self, one: Sequence[str], other: Sequence[str]) -> None:
        self._scene.network.cut(one, other)
        try:
            await asyncio.sleep(self._rng.choice(CUT_S))
        finally:
            self._scene.network.heal(one, other)

    async def _clock_wrong(self) -> None:
        """Two steps: away, and back."""
        async with self._one(self._deployment.roles) as role:
            interposer = self._scene.interposers[role.name]
            interposer.shift_clock(self._rng.choice(CLOCK_S))
            await asyncio.sleep(self._rng.choice(CLOCK_FOR_S))
            interposer.shift_clock(0.0)

    async def _slow(self, things: Sequence[Thing]) -> None:
        async with self._one(things) as thing:
            interposer = self._scene.interposers[_name(thing)]
            interposer.slow_disk(self._rng.choice(DISK_S))
            await asyncio.sleep(self._rng.choice(DISK_FOR_S))
            interposer.slow_disk(0.0)

    async def _hogged(self) -> None:
        size = hog.size_mib(hog.available_mib())
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.soak.hog", str(size), cwd=ROOT)
        try:
            await asyncio.sleep(HOG_FOR_S)
            assert process.returncode is None, f"the hog ended with {process.returncode}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _name(thing: Role | KafkaNode) -> str:
    return thing.name if isinstance(thing, Role) else broker_name(thing.node_id)


def count_by_state(episodes: Sequence[Episode]) -> dict[str, Counter[str]]:
    """Returns how often each kind of fault struck in each state."""
    counts: dict[str, Counter[str]] = {}
    for episode in episodes:
        counts.setdefault(episode.kind, Counter())[episode.state] += 1
    return counts


async def _within(stop: asyncio.Event, seconds: float) -> bool:
    """Waits; says whether `stop` came."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
