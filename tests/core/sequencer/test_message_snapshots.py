"""Changed messages in snapshots: whatever happened between the slices, a restored shard has the same rows."""

import pytest

from headgate.core.sequencer.apply import apply_many
from headgate.core.sequencer.changed_messages import ChangedMessage, ChangedMessages
from headgate.core.sequencer.effects import MessageChanged
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import read_chunk
from headgate.core.sequencer.snapshot_check import BadSnapshot, BaseCheck
from headgate.core.sequencer.snapshot_writer import MessageKey
from headgate.core.wire.control import LOGIC, Actor, Config, CreateTopic, DeleteTopic, encode_body
from headgate.core.wire.envelope import Item, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.member_roles import Right
from headgate.core.wire.message_changes import EditMessage, MessageChange, RedactMessage, encode_event, event_tail
from headgate.core.wire.records import Record
from tests.core.snapshot_bed import RandomBed, restore

ROOT = Actor("root", given=Right.ALL)
TOPICS = [f"t{n}" for n in range(4)]
MOST = 60
TAIL = b'"message_id":"x","publisher_id":"p","payload":1}'


class Bed(RandomBed):
    """Feeds random changes of messages, while snapshots are written."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.shard.changed = ChangedMessages(most=MOST)
        self.places: dict[tuple[int, int], int] = {}
        self.feed(b"hg:config", encode_control(encode_body(Config("c", 1, 1, 0, logic=LOGIC)), 0))

    def feed(self, key: bytes, value: bytes) -> None:
        ((_, applied),) = apply_many(self.shard, self.rows, [Record(self.offset, 1_000, key, value)])
        for effect in applied.effects:
            self.writer.touch(key)
            if isinstance(effect, MessageChanged):
                self.writer.touch(MessageKey(key, effect.change.target_seq))
            if applied.row is not None:
                self.places[applied.row.epoch, applied.row.seq] = self.offset << 10
        self.offset += 1

    def step(self) -> None:
        topic, name = self.rng.choice(TOPICS), keyed_id(b"k", "p", str(self.offset))
        key = topic_key(topic)
        row = self.rows.get(key)
        if row is None:
            self.feed(key, encode_control(encode_body(CreateTopic(topic, topic, "PUBLIC", "ann")), 0))
        elif self.rng.random() < 0.01:
            self.feed(key, encode_control(encode_body(DeleteTopic(topic)), row.epoch))
        elif row.seq == 0 or self.rng.random() < 0.3:
            self.feed(key, encode_message(Item(name, 0, TAIL), row.epoch))
        else:
            self.feed(key, self.change(row, key, name))

    def change(self, row: Row, key: bytes, name: bytes) -> bytes:
        seq = self.rng.randint(1, row.seq)
        pos = self.places[row.epoch, seq]
        found = self.shard.changed.get(key, row.epoch, seq)
        change: MessageChange = EditMessage(seq, pos, 1 if found is None else found.version, ROOT)
        if self.rng.random() < 0.2:
            change = RedactMessage(seq, pos, False, ROOT)
        payload = b"2" if isinstance(change, EditMessage) else b"null"
        return encode_event(change, event_tail(name, change, payload), row.epoch, name)


def state_of(shard: Shard) -> object:
    return shard.changed.below, shard.changed.count, sorted(shard.changed)


@pytest.mark.parametrize("seed", range(8))
def test_a_restored_shard_has_the_rows_of_the_snapshots_instant(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.sequencer.snapshot_writer.SLICE_ROWS", 7)
    monkeypatch.setattr("headgate.core.sequencer.snapshot.SLICE_ENTRIES", 5)
    bed = Bed(seed)
    for round_ in range(12):
        for _ in range(bed.rng.randrange(1, 120)):
            bed.step()
        bed.snapshot(busy=round_ % 2 == 0)
        bed.snapshot(busy=False)
        shard, rows = restore(bed.chain())
        assert rows == bed.rows
        assert state_of(shard) == state_of(bed.shard)
    assert bed.shard.changed.below > 0, "the bound was reached"


def test_a_delta_holds_only_the_rows_that_changed() -> None:
    bed = Bed(1)
    for _ in range(200):
        bed.step()
    bed.snapshot(busy=False)
    while bed.shard.changed.count < 3:
        bed.step()
    bed.snapshot(busy=False)
    key, epoch, seq, row = next(iter(bed.shard.changed))
    name = keyed_id(b"k", "p", "one more")
    change = EditMessage(seq, row.pos, row.version, ROOT)
    if row.redacted:
        bed.shard.changed.put(key, epoch, seq, row._replace(redacted=False))
    bed.feed(key, encode_event(change, event_tail(name, change, b"3"), epoch, name))
    steps = [value for value in bed.writer.delta(bed.shard, bed.rows) if value is not None]
    entries = [entry for at, v in enumerate(steps) if (chunk := read_chunk(at, v)) for entry in chunk.body().messages]
    assert [(entry.key, entry.seq, entry.row.version) for entry in entries] == [(key, seq, row.version + 1)]


def check(bed: Bed, values: list[bytes]) -> None:
    chunks = [chunk for at, value in enumerate(values) if (chunk := read_chunk(at, value))]
    checking = BaseCheck([chunk.name for chunk in chunks], bed.writer.mark, bed.shard, bed.rows, bed.writer)
    for chunk in reversed(chunks):
        list(checking.taking(chunk))
    list(checking.finishing())


def base_of(bed: Bed) -> list[bytes]:
    return [value for value in bed.writer.base(bed.shard, bed.rows, 0) if value is not None]


def test_a_base_is_compared_with_the_rows_it_was_made_of() -> None:
    bed = Bed(2)
    for _ in range(300):
        bed.step()
    values = base_of(bed)
    check(bed, values)
    for _ in range(200):
        bed.step()
    check(bed, values)


@pytest.mark.parametrize("says", ["is not what was written", "is not in the base"])
def test_a_base_whose_rows_differ_is_refused(says: str) -> None:
    bed = Bed(3)
    for _ in range(300):
        bed.step()
    values = base_of(bed)
    key, epoch, seq, row = next(iter(bed.shard.changed))
    if says == "is not in the base":
        seq = next(n for n in range(1, 10_000) if n not in bed.shard.changed.seqs(key))
    bed.shard.changed.put(key, epoch, seq, ChangedMessage(row.version + 1, row.pos + (1 << 40), False))
    with pytest.raises(BadSnapshot, match=says):
        check(bed, values)
