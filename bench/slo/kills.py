"""The run `kills`: each process is killed in turn and started again; how long does any message wait meanwhile?"""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from bench.latency import quantile
from bench.slo.place import Place, dues, open_loop, progress, root
from bench.slo.rows import Found
from tests.e2e.clients import Publisher, Seen, Subscriber
from tests.e2e.harness import Role, token, until
from tests.e2e.http import NoAnswer

TOPICS: Final = 16  # in all shards
READERS: Final = 2  # of each topic, one on each gateway
PER_S: Final = 40.0
EVERY_S: Final = 20.0  # between two kills
AWAY_S: Final = 5.0
WAITING_S: Final = 1.0  # a message that takes longer counts as an outage
DAYS: Final = 30


class Waits:
    """When each message was due and how long it took to all of its readers, whatever was killed."""

    def __init__(self, publishers: list[Publisher], topics: list[str]) -> None:
        self.sent = Counter[str]()
        self.found: list[tuple[float, float]] = []
        self.asked = self.answered_at_once = 0
        self._publishers = publishers
        self._topics = topics
        self._due: dict[int, float] = {}
        self._had = Counter[int]()

    async def send(self, n: int, due: float) -> None:
        """Publishes message `n`, at the other ingest when one does not answer, until it is acknowledged."""
        topic, self._due[n], attempt = self._topics[n % len(self._topics)], due, 0
        while not await self._answered(self._publishers[(n + attempt) % len(self._publishers)], topic, n):
            attempt += 1
            await asyncio.sleep(0.1)
        self.sent[topic] += 1
        self.asked += 1
        self.answered_at_once += attempt == 0

    def take(self, _: str, seen: Seen) -> None:
        """Counts a reader's message; with the last reader it is there."""
        n = msgspec.json.decode(seen.payload)["n"]
        self._had[n] += 1
        if self._had[n] == READERS:
            self.found.append((self._due[n], time.time() - self._due[n]))

    def longest(self, begin: float, end: float) -> float:
        """Returns the longest wait of the messages that were due in between."""
        return max((wait for due, wait in self.found if begin <= due < end), default=0.0)

    async def _answered(self, publisher: Publisher, topic: str, n: int) -> bool:
        try:
            answer = await publisher.publish(topic, {"n": n}, f"message-{n}")
        except (NoAnswer, TimeoutError):
            return False
        assert answer.status == 200 or answer.status >= 500, answer
        return answer.status == 200


async def kills(place: Place) -> list[Found]:
    """40 messages a second to 32 clients on two gateways while each process is killed once and started again."""
    topics, roles = await place.topics("kills", TOPICS), place.deployment.roles
    urls = [gateway.url for gateway in place.deployment.gateways]
    every_s = EVERY_S if place.scale >= 1 else max(12.0, EVERY_S * place.scale)
    async with AsyncExitStack() as stack:
        publishers = [Publisher(ingest.url, root(), timeout_s=3.0) for ingest in place.deployment.ingests]
        for publisher in publishers:
            await stack.enter_async_context(publisher)
        waits, readers = Waits(publishers, topics), list[Subscriber]()
        for topic in topics:
            for n in range(READERS):
                name, mine = f"{topic}-{n}", urls[n:] + urls[:n]
                made = Subscriber(name, mine, [topic], token=token(name, service=True), on_message=waits.take)
                readers.append(await stack.enter_async_context(made))
        await until("all follow", lambda: all(reader.connected for reader in readers), 30)
        due = dues((PER_S, every_s * (len(roles) + 1)))
        load = asyncio.create_task(open_loop("kills", due, waits.send))
        killed = [await _kill(role, every_s) for role in roles]
        await load
        total = READERS * waits.sent.total()
        await until("every reader has all", lambda: sum(reader.count for reader in readers) >= total, 60)
        _check(readers, waits)
    return _found(waits, roles, killed, every_s)


async def _kill(role: Role, every_s: float) -> float:
    """Kills a process after a while and starts it again; returns the Unix second of the kill."""
    await asyncio.sleep(every_s - AWAY_S)
    role.kill9()
    at = time.time()
    progress(f"{role.name} is killed")
    await asyncio.sleep(AWAY_S)
    await role.start().ready()
    return at


def _check(readers: list[Subscriber], waits: Waits) -> None:
    """Every reader has every message of its topic once and in order. Raises AssertionError."""
    for reader in readers:
        for topic, messages in reader.messages.items():
            seqs = [seen.seq for seen in messages]
            assert seqs == list(range(1, waits.sent[topic] + 1)), f"{reader.name}: {seqs[:20]} {len(seqs)}"


def _found(waits: Waits, roles: list[Role], killed: list[float], every_s: float) -> list[Found]:
    longest = [waits.longest(at - WAITING_S, at + every_s - WAITING_S) for at in killed]
    outage_s = sum(wait for wait in longest if wait > WAITING_S)
    each = ", ".join(f"{role.name} {wait:.2f} s" for role, wait in zip(roles, longest, strict=True))
    p95 = quantile([wait for _, wait in waits.found], 0.95) * 1_000
    scale = (
        f"longest wait of a message after the kill of {each}; waits below {WAITING_S:g} s do not count; "
        f"{len(waits.found):,} messages, each once and in order at {READERS} clients, p95 {p95:.0f} ms; "
        f"{100 * waits.answered_at_once / waits.asked:.2f} % answered without a repeat; one kill a process and day"
    )
    dispatcher_s = max(wait for role, wait in zip(roles, longest, strict=True) if role.name.startswith("dispatcher"))
    return [
        Found("waiting_minutes", round(outage_s * DAYS / 60, 2), scale),
        Found("dispatcher_s", round(dispatcher_s, 2), scale),
    ]
