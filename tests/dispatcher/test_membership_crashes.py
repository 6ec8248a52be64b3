"""Whatever a crash cuts off, the users' side has the members of the topics, and where they are, afterwards."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.dispatcher_options import ShardOptions, SnapshotOptions
from dispatcher.outputs import Outputs
from dispatcher.pointers import Pointers
from dispatcher.shard import ShardOwner
from dispatcher.shard_runner import ShardRunner
from headgate.core.inbox.memberships import UserTopic
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.sequencer.snapshot_writer import MemberKey, SnapshotWriter
from headgate.core.wire.control import Control, CreateTopic, DeleteTopic, RemoveMember, SetMember, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.ids import random_id, shard_of, topic_key
from headgate.core.wire.records import LogName
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.dispatcher.bed import dispatcher_of, node_of, shell_of
from tests.dispatcher.members_bed import ROOT

SHARDS = 2
USERS = [f"u{n}" for n in (0, 1, 5, 7, 8, 9)]  # of both shards
TOPICS = [f"t{n}" for n in (0, 1, 2, 3, 6, 8)]  # three of each shard
OPTIONS = ShardOptions(snapshots=SnapshotOptions(check_s=0.01, least_s=0.0, interval_s=0.03, changes=3, base_s=0.3))
LATENCY = {LogName.INBOX: 0.05, LogName.SNAPSHOTS: 0.01, LogName.MESSAGES: 0.001}
WATCHED = (LogName.INBOX, LogName.SNAPSHOTS)
Place = tuple[int, int, int]  # epoch, seq and n of a topic
Memberships = set[tuple[str, str, str, Place]]  # user, topic, role


class Crashing(FaultyLog):
    """A node's log that crashes at append number `crash_at` to the inbox or the snapshots, which may still arrive."""

    def __init__(self, store: MemoryStore, crash_at: int, *, arrives: bool) -> None:
        super().__init__(store, lambda name, shard: LATENCY[name])
        self.appends = 0
        self.crashed = asyncio.Event()
        self._crash_at = crash_at
        self._arrives = arrives

    def append(self, log: LogName, shard: int, key: Any, value: Any) -> Any:
        future = super().append(log, shard, key, value)
        if log in WATCHED:
            self.appends += 1
            if self.appends == self._crash_at:
                self.crash(None if self._arrives else lambda under_way: under_way // 2)
                self.crashed.set()
        return future


class Cluster:
    """Both shards on one node after another; records come from outside."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.rng = SeededRng(7)
        self.store = MemoryStore(loop, SeededRng(1), SHARDS, 1 << 28)
        self.runners: list[ShardRunner] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, log: FaultyLog) -> None:
        await log.open()
        shell = shell_of(self.loop)
        dispatcher = dispatcher_of(shell, log)
        node = node_of(log, dispatcher, shell, OPTIONS)
        self.runners = [ShardRunner(shard, 1, node, dispatcher) for shard in range(SHARDS)]
        self.tasks = [asyncio.create_task(runner.run()) for runner in self.runners]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def append(self, topic: str, control: Control | None, epoch: int) -> int:
        key = topic_key(topic)
        record_id = random_id(key, self.rng.entropy(12))
        if control is None:
            value = encode_message(Item(record_id, 0, b'"payload":1}'), epoch)
        else:
            value = encode_control(encode_body(control), epoch, record_id)
        part = self.store.parts[LogName.MESSAGES, shard_of(key, SHARDS)]
        return (1 << 44) | part.add(self.loop.wall_ms(), key, value).offset

    async def write(self, stop: asyncio.Event, rounds: int = 70) -> None:
        """Writes random messages and changes of members of some topics, one every 10 ms, until a crash."""
        epochs: dict[str, int] = {}
        for _ in range(rounds):
            topic, user = self.rng.choice(TOPICS), self.rng.choice(USERS)
            if topic not in epochs:
                epochs[topic] = self.append(topic, CreateTopic(topic, topic, "PRIVATE", "ann"), 0)
            elif self.rng.random() < 0.3:
                self.append(topic, None, epochs[topic])
            elif self.rng.random() < 0.08:
                self.append(topic, DeleteTopic(topic), epochs.pop(topic))
            elif self.rng.random() < 0.4:
                self.append(topic, RemoveMember(topic, user, ROOT), epochs[topic])
            else:
                role = self.rng.choice(["member", "admin", "subscriber"])
                self.append(topic, SetMember(topic, user, role, ROOT), epochs[topic])
            if stop.is_set():
                return
            await asyncio.sleep(0.01)

    def owners(self) -> list[ShardOwner]:
        return [runner.owner for runner in self.runners if runner.owner is not None]

    async def settle(self) -> None:
        """Waits until both shards are live and everything that they made is in the inbox log and read."""
        async with asyncio.timeout(60):
            while any(runner.life.state is not ShardState.LIVE for runner in self.runners):
                await asyncio.sleep(0.05)
            await asyncio.sleep(3)
            for owner in self.owners():
                await owner.outputs.safe()
                await owner.pointers.safe()
            await asyncio.sleep(3)  # long enough for what waits for the next flush

    def of_topics(self) -> Memberships:
        return {
            (user, row.topic_id, found.role, (row.epoch, row.seq, row.n))
            for owner in self.owners()
            for key, row in owner.rows.items()
            for user, found in owner.shard.members_above(key, row, "", 99)
        }

    def of_users(self) -> Memberships:
        return {
            (user, topic, found.role, self._head(owner, topic, found))
            for owner in self.owners()
            for user in (*USERS, "ann")
            for topic, found in owner.inbox.users.topics_of(user, "", 99)
            if shard_of(user.encode(), SHARDS) == owner.number
        }

    def _head(self, owner: ShardOwner, topic: str, found: UserTopic) -> Place:
        """Where the users' side has a topic: where the member joined, if nothing came since."""
        head = owner.inbox.users.heads.find(topic)
        joined = found.epoch, found.joined_seq, found.joined_n
        return joined if head is None else max(joined, (head.epoch, head.seq, head.n))


async def sides_after_a_crash(loop: VirtualLoop, at: int, *, arrives: bool) -> tuple[Memberships, Memberships, int]:
    cluster = Cluster(loop)
    log = Crashing(cluster.store, at, arrives=arrives)
    await cluster.start(log)
    await cluster.write(log.crashed)
    for _ in range(100):
        if not log.crashed.is_set():
            await asyncio.sleep(0.02)
    await cluster.stop()
    await cluster.start(FaultyLog(cluster.store))
    await cluster.settle()
    sides = cluster.of_topics(), cluster.of_users()
    await cluster.stop()
    assert sides[0]
    return *sides, log.appends


def crash(at: int, *, arrives: bool) -> tuple[Memberships, Memberships, int]:
    loop = VirtualLoop()
    return run(loop, sides_after_a_crash(loop, at, arrives=arrives))


@pytest.mark.parametrize("arrives", [True, False])
def test_both_sides_agree_after_a_crash_at_every_append(arrives: bool) -> None:
    most = crash(1_000_000, arrives=arrives)[2]
    assert most > 60
    for at in range(1, most + 1):
        topics, users, _ = crash(at, arrives=arrives)
        assert users == topics, f"crash at append {at}"


def _lost(patch: pytest.MonkeyPatch) -> None:
    """A snapshot does not wait for the outputs before it."""

    async def safe(outputs: Outputs) -> None: ...

    patch.setattr(Outputs, "safe", safe)


def _no_pointers(patch: pytest.MonkeyPatch) -> None:
    """A snapshot does not wait for the pointers before it."""

    async def safe(pointers: Pointers) -> None: ...

    patch.setattr(Pointers, "safe", safe)


def _not_written(patch: pytest.MonkeyPatch) -> None:
    """A leave is applied live, and no delta has it."""
    touch = SnapshotWriter.touch

    def forgetful(writer: SnapshotWriter, key: Any) -> None:
        if not isinstance(key, MemberKey):
            touch(writer, key)

    patch.setattr(SnapshotWriter, "touch", forgetful)


@pytest.mark.parametrize("plant", [_lost, _no_pointers, _not_written])
def test_planted_faults_are_seen(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for at in range(1, 90):
        topics, users, _ = crash(at, arrives=False)
        if users != topics:
            return
    pytest.fail("no crash showed it")
