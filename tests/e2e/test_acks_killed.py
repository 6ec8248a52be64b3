"""Acknowledged subscriptions while the gateway, the topic's owner and the user's owner are killed in mid-redelivery.

HEADGATE_ACK_KILLS kills of each (Kafka, separate processes); the seeds differ in what fails and when the kill comes.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Final

import pytest

from headgate.core.wire.ids import shard_of, topic_key, user_shard
from tests.e2e import ledger
from tests.e2e.acking import Worker
from tests.e2e.clients import Publisher
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Role, Stage, shards_of, token, until

KILLS: Final = int(os.environ.get("HEADGATE_ACK_KILLS", "1"))
SHARDS: Final = 4
WORKERS: Final = 6
MOST: Final = 4
RETRY: Final = {"kind": "fixed", "first_ms": 700, "max_ms": 700, "jitter": 0, "max_attempts": MOST}
PER_S: Final = 40
SETTINGS: Final = {  # each message is acknowledged, and after an outage many fail in a row
    "limits.control_per_s": 1_000,
    "limits.control_burst": 10_000,
    "limits.ack_breaker_failures": 1_000,
}


class Plan:
    """What fails: some messages twice, some always; drawn by the seed."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.twice = set(rng.sample(range(40_000), 5_000))
        self.always = set(rng.sample(range(40_000), 600)) - self.twice
        self.pause_s = rng.uniform(0.0, 0.6)

    def fails(self, number: int, attempt: int) -> bool:
        return number in self.always or (number in self.twice and attempt <= 2)


class Scene:
    """Topics and workers; each worker has a topic of its own, all of one shard, and his user is of another."""

    def __init__(self, deployment: Deployment, admin: Publisher, plan: Plan) -> None:
        self.deployment = deployment
        self.plan = plan
        topics: list[str] = []
        users: list[str] = []
        for n in count():
            if len(topics) < WORKERS and shard_of(topic_key(f"jobs-{n}"), SHARDS) == 0:
                topics.append(f"jobs-{n}")
            if len(users) < WORKERS and user_shard(f"worker-{n}", SHARDS) == 1:
                users.append(f"worker-{n}")
            if len(topics) == len(users) == WORKERS:
                break
        urls = [gateway.url for gateway in deployment.gateways]
        self.workers = [
            Worker(user, urls, topic, token(user), plan.fails, MOST) for user, topic in zip(users, topics, strict=True)
        ]
        self.acked: dict[str, dict[str, str]] = {topic: {} for topic in topics}
        self._admin = admin
        self._stop = asyncio.Event()

    async def create(self) -> None:
        for topic in self.acked:
            answer = await self._admin.create(topic, settings={"retry": RETRY})
            assert answer.status == 201, answer

    async def publish(self) -> None:
        """Publishes PER_S messages a second to each topic until stopped, each until it is accepted."""
        async with asyncio.TaskGroup() as tasks:
            for n in count():
                if self._stop.is_set():
                    return
                for topic in self.acked:
                    tasks.create_task(self._send(topic, n))
                await asyncio.sleep(1 / PER_S)

    async def _send(self, topic: str, n: int) -> None:
        async with asyncio.timeout(60):
            while True:
                answer = await self._admin.publish(topic, {"n": n}, f"n-{n}")
                if answer.status == 200:
                    self.acked[topic][f"n-{n}"] = answer.body["message_id"]
                    return
                assert answer.status in (503, 504), answer
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        self._stop.set()

    def check(self) -> None:
        for worker in self.workers:
            worker.check()

    def owner(self, shard: int) -> Role | None:
        """The dispatcher that serves a shard, None while nobody does."""
        serving = (role for role in self.deployment.dispatchers if role.running and shard in shards_of(role))
        return next(serving, None)

    def all_fail(self) -> bool:
        """Whether most workers have a message that waits for its next attempt."""
        self.check()
        return sum(bool(worker.refused) for worker in self.workers) > WORKERS // 2

    def settled(self) -> bool:
        """Whether every message of every topic was acknowledged, but for those that are never."""
        self.check()
        return all(
            len(worker.ledger.seen) >= len(self.acked[worker.topic]) and set(+worker.ledger.owed) <= worker.hopeless
            for worker in self.workers
        )

    def standing(self) -> str:
        """What is still open, for the text of a failure."""
        return "; ".join(
            f"{w.topic}: {len(self.acked[w.topic])} published, {len(w.ledger.seen)} tried, newest "
            f"{max(w.ledger.seen, default=0)}, open {sorted(+w.ledger.owed)[:5]}, hopeless {sorted(w.hopeless)[-3:]}, "
            f"subscribed {w.is_subscribed}, last {w.tries[-3:]} {w.frames[-2:]}"
            for w in self.workers
        )

    async def given_up(self) -> bool:
        """Whether there is a dead letter for each message that is never acknowledged."""
        return all([len(await self.letters(worker.topic)) >= len(worker.hopeless) for worker in self.workers])

    async def letters(self, topic: str) -> list[dict[str, Any]]:
        answer = await self._admin.call("GET", "/api/v1/dead-letters", topic_id=topic, limit=1000)
        assert answer.status == 200, answer
        return list(answer.body["dead_letters"])


