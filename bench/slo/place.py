"""Where a run takes place, its open loop, and what /proc says of its processes and of the machine."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench.cpu import cpu_s
from bench.stream_of_messages import newest_seq, publish_once
from tests.e2e.clients import Publisher
from tests.e2e.harness import Deployment, Role, token

RATES: Final = {"rate_limit": {"per_s": 1_000_000, "burst": 1_000_000}}
TELL_S: Final = 10.0  # between two lines of progress
GRACE_S: Final = 30.0  # for the answers to the last sends
_begun: Final = time.monotonic()


class Shape(msgspec.Struct, frozen=True):
    """The processes that a run needs."""

    gateways: int = 2
    dispatchers: int = 1
    ingests: int = 1
    shards: int = 8
    settings: dict[str, object] = {}


class Place(NamedTuple):
    """The deployment of a run, an administrator of it, the scale, and the bounds of the run `million`."""

    deployment: Deployment
    admin: Publisher
    scale: float
    memory_gib: float = 18.0
    minutes: float = 15.0

    @property
    def gateways(self) -> list[str]:
        return [f"127.0.0.1:{gateway.port}" for gateway in self.deployment.gateways]

    async def topics(self, name: str, count: int) -> list[str]:
        """Creates so many topics."""
        made = [f"{name}-{n}" for n in range(count)]
        await self.admin.create_all(made)
        return made

    async def topic(self, name: str) -> None:
        """Creates one topic that takes any rate."""
        answer = await self.admin.create(name, settings=RATES)
        assert answer.status == 201, answer

    async def seq(self, topic: str, published: int = 0) -> int:
        """Returns the number of a topic's newest message, once it is `published` at least."""
        return await newest_seq(self.admin, topic, published)

    async def message(self, topic: str) -> int:
        """Publishes a message that is due now; returns its number."""
        answer = await publish_once(self.admin, topic, {"at": time.time()}, wait="sequenced")
        assert answer.status == 200, answer
        seq: int = answer.body["seq"]
        return seq


def root() -> str:
    """Returns the token of an administrator whom no rate holds back."""
    return token("root", service=True, admin=True)


def progress(text: str) -> None:
    """Says on standard error how far a run is."""
    print(f"  {time.monotonic() - _begun:6.0f} s: {text}", file=sys.stderr, flush=True)


def dues(*parts: tuple[float, float]) -> list[float]:
    """Returns when each send is due, in seconds from the begin; a part is (sends a second, seconds)."""
    found, begin = list[float](), 0.0
    for per_s, seconds in parts:
        found += [begin + n / per_s for n in range(round(per_s * seconds))]
        begin += seconds
    return found


async def open_loop(
    what: str, due: Sequence[float], send: Callable[[int, float], Awaitable[None]], grace_s: float = GRACE_S
) -> list[float]:
    """Starts each send when it is due, whether earlier ones have ended or not; it gets its number and its Unix second.

    Returns the milliseconds from when each was due until it had ended. Raises ExceptionGroup where a send failed,
    TimeoutError where the last have not ended `grace_s` after they were due.
    """
    begun, told = time.time() + 0.05, TELL_S
    took, ended = [0.0] * len(due), 0

    async def one(n: int) -> None:
        nonlocal ended
        await send(n, begun + due[n])
        took[n] = (time.time() - begun - due[n]) * 1_000
        ended += 1

    async with asyncio.timeout(due[-1] + grace_s), asyncio.TaskGroup() as tasks:
        for n, at in enumerate(due):
            await asyncio.sleep(max(0.0, begun + at - time.time()))
            tasks.create_task(one(n))
            if at >= told:
                told += TELL_S
                progress(f"{what}: {at:.0f} of {due[-1]:.0f} s, {n + 1:,} sent, {n + 1 - ended:,} without an answer")
    return took


async def created(place: Place, topics: Sequence[str], at_once: int = 64) -> float:
    """Creates topics over so many connections at once; returns the seconds it took. Raises AssertionError."""
    begun, told, done = time.monotonic(), TELL_S, 0
    left: Iterator[str] = iter(topics)

    async def worker() -> None:
        nonlocal told, done
        for topic in left:
            answer = await place.admin.create(topic)
            assert answer.status == 201, f"create {topic}: {answer}"
            done += 1
            if time.monotonic() - begun > told:
                told += TELL_S
                progress(f"{done:,} of {len(topics):,} topics made, {done / (time.monotonic() - begun):,.0f} a second")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(worker())
    return time.monotonic() - begun


def cpu_of(roles: Iterable[Role]) -> float:
    """Returns for how many seconds these processes have run."""
    return sum(cpu_s(role.pid) for role in roles if role.pid is not None)


def descendants() -> list[int]:
    """Returns the processes that this one started, and theirs: services, clients, and Kafka where it is ours."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has ended
            children.setdefault(int(file.read_text().rpartition(")")[2].split()[1]), []).append(int(file.parent.name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def machine_cpu_s() -> float:
    """Returns for how many seconds the cores of this machine were busy since it started."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:10])
    return (user + nice + system + irq + softirq) / 100


def resident_kb(pid: int | None) -> int:
    """Returns the resident memory of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def resident_of(roles: Iterable[Role]) -> int:
    """Returns the resident memory of these processes in KB."""
    return sum(resident_kb(role.pid) for role in roles if role.pid is not None)
