"""A user's topics: read from the inbox log, kept in snapshots, answered once they are whole, never guessed."""

import asyncio
from typing import Any

import pytest

from dispatcher import log_follower, user_inbox
from dispatcher.dispatcher_options import ShardOptions, SnapshotOptions
from dispatcher.recovery import ShardLost, inbox_start
from dispatcher.retention import Retention
from dispatcher.shard_runner import ShardRunner
from dispatcher.shard_time import ShardTime
from dispatcher.user_inbox import UserInbox
from headgate.core.inbox.memberships import pair_key
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.rows import Shard
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.sequencer.snapshot_writer import PairKey, SnapshotWriter
from headgate.core.wire import link
from headgate.core.wire.inbox_record import MembershipRecord, encode_inbox
from headgate.core.wire.link_members import AskMemberships, MembershipsAnswer
from headgate.core.wire.records import Batch, Bounds, LogName, Record
from headgate.runtime.logs.embedded import KEEP_MS
from headgate.runtime.metrics import Metrics
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.dispatcher.bed import CLOCK, dispatcher_of, owner_in, owning, shell_of, until
from tests.dispatcher.members_bed import Far, MembersBed
from tests.dispatcher.test_recovery import a_log

OFTEN = ShardOptions(snapshots=SnapshotOptions(check_s=0.01, least_s=0.0, interval_s=0.02))


def membership(topic: str, offset: int = 5, role: str = "member", at: int = 1_000) -> bytes:
    return encode_inbox(MembershipRecord(topic, 7, offset, role, 1, 1, at))


async def wrote(log: FaultyLog, user: str, *values: bytes | None) -> int:
    for value in values:
        at = await log.append(LogName.INBOX, 0, user.encode(), value)
    return at.offset + 1


async def has_read(runner: ShardRunner, end: int) -> UserTopics:
    owner = owner_in(runner)
    await until(lambda: owner.inbox.users.next_offset >= end)
    return owner.inbox.users


def inbox_of(log: Any, live: asyncio.Event, metrics: Metrics | None = None) -> UserInbox:
    metrics = metrics or Metrics({"dispatcher"})
    return UserInbox(log, 0, UserTopics(), SnapshotWriter(), live, ShardTime(log, 0, live, CLOCK), metrics)


def topics(users: UserTopics, user: str = "bob") -> list[str]:
    return [topic for topic, _ in users.topics_of(user, "", 100)]


async def test_a_new_owner_has_what_the_snapshot_and_the_log_after_it_have() -> None:
    log = await a_log()
    async with owning(log, final=True) as runner:
        end = await wrote(log, "bob", membership("a"), membership("b"), membership("c"))
        await has_read(runner, end)
    await log.truncate_before(LogName.INBOX, 0, end)
    await wrote(log, "bob", membership("b", 9, role=""), membership("d"))
    async with owning(log) as runner:
        users = await has_read(runner, end + 2)
        assert topics(users) == ["a", "c", "d"]


async def test_memberships_alone_make_a_snapshot_due() -> None:
    log = await a_log()
    async with owning(log, OFTEN) as runner:
        owner = owner_in(runner)
        await until(lambda: owner.writer.has_chain and owner.writer.pending(owner.shard) == 0)
        before = (await log.bounds(LogName.SNAPSHOTS, 0)).end
        end = await wrote(log, "bob", membership("a"))
        await until(lambda: owner.inbox_snapshot_offset == end)
        await asyncio.sleep(0.2)
        assert (await log.bounds(LogName.SNAPSHOTS, 0)).end == before + 1, "one delta, and then it is quiet"


@pytest.mark.parametrize("past", [True, False])
async def test_an_inbox_log_that_lost_records_parks_the_shard_and_nothing_is_guessed(past: bool) -> None:
    log = await a_log()
    async with owning(log, final=True) as runner:
        await has_read(runner, await wrote(log, "bob", membership("a")))
    end = await wrote(log, "bob", membership("b"), membership("c"))
    await log.truncate_before(LogName.INBOX, 0, end - 1 if past else end - 2)
    async with owning(log) as runner:
        assert (runner.life.state is ShardState.PARKED) == past
        if past:
            assert "memberships were removed before anybody read them" in runner.why


