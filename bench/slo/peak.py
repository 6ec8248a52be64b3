"""The run `peak`: the highest rates of deliveries, of one gateway and of the machine, and what a CPU second makes.

Rates go up in steps. A rate holds when the last socket had every message within a second of when it was due, and is
fast when p95 is below 50 ms too. Above that messages wait for each other and share writes, so a delivery costs less.
"""

import os
from collections import Counter
from typing import Final, NamedTuple

from bench.cpu import cpu_s
from bench.crowd import Crowd, Report
from bench.slo.place import RATES, Place, cpu_of, descendants, dues, machine_cpu_s, open_loop, progress
from bench.slo.rows import Found
from tests.e2e.http import NoAnswer

SECONDS: Final = 5.0
STEP: Final = 1.4
STEPS: Final = 16
HELD_S: Final = 1.0
LATE_S: Final = 60.0  # for the last answers of a rate that is too high
FAST_MS: Final = 50
SOCKETS: Final = 1_000


class Load(NamedTuple):
    """What is published: topics with as many sockets in all, messages of one topic in a request."""

    name: str
    text: str
    topics: int
    batch: int
    first: float  # deliveries a second that are offered first


LOADS: Final = (
    Load("single", "1,000 sockets of one topic, one message a request", 1, 1, 40_000),
    Load("burst", "1,000 sockets of one topic, twelve messages a request", 1, 12, 200_000),
    Load("small", "100 topics of ten sockets, one message a request", 100, 1, 2_000),
)


class Rate(NamedTuple):
    """What became of an offered rate: deliveries a second of the whole time, and CPU seconds of three parts."""

    per_s: float
    late: Report
    deliveries: int
    gateways_s: float
    servers_s: float  # services and Kafka
    machine_s: float
    refused: int = 0

    @property
    def held(self) -> bool:
        return not self.refused and max(self.late.last, default=HELD_S) < HELD_S

    @property
    def fast(self) -> bool:
        return self.held and self.late.quantile(0.95) < FAST_MS

    def __str__(self) -> str:
        return (
            f"{self.per_s:,.0f} deliveries/s, p95 {self.late.quantile(0.95)} ms, a CPU second makes "
            f"{self.deliveries / self.gateways_s:,.0f} of the gateways, {self.deliveries / self.servers_s:,.0f} of all "
            f"services and Kafka, {self.deliveries / self.machine_s:,.0f} with the clients"
        )


class Best(NamedTuple):
    """The highest rate that was fast, and the highest that held."""

    fast: Rate
    held: Rate


async def peak(place: Place) -> list[Found]:
    """1,000 sockets on one gateway and on two, three loads: the highest rates of deliveries with p95 below 50 ms."""
    found, fast, held = list[Found](), list[tuple[float, str]](), list[tuple[float, str]]()
    for gateways in (1, 2):
        for load in LOADS:
            best = await _highest(place, load, gateways)
            what = f"{load.text}, {gateways} gateway{'s' * (gateways > 1)}"
            text = f"{what}: {best.fast}"
            progress(f"{text}; at most {best.held}")
            fast.append((best.fast.per_s if best.fast.fast else 0.0, text))
            held.append((best.held.per_s, f"{what}: {best.held}"))
            rate = best.fast
            if gateways == 1:
                found.append(Found(f"{load.name}_per_gateway_cpu_s", round(rate.deliveries / rate.gateways_s), text))
            else:
                found.append(Found(f"{load.name}_per_servers_cpu_s", round(rate.deliveries / rate.servers_s), text))
                found.append(Found(f"{load.name}_per_machine_cpu_s", round(rate.deliveries / rate.machine_s), text))
    most = [f"{name}: {max(rates)[1]}" for name, rates in (("within 50 ms (p95)", fast), ("within 1 s", held))]
    return [
        *found,
        Found("fast_per_s", round(max(fast)[0]), f"{os.cpu_count()} cores with the clients; {most[0]}"),
        Found("deliveries_per_s", round(max(held)[0]), f"{os.cpu_count()} cores with the clients; {most[1]}"),
    ]


