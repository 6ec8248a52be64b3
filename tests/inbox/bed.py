"""Dispatchers and an ingest of production classes on virtual time, asked over HTTP, and what is done to them.

Index files are in memory: whoever comes back has nothing but the logs. Snapshots are frequent and small.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec

from headgate.core.wire.ids import shard_of, topic_key, user_shard
from headgate.core.wire.inbox_record import InboxRecord, decode_inbox
from headgate.core.wire.records import LogName, Record
from headgate.runtime.testing.faulty_log import Reach
from tests.sim.disk import disks
from tests.sim.loop import SimLoop
from tests.sim.nodes import DispatcherNode
from tests.sim.plan import Plan
from tests.sim.surroundings import quiet_and_small
from tests.sim.world import Bugs, World

T = TypeVar("T")

SHARDS: Final = 2
SETTLE_S: Final = 30.0  # virtual: a takeover after a kill takes about 8
POLL_S: Final = 0.1
TRY_S: Final = 0.25
TRIES: Final = 240
ROOT: Final = "root"  # has every right; a user whose name begins with c has those of his roles
AWAY: Final = frozenset({429, 503, 504})


class Reply(NamedTuple):
    """An answer."""

    status: int
    body: Any


class SimulatedInboxes:
    """`do` runs a scene to its end; between two scenes no time passes."""

    def __init__(self, *, snapshot_s: float = 1.0, link_s: float = 0.004) -> None:
        self._stack = contextlib.ExitStack()
        plan = Plan(0, shards=SHARDS, dispatchers=("d1", "d2"), topics=("t0",), publishes=0, clients=0, door_changes=1)
        plan.snapshot_s, plan.snapshot_changes, plan.chunk_bytes, plan.link_s = snapshot_s, 10, 1_000, link_s
        self._stack.enter_context(quiet_and_small(plan))
        self._stack.enter_context(disks())
        self.loop = SimLoop()
        self.world = World(plan, self.loop, Bugs(), None, None)
        self.ingest = self.world.ingests["i1"]
        self._requests = 0
        self.do(self._start())

    def do(self, scene: Coroutine[Any, Any, T]) -> T:
        """Runs a scene."""
        return self.loop.run_until_complete(scene)

    def close(self) -> None:
        """Ends every task. Raises AssertionError for what somebody died of."""
        try:
            self.do(self.world._end())
            left = asyncio.all_tasks(self.loop)
            for task in sorted(left, key=lambda t: t.get_name()):
                task.cancel()
            if left:
                self.do(_all(left))
        finally:
            self.loop.close()
            self._stack.close()
        found = [violation.text for violation in self.world.violations] + self.loop.complaints
        assert not found, f"something died: {found[:3]}"

    async def _start(self) -> None:
        for node in self.world.dispatchers.values():
            await node.start()
        await self.ingest.start()
        await self.served()

    async def served(self) -> None:
        """Waits until every shard has an owner that is linked."""
        async with asyncio.timeout(SETTLE_S):
            while self.ingest.directory.missing() is not None:
                await asyncio.sleep(POLL_S)

    # Requests

    async def ask(self, user: str, method: str, path: str, body: object = None, **query: object) -> Reply:
        """Asks once."""
        data = b"" if body is None else msgspec.json.encode(body)
        task = self.ingest.request(method, path, urlencode(query), user, data)
        return Reply(*await task)

    async def asked(self, user: str, method: str, path: str, body: object = None, **query: object) -> Reply:
        """Asks until the answer is final; a repeat may meet what an earlier attempt did."""
        for _ in range(TRIES):
            reply = await self.ask(user, method, path, body, **query)
            if reply.status not in AWAY:
                return reply
            await asyncio.sleep(TRY_S)
        raise AssertionError(f"no final answer to {method} {path} of {user}: {reply}")

    async def publish(self, user: str, topic_id: str, payload: object) -> Reply:
        """Publishes one message, once, and waits for its number."""
        self._requests += 1
        body = {"payload": payload, "client_msg_id": f"n{self._requests}"}
        return await self.asked(user, "POST", f"/api/v1/topics/{topic_id}/publish", body, wait="sequenced")

    async def publish_batch(self, user: str, topic_id: str, payloads: Sequence[object]) -> list[dict[str, Any]]:
        """Publishes messages in one batch; returns the answers, each with its number."""
        self._requests += 1
        ids = [f"b{self._requests}-{n}" for n in range(len(payloads))]
        items = [{"payload": payload, "client_msg_id": name} for payload, name in zip(payloads, ids, strict=True)]
        for _ in range(TRIES):
            path = f"/api/v1/topics/{topic_id}/publish/batch"
            reply = await self.asked(user, "POST", path, items, wait="sequenced")
            assert reply.status == 200, reply
            results: list[dict[str, Any]] = reply.body["results"]
            if all(result["status"] == 200 and result.get("seq") for result in results):
                return results
            await asyncio.sleep(TRY_S)
        raise AssertionError(f"a batch to {topic_id} is never accepted: {results[:2]}")

    # Who does what

    def owner(self, shard: int) -> DispatcherNode | None:
        """Returns the node that serves a shard."""
        nodes = [n for n in self.world.dispatchers.values() if n.up and shard in n.service.dispatcher.owners]
        return nodes[-1] if nodes else None

    async def kill(self, shard: int, extra: float = 1.0, away_s: float = 0.5) -> None:
        """Kills the owner of a shard, which comes back under its old name; `extra`: what it handed over arrives."""
        node = self.owner(shard)
        if node is not None:
            await node.crash(extra)
            await asyncio.sleep(away_s)
            await node.start()

    async def inflict(self, shard: int, fault: str) -> None:
        """Does something to the owner of a shard, and heals it."""
        node = self.owner(shard)
        if node is None:
            return
        if fault.startswith("killed"):
            await self.kill(shard, 0.5 if "half" in fault else 0.0)
            return
        node.log.slow_s = 2.0 if fault == "log slow" else 0.0
        node.log.reach = {"log refused": Reach.REFUSED, "log silent": Reach.SILENT}.get(fault, Reach.OK)
        await asyncio.sleep(2.0)
        node.log.slow_s, node.log.reach = 0.0, Reach.OK

    # The inbox log

    def inbox_records(self, shard: int) -> Iterator[tuple[Record, InboxRecord]]:
        """Yields the records of a shard's inbox log."""
        part = self.world.store.parts[LogName.INBOX, shard]
        for record in part.slice(part.first, 1 << 30).records:
            yield record, decode_inbox(record.value)

    def forget_inbox(self, shard: int) -> None:
        """Retention takes what stands before the newest snapshot of a shard."""
        node = self.owner(shard)
        if node is not None:
            offset = node.service.dispatcher.owners[shard].inbox_snapshot_offset
            self.world.store.parts[LogName.INBOX, shard].truncate_before(offset)

    def append(self, shard: int, record: Record) -> None:
        """Appends a record to an inbox log once more."""
        self.world.store.parts[LogName.INBOX, shard].add(self.world.broker_clock.wall_ms(), record.key, record.value)


async def _all(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def names(begin: str, shard: int, count: int, *, of_users: bool = False) -> list[str]:
    """Returns the first names with this beginning that belong to a shard: of topics, or of users."""
    found: list[str] = []
    for n in range(10_000):
        name = f"{begin}{n}"
        place = user_shard(name, SHARDS) if of_users else shard_of(topic_key(name), SHARDS)
        if place == shard:
            found.append(name)
        if len(found) == count:
            return found
    raise AssertionError("no such names")
