"""The only broker SIGSTOPped for 20 s under load: 504 first, 503 at once after that, sockets stay, and after SIGCONT
everything goes on by itself; what was answered 503 never appears, what was answered 504 has one seq."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from statistics import median
from typing import NamedTuple

import msgspec

from headgate.core.wire.envelope import Kind, decode, is_ours
from tests.e2e import ledger
from tests.e2e.clients import Publisher, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Stage, at_most, token, until
from tests.e2e.kafka_client import read_all
from tests.kafka.fixtures import OwnKafka

FROZEN_S = 20.0
RATE_S = 0.05  # one publish every 50 ms, whether the last was answered or not
TOPICS = [f"stock.{number:02}" for number in range(16)]
EPHEMERAL = "ticks"
COUNTED = "counted"
OPEN_S = 3.0  # a circuit opens when its oldest batch is over 2 s, at its next look


class Attempt(NamedTuple):
    """One publish: when it began (monotonic), under which id, what came back and how long it took."""

    began: float
    topic: str
    client_msg_id: str
    status: int
    code: str
    took_s: float


class Load:
    """Open loop over the topics in turn, each message under an id of its own."""

    def __init__(self, publisher: Publisher) -> None:
        self.attempts: list[Attempt] = []
        self._publisher = publisher
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0

    async def run(self) -> None:
        """Publishes until cancelled."""
        due = time.monotonic()
        while True:
            task = asyncio.create_task(self._one(self._number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._number += 1
            due += RATE_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def answered(self) -> None:
        """Waits for every answer."""
        await asyncio.gather(*self._tasks)

    async def _one(self, number: int) -> None:
        topic, client_msg_id = TOPICS[number % len(TOPICS)], f"m-{number}"
        began = time.monotonic()
        answer = await self._publisher.publish(topic, client_msg_id, client_msg_id)
        code = "" if answer.status == 200 else answer.body["code"]
        self.attempts.append(Attempt(began, topic, client_msg_id, answer.status, code, answer.took_s))


async def test_a_frozen_broker_costs_504_then_503_and_nothing_else(
    stage: Stage, figures: Figures, own_kafka: OwnKafka, log_prefix: str
) -> None:
    cluster = await asyncio.to_thread(own_kafka, 1)
    deployment = Deployment(stage, cluster.bootstrap, log_prefix)
    await deployment.start()
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(deployment.ingests[0].url, token("p", service=True)))
        await publisher.create_all([*TOPICS, COUNTED])
        assert (await publisher.create(EPHEMERAL, settings={"profile": "ephemeral"})).status == 201
        listener = Subscriber("ephemeral", [deployment.gateways[0].url], [EPHEMERAL], token=token("e"))
        await stack.enter_async_context(listener)
        durable = Subscriber("durable", [deployment.gateways[0].url], [COUNTED], token=token("d"))
        await stack.enter_async_context(durable)
        subscribers = [
            Subscriber(f"s{n}", [deployment.gateways[0].url], TOPICS[n::4], token=token(f"s{n}")) for n in range(8)
        ]
        for subscriber in subscribers:
            await stack.enter_async_context(subscriber)
        await until(
            "every subscription is granted", lambda: all(s.connected for s in [*subscribers, listener, durable]), 30
        )
        taken = await publisher.publish(COUNTED, 1, wait="delivered", timeout_ms=10_000)
        assert (taken.body["delivered_to"], taken.body["delivered_to_basis"], taken.body["seq"]) == (1, "delivered", 1)
        load = Load(publisher)
        running = asyncio.create_task(load.run())
        await until("messages arrive", lambda: all(s.count >= 10 for s in subscribers), 30)

        cluster.nodes[0].sigstop()
        frozen = time.monotonic()
        await until("the log is said to be away", lambda: _not_ready(deployment), 15)
        lost = await publisher.publish(COUNTED, 2, wait="delivered")
        assert lost.status in (503, 504), "it ends as wait=sequenced does"
        live = [await publisher.publish(EPHEMERAL, {"number": number}) for number in range(20)]
        assert [answer.status for answer in live] == [200] * 20, "ephemeral topics flow while the log is away"
        counted = await publisher.publish(EPHEMERAL, {"number": 20}, wait="delivered")
        assert (counted.body["delivered_to"], counted.body["delivered_to_basis"]) == (1, "delivered")
        await until("ephemeral messages arrive", lambda: listener.count == 21, 5)
        await asyncio.sleep(frozen + FROZEN_S - time.monotonic())  # the length of the fault, not a wait for anything
        assert all(s.connections == 1 and s.connected for s in subscribers), "sockets stay"
        cluster.nodes[0].sigcont()
        thawed = time.monotonic()
        await until("publishing works again", lambda: _accepted(load, thawed), 30)
        healed = max(a.began + a.took_s for a in load.attempts[-1:]) - thawed
        enough = len(load.attempts) + 40
        await until("and goes on", lambda: len(load.attempts) >= enough, 30)
        running.cancel()
        await load.answered()

        unknown = [a for a in load.attempts if a.status == 504]
        seqs = await asyncio.gather(*(_retry(publisher, a) for a in unknown))
        assert all(role.running for role in deployment.roles), "without a restart"
        await _ready(deployment)
        await _check(publisher, load, subscribers, deployment, dict(zip(unknown, seqs, strict=True)))
    figures.say(_say(load, frozen, thawed, healed))
    _answers_in_time(load, frozen, thawed)


async def _not_ready(deployment: Deployment) -> bool:
    async with Publisher(deployment.ingests[0].admin) as admin:
        ready = await admin.call("GET", "/readyz")
        alive = await admin.call("GET", "/livez")
    assert alive.status == 200, "/livez stays 200"
    return ready.status == 503 and "log" in ready.body["checks"]


async def _ready(deployment: Deployment) -> None:
    for role in deployment.roles:
        await role.ready(30)


def _accepted(load: Load, thawed: float) -> bool:
    fresh = [a for a in load.attempts if a.began > thawed]
    return {a.topic for a in fresh[-len(TOPICS) :] if a.status == 200} == set(TOPICS)


async def _retry(publisher: Publisher, attempt: Attempt) -> int:
    """Repeats an unresolved publish under its id until its one seq is known."""
    deadline = time.monotonic() + 30
    while True:
        answer = await publisher.publish(attempt.topic, attempt.client_msg_id, attempt.client_msg_id, wait="sequenced")
        if answer.status == 200:
            return int(answer.body["seq"])
        assert answer.status == 504, f"a repeat of an unresolved publish is 504, never {answer}"
        assert time.monotonic() < deadline, f"a 504 never resolved: {attempt}"


def _answers_in_time(load: Load, frozen: float, thawed: float) -> None:
    assert {a.status for a in load.attempts} == {200, 503, 504}
    assert all(a.code == {503: "log_unavailable", 504: "outcome_unknown", 200: ""}[a.status] for a in load.attempts)
    slow = max(load.attempts, key=lambda a: a.took_s)
    assert slow.took_s <= 7.0, f"first answers within 7 s: {slow}"
    late = _after_opening(load, frozen, thawed)
    passed = [a for a in late if a.status != 503]
    assert not passed, f"then 503: {passed[0].began - frozen:.1f} s after the freeze: {passed[0]}"
    slow = max(late, key=lambda a: a.took_s)
    assert slow.took_s <= 1.0, f"then 503 within 100 ms, ten times that on a busy machine: {slow}"


def _after_opening(load: Load, frozen: float, thawed: float) -> list[Attempt]:
    """What began while every shard's circuit was open."""
    return [a for a in load.attempts if frozen + OPEN_S < a.began < thawed]