async def test_records_that_cannot_be_read_are_skipped_and_counted() -> None:
    log = await a_log()
    bad = [b"{", None, b'{"op":"later"}', b"x" * 5_000, b'{"op":"membership","topic_id":1,"epoch":1,"offset":1}']
    metrics = Metrics({"dispatcher"})
    inbox = inbox_of(log, asyncio.Event(), metrics)
    records = [Record(n, 1, b"bob", value) for n, value in enumerate(bad)]
    records += [Record(10, 1, b"\xff", membership("a")), Record(11, 1, None, membership("a"))]
    await inbox.follower.take(Batch([*records, Record(12, 1, b"bob", membership("a"))], 20, 20))
    assert sum(metrics._inbox_skipped.values.values()) == len(bad) + 2
    assert (topics(inbox.users), inbox.users.next_offset) == (["a"], 20)
    assert inbox._writer.touched(PairKey(pair_key("bob", "a")))


async def test_a_log_that_is_away_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_inbox, "RETRY_S", 0.01)
    log = await a_log()
    async with owning(log) as runner:
        log.reach = Reach.REFUSED
        await asyncio.sleep(0.1)
        log.reach = Reach.OK
        assert topics(await has_read(runner, await wrote(log, "bob", membership("a")))) == ["a"]


class Held:
    """A log of some records; `end` is its end."""

    own_clock = False

    def __init__(self, end: int) -> None:
        self.end = end
        self.reads: asyncio.Queue[Batch] = asyncio.Queue()

    async def bounds(self, log: LogName, shard: int) -> Any:
        return type("Bounds", (), {"end": self.end})

    async def reader(self, log: LogName, shard: int, offset: int) -> Any:
        return self

    async def read(self, count: int, wait_s: float) -> Batch:
        return await self.reads.get()

    async def close(self) -> None: ...


async def test_questions_wait_until_the_log_is_read_up_to_its_end_at_going_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bed, log, live = MembersBed(), Held(3), asyncio.Event()
    inbox = inbox_of(log, live)
    bed.owner.inbox = inbox
    task = asyncio.create_task(inbox.follow_log())
    waits, gone, late = Far(), Far(), Far()
    for peer in (waits, gone):
        bed.api.handle(peer, AskMemberships(1, "bob", "", 10))
    gone.open = False
    log.reads.put_nowait(Batch([Record(0, 1, b"bob", membership("a"))], 1, 1))  # its end, before the shard is live
    await asyncio.sleep(0.01)
    assert waits.sent == []
    live.set()
    log.reads.put_nowait(Batch([Record(1, 1, b"bob", membership("b"))], 2, 2))
    log.reads.put_nowait(Batch([], 2, 3))
    await asyncio.sleep(0.01)
    assert waits.sent == []
    log.end = 1_000  # what comes later does not matter
    log.reads.put_nowait(Batch([Record(2, 1, b"bob", membership("c", role="owner"))], 3, 9))
    await asyncio.sleep(0.01)
    (answer,) = waits.sent
    assert isinstance(answer, MembershipsAnswer)
    assert (answer.count, [m.topic_id for m in answer.memberships]) == (3, ["a", "b", "c"])
    assert gone.sent == []
    page = bed.ask(AskMemberships(2, "bob", "a", 1), late)
    assert (page.count, [(m.topic_id, m.role) for m in page.memberships]) == (3, [("b", "member")])
    task.cancel()


async def test_too_many_waiting_questions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "WAITING", 2)
    bed = MembersBed()
    peers = [Far() for _ in range(3)]
    for peer in peers:
        bed.api.handle(peer, AskMemberships(1, "bob", "", 10))
    assert [len(peer.sent) for peer in peers] == [0, 0, 1]
    assert isinstance(peers[2].sent[0], link.Refused)
    bed.owner.close()
    bed.owner.inbox.follower.complete()
    assert [isinstance(peer.sent[0], link.Refused) for peer in peers] == [True] * 3


