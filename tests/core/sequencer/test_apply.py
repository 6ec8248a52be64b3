"""The sequencer on values: golden logs, and its rules by name."""

import pytest

from headgate.core.sequencer.apply import Applied, NotConfigured, apply, apply_many, foreign_item, items_of
from headgate.core.sequencer.effects import Deliver, TopicCreated, TopicDeleted, Unusable
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import Config, CreateTopic, DeleteTopic, Probe, encode_body
from headgate.core.wire.envelope import KEYED, LOW, MAGIC, Item, encode_bundle, encode_control, encode_message
from headgate.core.wire.errors import UnknownVersion
from headgate.core.wire.ids import keyed_id, shard_of, topic_key
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code
from tests.core import golden

TAIL = b'"message_id":"x","publisher_id":"p","payload":1}'
KEY = topic_key("t")


class Bed:
    """A shard that is fed one record after the other."""

    def __init__(self, shards: int = 1, number: int = 0) -> None:
        self.shard = Shard()
        self.rows: dict[bytes, Row] = {}
        self.offset = 100
        self.ts = 1_700_000_000_000
        config = Config(cluster_id="c", generation=1, shards=shards, shard=number, payload_bytes=100)
        self.feed(b"hg:config", encode_control(encode_body(config), 0))

    def feed(self, key: bytes | None, value: bytes | None, *, ts: int | None = None) -> Applied:
        record = Record(self.offset, self.ts if ts is None else ts, key, value)
        self.offset += 1
        ((_, applied),) = apply_many(self.shard, self.rows, [record])
        return applied

    def create(self, name: str = "1", topic: str = "t", **settings: object) -> Applied:
        control = CreateTopic(topic_id=topic, name="n", permissions="PUBLIC", owner_id="ann", settings=dict(settings))
        return self.feed(topic_key(topic), encode_control(encode_body(control), 0, keyed_id(KEY, "ann", name)))

    def delete(self, epoch: int, name: str = "d") -> Applied:
        return self.feed(KEY, encode_control(encode_body(DeleteTopic("t")), epoch, keyed_id(KEY, "ann", name)))

    def publish(self, name: str, epoch: int, *, ts: int | None = None) -> Applied:
        return self.feed(KEY, encode_message(Item(keyed_id(KEY, "p", name), KEYED, TAIL), epoch), ts=ts)


def code(applied: Applied) -> int:
    return applied.verdicts[0].code


def test_the_golden_log_is_decided_as_ever() -> None:
    records, decided = golden.load()
    assert golden.decide(records) == decided


def test_two_nodes_that_read_the_same_log_agree() -> None:
    records = golden.make_log(seed=7)
    assert golden.decide(records) == golden.decide(list(records))


def test_seqs_are_dense_from_one_and_p2_one_id_has_one_seq() -> None:
    bed = Bed()
    epoch = bed.create().verdicts[0].epoch
    seqs = [bed.publish(name, epoch).verdicts[0] for name in ("a", "b", "a", "c", "b")]
    assert [(v.code, v.seq) for v in seqs] == [(1, 1), (1, 2), (2, 1), (1, 3), (2, 2)]


def test_a_topic_epoch_is_generation_and_offset() -> None:
    bed = Bed()
    applied = bed.create()
    assert applied.verdicts[0].epoch == (1 << 44) | 101
    assert isinstance(applied.effects[0], TopicCreated)
    assert applied.row is not None
    assert applied.row.created_at == bed.ts


def test_of_two_creates_one_wins_and_a_repeat_of_the_winner_wins_again() -> None:
    bed = Bed()
    first = bed.create("mine")
    assert code(bed.create("theirs")) is Code.EXISTS
    again = bed.create("mine")
    assert again.verdicts == first.verdicts
    assert again.effects == []


def test_a_late_delete_never_hits_the_topic_that_was_created_again() -> None:
    bed = Bed()
    old = bed.create("1").verdicts[0].epoch
    gone = bed.delete(old)
    assert (code(gone), gone.effects) == (Code.DELETED, [TopicDeleted("t", old, "ann", None)])
    new = bed.create("2").verdicts[0].epoch
    assert code(bed.delete(old, "late")) is Code.STALE_EPOCH
    assert code(bed.delete(old)) is Code.DELETED  # the repeat of the one that was carried out
    assert bed.rows[KEY].epoch == new