async def _check(
    publisher: Publisher, load: Load, subscribers: list[Subscriber], deployment: Deployment, retried: dict[Attempt, int]
) -> None:
    acked = {a.client_msg_id for a in load.attempts if a.status == 200} | {a.client_msg_id for a in retried}
    refused = {a.client_msg_id for a in load.attempts if a.status == 503}
    sent: dict[str, list[bytes]] = {}
    for topic in TOPICS:
        history = await publisher.history(topic)
        ledger.dense(topic, [m["seq"] for m in history])
        names = [m["payload"] for m in history]
        ledger.none_of(refused, names)
        ledger.nothing_invented(topic, acked, names)
        sent[topic] = [msgspec.json.encode(name) for name in names]
        for attempt, seq in retried.items():
            if attempt.topic == topic:
                assert names[seq - 1] == attempt.client_msg_id, f"P2 one seq for a retried 504: {attempt} {seq}"
    missing = acked - {msgspec.json.decode(payload) for payloads in sent.values() for payload in payloads}
    assert not missing, f"P1 acknowledged and in history once: {sorted(missing)[0]} is not there"
    await at_most(20, lambda: all(len(s.messages[t]) >= len(sent[t]) for s in subscribers for t in s.topics))
    for subscriber in subscribers:
        assert subscriber.connections == 1, "sockets stay"
        for topic in subscriber.topics:
            ledger.complete(topic, subscriber.name, subscriber.messages[topic], sent[topic])
    records = await read_all(deployment.bootstrap, f"{deployment.prefix}.messages")
    ledger.none_of(refused, [name for record in records for name in _payloads(record.value)])


def _payloads(value: bytes) -> list[str]:
    """Returns the payloads of a message record as it stands in Kafka."""
    if not is_ours(value):
        return []
    envelope = decode(value)
    if envelope.kind is Kind.CONTROL:
        return []
    return [msgspec.json.decode(b"{" + item.tail)["payload"] for item in envelope.items]


def _say(load: Load, frozen: float, thawed: float, healed: float) -> str:
    counts = Counter(a.status for a in load.attempts)
    unknown = [a.took_s for a in load.attempts if a.status == 504]
    late = [a.took_s for a in _after_opening(load, frozen, thawed)]
    early = [a.took_s for a in load.attempts if frozen < a.began <= frozen + OPEN_S and a.status == 503]
    return (
        f"broker SIGSTOPped {FROZEN_S:.0f} s at {1 / RATE_S:.0f} publishes/s: {counts[200]} x 200, {counts[504]} x 504 "
        f"(slowest {max(unknown):.2f} s), {counts[503]} x 503: begun in the first {OPEN_S:.0f} s {len(early)} (waited "
        f"behind a 504, slowest {max(early, default=0):.2f} s), after that {len(late)} (median "
        f"{median(late) * 1e3:.1f} ms, slowest {max(late) * 1e3:.0f} ms); all {len(TOPICS)} topics accepted "
        f"{healed:.1f} s after SIGCONT; sockets stayed, ephemeral flowed; no 503 is in the log, each 504 "
        f"retried: one seq"
    )
