"""The run `peak`: the highest rate of deliveries, of one gateway and of the machine, and what a CPU second makes.

A rate holds when the last socket had every message within a second of when it was due.
"""

import os
from typing import Final, NamedTuple

from bench.cpu import cpu_s
from bench.crowd import Crowd, Report
from bench.slo.place import RATES, Place, cpu_of, dues, machine_cpu_s, open_loop, progress
from bench.slo.rows import Found

SECONDS: Final = 5.0
STEP: Final = 1.3
STEPS: Final = 14
HELD_S: Final = 1.0
SOCKETS: Final = 1_000


class Load(NamedTuple):
    """What is published: topics with as many sockets in all, messages of one topic in a request."""

    name: str
    text: str
    topics: int
    batch: int
    first: float  # deliveries a second that are offered first


LOADS: Final = (
    Load("write", "1,000 sockets of one topic, a write for each delivery", 1, 1, 20_000),
    Load("burst", "1,000 sockets of one topic, twelve messages a write", 1, 12, 150_000),
    Load("small", "100 topics of ten sockets", 100, 1, 2_000),
)


class Held(NamedTuple):
    """The highest rate that held: deliveries a second of the whole time, and CPU seconds of three parts."""

    per_s: float
    late: Report
    deliveries: int
    gateways_s: float
    servers_s: float  # all that is no client: services, Kafka, what else the machine does
    machine_s: float

    def __str__(self) -> str:
        return (
            f"{self.per_s:,.0f} deliveries/s, p95 {self.late.quantile(0.95)} ms; a CPU second makes "
            f"{self.deliveries / self.gateways_s:,.0f} of a gateway, {self.deliveries / self.servers_s:,.0f} of all "
            f"services and Kafka, {self.deliveries / self.machine_s:,.0f} of the machine with its clients"
        )


async def peak(place: Place) -> list[Found]:
    """1,000 sockets on one gateway and on two, three loads: the highest rate of deliveries that holds."""
    found = list[Found]()
    best: Held | None = None
    for gateways in (1, 2):
        for load in LOADS:
            held = await _highest(place, load, gateways)
            text = f"{load.text}, {gateways} gateway{'s' * (gateways > 1)}; {held}"
            progress(text)
            best = held if best is None or held.per_s > best.per_s else best
            if gateways == 1:
                found.append(Found(f"{load.name}_per_gateway_cpu_s", round(held.deliveries / held.gateways_s), text))
            else:
                found.append(Found(f"{load.name}_per_servers_cpu_s", round(held.deliveries / held.servers_s), text))
                found.append(Found(f"{load.name}_per_machine_cpu_s", round(held.deliveries / held.machine_s), text))
                found.append(Found(f"{load.name}_per_s", round(held.per_s), text))
    assert best is not None
    most = "; ".join(f"{each.figure.removesuffix('_per_s')}: {each.scale}" for each in found if each.figure in _RATES)
    return [*found, Found("deliveries_per_s", round(best.per_s), f"{os.cpu_count()} cores with the clients; {most}")]


_RATES: Final = {f"{load.name}_per_s" for load in LOADS}


async def _highest(place: Place, load: Load, gateways: int) -> Held:
    """Returns the highest rate of a load that holds. Raises SystemExit where a socket does not get every message."""
    topics = [f"{load.name}-{gateways}-{n}" for n in range(load.topics)]
    for topic in topics:
        answer = await place.admin.create(topic, settings=RATES)
        assert answer.status == 201, answer
    each = SOCKETS // load.topics
    held, per_s, misses = None, load.first, 0
    async with Crowd(place.gateways[:gateways], 2) as crowd:
        for topic in topics:
            await crowd.open(topic, [f"{topic}-{n}" for n in range(each)])
        await _offered(place, crowd, load, topics, per_s / 2)  # warm
        for _ in range(STEPS):
            found = await _offered(place, crowd, load, topics, per_s)
            good = max(found.late.last) < HELD_S
            progress(
                f"{load.name}, {gateways}: {per_s:,.0f} offered, {'held' if good else 'not held'}: {found.per_s:,.0f}/s"
            )
            misses = 0 if good else misses + 1
            if good:
                held, per_s = found, per_s * STEP
            if misses > 1:  # once more: the machine may have been busy
                break
    if held is None:
        raise SystemExit(f"{load.text}: {load.first:,.0f} deliveries a second did not hold on {gateways} gateways")
    return held


async def _offered(place: Place, crowd: Crowd, load: Load, topics: list[str], per_s: float) -> Held:
    """Offers a rate for some seconds, and waits until every socket has every message."""
    seconds = SECONDS if place.scale >= 1 else max(1.0, SECONDS * place.scale)
    gateways, each = place.deployment.gateways, SOCKETS // len(topics)

    async def one(n: int, due: float) -> None:
        topic = topics[n % len(topics)]
        items: list[dict[str, object]] = [{"topic_id": topic, "payload": {"at": due}}] * load.batch
        results = await place.admin.batch(items)
        assert all(result["status"] == 200 for result in results), results[0]

    due = dues((max(per_s / each / load.batch, 1.0), seconds))
    had = {topic: await place.seq(topic) for topic in topics}
    clients = [os.getpid(), *crowd.pids]
    before = machine_cpu_s(), sum(map(cpu_s, clients)), cpu_of(gateways)
    await open_loop(load.name, due, one)
    late = Report([])
    for n, topic in enumerate(topics):
        published = load.batch * len(range(n, len(due), len(topics)))
        late += await crowd.report(topic, await place.seq(topic, had[topic] + published))
    machine, theirs, own = (
        machine_cpu_s() - before[0],
        sum(map(cpu_s, clients)) - before[1],
        cpu_of(gateways) - before[2],
    )
    wanted = len(due) * load.batch * each
    assert late.late.total() == wanted, f"{late.late.total()} deliveries of {wanted}"
    took = max(seconds, seconds + max(late.last) - 1 / per_s)
    return Held(wanted / took, late, wanted, own, max(machine - theirs, own), machine)
