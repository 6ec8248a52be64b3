"""Pointer bundles: one record a shard of users and flush, only where members are, never lost, bounded, in slices."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from dispatcher import pointers as module
from dispatcher.pointers import Pointers
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.effects import TopicDeleted
from headgate.core.sequencer.members import Members, Membership
from headgate.core.sequencer.rows import Row
from headgate.core.sequencer.topic_changes import MemberChanged
from headgate.core.wire.ids import make_epoch, user_shard
from headgate.core.wire.inbox_record import HeadEntry, HeadsRecord, decode_inbox
from headgate.core.wire.member_roles import Role
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.logs.embedded import failed
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import LogUnavailable, RecordTooLarge
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.contract.log_suite import read_from
from tests.contract.virtual import SeededRng, VirtualLoop, run

SHARDS = 8
NUMBER = 3


class Bed:
    """Pointers of some topics, on a log of virtual time."""

    def __init__(self, log: FaultyLog) -> None:
        self.log = log
        self.rows: dict[bytes, Row] = {}
        self.members: dict[bytes, Members] = {}
        self.pointers = Pointers(log, NUMBER, SHARDS, self.rows, self.members)
        self.offset = 7

    def topic(self, name: str, *users: str, creator: str = "ann", **changes: Any) -> bytes:
        """Adds a topic; without users it has no members but its creator."""
        key, self.offset = name.encode(), self.offset + 1
        row = Row(name, make_epoch(1, self.offset), 0, name, "PUBLIC", creator, 900, {}, **changes)
        self.rows[key] = row
        if users:
            members = self.members[key] = Members(row.epoch)
            for user in users:
                members.put(user, Membership(Role.MEMBER, 0, 0, 950))
        return key

    def publish(self, key: bytes, times: int = 1) -> None:
        for _ in range(times):
            row = self.rows[key]
            row.seq += 1
            self.pointers.moved(key, 1_000 + row.seq)

    def delete(self, key: bytes) -> None:
        row = self.rows.pop(key)
        self.pointers.deleted(key, TopicDeleted(row.topic_id, row.epoch, row.owner_id, self.members.pop(key, None)))

    def head(self, key: bytes, **changes: Any) -> HeadEntry:
        row = self.rows[key]
        values = {"ts": 1_000 + row.seq, "hot": row.heat == "inbox"} | changes
        return HeadEntry(row.topic_id, row.epoch, row.seq, row.n, **values)

    async def records(self, shard: int) -> list[Record]:
        bounds = await self.log.bounds(LogName.INBOX, shard)
        return await read_from(self.log, LogName.INBOX, shard, bounds.first, bounds.end - bounds.first)

    async def written(self, shard: int) -> list[list[HeadEntry]]:
        """The heads of each record in a shard of users."""
        records = await self.records(shard)
        found = [decode_inbox(record.value) for record in records]
        assert all(isinstance(each, HeadsRecord) and each.shard == NUMBER for each in found)
        assert all(record.key is None for record in records)
        return [each.heads for each in found if isinstance(each, HeadsRecord)]

    async def shards_with(self, name: str) -> set[int]:
        return {
            shard
            for shard in range(SHARDS)
            for heads in await self.written(shard)
            if any(head.topic_id == name for head in heads)
        }


async def a_bed() -> Bed:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    log = FaultyLog(MemoryStore(loop, SeededRng(1), SHARDS, 1 << 28))
    await log.open()
    return Bed(log)


def virtual(main: Any) -> Any:
    def test(monkeypatch: pytest.MonkeyPatch) -> None:
        run(VirtualLoop(), main(monkeypatch))

    test.__name__ = main.__name__
    return test


def in_shard(shard: int, count: int = 1) -> list[str]:
    """Users of one shard."""
    return [user for user in (f"u{n}" for n in range(10_000)) if user_shard(user, SHARDS) == shard][:count]


@virtual
async def test_topics_that_moved_together_are_one_record_in_each_shard_with_members(patch: pytest.MonkeyPatch) -> None:
    bed = await a_bed()
    (one,), (two,) = in_shard(1), in_shard(2)
    lonely = bed.topic("a", creator=one)
    both = bed.topic("b", one, two, creator=two)
    talk = bed.topic("dm:c", one, two)
    still = bed.topic("d", one)
    for key in (lonely, both, talk):
        bed.publish(key, 5)
    await asyncio.sleep(0.09)
    assert await bed.written(1) == []
    await asyncio.sleep(0.05)
    assert await bed.written(1) == [[bed.head(lonely), bed.head(both), bed.head(talk)]]
    assert await bed.written(2) == [[bed.head(both), bed.head(talk)]]
    assert [await bed.written(shard) for shard in (0, 3, 4, 5, 6, 7)] == [[]] * 6
    assert still not in bed.pointers._moved
    await asyncio.sleep(5)
    assert len(await bed.written(1)) == 1, "nothing moved since"


@virtual
async def test_a_time_that_nobody_would_take_stops_no_pointers_and_no_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A topic that takes its producers' times (`CreateTime`) has some in nanoseconds."""
    bed = await a_bed()
    (one,) = in_shard(1)
    key, other = bed.topic("a", one), bed.topic("b", one)
    bed.rows[key].seq = 1
    bed.pointers.moved(key, 1_700_000_000_000_000_000)
    bed.publish(other)
    async with asyncio.timeout(5):
        await bed.pointers.safe()
    assert await bed.written(1) == [[bed.head(key, ts=0), bed.head(other)]]


