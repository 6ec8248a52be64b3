"""The run `topics`: 100,000 topics over HTTP, listed, published to, recovered by another dispatcher after kill -9.

With `--scale 10` a million. The same load of 200 topics is measured beside 1,000, 10,000 and 100,000 topics.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from bench.cpu import cpu_s
from bench.crowd import Crowd, Report
from bench.slo.place import Place, cpu_of, created, progress, resident_of
from bench.slo.rows import Found
from bench.stream_of_messages import Messages
from tests.e2e.harness import Role, until

SIZES: Final = (1_000, 10_000, 100_000)
SAMPLE: Final = 200  # topics with ten sockets each
PER_S: Final = 200.0
LOAD_S: Final = 30.0
BATCH: Final = 1_000
PAGE: Final = 1_000
QUIET: Final = 0.05  # of a core
QUIET_S: Final = 60.0
RECOVERED_S: Final = 120.0


class Step(NamedTuple):
    """What the same load costs beside so many topics."""

    topics: int
    us: float  # CPU of all services a delivery
    idle: float  # cores before it
    late: Report

    def __str__(self) -> str:
        return f"{self.topics:,} topics: {self.us:.1f} us a delivery, p95 {self.late.quantile(0.95)} ms"


async def topics(place: Place) -> list[Found]:
    """100,000 topics over HTTP, CPU a delivery at 1,000, 10,000 and 100,000, all listed and recovered after kill -9."""
    wanted = sizes_at(place.scale)
    made, steps, took = list[str](), list[Step](), 0.0
    memory = [(0, resident_of(place.deployment.dispatchers))]
    for count in wanted:
        new = [f"topic-{n:07d}" for n in range(len(made), count)]
        took += await created(place, new)
        made += new
        steps.append(await _loaded(place, made))
        memory.append((count, resident_of(place.deployment.dispatchers)))
        progress(f"{steps[-1]}; made in {took:.0f} s")
    listed_s = await _listed(place, made)
    before = await _published(place, made)
    recovered_s = await _recovered(place, made, before)
    listed_again_s = await _listed(place, made)
    flat = max(step.us for step in steps) / min(step.us for step in steps)
    (few, first), (many, last) = memory[1], memory[-1]
    topic_bytes = 1_024 * (last - first) / (many - few)
    text = "; ".join(map(str, steps))
    history = (
        f"created in {took:.0f} s over HTTP, {len(made) / took:,.0f} a second; all listed in {listed_s:.1f} s; a "
        f"message to each; one of two dispatchers killed: all live after {recovered_s:.1f} s, all listed in "
        f"{listed_again_s:.1f} s, and the next message of each has the next number"
    )
    load = f"highest by lowest; {SAMPLE} topics of ten sockets, {PER_S:g} messages/s; {text}"
    between = f"resident memory of two dispatchers between {few:,} and {many:,} topics"
    return [
        Found("topics", len(made), history),
        Found("topics_flat", round(flat, 2), load),
        Found("topic_bytes", round(topic_bytes), between),
    ]


def sizes_at(scale: float) -> list[int]:
    """Returns the numbers of topics that are measured at a scale."""
    small = [max(SAMPLE, round(count * min(1.0, scale))) for count in SIZES]
    return list(dict.fromkeys([*small, max(small[-1], round(SIZES[-1] * scale))]))


async def _loaded(place: Place, made: Sequence[str]) -> Step:
    """Follows topics all over the list and publishes to them; every message must come once and in order."""
    sample, roles = made[:: max(1, len(made) // SAMPLE)][:SAMPLE], place.deployment.roles
    late = Report([])
    async with Crowd(place.gateways, 1) as crowd:
        for topic in sample:
            await crowd.open(topic, [f"{topic}-{n}" for n in range(10)])
        idle = await _quiet(roles)
        before, seconds = cpu_of(roles), LOAD_S if place.scale >= 1 else max(5.0, LOAD_S * place.scale)
        async with Messages(place.admin, sample, PER_S) as messages:
            await asyncio.sleep(seconds)
        for topic in sample:
            late += await crowd.report(topic, await messages.last_seq(topic))
        used = cpu_of(roles) - before
    wanted = 10 * len(messages.took_ms)
    assert late.late.total() == wanted, f"{late.late.total()} deliveries of {wanted}"
    return Step(len(made), 1e6 * used / wanted, idle, late)


async def _quiet(roles: Sequence[Role]) -> float:
    """Waits until the services do little; returns how many cores they use then."""
    deadline, used = time.monotonic() + QUIET_S, 1.0
    while used > QUIET and time.monotonic() < deadline:
        before = cpu_of(roles)
        await asyncio.sleep(2.0)
        used = (cpu_of(roles) - before) / 2.0
    return used


async def _listed(place: Place, made: Sequence[str]) -> float:
    """Lists all topics page by page; returns the seconds. Raises AssertionError for one too few or too many."""
    begun, found, page = time.monotonic(), list[str](), dict[str, object]()
    while page.get("page", "") is not None:
        answer = await place.admin.call("GET", "/api/v1/topics", limit=PAGE, prefix="topic-", **page)
        assert answer.status == 200, answer
        found += [topic["topic_id"] for topic in answer.body["topics"]]
        page = {"page": answer.body["next_page"]}
    assert found == list(made), f"{len(found):,} topics are listed of {len(made):,}"
    return time.monotonic() - begun


async def _published(place: Place, made: Sequence[str]) -> dict[str, int]:
    """Publishes a message to every topic; returns the number that each had. Raises AssertionError."""
    gate, seqs = asyncio.Semaphore(4), dict[str, int]()

    async def batch(at: int) -> None:
        names = made[at : at + BATCH]
        async with gate:
            items = [{"topic_id": name, "payload": {"at": time.time()}} for name in names]
            answer = await place.admin.call("POST", "/api/v1/publish/batch", items, wait="sequenced")
        assert answer.status == 200, answer
        wrong = [result for result in answer.body["results"] if result["status"] != 200]
        assert not wrong, f"{len(wrong)} of {len(names)}: {wrong[0]}"
        seqs.update({result["topic_id"]: result["seq"] for result in answer.body["results"]})

    await asyncio.gather(*(batch(at) for at in range(0, len(made), BATCH)))
    progress(f"a message to each of {len(made):,} topics")
    return seqs


async def _recovered(place: Place, made: Sequence[str], before: dict[str, int]) -> float:
    """Kills a dispatcher; returns the seconds until the other has its topics. Then every topic goes on in number."""
    victim, other = place.deployment.dispatchers
    cpu = cpu_s(other.pid)
    victim.kill9()
    killed, sample = time.monotonic(), made[:: max(1, len(made) // SAMPLE)]

    async def live() -> bool:
        answers = [await place.admin.call("GET", f"/api/v1/topics/{topic}") for topic in sample]
        return all(answer.status == 200 for answer in answers)

    await until("the other dispatcher has all", live, RECOVERED_S, 0.2)
    took = time.monotonic() - killed
    progress(f"recovered {took:.1f} s after the kill, {cpu_s(other.pid) - cpu:.1f} CPU seconds of the other")
    after = await _published(place, made)
    lost = [topic for topic in made if after[topic] != before[topic] + 1]
    assert not lost, f"{len(lost)} topics did not go on: {lost[0]} {before[lost[0]]}, then {after[lost[0]]}"
    return took
