"""Cursors over links, on the embedded log and on Kafka: stored, taken over, and there after their owner was stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dispatcher.dispatcher_options import AssignmentOptions, DispatcherOptions, SnapshotOptions
from dispatcher.service import DispatcherService
from headgate.core.wire import link
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_acks import (
    AttachCursors,
    Cursor,
    CursorAnswer,
    CursorLease,
    CursorsMoved,
    MoveCursors,
    OpenCursor,
    ReleaseCursor,
    ReplaceSubscription,
    SubscriptionReplaced,
)
from headgate.core.wire.link_users import AttachUsers
from headgate.runtime.links.directory import LinkDirectory
from headgate.runtime.logs.kafka_init import init_kafka
from headgate.runtime.logs.kafka_log import KafkaLog
from headgate.runtime.logs.options import LogOptions
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import Log
from headgate.runtime.system import SystemClock, SystemRng
from headgate.runtime.testing.encoded_link import encoded_link
from tests.dispatcher.bed import shell_of, until

SHARDS = 2
OFTEN = SnapshotOptions(check_s=0.05, least_s=0.1, interval_s=0.2)
USERS = ["ann", "bob", "eve", "joe"]


@pytest.fixture(params=["embedded", "kafka"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    log: Log
    if request.param == "embedded":
        log = SqliteLog(tmp_path / "log.db", SystemClock(), SystemRng(), SHARDS)
    else:
        options = LogOptions(
            f"kafka://{request.getfixturevalue('kafka_bootstrap')}",
            request.getfixturevalue("log_prefix"),
            shards=SHARDS,
        )
        await init_kafka(options)
        log = KafkaLog(options)
    await log.open()
    yield log
    await log.close()


class GatewayTwin:
    """A gateway's part: leases by (user, topic), cursors, and what it was asked to end."""

    def __init__(self, name: str) -> None:
        self.directory = LinkDirectory("gateway", name)
        self.directory.deliver_to(self)
        self.leases: dict[tuple[str, str], CursorLease] = {}
        self.cursors: dict[tuple[str, str], Cursor] = {}
        self.ended: list[str] = []

    def link_to(self, service: DispatcherService) -> None:
        near, far = encoded_link()
        service.accept(far)
        self.directory.add(near)

    def on_owner(self, shard: int, up: bool) -> None:
        if up:
            mine = [lease for (user, _), lease in self.leases.items() if self.directory.shard_of_user(user) == shard]
            self.directory.send(shard, AttachCursors(shard, True, True, mine))
            self.directory.send(shard, AttachUsers(shard, True, True, []))

    def on_push(self, shard_epoch: int, message: link.Message) -> None:
        if isinstance(message, ReplaceSubscription):
            place = message.lease.user_id, message.lease.topic_id
            self.ended.append(message.lease.connection_id)
            self.leases.pop(place, None)
            shard = self.directory.shard_of_user(message.lease.user_id)
            self.directory.send(shard, SubscriptionReplaced(message.req, self.cursors.get(place)))

    async def ask(self, user: str, build: Callable[[int], link.Request], kind: type[Any]) -> Any:
        """Asks until the owner answers; one that is away, or has just come, refuses with `not_ready`."""
        async with asyncio.timeout(30):
            while True:
                try:
                    answer = await self.directory.ask(self.directory.shard_of_user(user), build)
                except Refusal as refusal:
                    assert refusal.code == "not_ready", refusal
                    await asyncio.sleep(0.05)
                else:
                    assert isinstance(answer, kind)
                    return answer

    async def move(self, user: str, seq: int, topic: str = "t", **more: Any) -> Cursor:
        cursor = Cursor(user, "phone", topic, 7, seq, **more)
        self.cursors[user, topic] = cursor
        shard = self.directory.shard_of_user(user)
        await self.ask(user, lambda req: MoveCursors(req, shard, [cursor]), CursorsMoved)
        return cursor

    async def open(self, user: str, connection: str = "", opened: int = 0) -> Cursor | None:
        held = CursorLease(user, "phone", "t", connection, opened) if connection else None
        answer = await self.ask(user, lambda req: OpenCursor(req, user, "phone", "t", held), CursorAnswer)
        if held is not None:
            self.leases[user, "t"] = held
        found: Cursor | None = answer.cursor
        return found