@virtual
async def test_nothing_of_an_ephemeral_topic_is_written_but_its_end(patch: pytest.MonkeyPatch) -> None:
    bed = await a_bed()
    (one,) = in_shard(1)
    key = bed.topic("e", creator=one)
    bed.rows[key].settings = {"profile": "ephemeral"}
    bed.pointers.switched(key, True)
    await asyncio.sleep(0.5)
    assert await bed.written(1) == []
    epoch = bed.rows[key].epoch
    bed.delete(key)
    await bed.pointers.safe()
    assert await bed.written(1) == [[HeadEntry("e", epoch, 0, 0, gone=True)]]


@virtual
async def test_the_shards_of_a_topic_follow_its_members_and_are_all_above_the_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("headgate.core.sequencer.user_shards.EXACT_MEMBERS", 3)
    bed = await a_bed()
    users = [in_shard(shard)[0] for shard in range(SHARDS)]
    key = bed.topic("t", users[0], users[1])
    row, members = bed.rows[key], bed.members[key]
    seen: list[int] = []

    async def moved() -> set[int]:
        before = {shard: len(await bed.written(shard)) for shard in range(SHARDS)}
        bed.publish(key)
        await bed.pointers.safe()
        seen.append(row.seq)
        return {shard for shard, count in before.items() if len(await bed.written(shard)) > count}

    def change(user: str, now: Membership | None) -> None:
        (members.remove(user) if now is None else members.put(user, now))
        bed.pointers.member_changed(key, MemberChanged("t", row.epoch, user, now, 0))

    member = Membership(Role.MEMBER, 0, 0, 950)
    assert await moved() == {0, 1}
    change(users[5], member)
    assert await moved() == {0, 1, 5}
    change(users[0], None)
    assert await moved() == {1, 5}
    change(users[6], member)
    change(users[7], member)
    assert await moved() == set(range(SHARDS))
    change(users[7], None)
    assert await moved() == {1, 5, 6}


@virtual
async def test_a_topic_that_is_deleted_and_made_again_between_two_flushes_ends_the_old_and_begins_the_new(
    patch: pytest.MonkeyPatch,
) -> None:
    bed = await a_bed()
    (one,), (two,) = in_shard(1), in_shard(2)
    key = bed.topic("t", one, two, creator=one)
    bed.publish(key, 3)
    old = bed.rows[key].epoch
    bed.delete(key)
    bed.topic("t", creator=one)
    bed.publish(key)
    await bed.pointers.safe()
    gone = HeadEntry("t", old, 0, 0, gone=True)
    assert [head for heads in await bed.written(1) for head in heads] == [gone, bed.head(key)]
    assert [head for heads in await bed.written(2) for head in heads] == [gone]
    users = UserTopics()
    for kept in await bed.records(1):
        users.apply(kept)
    head = users.heads.find("t")
    assert head is not None and head.ends(old) and not head.ends(bed.rows[key].epoch)


