"""kill -9 of a dispatcher whose index folder is then deleted, with 300,000 message records in the log: the other takes
its shards from their snapshots, and clients see every message once, in order."""

import asyncio
import shutil
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count

import msgspec

from headgate.core.wire.ids import shard_of, topic_key
from tests.e2e import ledger
from tests.e2e.clients import Publisher, Seen, Subscriber
from tests.e2e.conftest import Figures
from tests.e2e.harness import Deployment, Role, Stage, at_most, shards_of, token, until
from tests.e2e.kafka_client import fill
from tests.e2e.traffic import Traffic, sent_at

SHARDS = 8
RECORDS = 300_000
READ_AT_MOST = 60_000
OF_A_SHARD = 8  # topics; the first half of them is followed


def _shard(topic: str) -> int:
    return shard_of(topic_key(topic), SHARDS)


def _spread() -> list[str]:
    """Returns topics of which each shard has as many, shard by shard in turn."""
    of_shard: list[list[str]] = [[] for _ in range(SHARDS)]
    for number in count():
        if all(len(topics) >= OF_A_SHARD for topics in of_shard):
            return [topics[n] for n in range(OF_A_SHARD) for topics in of_shard]
        of_shard[_shard(f"filled.{number}")].append(f"filled.{number}")
    raise AssertionError


TOPICS = _spread()
FOLLOWED = TOPICS[: len(TOPICS) // 2]


class FirstPush:
    """Notes the first message of the lost shards that was published after the kill, and what was read by then.

    What was published before the kill may have been on its way already: no push of the new owner.
    """

    def __init__(self, other: Role) -> None:
        self.killed = float("inf")
        self.lost: set[int] = set()
        self.at = 0.0
        self.read: asyncio.Task[float] | None = None
        self._other = other

    def on_message(self, topic: str, seen: Seen) -> None:
        """Looks at one message."""
        if self.read is None and sent_at(seen.payload) > self.killed and _shard(topic) in self.lost:
            self.at = seen.at
            self.read = asyncio.create_task(_read(self._other))


@dataclass
class Scene:
    """What the test is about, as it comes to be; `took` holds seconds and counts by name."""

    deployment: Deployment
    publisher: Publisher
    first: FirstPush
    took: dict[str, float] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    subscribers: list[Subscriber] = field(default_factory=list)
    late: list[Subscriber] = field(default_factory=list)
    known: dict[str, Seen] = field(default_factory=dict)


async def test_another_dispatcher_takes_over_from_snapshots_and_clients_see_everything_once(
    stage: Stage, figures: Figures, kafka_bootstrap: str, log_prefix: str
) -> None:
    deployment = Deployment(stage, kafka_bootstrap, log_prefix, dispatchers=2, gateways=2)
    await deployment.start(SHARDS)
    bearer = token("p", service=True)
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(deployment.ingests[0].url, bearer))
        scene = Scene(deployment, publisher, FirstPush(deployment.dispatchers[1]))
        await _fill(scene)
        await _subscribe(scene, stack)
        traffic = await stack.enter_async_context(Traffic([deployment.ingests[0].url], bearer, FOLLOWED))
        await until("traffic flows", lambda: all(s.count >= 40 for s in scene.subscribers), 30)
        await _kill_and_wait(scene, stack)
        enough = traffic.total + 400
        await until("traffic goes on", lambda: traffic.total >= enough, 60)
        await traffic.stop()
        expected = sum(len(traffic.sent[topic]) for s in scene.subscribers for topic in s.topics)
        await at_most(30, lambda: sum(s.count for s in scene.subscribers) >= expected)
        await _check(scene, traffic)
    took, read = scene.took, scene.took["read"]
    figures.say(
        f"{RECORDS} message records in the log (written in {took['written']:.1f} s, applied {took['applied']:.1f} s "
        f"after the first), kill -9 of the owner of {len(scene.first.lost)} of {SHARDS} shards, its index deleted: "
        f"first push {took['first push']:.1f} s after the kill, all its shards back after {took['back']:.1f} s; "
        f"message records read by the other before its first push: {read:.0f} (at most {READ_AT_MOST}); "
        f"{traffic.total} messages published meanwhile, all 200, {expected} deliveries, each once, in order; "
        f"{len(scene.late)} clients that came with a cursor meanwhile resumed within {took['resumed']:.1f} s of the "
        f"kill; from the first push on the newest 100 messages were had in {took['newest 100']:.1f} s, `last:50` in "
        f"{took['last 50']:.1f} s, 1,000 messages behind in {took['1,000 behind']:.1f} s; "
        f"history whole {took['whole']:.1f} s after the last message"
    )
    assert read <= READ_AT_MOST, "recovery reads the tail behind the snapshots, not the log"


