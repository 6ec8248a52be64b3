"""A backup that is restored into other logs: equal, with epochs that rise, and never into logs that somebody uses."""

from collections import Counter
from pathlib import Path

import pytest

from dispatcher.backup_lines import BadBackup, ChangedLine, CursorLine, MarkLine, MemberLine, TopicLine
from dispatcher.recovery import ShardLost, recover
from dispatcher.restore import MAX_GENERATION, WrongGeneration
from dispatcher.restore_target import TargetUsed
from headgate.core.sequencer.shard_state import ShardState
from headgate.core.wire.ids import EPOCH_OFFSET_BITS, make_epoch, shard_of, topic_key, user_shard
from headgate.core.wire.inbox_record import MembershipRecord, encode_inbox
from headgate.core.wire.link_groups import GROUP_DEVICE
from headgate.core.wire.member_roles import Role
from headgate.core.wire.records import LogName, Record
from headgate.runtime.logs.sqlite_log import SqliteLog
from headgate.runtime.ports import Log, LogUnavailable
from headgate.runtime.testing.faulty_log import FaultyLog
from tests.dispatcher.bed import owner_in, owning, until
from tests.dispatcher.restore_bed import CLOCK, RNG, Filling, a_log, backup_of, filled, lines_in, restored, state_in
from tests.dispatcher.test_recovery import a_log as a_faulty_log


async def test_a_backup_has_the_state_at_the_end_of_the_logs() -> None:
    lines = lines_in(await backup_of((await filled()).log))
    topics = {line.topic_id: line for line in lines if isinstance(line, TopicLine)}
    assert set(topics) == {*"abcde", "alone"}
    assert (topics["a"].seq, topics["a"].others, topics["c"].seq, topics["alone"].seq) == (7, 2, 5, 0)
    members = {(m.topic_id, m.user_id): m for m in lines if isinstance(m, MemberLine)}
    assert {user for topic, user in members if topic == "a"} == {"ann", "bob", "cy"}, "dan has left"
    assert (members["a", "cy"].role, members["a", "cy"].joined_seq) == (Role.ADMIN, 5)
    assert members["alone", "ann"].role is Role.OWNER
    changed = [(c.topic_id, c.seq, c.version, c.redacted) for c in lines if isinstance(c, ChangedLine)]
    assert sorted(changed) == [("a", 2, 3, False), ("b", 3, 1, True)]
    assert sum(isinstance(line, CursorLine) for line in lines) == 4
    assert sum(isinstance(line, MarkLine) for line in lines) == 2


@pytest.mark.parametrize("shards", [1, 2, 4, 7])
async def test_what_is_restored_is_equal_whatever_the_shard_count(tmp_path: Path, shards: int) -> None:
    file = await backup_of((await filled(4)).log)
    log = await a_log(shards)
    report = await restored(log, file, tmp_path)
    counts = Counter(type(line) for line in lines_in(file))
    assert (report.topics, report.members, report.changed) == (
        counts[TopicLine], counts[MemberLine], counts[ChangedLine]
    )  # fmt: skip
    assert (report.cursors, report.marks, report.dropped) == (counts[CursorLine], counts[MarkLine], 0)
    again = await backup_of(log)
    assert state_in(again) == state_in(file)
    for line in lines_in(again):
        if isinstance(line, TopicLine):
            assert line.epoch >> EPOCH_OFFSET_BITS == report.generation == 2


async def test_epochs_are_above_the_old_ones_and_keep_their_order(tmp_path: Path) -> None:
    fill = await filled(1)
    log = await a_log(1)
    await restored(log, await backup_of(fill.log), tmp_path)
    epochs = {line.topic_id: line.epoch for line in lines_in(await backup_of(log)) if isinstance(line, TopicLine)}
    old = sorted(fill.epochs, key=lambda topic: fill.epochs[topic])
    assert sorted(epochs, key=lambda topic: epochs[topic]) == old
    assert len(set(epochs.values())) == len(epochs)
    assert min(epochs.values()) > max(fill.epochs.values())
    bounds = await log.bounds(LogName.MESSAGES, 0)
    assert max(epochs.values()) < make_epoch(2, bounds.end), "one that is created again has a higher one"


async def test_an_owner_serves_what_was_restored_and_goes_on_with_the_next_seq(tmp_path: Path) -> None:
    log = await a_faulty_log()
    await restored(log, await backup_of((await filled(4)).log), tmp_path)
    topic = next(name for name in "abcde" if shard_of(topic_key(name), 4) == 0)
    async with owning(log) as runner:
        assert (runner.life.state, runner.why) == (ShardState.LIVE, "")
        owner = owner_in(runner)
        row = owner.rows[topic_key(topic)]
        head = row.seq
        fill = Filling(log)
        fill.epochs[topic], fill._seqs[topic] = row.epoch, head
        await fill.message(topic, "next")
        await until(lambda: owner.rows[topic_key(topic)].seq == head + 1)
        assert owner.history.first_seq(row.epoch, head + 1) == head + 1
        assert owner.shard.generation == 2