@virtual
async def test_the_end_of_a_topic_is_one_record_a_shard_however_many_members(patch: pytest.MonkeyPatch) -> None:
    bed = await a_bed()
    key = bed.topic("t", *(f"u{n}" for n in range(5_000)))
    bed.publish(key)
    bed.delete(key)
    await bed.pointers.safe()
    assert [len(await bed.written(shard)) for shard in range(SHARDS)] == [1] * SHARDS


@virtual
async def test_what_the_log_refuses_is_written_once_it_takes_it_as_it_is_then(patch: pytest.MonkeyPatch) -> None:
    bed = await a_bed()
    (one,), (two,) = in_shard(1), in_shard(2)
    key, other = bed.topic("t", one, two, creator=one), bed.topic("s", creator=one)
    tries: Counter[int] = Counter()
    append = bed.log.append

    def partly(log: LogName, shard: int, *args: Any) -> Any:
        tries[shard] += 1
        away = shard == 1 and tries[1] <= 3
        return failed(LogUnavailable("one part is away")) if away else append(log, shard, *args)

    patch.setattr(bed.log, "append", partly)
    bed.publish(key)
    await asyncio.sleep(0.5)
    assert (await bed.shards_with("t"), tries[1]) == ({2}, 1), "the others do not wait for it"
    bed.publish(key, 4)
    bed.publish(other)
    await asyncio.sleep(10)
    assert tries[1] == 4
    assert await bed.written(1) == [[bed.head(key), bed.head(other)]]
    bed.log.reach = Reach.REFUSED
    bed.publish(key)
    safe = asyncio.ensure_future(bed.pointers.safe())
    await asyncio.sleep(60)
    assert not safe.done() and tries[1] < 70
    bed.log.reach = Reach.OK
    await asyncio.wait_for(safe, 2)
    assert (await bed.written(1))[-1] == [bed.head(key)]
    assert bed.pointers._waiting == 0