Kill = Callable[[Scene], Awaitable[None]]


async def kill_a_gateway(scene: Scene) -> None:
    gateway = scene.deployment.gateways[0]
    gateway.kill9()
    await asyncio.sleep(0.3)
    gateway.start()
    await gateway.ready(30)


def kill_the_owner_of(shard: int) -> Kill:
    async def kill(scene: Scene) -> None:
        owner = scene.owner(shard)
        assert owner is not None
        owner.kill9()
        await until("another owner serves", lambda: scene.owner(shard), 40)
        owner.start()
        await owner.ready(40)

    return kill


@pytest.mark.parametrize(
    ("what", "kill"),
    [
        ("the gateway", kill_a_gateway),
        ("the topic's owner", kill_the_owner_of(0)),
        ("the user's owner", kill_the_owner_of(1)),
    ],
)
async def test_a_death_in_mid_redelivery_loses_nothing_and_repeats_nothing_that_is_stored(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str, what: str, kill: Kill
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2, settings=SETTINGS)
    await deployment.start(SHARDS)
    async with AsyncExitStack() as stack:
        root = token("root", service=True, admin=True)
        admin = await stack.enter_async_context(Publisher(deployment.ingests[0].url, root))
        scene = Scene(deployment, admin, Plan(20_261_127 + len(what)))
        await scene.create()
        for worker in scene.workers:
            await stack.enter_async_context(worker)
        await until("everybody works", lambda: all(w.is_subscribed for w in scene.workers), 30)
        publishing = asyncio.create_task(scene.publish())
        for n in range(KILLS):
            await until("messages come again", scene.all_fail, 30)
            await asyncio.sleep(Plan(n).pause_s)
            await kill(scene)
            await until("everybody works again", lambda: all(w.is_subscribed for w in scene.workers), 40)
        scene.stop()
        await publishing
        try:
            await until("everything is settled", scene.settled, 120)
        except AssertionError as error:
            raise AssertionError(f"{error}: {scene.standing()}") from error
        await until("the rest are dead letters", scene.given_up, 60, poll_s=0.5)
        scene.check()
        given_up = 0
        for worker in scene.workers:
            history = await admin.history(worker.topic)
            ledger.acknowledged_once(worker.topic, scene.acked[worker.topic], history)
            seqs = {message["seq"]: message["payload"]["n"] for message in history}
            assert worker.ledger.seen == set(seqs), "lost: each message was tried"
            letters = await scene.letters(worker.topic)
            given_up_seqs = [letter["seq"] for letter in letters]
            assert len(set(given_up_seqs)) == len(given_up_seqs), "one dead letter of each"
            always = {seq for seq, n in seqs.items() if n in scene.plan.always}
            twice = {seq for seq, n in seqs.items() if n in scene.plan.twice}
            assert always <= set(given_up_seqs), "what always fails is a dead letter"
            # A busy machine may be late twice with what fails twice: a timeout is a failure too.
            assert set(given_up_seqs) <= always | twice, "and nothing that succeeds at once"
            assert all(letter["attempts"] == MOST for letter in letters), letters
            given_up += len(letters)
            for letter in letters:
                worker.ledger.settle(letter["seq"], only_if_owed=True)
            worker.ledger.nothing_is_due()
    repeats = sum(len(w.tries) - len(w.ledger.seen) for w in scene.workers)
    total = sum(map(len, scene.acked.values()))
    figures.say(
        f"{KILLS} x kill -9 of {what} in mid-redelivery: {WORKERS} workers, {total} messages, {given_up} dead letters, "
        f"each once; {repeats} deliveries more than messages; none came again after its acknowledgement was stored"
    )