async def test_users_have_their_memberships_cursors_marks_and_what_is_unread(tmp_path: Path) -> None:
    file = await backup_of((await filled(4)).log)
    log = await a_log(3)
    await restored(log, file, tmp_path)
    users = (await recover(log, user_shard("bob", 3), lambda work, seconds: None)).users
    epoch = (await recover(log, shard_of(topic_key("a"), 3), lambda work, seconds: None)).rows[b"a"].epoch
    topic, head, mark = users.membership("bob", "a"), users.heads.find("a"), users.marks.find("bob", "a")
    assert topic is not None and head is not None and mark is not None
    assert (topic.epoch, topic.role, topic.joined_seq, topic.joined_n) == (epoch, "member", 5, 5)
    assert (head.epoch, head.seq, head.n, head.ts) == (epoch, 7, 5, 1_700_000_000_000)
    assert (mark.epoch, mark.seq, head.n - mark.n) == (epoch, 4, 1)
    phone = users.cursors.find("bob", "phone", "a")
    assert phone is not None and (phone.epoch, phone.seq, phone.above, phone.attempts) == (epoch, 3, [5], [(5, 1)])
    left = (await recover(log, user_shard("dan", 3), lambda work, seconds: None)).users
    assert left.membership("dan", "a") is None


async def test_a_groups_cursor_stays_beside_its_topic(tmp_path: Path) -> None:
    file = await backup_of((await filled(4)).log)
    log = await a_log(7)
    await restored(log, file, tmp_path)
    users = (await recover(log, shard_of(topic_key("c"), 7), lambda work, seconds: None)).users
    groups = [device for keys in users.cursors.keys(10) for key in keys for device in users.cursors.row(key) or ()]
    assert [device.seq for device in groups if device.device_id == GROUP_DEVICE] == [2]


async def test_a_membership_that_comes_later_wins(tmp_path: Path) -> None:
    log = await a_log(4)
    await restored(log, await backup_of((await filled(4)).log), tmp_path)
    number = user_shard("bob", 4)
    users = (await recover(log, number, lambda work, seconds: None)).users
    topic = users.membership("bob", "a")
    assert topic is not None
    end = (await log.bounds(LogName.MESSAGES, shard_of(topic_key("a"), 4))).end
    left = encode_inbox(MembershipRecord("a", topic.epoch, end, joined_at=1))
    await log.append(LogName.INBOX, number, b"bob", left)
    users.apply((await records(log, number))[-1])
    assert users.membership("bob", "a") is None


async def records(log: Log, shard: int) -> list[Record]:
    first = (await log.bounds(LogName.INBOX, shard)).first
    reader = await log.reader(LogName.INBOX, shard, first)
    return list((await reader.read(100, 1.0)).records)


async def test_positions_of_other_epochs_and_unknown_topics_are_dropped_and_late_ones_end_at_the_head(
    tmp_path: Path,
) -> None:
    fill = await filled(4)
    await fill.cursor("bob", "d", 3, epoch=17)
    fill.epochs["gone"] = make_epoch(1, 5)
    await fill.mark("bob", "gone", 3, 3)
    await fill.mark("bob", "e", 900, 900)  # its message came after the topic's shard was read
    log = await a_log(4)
    report = await restored(log, await backup_of(fill.log), tmp_path)
    assert report.dropped == 2
    users = (await recover(log, user_shard("bob", 4), lambda work, seconds: None)).users
    mark = users.marks.find("bob", "e")
    assert mark is not None and (mark.seq, mark.n) == (5, 5)
    assert users.cursors.find("bob", "phone", "d") is None


async def test_a_backup_of_what_was_restored_restores_again_with_the_next_generation(tmp_path: Path) -> None:
    first, second = await a_log(2), await a_log(5)
    file = await backup_of((await filled(4)).log)
    await restored(first, file, tmp_path)
    report = await restored(second, await backup_of(first), tmp_path)
    assert report.generation == 3
    assert state_in(await backup_of(second)) == state_in(file)


async def test_an_owner_and_its_snapshots_change_nothing_about_a_backup(tmp_path: Path) -> None:
    log = await a_faulty_log()
    fill = Filling(log)
    names = [name for name in map(str, range(40)) if shard_of(topic_key(name), 4) == 0]
    for name in names:
        await fill.topic(name, messages=3)
        await fill.join(name, "bob")
    before = set(state_in(await backup_of(log)))
    async with owning(log, final=True):
        assert before <= set(state_in(await backup_of(log))), "while it runs"
    bounds = await log.bounds(LogName.MESSAGES, 0)
    await log.truncate_before(LogName.MESSAGES, 0, bounds.end)
    after = set(state_in(await backup_of(log)))
    assert before < after, "from its snapshot alone"
    assert all(line.startswith("HeadLine") for line in after - before)