def test_a_message_for_the_topic_that_was_is_a_dead_letter() -> None:
    bed = Bed()
    old = bed.create("1").verdicts[0].epoch
    bed.delete(old)
    assert code(bed.publish("a", old)) is Code.NO_TOPIC
    new = bed.create("2").verdicts[0].epoch
    late = bed.publish("a", old)
    assert (code(late), late.effects) == (Code.STALE_EPOCH, [Unusable(1, "no_topic", "")])
    assert bed.publish("a", new).verdicts[0].seq == 1  # the same id in another epoch is another message


def test_a_refused_bundle_is_one_dead_letter_for_all_its_items() -> None:
    bed = Bed()
    epoch = bed.create().verdicts[0].epoch
    bed.delete(epoch)
    items = [Item(keyed_id(KEY, "p", str(n)), KEYED, TAIL) for n in range(1_000)]
    refused = bed.feed(KEY, encode_bundle(items, epoch))
    assert refused.effects == [Unusable(1_000, "no_topic", "")]
    assert {v.code for v in refused.verdicts} == {Code.NO_TOPIC}
    assert len(refused.verdicts) == 1_000


def test_each_item_of_a_bundle_has_its_own_verdict() -> None:
    bed = Bed()
    epoch = bed.create().verdicts[0].epoch
    bed.publish("b", epoch)
    items = [Item(keyed_id(KEY, "p", name), KEYED, TAIL) for name in ("a", "b", "a", "c")]
    applied = bed.feed(KEY, encode_bundle(items, epoch))
    assert [(v.code, v.seq) for v in applied.verdicts] == [(1, 2), (2, 1), (2, 2), (1, 3)]
    assert [(e.seq, e.item) for e in applied.effects if isinstance(e, Deliver)] == [(2, 0), (3, 3)]


@pytest.mark.parametrize("flags", [KEYED, KEYED | LOW, LOW])
def test_an_accepted_message_is_handed_on_with_all_that_a_transport_needs(flags: int) -> None:
    bed = Bed()
    epoch = bed.create().verdicts[0].epoch
    changes = bed.shard.changes
    item = Item(keyed_id(KEY, "p", "a"), flags, TAIL)
    applied = bed.feed(KEY, encode_message(item, epoch), ts=bed.ts + 5)
    frame = b'{"type":"message","topic_id":"t","seq":1,"ts":%d,' % (bed.ts + 5) + TAIL
    assert applied.effects == [Deliver("t", epoch, 1, bed.ts + 5, item.id, 0, frame, flags)]
    lanes = bed.shard.window.mark()
    assert (lanes.keyed.ids, lanes.unkeyed.ids) == ((2, 0) if flags & KEYED else (1, 1)), "the create has an id, too"
    assert bed.shard.changes == changes + 1


def test_a_foreign_record_is_a_message_of_kafka() -> None:
    bed = Bed()
    bed.create()
    applied = bed.feed(KEY, b'{"a": [1,\n 2.50], "b": " x "}')
    (effect,) = applied.effects
    assert isinstance(effect, Deliver)
    assert effect.frame.startswith(b'{"type":"message","topic_id":"t","seq":1,"ts":1700000000000,"message_id":"')
    assert effect.frame.endswith(b'"publisher_id":"kafka","payload":{"a":[1,2.50],"b":" x "}}')


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (KEY, b"\xff\xfe", "not_utf8"),
        (KEY, b"{", "not_json"),
        (KEY, b"[" * 65 + b"]" * 65, "too_deep"),
        (KEY, b'"' + b"x" * 99 + b'"', "too_large"),
        (KEY, None, "null"),
        (None, b"1", "null"),
        (b"nowhere", b"1", "no_topic"),
        (KEY, MAGIC + b"\x01\x01", "corrupt"),
        (KEY, encode_control(b"{}", 0), "corrupt"),
        (KEY, encode_control(b'{"op":"create","topic_id":"u","name":"\xff"}', 0), "corrupt"),
    ],
)
def test_what_cannot_be_used_takes_no_number_and_neighbours_go_on(
    key: bytes | None, value: bytes | None, reason: str
) -> None:
    bed = Bed()
    epoch = bed.create().verdicts[0].epoch
    applied = bed.feed(key, value)
    assert code(applied) is Code.DEAD
    (letter,) = applied.effects
    assert isinstance(letter, Unusable)
    assert (letter.items, letter.reason) == (1, reason)
    assert bool(letter.detail) is (reason in ("null", "no_topic", "corrupt"))
    assert bed.publish("a", epoch).verdicts[0].seq == 1