async def test_retention_keeps_what_no_snapshot_has_and_a_base_ends_old_marks() -> None:
    log = await a_log()
    async with owning(log, OFTEN) as runner:
        owner = owner_in(runner)
        dispatcher = dispatcher_of(shell_of(), log)
        retention = Retention(log, dispatcher)
        first = (await log.bounds(LogName.INBOX, 0)).first
        end = await wrote(log, "bob", membership("a", role="", at=CLOCK.wall_ms() - 5_000), membership("b"))
        await until(lambda: owner.inbox_snapshot_offset == end)
        log.keep_ms = {**KEEP_MS, LogName.INBOX: -10_000}  # all of it is old
        owner.inbox_snapshot_offset = first + 1
        await retention.apply(owner)
        assert (await log.bounds(LogName.INBOX, 0)).first == first + 1
        owner.inbox_snapshot_offset = end
        await retention.apply(owner)
        assert (await log.bounds(LogName.INBOX, 0)).first == end
        log.keep_ms = {**KEEP_MS, LogName.INBOX: 1_000}
        assert owner.inbox.users.encoded(pair_key("bob", "a")) is not None
        owner.writer.forget()
        await until(lambda: owner.writer.has_chain)
        assert owner.inbox.users.encoded(pair_key("bob", "a")) is None
        assert topics(owner.inbox.users) == ["b"]


async def test_a_bounded_log_gives_the_room_of_read_memberships_back_and_never_refuses_one() -> None:
    """A refused membership would hold back the snapshot behind which the room is."""
    log = await a_log(memory_bytes=1 << 20)
    async with owning(log, OFTEN) as runner:
        first = (await log.bounds(LogName.INBOX, 0)).first
        for n in range(15_000):
            log.append(LogName.INBOX, 0, b"u%d" % n, membership("t")).result()
        end = (await log.bounds(LogName.INBOX, 0)).end
        await until(lambda: owner_in(runner).inbox_snapshot_offset == end, 30)
        async with asyncio.timeout(30):
            while (await log.bounds(LogName.INBOX, 0)).first == first:
                await asyncio.sleep(0.02)
        assert not log.above_limit()
        assert owner_in(runner).inbox.users.count("u14999") == 1


@pytest.mark.parametrize(
    ("saved", "logic", "begins"),
    [
        (None, 2, 100),  # no snapshot yet
        (0, 1, 100),  # of a node that did not know members: it has read nothing, and an embedded log begins far above 0
        (0, 2, None),
        (99, 2, None),
        (100, 2, 100),
        (150, 1, 150),
        (201, 2, None),
    ],
)
def test_where_reading_begins_is_what_the_snapshot_says_or_nothing(
    saved: int | None, logic: int, begins: int | None
) -> None:
    shard = Shard()
    shard.logic = logic
    if begins is None:
        with pytest.raises(ShardLost, match=f"up to offset {saved} and the log holds 100 to 200"):
            inbox_start(0, shard, saved, Bounds(100, 200))
    else:
        assert inbox_start(0, shard, saved, Bounds(100, 200)) == begins


async def test_who_waits_for_his_record_is_called_once_it_is_applied_and_not_before() -> None:
    inbox = inbox_of(await a_log(), asyncio.Event())
    called: list[tuple[int, int]] = []
    for offset in (0, 1):
        inbox.when_applied(offset, lambda at=offset: called.append((at, inbox.users.count("bob"))))  # type: ignore[misc]
    assert called == []
    await inbox.follower.take(Batch([Record(0, 1, b"bob", membership("a"))], 1, 2))
    assert called == [(0, 1)]
    await inbox.follower.take(Batch([Record(1, 1, b"bob", membership("b"))], 2, 2))
    assert called == [(0, 1), (1, 2)]
    inbox.when_applied(1, lambda: called.append((-1, 0)))
    assert called[-1] == (-1, 0)
