"""One run: processes, load, readers and faults together, for some minutes. Must not know what is printed or written."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.e2e.harness import Deployment, Stage, at_most, token
from tests.kafka.cluster import KafkaCluster
from tests.soak.availability import PUBLISH_S, Timely
from tests.soak.balancer import Balancer
from tests.soak.faults import Faults, Scene
from tests.soak.figures import Memory
from tests.soak.interposer import Interposer, compiled
from tests.soak.load import BATCHES, Load, Pace, singles
from tests.soak.network import Network, broker_name
from tests.soak.readers import SocketReader, StreamReader
from tests.soak.states import Surroundings
from tests.soak.subject import Findings, Reading, Subject

SHARDS: Final = 6
BROKERS: Final = 3
BATCH_WORKERS: Final = 4
TOPICS_OF_A_WORKER: Final = 2
SINGLE_WORKERS: Final = 50  # of one topic each: what was due while nothing was answered is not sent one by one
SOCKETS: Final = 4
STREAMS: Final = 4
HEAL_S: Final = 120.0
TOKEN_S: Final = 86_400.0  # longer than a run, and than a clock is wrong


@dataclass
class Soak:
    """Everything of a run."""

    deployment: Deployment
    cluster: KafkaCluster
    network: Network
    interposers: Mapping[str, Interposer]
    seed: int
    rate: float  # single publishes a second
    found: Findings = field(default_factory=Findings)
    subjects: list[Subject] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    sockets: list[SocketReader] = field(default_factory=list)
    streams: list[StreamReader] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0

    def is_done(self) -> bool:
        """Whether every reader has seen all there is."""
        return all(reading.is_done for reading in self.readings())

    def readings(self) -> Iterator[Reading]:
        """Yields every reader's view of every topic."""
        for reader in self.sockets:
            yield from reader.readings.values()
        for stream in self.streams:
            yield stream.reading

    @property
    def acked(self) -> int:
        """Messages that were acknowledged."""
        return sum(load.acked for load in self.loads)

    @property
    def seen(self) -> int:
        """Messages that readers have seen."""
        readers: list[SocketReader | StreamReader] = [*self.sockets, *self.streams]
        return sum(reader.seen for reader in readers)

    @property
    def answers(self) -> Counter[str]:
        """Answers to all workers by status."""
        return sum((load.answers for load in self.loads), start=Counter())

    @property
    def publishes(self) -> Timely:
        """The publishes of all workers, in time and late."""
        found = Timely(PUBLISH_S)
        for load in self.loads:
            found.in_time.update(load.timely.in_time)
            found.late.extend(load.timely.late)
        return found


def interposers(library: Path | None, folder: Path) -> dict[str, Interposer]:
    """Returns one for each broker; those of roles come with the deployment. None where nothing was compiled."""
    names = [broker_name(number) for number in range(1, BROKERS + 1)]
    return {} if library is None else {name: Interposer(library, folder / f"{name}.control") for name in names}


def deployment_of(stage: Stage, bootstrap: str, library: Path | None) -> tuple[Deployment, dict[str, Interposer]]:
    """Describes the processes, with their interposers."""
    deployment = Deployment(stage, bootstrap, "soak", ingests=2, dispatchers=3, gateways=2)
    if library is None:
        return deployment, {}
    found = {role.name: Interposer(library, stage.folder / f"{role.name}.control") for role in deployment.roles}
    for role in deployment.roles:
        role.before = found[role.name].before
    return deployment, found


def compiled_into(folder: Path) -> Path | None:
    """Returns the library of the clock and disk faults, None where it cannot be had."""
    return compiled(folder / "interposer")


async def run(soak: Soak, minutes: float, only: str = "") -> tuple[Memory, Faults]:
    """Runs it; when it returns all is healed, and what never came is noted."""
    _staff(soak)
    memory = Memory(soak.deployment.roles, lambda: soak.acked)
    stop, healed = asyncio.Event(), asyncio.Event()
    surroundings = Surroundings(soak.deployment.roles, soak.loads, soak.readings)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        loads = [tasks.create_task(load.run(stop)) for load in soak.loads]
        await asyncio.gather(*(load.began.wait() for load in soak.loads))
        await _subscribe(soak, stack)
        soak.began = time.monotonic()
        sampling = tasks.create_task(memory.run())
        scene = Scene(
            soak.deployment, soak.cluster, soak.network, soak.sockets, soak.interposers, surroundings
        )  # fmt: skip
        faults = Faults(scene, soak.seed, only)
        inflicting = tasks.create_task(faults.run(healed))
        retaining = tasks.create_task(faults.retain(stop))
        await asyncio.sleep(minutes * 60)
        healed.set()
        await inflicting
        stop.set()
        await asyncio.gather(*loads, retaining)
        soak.ended = time.monotonic()
        await at_most(HEAL_S, soak.is_done)
        sampling.cancel()
    for reading in soak.readings():
        reading.end()
    return memory, faults


def _staff(soak: Soak) -> None:
    balancer = Balancer(len(soak.deployment.ingests))
    for worker in range(BATCH_WORKERS):
        own = [Subject(f"soak.{worker}.{n}") for n in range(TOPICS_OF_A_WORKER)]
        _employ(soak, balancer, f"w{worker}", own, BATCHES)
    for worker in range(SINGLE_WORKERS):
        own = [Subject(f"soak.one.{worker}")]
        _employ(soak, balancer, f"one{worker}", own, singles(SINGLE_WORKERS / soak.rate))


def _employ(soak: Soak, balancer: Balancer, name: str, own: list[Subject], pace: Pace) -> None:
    soak.subjects += own
    urls = [role.url for role in soak.deployment.ingests]
    bearer = token(name, ttl_s=TOKEN_S, service=True)
    soak.loads.append(Load(name, urls, bearer, own, soak.seed, pace, balancer))


async def _subscribe(soak: Soak, stack: AsyncExitStack) -> None:
    urls = [role.url for role in soak.deployment.gateways]
    subjects = random.Random(soak.seed).sample(soak.subjects, len(soak.subjects))
    for n in range(SOCKETS):
        own = {s.topic_id: s for s in subjects[n % 2 :: 2]}
        turned = urls[n % len(urls) :] + urls[: n % len(urls)]
        reader = SocketReader(f"socket{n}", turned, own, token(f"s{n}", ttl_s=TOKEN_S, service=True), soak.found)
        soak.sockets.append(await stack.enter_async_context(reader))
    for n in range(STREAMS):
        bearer = token(f"e{n}", ttl_s=TOKEN_S, service=True)
        stream = StreamReader(f"stream{n}", urls[n % len(urls)], subjects[n], bearer, soak.found)
        soak.streams.append(await stack.enter_async_context(stream))