class Counting:
    """A log whose appends end when the test says so."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[Appended]] = []
        self.heads: list[list[str]] = []

    def append(self, name: LogName, shard: int, key: bytes | None, value: bytes) -> "asyncio.Future[Appended]":
        found = decode_inbox(value)
        assert isinstance(found, HeadsRecord)
        self.heads.append([f"{head.topic_id}:{head.seq}" for head in found.heads])
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]

    def acknowledge(self, count: int) -> None:
        for future in self.futures[:count]:
            future.set_result(Appended(0, 0))
        del self.futures[:count]


@virtual
async def test_safe_flushes_and_waits_for_what_moved_before_and_not_for_later_moves(patch: pytest.MonkeyPatch) -> None:
    log = Counting()
    bed = Bed(log)  # type: ignore[arg-type]  # only appends
    key = bed.topic("t")
    await bed.pointers.safe()
    bed.publish(key)
    safe = asyncio.ensure_future(bed.pointers.safe())
    await asyncio.sleep(0.01)
    assert log.heads == [["t:1"]] and not safe.done(), "it does not wait for the next flush"
    bed.publish(key)
    await asyncio.sleep(1)
    assert len(log.futures) == 1, "one round at a time"
    log.acknowledge(1)
    await asyncio.sleep(0.01)
    assert safe.done() and log.heads[1:] == [["t:2"]]
    again = asyncio.ensure_future(bed.pointers.safe())
    await asyncio.sleep(1)
    assert not again.done()
    log.acknowledge(1)
    await asyncio.sleep(0.01)
    assert again.done()


@virtual
async def test_a_switch_is_told_at_once_with_the_time_of_the_newest_message(patch: pytest.MonkeyPatch) -> None:
    bed = await a_bed()
    (one,) = in_shard(1)
    key = bed.topic("t", creator=one)
    bed.publish(key)
    await bed.pointers.safe()
    bed.rows[key].heat = "inbox"
    bed.pointers.switched(key, True)
    await asyncio.sleep(0.01)
    assert (await bed.written(1))[1:] == [[bed.head(key, hot=True)]]
    bed.rows[key].heat = ""
    bed.pointers.switched(key, False)
    await asyncio.sleep(0.01)
    assert (await bed.written(1))[2:] == [[bed.head(key)]]


@virtual
async def test_reading_pauses_at_the_bound_and_many_topics_are_found_in_slices(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "WAITING", 3_000)
    patch.setattr(module, "MOVED", 1_000)
    patch.setattr(module, "ROUND", 100)
    bed = await a_bed()
    bed.log.reach = Reach.REFUSED
    keys = [bed.topic(f"t{n}", creator=f"u{n}") for n in range(3_500)]
    for key in keys:
        bed.publish(key)
    room = asyncio.ensure_future(bed.pointers.room())
    await asyncio.sleep(3)
    assert bed.pointers.is_full and not room.done()
    bed.log.reach = Reach.OK
    await asyncio.wait_for(room, 5)
    await bed.pointers.safe()
    assert bed.pointers._waiting == 0
    bundles = [heads for shard in range(SHARDS) for heads in await bed.written(shard)]
    assert {head.topic_id for heads in bundles for head in heads} == {f"t{n}" for n in range(3_500)}
    assert max(map(len, bundles)) <= 100


@virtual
async def test_topics_with_members_everywhere_are_found_in_slices_and_never_above_the_bound(
    patch: pytest.MonkeyPatch,
) -> None:
    patch.setattr(module, "WAITING", 400)
    patch.setattr(module, "SLICE", 80)
    bed = await a_bed()
    bed.log.reach = Reach.REFUSED
    everywhere = [user for shard in range(SHARDS) for user in in_shard(shard)]
    keys = [bed.topic(f"t{n}", *everywhere) for n in range(100)]
    for key in keys:
        bed.pointers._shards.of_topic(key, bed.rows[key], bed.members[key])  # known: no member is looked at
        bed.publish(key)
    assert bed.pointers._take(keys, 0) == 80 // SHARDS
    safe = asyncio.ensure_future(bed.pointers.safe())
    for _ in range(40):
        await asyncio.sleep(0.1)
        assert bed.pointers._waiting < 400 + SHARDS and not safe.done()
    assert bed.pointers.is_full and bed.pointers._moved
    bed.log.reach = Reach.OK
    await asyncio.wait_for(safe, 10)
    assert not bed.pointers._waiting and not bed.pointers._moved
    for shard in range(SHARDS):
        found = {head.topic_id for heads in await bed.written(shard) for head in heads}
        assert found == {f"t{n}" for n in range(100)}


@virtual
async def test_a_released_shard_writes_no_more(patch: pytest.MonkeyPatch) -> None:
    bed = await a_bed()
    key = bed.topic("t")
    bed.publish(key)
    bed.pointers.close()
    bed.publish(key)
    bed.pointers.switched(key, True)
    await asyncio.sleep(5)
    assert await bed.shards_with("t") == set()


def test_a_record_that_can_never_be_written_stops_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bed = await a_bed()
        key = bed.topic("t")
        monkeypatch.setattr(bed.log, "append", lambda *args: failed(RecordTooLarge("a fault of ours")))
        bed.publish(key)
        await asyncio.wait_for(bed.pointers.safe(), 5)

    run(VirtualLoop(), main())


def test_records_are_as_the_users_side_reads_them() -> None:
    users = UserTopics()
    record = Record(
        5, 1_000, None, b'{"op":"heads","shard":3,"heads":[{"topic_id":"t","epoch":9,"seq":4,"n":3,"ts":7}]}'
    )
    assert users.apply(record).moved == ["t"]