async def _fill(scene: Scene) -> None:
    """Lets RECORDS records stand in the log and be applied."""
    deployment, publisher = scene.deployment, scene.publisher
    await publisher.create_all(TOPICS)
    epochs = {}
    for topic in TOPICS:
        epochs[topic] = (await publisher.call("GET", f"/api/v1/topics/{topic}")).body["epoch"]
    began = time.monotonic()
    scene.filled = await fill(deployment.bootstrap, deployment.prefix, SHARDS, epochs, RECORDS)
    scene.took["written"] = time.monotonic() - began
    await until("both dispatchers have applied it all", lambda: _applied(deployment, RECORDS), 120, 0.5)
    scene.took["applied"] = time.monotonic() - began


async def _subscribe(scene: Scene, stack: AsyncExitStack) -> None:
    gateways = scene.deployment.gateways
    for n in range(16):
        topics, on_message = FOLLOWED[n % 4 :: 4], scene.first.on_message
        subscriber = Subscriber(f"s{n}", [gateways[n % 2].url], topics, token=token(f"s{n}"), on_message=on_message)
        scene.subscribers.append(await stack.enter_async_context(subscriber))
    await until("every subscription is granted", lambda: all(s.connected for s in scene.subscribers), 30)


async def _kill_and_wait(scene: Scene, stack: AsyncExitStack) -> None:
    """Kills the owner, lets clients come with a cursor while there is none, and waits until all is served again."""
    victim, other = scene.deployment.dispatchers
    first, took = scene.first, scene.took
    first.lost = shards_of(victim)
    assert first.lost and first.lost | shards_of(other) == set(range(SHARDS))
    read_before = await _read(other)
    victim.kill9()
    first.killed = time.monotonic()
    shutil.rmtree(scene.deployment.index(victim))
    scene.known = {topic: s.messages[topic][-1] for s in scene.subscribers for topic in s.topics}
    mine = [topic for topic in FOLLOWED if _shard(topic) in first.lost]
    for topic in mine:
        start = {"epoch": scene.known[topic].epoch, "seq": scene.known[topic].seq}
        urls = [scene.deployment.gateways[0].url]
        late = Subscriber(f"late-{topic}", urls, [topic], token=token("late", service=True), start=start)
        scene.late.append(await stack.enter_async_context(late))
    probe = asyncio.create_task(_never_gone(scene.publisher, mine))
    await until("the first push", lambda: first.read is not None, 60)
    assert first.read is not None
    took["first push"], took["read"] = first.at - first.killed, await first.read - read_before
    await _read_the_newest(scene, mine[0], stack)
    await until("every shard is back", lambda: _back(scene), 60)
    took["back"] = time.monotonic() - first.killed
    await until("clients that resumed meanwhile are served", lambda: all(s.connected for s in scene.late), 60)
    took["resumed"] = time.monotonic() - first.killed
    await probe


