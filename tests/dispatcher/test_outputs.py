"""Memberships on their way to the inbox log: each in its user's shard, bounded, in slices, never lost."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from dispatcher import outputs as module
from dispatcher.outputs import Outputs
from headgate.core.inbox.users import UserTopics
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.topic_changes import MemberChanged
from headgate.core.wire.control import LOGIC_KEY, MEMBERS_LOGIC, MESSAGES_LOGIC, Logic
from headgate.core.wire.ids import make_epoch, shard_of
from headgate.core.wire.inbox_record import MembershipRecord, decode_inbox
from headgate.core.wire.member_roles import Role
from headgate.core.wire.records import Appended, LogName, Record
from headgate.runtime.logs.embedded import failed
from headgate.runtime.logs.memory_store import MemoryStore
from headgate.runtime.ports import LogUnavailable
from headgate.runtime.testing.faulty_log import FaultyLog, Reach
from tests.contract.log_suite import read_from
from tests.contract.virtual import SeededRng, VirtualLoop, run
from tests.dispatcher.members_bed import MembersBed

SHARDS = 4
EPOCH = make_epoch(1, 7)
ROW = Row("t", EPOCH, 3, "t", "PRIVATE", "ann", 900, {})


def change(user: str, role: Role | None = Role.MEMBER) -> MemberChanged:
    return MemberChanged("t", EPOCH, user, None if role is None else Membership(role, 3, 2, 950), 0)


def record(offset: int) -> Record:
    return Record(offset, 1_000 + offset, b"t", b"")


def rows_of(count: int) -> dict[bytes, Row]:
    return {b"%d" % n: Row(str(n), make_epoch(1, n), 0, "", "PUBLIC", "ann", n, {}) for n in range(count)}


async def a_log(**given: Any) -> FaultyLog:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    log = FaultyLog(MemoryStore(loop, SeededRng(1), SHARDS, 1 << 28), **given)
    await log.open()
    return log


async def written(log: FaultyLog) -> dict[str, list[MembershipRecord]]:
    found: dict[str, list[MembershipRecord]] = {}
    for shard in range(SHARDS):
        bounds = await log.bounds(LogName.INBOX, shard)
        for kept in await read_from(log, LogName.INBOX, shard, bounds.first, bounds.end - bounds.first):
            assert shard_of(kept.key or b"", SHARDS) == shard
            membership = decode_inbox(kept.value)
            assert isinstance(membership, MembershipRecord)
            found.setdefault((kept.key or b"").decode(), []).append(membership)
    return found


def virtual(main: Any) -> Any:
    def test(monkeypatch: pytest.MonkeyPatch) -> None:
        run(VirtualLoop(), main(monkeypatch))

    test.__name__ = main.__name__
    return test


@virtual
async def test_creator_join_role_and_leave_are_records_in_the_users_shards(patch: pytest.MonkeyPatch) -> None:
    log = await a_log()
    outputs = Outputs(log, 0, SHARDS)
    outputs.created(ROW, [("ann", Shard.creator_of(ROW))])
    outputs.changed(record(8), change("bob"))
    outputs.changed(record(9), change("bob", Role.ADMIN))
    outputs.changed(record(10), change("eve"))
    outputs.changed(record(11), change("eve", None))
    await outputs.safe()
    assert await written(log) == {
        "ann": [MembershipRecord("t", EPOCH, 7, "owner", 0, 0, 900)],
        "bob": [
            MembershipRecord("t", EPOCH, 8, "member", 3, 2, 950),
            MembershipRecord("t", EPOCH, 9, "admin", 3, 2, 950),
        ],
        "eve": [
            MembershipRecord("t", EPOCH, 10, "member", 3, 2, 950),
            MembershipRecord("t", EPOCH, 11, joined_at=1_011),
        ],
    }


@virtual
async def test_a_direct_topic_is_written_for_both_and_not_again_when_the_logic_is_raised(
    patch: pytest.MonkeyPatch,
) -> None:
    log = await a_log()
    outputs = Outputs(log, 0, SHARDS)
    row = Row("dm:x", EPOCH, 0, "n", "PRIVATE", "ann", 900, {})
    both = Membership(Role.MEMBER, 0, 0, 900)
    outputs.created(row, [("ann", both), ("bob", both)])
    outputs.known({b"dm:x": row, b"t": ROW})
    await outputs.safe()
    of_talk = MembershipRecord("dm:x", EPOCH, 7, "member", 0, 0, 900)
    assert await written(log) == {
        "ann": [of_talk, MembershipRecord("t", EPOCH, 7, "owner", 0, 0, 900)],
        "bob": [of_talk],
    }


class Counting:
    """A log whose appends end when the test says so; it counts those of each loop turn."""

    def __init__(self) -> None:
        self.turns: Counter[int] = Counter()
        self.turn = 0
        self.futures: list[asyncio.Future[Appended]] = []

    def append(self, name: LogName, shard: int, key: bytes, value: bytes) -> "asyncio.Future[Appended]":
        self.turns[self.turn] += 1
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]

    def acknowledge(self, count: int) -> None:
        for future in self.futures[:count]:
            future.set_result(Appended(0, 0))
        del self.futures[:count]

    async def turns_of(self, count: int) -> None:
        for _ in range(count):
            self.turn += 1
            await asyncio.sleep(0)


@virtual
async def test_many_outputs_are_handed_over_in_slices_and_a_join_does_not_wait_behind_them(
    patch: pytest.MonkeyPatch,
) -> None:
    log = Counting()
    outputs = Outputs(log, 0, SHARDS)  # type: ignore[arg-type]  # only appends
    outputs.known(rows_of(5_000))
    await log.turns_of(30)
    assert max(log.turns.values()) == module.SLICE
    assert len(log.futures) == module.FLYING, "no more is under way at once"
    outputs.changed(record(9), change("bob"))
    log.acknowledge(1)
    await log.turns_of(3)
    safe = asyncio.ensure_future(outputs.safe())
    handed = len(log.futures)
    assert handed == module.FLYING
    log.acknowledge(module.FLYING)  # bob's among them
    await log.turns_of(30)
    assert not safe.done()
    for _ in range(5):
        log.acknowledge(module.FLYING)
        await log.turns_of(30)
    await safe
    assert sum(log.turns.values()) == 5_001


@virtual
async def test_safe_waits_for_the_outputs_so_far_and_not_for_later_ones(patch: pytest.MonkeyPatch) -> None:
    log = Counting()
    outputs = Outputs(log, 0, SHARDS)  # type: ignore[arg-type]  # only appends
    await outputs.safe()
    outputs.changed(record(8), change("bob"))
    safe = asyncio.ensure_future(outputs.safe())
    await log.turns_of(3)
    outputs.changed(record(9), change("eve"))
    await log.turns_of(3)
    assert not safe.done()
    log.acknowledge(1)
    await log.turns_of(3)
    assert safe.done()
    assert len(log.futures) == 1


@virtual
async def test_what_the_log_refuses_is_tried_again_once_a_second_and_the_newest_wins(patch: pytest.MonkeyPatch) -> None:
    log = await a_log()
    tries = 0
    append = log.append

    def counted(*args: Any) -> Any:
        nonlocal tries
        tries += 1
        return append(*args) if tries > 1 else failed(LogUnavailable("one part is away"))

    patch.setattr(log, "append", counted)
    outputs = Outputs(log, 0, SHARDS)
    outputs.changed(record(8), change("bob"))
    await asyncio.sleep(0.1)
    outputs.changed(record(9), change("bob", None))
    log.reach = Reach.REFUSED
    await asyncio.sleep(100)
    assert 100 < tries < 230
    log.reach = Reach.OK
    await outputs.safe()
    (ends,) = (await written(log)).values()
    assert sorted(end.offset for end in ends) == [8, 9]
    users = UserTopics()
    for shard in range(SHARDS):
        bounds = await log.bounds(LogName.INBOX, shard)
        for kept in await read_from(log, LogName.INBOX, shard, bounds.first, bounds.end - bounds.first):
            users.apply(kept)
    assert users.count("bob") == 0


@virtual
async def test_reading_pauses_at_the_bound_and_goes_on_below_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "WAITING", 20)
    log = await a_log()
    log.reach = Reach.REFUSED
    outputs = Outputs(log, 0, SHARDS)
    for n in range(30):
        assert outputs.is_full == (n >= 20)
        outputs.changed(record(n), change(f"u{n}"))
    room = asyncio.ensure_future(outputs.room())
    await asyncio.sleep(0.5)
    assert not room.done()
    log.reach = Reach.OK
    await asyncio.wait_for(room, 5)
    await outputs.safe()
    assert not outputs.is_full


@virtual
async def test_a_released_shard_writes_no_more(patch: pytest.MonkeyPatch) -> None:
    log = await a_log()
    log.reach = Reach.REFUSED
    outputs = Outputs(log, 0, SHARDS)
    outputs.changed(record(8), change("bob"))
    await asyncio.sleep(0.5)
    outputs.close()
    log.reach = Reach.OK
    outputs.changed(record(9), change("bob"))
    await asyncio.sleep(50)
    assert await written(log) == {}


@virtual
async def test_the_creators_of_old_topics_are_written_down_unless_they_are_gone(patch: pytest.MonkeyPatch) -> None:
    log = await a_log()
    outputs = Outputs(log, 0, SHARDS)
    rows = rows_of(500)
    outputs.known(rows)
    del rows[b"499"]
    await outputs.safe()
    assert [(m.topic_id, m.offset) for m in (await written(log))["ann"]] == [
        *sorted(((str(n), n) for n in range(499)), key=lambda found: found[1])
    ]


async def test_creators_are_written_down_when_members_begin_and_not_when_a_later_logic_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An owner who left long ago has no mark any longer that would stop his old membership."""
    bed = MembersBed(logic=1)
    told: list[Any] = []
    monkeypatch.setattr(bed.owner.outputs, "known", told.append)
    for level, times in ((MEMBERS_LOGIC, 1), (MESSAGES_LOGIC, 1)):
        bed.feed(bed.control(Logic(level), LOGIC_KEY))
        assert bed.owner.shard.logic == level and len(told) == times