def test_the_messages_of_a_record_are_read_whether_they_are_accepted_or_not() -> None:
    config = Bed().shard.config
    assert config is not None
    one, two = (Item(keyed_id(KEY, "p", name), KEYED, TAIL) for name in "ab")
    for value, items in ((encode_message(one, 5), [one]), (encode_bundle([one, two], 5), [one, two])):
        assert list(items_of(Record(7, 0, KEY, value), config)) == items
    (foreign,) = items_of(Record(7, 0, KEY, b"[1]"), config)
    assert foreign == foreign_item(Record(7, 0, KEY, b"[1]"), config) and foreign.tail.endswith(b'"payload":[1]}')
    for bad in (b"{", None, MAGIC + b"\x01\x01"):
        assert list(items_of(Record(7, 0, KEY, bad), config)) == []


def test_a_key_that_does_not_hash_here_is_a_dead_letter() -> None:
    number = 1 - shard_of(KEY, 2)
    bed = Bed(shards=2, number=number)
    (letter,) = bed.feed(KEY, b"1").effects
    assert isinstance(letter, Unusable)
    assert letter.reason == "wrong_partition" and "partition" in letter.detail
    assert code(bed.create()) is Code.DEAD
    for shard in (0, 1):  # a record of ours without a key
        applied = Bed(shards=2, number=shard).feed(None, encode_message(Item(bytes(16), 0, TAIL), 1))
        reason = "no_topic" if shard == shard_of(b"", 2) else "wrong_partition"
        assert (code(applied), applied.effects) == (Code.NO_TOPIC, [Unusable(1, reason, "")])


def test_only_an_unknown_version_parks_and_changes_nothing() -> None:
    bed = Bed()
    before = (bed.shard.next_offset, bed.shard.digest.value)
    with pytest.raises(UnknownVersion):
        bed.feed(KEY, MAGIC + b"\x02")
    assert (bed.shard.next_offset, bed.shard.digest.value) == before


def test_a_shard_without_a_config_record_is_not_served() -> None:
    with pytest.raises(NotConfigured, match="headgate init"):
        apply(Shard(), None, Record(0, 1, KEY, b"1"))


def test_an_equal_config_is_ignored_and_another_refused() -> None:
    bed = Bed()
    assert bed.shard.config is not None
    again = bed.feed(b"hg:config", encode_control(encode_body(bed.shard.config), 0))
    assert code(again) is Code.IGNORED
    other = Config(cluster_id="c", generation=2, shards=1, shard=0)
    refused = bed.feed(b"hg:config", encode_control(encode_body(other), 0))
    assert code(refused) is Code.DEAD
    assert bed.shard.generation == 1
    row = bed.create().row
    config = Record(bed.offset, bed.ts, KEY, encode_control(encode_body(bed.shard.config), 0))
    assert row is not None and apply(bed.shard, row, config).row is row


def test_a_probe_changes_nothing() -> None:
    bed = Bed()
    changes = bed.shard.changes
    assert code(bed.feed(b"hg:probe", encode_control(encode_body(Probe()), 0))) is Code.IGNORED
    assert bed.shard.changes == changes


def test_log_time_is_clamped_and_never_falls() -> None:
    bed = Bed()
    epoch = bed.create().verdicts[0].epoch
    bed.publish("a", epoch, ts=bed.ts + 10**12)
    assert bed.shard.log_ms == bed.ts + 3_600_000
    late = bed.publish("b", epoch, ts=5)
    assert bed.shard.log_ms == bed.ts + 3_600_000
    (effect,) = late.effects
    assert isinstance(effect, Deliver)
    assert effect.ts == 5  # `ts` on the wire is the record's own


def test_nothing_of_an_ephemeral_topic_is_numbered() -> None:
    bed = Bed()
    epoch = bed.create(profile="ephemeral").verdicts[0].epoch
    assert code(bed.publish("a", epoch)) is Code.DEAD