async def _read_the_newest(scene: Scene, topic: str, stack: AsyncExitStack) -> None:
    """Asks for what is new while history is being filled: nobody waits for what is old."""
    began = time.monotonic()
    head = 0

    async def newest() -> bool:
        nonlocal head
        page = await scene.publisher.call("GET", f"/api/v1/topics/{topic}/messages", limit=100)
        head = page.body["last_seq"] if page.status == 200 else 0
        return page.status == 200 and len(page.body["messages"]) == 100

    await until("the newest 100 are there", newest, 30, 0.05)
    scene.took["newest 100"] = time.monotonic() - began
    urls = [scene.deployment.gateways[1].url]
    for name, start, wanted in (("last 50", {"last": 50}, 50), ("1,000 behind", {"seq": head - 1_000}, 1_000)):
        began = time.monotonic()
        late = Subscriber(name.replace(" ", "-"), urls, [topic], token=token("new", service=True), start=start)
        await stack.enter_async_context(late)
        await until(f"{name}", lambda late=late, wanted=wanted: late.count >= wanted, 30, 0.02)
        scene.took[name] = time.monotonic() - began


async def _check(scene: Scene, traffic: Traffic) -> None:
    for subscriber in scene.subscribers:
        for topic in subscriber.topics:
            sent = traffic.sent[topic]
            ledger.complete(topic, subscriber.name, subscriber.messages[topic], sent, scene.filled[topic] + 1)
        assert subscriber.connections == 1, "live subscriptions see nothing of a change of owner"
        assert not subscriber.of_type("gap") and not subscriber.of_type("error")
    for subscriber in scene.late:
        await _check_late(subscriber, scene.known, traffic, scene.filled)
    lost = [topic for topic in FOLLOWED if _shard(topic) in scene.first.lost]
    scene.took["whole"] = await _history(scene.publisher, traffic, scene.filled, lost[:4])


async def _check_late(subscriber: Subscriber, known: dict[str, Seen], traffic: Traffic, filled: dict[str, int]) -> None:
    (topic,) = subscriber.topics
    cursor = known[topic].seq
    missed = traffic.sent[topic][cursor - filled[topic] :]
    await at_most(20, lambda: subscriber.count >= len(missed))
    ledger.complete(topic, subscriber.name, subscriber.messages[topic], missed, cursor + 1)
    assert all(frame["resumed"] for frame in subscriber.of_type("subscribed")), "a cursor is good on a new owner"
    assert not subscriber.of_type("gap") and not subscriber.of_type("error")


async def _never_gone(publisher: Publisher, topics: list[str]) -> None:
    """Asks for old history from the kill until it is whole again: `complete:false` or 503, never 410."""
    for topic in topics:
        while True:
            answer = await publisher.call("GET", f"/api/v1/topics/{topic}/messages", after_seq=5, limit=1)
            assert answer.status in (200, 503), f"history that is being rebuilt is not gone: {topic}: {answer}"
            if answer.status == 200 and answer.body["complete"]:
                assert answer.body["messages"][0]["seq"] == 6, answer
                break
            await asyncio.sleep(0.1)


async def _applied(deployment: Deployment, messages: int) -> bool:
    name = 'headgate_sequenced_total{verdict="accepted"}'
    return sum([(await role.metrics())[name] for role in deployment.dispatchers]) >= messages


async def _read(dispatcher: Role) -> float:
    return (await dispatcher.metrics())['headgate_log_records_read_total{log="messages"}']


def _back(scene: Scene) -> bool:
    newest = [(t, seen[-1].payload) for s in scene.subscribers for t, seen in s.messages.items() if seen]
    return scene.first.lost <= {_shard(topic) for topic, payload in newest if sent_at(payload) > scene.first.killed}


async def _history(publisher: Publisher, traffic: Traffic, filled: dict[str, int], topics: list[str]) -> float:
    began = time.monotonic()
    for topic in topics:
        history = await publisher.history(topic)
        ledger.dense(topic, [m["seq"] for m in history])
        payloads = [msgspec.json.encode(m["payload"]) for m in history]
        assert payloads == [b'{"number":%d}' % n for n in range(filled[topic])] + traffic.sent[topic], topic
    return time.monotonic() - began
