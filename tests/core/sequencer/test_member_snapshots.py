"""Members in snapshots: whatever happened between the slices, a restored shard has the same members."""

from typing import Any

import pytest

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import read_chunk
from headgate.core.sequencer.snapshot_check import BadSnapshot, BaseCheck
from headgate.core.sequencer.snapshot_writer import MemberKey
from headgate.core.sequencer.topic_changes import MemberChanged
from headgate.core.wire.control import (
    LOGIC,
    Actor,
    Config,
    Control,
    CreateTopic,
    DeleteTopic,
    RemoveMember,
    SetMember,
    encode_body,
)
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import topic_key
from headgate.core.wire.member_roles import Right
from headgate.core.wire.records import Record
from tests.core.snapshot_bed import RandomBed, restore

ROOT = Actor("root", given=Right.ALL)
TOPICS = [f"t{n}" for n in range(5)]


class Bed(RandomBed):
    """Feeds random changes of members, while snapshots are written."""

    def __init__(self, seed: int, logic: int = LOGIC) -> None:
        super().__init__(seed)
        self.feed(Config(cluster_id="c", generation=1, shards=1, shard=0, logic=logic), 0, b"hg:config")

    def feed(self, control: Control, epoch: int, key: bytes) -> None:
        record = Record(self.offset, 1_000, key, encode_control(encode_body(control), epoch))
        self.offset += 1
        ((_, applied),) = apply_many(self.shard, self.rows, [record])
        for effect in applied.effects:
            self.writer.touch(key)
            if isinstance(effect, MemberChanged) and applied.row is not None:
                self.writer.touch(MemberKey(key, effect.user_id))
                self.writer.touch(MemberKey(key, applied.row.owner_id))

    def step(self) -> None:
        topic = self.rng.choice(TOPICS)
        key = topic_key(topic)
        row = self.rows.get(key)
        if row is None:
            self.feed(CreateTopic(topic, topic, "PRIVATE", "ann"), 0, key)
        elif self.rng.random() < 0.02:
            self.feed(DeleteTopic(topic), row.epoch, key)
        elif self.rng.random() < 0.4:
            self.feed(RemoveMember(topic, f"u{self.rng.randrange(40)}", ROOT), row.epoch, key)
        else:
            role = self.rng.choice(["member", "admin", "owner", "subscriber"])
            self.feed(SetMember(topic, f"u{self.rng.randrange(40)}", role, ROOT), row.epoch, key)


def members_of(shard: Shard, rows: dict[bytes, Row]) -> dict[bytes, list[object]]:
    return {key: [shard.member_count(key), *shard.members.get(key, ())] for key in rows}


@pytest.mark.parametrize("seed", range(12))
def test_a_restored_shard_has_the_members_of_the_snapshots_instant(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_writer.SLICE_ROWS", 7)
    bed = Bed(seed)
    for round_ in range(12):
        for _ in range(bed.rng.randrange(1, 60)):
            bed.step()
        bed.snapshot(busy=round_ % 2 == 0)
        bed.snapshot(busy=False)
        shard, rows = restore(bed.chain())
        assert rows == bed.rows
        assert members_of(shard, rows) == members_of(bed.shard, bed.rows)
        assert shard.logic == bed.shard.logic


@pytest.mark.parametrize("base", [True, False])
def test_what_changed_while_a_snapshot_was_written_is_less_than_a_slice_at_its_instant(
    base: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_writer.SLICE_ROWS", 7)
    bed = Bed(1)
    for _ in range(300):
        bed.step()
    if not base:
        bed.snapshot(busy=False)
        for _ in range(300):
            bed.step()
    at_the_instant: list[int] = []
    instant = bed.writer._instant

    def counted(*args: Any, **named: Any) -> Any:
        at_the_instant.append(len(bed.writer._dirty))
        return instant(*args, **named)

    monkeypatch.setattr(bed.writer, "_instant", counted)
    slices = 0
    for _ in bed.writer.base(bed.shard, bed.rows, 0) if base else bed.writer.delta(bed.shard, bed.rows):
        slices += 1
        for _ in range(2):  # more than seven keys until the first pass is over
            bed.step()
    assert slices > 4
    (changed,) = at_the_instant
    assert changed <= 7


def test_topics_without_members_write_the_bytes_of_before() -> None:
    bed = Bed(1, logic=1)
    bed.feed(CreateTopic("t", "t", "PUBLIC", "ann"), 0, topic_key("t"))
    bed.snapshot(busy=False)
    (chunk,) = bed.chain()
    assert chunk.logic == 1
    assert chunk.body().members == []
    assert chunk.value[44:45] == b"\x93"  # an array of three: no member list


def check(bed: Bed, values: list[bytes]) -> None:
    chunks = [chunk for at, value in enumerate(values) if (chunk := read_chunk(at, value))]
    checking = BaseCheck([chunk.name for chunk in chunks], bed.writer.mark, bed.shard, bed.rows, bed.writer)
    for chunk in reversed(chunks):
        list(checking.taking(chunk))
    list(checking.finishing())


def filled() -> Bed:
    bed = Bed(3)
    bed.feed(CreateTopic("t", "t", "PRIVATE", "ann"), 0, topic_key("t"))
    for user in ("bob", "eve"):
        bed.feed(SetMember("t", user, "member", ROOT), bed.rows[topic_key("t")].epoch, topic_key("t"))
    return bed


def test_a_base_whose_members_are_not_those_of_the_shard_is_bad() -> None:
    bed = filled()
    values = bed.snapshot(busy=False)
    check(bed, values)
    members = bed.shard.members[topic_key("t")]
    eve = members.get("eve")
    assert eve is not None
    members.put("eve", eve._replace(joined_seq=9))
    with pytest.raises(BadSnapshot, match=r"'eve'.* at 0$"):
        check(bed, values)
    members.put("eve", eve)
    members.put("zoe", eve)
    with pytest.raises(BadSnapshot, match=r"'zoe'.* is not in the base"):
        check(bed, values)


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_members_are_checked_in_slices(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_check.SLICE_ROWS", size)
    bed, key = filled(), topic_key("t")
    for n in range(20):
        bed.feed(SetMember("t", f"u{n:02}", "member", ROOT), bed.rows[key].epoch, key)
    (value,) = bed.snapshot(busy=False)
    chunk = read_chunk(0, value)
    assert chunk is not None
    checking = BaseCheck([chunk.name], bed.writer.mark, bed.shard, bed.rows, bed.writer)
    assert len(chunk.body().members) == 23, "the creator, too"
    assert len(list(checking.taking(chunk))) == 1 + 23 // size
    assert len(list(checking.finishing())) == 1 + (23 // size + 1) + 1 + 1  # rows, members, changed messages, pairs
    members = bed.shard.members[key]
    last = members.get("u19")
    assert last is not None
    members.put("zoe", last)
    with pytest.raises(BadSnapshot, match=r"'zoe'.* is not in the base"):
        list(checking.finishing())


def test_members_that_changed_since_the_base_are_not_compared() -> None:
    bed = filled()
    values = bed.snapshot(busy=False)
    key = topic_key("t")
    bed.feed(RemoveMember("t", "eve", ROOT), bed.rows[key].epoch, key)
    bed.feed(SetMember("t", "zoe", "member", ROOT), bed.rows[key].epoch, key)
    check(bed, values)
    bed.feed(DeleteTopic("t"), bed.rows[key].epoch, key)
    check(bed, values)