@asynccontextmanager
async def serving(log: Log, *twins: GatewayTwin, drain: bool = False) -> AsyncIterator[DispatcherService]:
    options = DispatcherOptions("n", "n:1", None, snapshots=OFTEN, assignment=AssignmentOptions(final_s=5.0))
    service = DispatcherService(options, log, shell_of())
    task = asyncio.create_task(service.run())
    await until(lambda: len(service.dispatcher.owners) == SHARDS, 60)
    for twin in twins:
        twin.link_to(service)
    try:
        yield service
    finally:
        if drain:
            await service.drain()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for peer in list(service.dispatcher.peers):
            peer.close("the node was stopped")
        await until(lambda: not any(twin.directory.has_links for twin in twins))


@pytest.mark.parametrize("drain", [True, False])
async def test_cursors_survive_their_owner(log: Log, drain: bool) -> None:
    one = GatewayTwin("one")
    moved = []
    async with serving(log, one, drain=drain) as service:
        for at, user in enumerate(USERS):
            assert await one.open(user) is None
            await one.move(user, 10 * at + 5)
            moved.append(await one.move(user, 10 * at + 7, above=[10 * at + 9], attempts=[(10 * at + 8, 2)]))
        await until(lambda: all(owner.writer.has_chain for owner in service.dispatcher.owners.values()), 20)
        for at, user in enumerate(USERS):
            await one.move(user, 10 * at + 6)  # late
        moved[0] = await one.move(USERS[0], 8)
    async with serving(log, one):
        expected = [Cursor(USERS[0], "phone", "t", 7, 9), *moved[1:]]  # 9 was acknowledged before
        assert [await one.open(user) for user in USERS] == expected
    async with serving(log, one):
        assert [await one.open(user) for user in USERS] == expected


async def test_a_device_goes_from_gateway_to_gateway_with_its_cursor(log: Log) -> None:
    one, two = GatewayTwin("one"), GatewayTwin("two")
    async with serving(log, one, two) as service:
        assert await one.open("ann", "a", 1) is None
        await one.move("ann", 5)
        one.cursors["ann", "t"] = last = Cursor("ann", "phone", "t", 7, 6)  # acknowledged, and not sent yet
        assert await two.open("ann", "b", 2) == last
        assert (one.ended, one.leases) == (["a"], {})
        shard = two.directory.shard_of_user("ann")
        two.directory.send(shard, ReleaseCursor("ann", "phone", "t", "b"))
        await until(lambda: not service.dispatcher.owners[shard].leases.is_held("ann", "phone", "t"))
        assert await one.open("ann", "c", 3) == last, "it was written down at the takeover"
        assert two.ended == []


async def test_a_new_owner_learns_who_holds_and_ends_the_older_of_two(log: Log) -> None:
    one, two = GatewayTwin("one"), GatewayTwin("two")
    async with serving(log, one):
        await one.open("ann", "a", 1)
        await one.open("bob", "x", 1)
        await one.move("bob", 3)
    two.leases["ann", "t"] = CursorLease("ann", "phone", "t", "b", 2)  # while no owner was there
    async with serving(log, one, two):
        await until(lambda: one.ended == ["a"])
        one.cursors["bob", "t"] = last = Cursor("bob", "phone", "t", 7, 4)
        assert await two.open("bob", "y", 2) == last
        assert one.ended == ["a", "x"] and two.ended == []


async def test_a_gateway_whose_link_is_lost_holds_nothing_up(log: Log) -> None:
    one, two = GatewayTwin("one"), GatewayTwin("two")
    async with serving(log, one, two) as service:
        await one.open("ann", "a", 1)
        await one.move("ann", 5)
        next(peer for peer in service.dispatcher.peers if peer.name == "one").close("lost")
        await until(lambda: not one.directory.has_links)
        async with asyncio.timeout(1):
            assert await two.open("ann", "b", 2) == Cursor("ann", "phone", "t", 7, 5)
        one.link_to(service)  # it is back, and its session has not heard of the other
        await until(lambda: one.ended == ["a"])
        assert two.ended == []