@pytest.mark.parametrize("name", [LogName.OWNERSHIP, LogName.INBOX, LogName.DEAD_LETTERS])
async def test_logs_that_a_dispatcher_has_used_are_refused(tmp_path: Path, name: LogName) -> None:
    file = await backup_of((await filled(4)).log)
    log = await a_log(4)
    await log.append(name, 2, b"key", b"value")
    with pytest.raises(TargetUsed, match=f"shard 2 of its {name} log"):
        await restored(log, file, tmp_path)
    assert (await log.bounds(LogName.SNAPSHOTS, 0)).end == (await log.bounds(LogName.SNAPSHOTS, 0)).first


async def test_logs_with_messages_are_refused(tmp_path: Path) -> None:
    fill = await filled(4)
    with pytest.raises(TargetUsed, match=r"its messages log|its inbox log"):
        await restored(fill.log, await backup_of(fill.log), tmp_path)
    log = await a_log(4)
    await Filling(log).topic("a")
    with pytest.raises(TargetUsed, match="its messages log"):
        await restored(log, await backup_of(fill.log), tmp_path)


async def test_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    file = bytearray(await backup_of((await filled(4)).log))
    file[file.index(b'"seq":5') + 6] ^= 1
    log = await a_log(4)
    before = [await log.bounds(name, 0) for name in LogName]
    with pytest.raises(BadBackup, match="checksum"):
        await restored(log, bytes(file), tmp_path)
    assert [await log.bounds(name, 0) for name in LogName] == before


async def test_a_restore_that_was_interrupted_is_served_by_nobody_and_can_be_repeated(tmp_path: Path) -> None:
    file = await backup_of((await filled(4)).log)
    log = await a_faulty_log()
    await _interrupted(log, file, tmp_path / "first")
    states = []
    for shard in range(4):
        try:
            await recover(log, shard, lambda work, seconds: None)
            states.append("served")
        except ShardLost:
            states.append("parked")
    assert states == ["served", "parked", "parked", "parked"], "the first was finished, and is whole"
    (tmp_path / "second").mkdir()
    await restored(log, file, tmp_path / "second")
    assert state_in(await backup_of(log)) == state_in(file)


async def _interrupted(log: FaultyLog, file: bytes, folder: Path) -> None:
    """Restores until the second shard should begin with its snapshot."""
    folder.mkdir()
    truncate = log.truncate_before

    async def once(name: LogName, shard: int, offset: int) -> None:
        if name is LogName.MESSAGES and shard == 1:
            raise LogUnavailable("away")
        await truncate(name, shard, offset)

    log.truncate_before = once  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(LogUnavailable):
            await restored(log, file, folder)
    finally:
        log.truncate_before = truncate  # type: ignore[method-assign]


async def test_a_generation_is_above_the_backups_and_fits_an_epoch(tmp_path: Path) -> None:
    file = await backup_of((await filled(2)).log)
    for wrong in (0, 1, MAX_GENERATION + 1):
        with pytest.raises(WrongGeneration, match=f"2 to {MAX_GENERATION} can be"):
            await restored(await a_log(2), file, tmp_path, wrong)
    report = await restored(await a_log(2), file, tmp_path, MAX_GENERATION)
    assert report.generation == MAX_GENERATION


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (1, 2, 1)])
async def test_revocations_come_along_and_of_each_name_the_latest(order: tuple[int, ...], tmp_path: Path) -> None:
    fill = await filled(2)
    for value in [b'{"not_before":%d,"user_id":"eve"}' % at for at in order]:
        await fill.log.append(LogName.REVOCATIONS, 0, b"user:eve", value)
    log = await a_log(2)
    assert (await restored(log, await backup_of(fill.log), tmp_path)).revocations == 1
    first = (await log.bounds(LogName.REVOCATIONS, 0)).first
    batch = await (await log.reader(LogName.REVOCATIONS, 0, first)).read(10, 1.0)
    assert [(r.key, r.value) for r in batch.records] == [(b"user:eve", b'{"not_before":2,"user_id":"eve"}')]


async def test_an_embedded_log_is_restored_into_an_empty_folder_and_opened_again(tmp_path: Path) -> None:
    file = await backup_of((await filled(4)).log)
    for _ in range(2):
        log = SqliteLog(tmp_path / "log.db", CLOCK, RNG)
        await log.open()
        if (await log.bounds(LogName.SNAPSHOTS, 0)).end == (await log.bounds(LogName.SNAPSHOTS, 0)).first:
            await restored(log, file, tmp_path)
        assert state_in(await backup_of(log)) == state_in(file)
        await log.close()