async def _highest(place: Place, load: Load, gateways: int) -> Best:
    """Returns the highest rates of a load. Raises SystemExit where a socket does not get every message."""
    topics = [f"{load.name}-{gateways}-{n}" for n in range(load.topics)]
    for topic in topics:
        answer = await place.admin.create(topic, settings=RATES)
        assert answer.status == 201, answer
    rates, per_s, misses = list[Rate](), load.first, 0
    async with Crowd(place.gateways[:gateways], 2) as crowd:
        for topic in topics:
            await crowd.open(topic, [f"{topic}-{n}" for n in range(SOCKETS // load.topics)])
        await _offered(place, crowd, load, topics, per_s / 2)  # warm
        for _ in range(STEPS):
            rate = await _offered(place, crowd, load, topics, per_s)
            rates.append(rate)
            word = "fast" if rate.fast else "held" if rate.held else f"not held ({rate.refused} refused)"
            progress(f"{load.name}, {gateways} gateways, {per_s:,.0f}/s offered, {word}: {rate.per_s:,.0f}/s")
            misses = 0 if rate.held else misses + 1
            per_s *= 1 if misses else STEP
            if misses > 1:  # once more: the machine may have been busy
                break
    best = best_of(rates)
    if best is None:
        raise SystemExit(f"{load.text}: {load.first:,.0f} deliveries a second did not hold on {gateways} gateways")
    return best


def best_of(rates: list[Rate]) -> Best | None:
    """Returns the highest rate that held and the highest that was fast; where none was fast, the lowest that held."""
    held = [rate for rate in rates if rate.held]
    if not held:
        return None
    fast = [rate for rate in held if rate.fast] or held[:1]
    return Best(max(fast, key=lambda rate: rate.per_s), max(held, key=lambda rate: rate.per_s))


async def _offered(place: Place, crowd: Crowd, load: Load, topics: list[str], per_s: float) -> Rate:
    """Offers a rate for some seconds, and waits until every socket has every message."""
    seconds = SECONDS if place.scale >= 1 else max(1.0, SECONDS * place.scale)
    gateways, each = place.deployment.gateways, SOCKETS // len(topics)

    taken, refused = Counter[str](), 0

    async def one(n: int, due: float) -> None:
        nonlocal refused
        topic = topics[n % len(topics)]
        items: list[dict[str, object]] = [{"topic_id": topic, "payload": {"at": due}}] * load.batch
        try:
            answer = await place.admin.call("POST", "/api/v1/publish/batch", items)
        except (NoAnswer, TimeoutError):
            good = 0
        else:
            assert answer.status in (200, 503), answer  # 503: too many of these wait for their answers
            good = sum(result["status"] == 200 for result in answer.body["results"]) if answer.status == 200 else 0
        taken[topic] += good
        refused += load.batch - good

    due = dues((max(per_s / each / load.batch, 1.0), seconds))
    had = {topic: await place.seq(topic) for topic in topics}
    clients = [os.getpid(), *crowd.pids]
    servers = [pid for pid in descendants() if pid not in clients]
    before = machine_cpu_s(), sum(map(cpu_s, servers)), cpu_of(gateways)
    await open_loop(load.name, due, one, LATE_S)
    late, numbered = Report([]), 0
    for topic in topics:
        seq = await place.seq(topic, had[topic] + taken[topic])
        numbered += seq - had[topic]
        late += await crowd.report(topic, seq)
    machine, services = machine_cpu_s() - before[0], sum(map(cpu_s, servers)) - before[1]
    own, wanted = cpu_of(gateways) - before[2], numbered * each
    assert taken.total() <= numbered <= taken.total() + refused, f"{numbered} messages of {taken.total()}, {refused}"
    assert late.late.total() == wanted, f"{late.late.total()} deliveries of {wanted}"
    took = seconds + max(0.0, max(late.last, default=0.0) - seconds / len(due))
    return Rate(wanted / took, late, wanted, own, services, machine, refused)
