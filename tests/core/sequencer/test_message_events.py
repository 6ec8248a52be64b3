"""Records that change messages: decided from the rows, alike on every node."""

import json

import pytest

from headgate.core.sequencer.apply import Applied, apply_many, event_in
from headgate.core.sequencer.changed_messages import ChangedMessage, ChangedMessages
from headgate.core.sequencer.effects import MessageChanged, Unusable
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.wire.control import (
    LOGIC,
    MESSAGES_LOGIC,
    Actor,
    Config,
    CreateTopic,
    DeleteTopic,
    RemoveMember,
    SetMember,
    encode_body,
)
from headgate.core.wire.envelope import KEYED, NO_ID, Item, encode_control, encode_message
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.member_roles import Right
from headgate.core.wire.message_changes import (
    EditMessage,
    MessageChange,
    ReactToMessage,
    RedactMessage,
    encode_event,
    event_tail,
)
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code, Verdict
from tests.core import golden
from tests.core.golden import events

KEY = topic_key("t")
ANN, BOB = Actor("ann"), Actor("bob")
ROOT = Actor("root", given=Right.ALL)
TAIL = b'"message_id":"x","publisher_id":"bob","payload":1}'


class Bed:
    """A shard with the topic `t` of ann's and three messages of bob's."""

    def __init__(self, permissions: str = "PUBLIC", logic: int = LOGIC, **settings: object) -> None:
        self.shard, self.rows, self.offset = Shard(), dict[bytes, Row](), 100
        self.feed(encode_control(encode_body(Config("c", 1, 1, 0, logic=logic)), 0), b"hg:config")
        self.create(permissions, **settings)
        for n in range(3):
            self.feed(encode_message(Item(keyed_id(KEY, "p", str(n)), KEYED, TAIL), self.row.epoch))

    def create(self, permissions: str = "PUBLIC", **settings: object) -> None:
        control = CreateTopic("t", "t", permissions, "ann", dict(settings))
        self.feed(encode_control(encode_body(control), 0))

    @property
    def row(self) -> Row:
        return self.rows[KEY]

    def feed(self, value: bytes, key: bytes = KEY) -> Applied:
        ((_, applied),) = apply_many(self.shard, self.rows, [Record(self.offset, 1_700_000_000_007, key, value)])
        self.offset += 1
        return applied

    def change(self, change: MessageChange, name: str = "", payload: bytes = b"null", epoch: int = 0) -> Applied:
        record_id = keyed_id(KEY, "e", name or str(self.offset))
        tail = event_tail(record_id, change, payload)
        return self.feed(encode_event(change, tail, epoch or self.row.epoch, record_id, KEYED))

    def edit(self, seq: int, version: int, actor: Actor = BOB, name: str = "", pos: int = 50) -> Verdict:
        return self.change(EditMessage(seq, pos, version, actor), name, b'{"new":1}').verdicts[0]

    def redact(self, seq: int, actor: Actor = BOB, *, own: bool = True) -> Verdict:
        return self.change(RedactMessage(seq, 50, own, actor)).verdicts[0]

    def react(self, seq: int, actor: Actor = BOB, *, removed: bool = False) -> Verdict:
        return self.change(ReactToMessage(seq, 50, "+1", removed, actor)).verdicts[0]

    def member(self, user_id: str, role: str | None) -> None:
        change = RemoveMember("t", user_id, ROOT) if role is None else SetMember("t", user_id, role, ROOT)
        self.feed(encode_control(encode_body(change), self.row.epoch))


def test_an_event_takes_a_seq_of_its_own_and_is_no_message() -> None:
    bed = Bed()
    applied = bed.change(EditMessage(2, 50, 1, BOB), payload=b'{"new":1}')
    assert applied.verdicts == [Verdict(Code.CHANGED, 4, bed.row.epoch)]
    assert (bed.row.seq, bed.row.n, bed.row.others) == (4, 3, 1)
    (effect,) = applied.effects
    assert isinstance(effect, MessageChanged)
    told = json.loads(effect.event.frame)
    assert (told["seq"], told["target_seq"], told["kind"], told["version"]) == (4, 2, "edit", 2)
    assert told["edited_at"] == "2023-11-14T22:13:20.007Z" and told["payload"] == {"new": 1}
    assert bed.feed(encode_message(Item(keyed_id(KEY, "p", "x"), KEYED, TAIL), bed.row.epoch)).verdicts[0].seq == 5


def test_an_edit_needs_the_version_that_the_message_has() -> None:
    bed = Bed()
    assert bed.edit(1, 2) == Verdict(Code.CONFLICT, 1, bed.row.epoch)
    assert bed.edit(1, 1).code == Code.CHANGED
    assert bed.edit(1, 1) == Verdict(Code.CONFLICT, 2, bed.row.epoch)
    assert bed.edit(2, 1).code == Code.CHANGED, "another message has a version of its own"
    assert bed.row.seq == 5, "a conflict takes no seq"


def test_a_repeat_is_a_duplicate_with_the_seq_of_the_first() -> None:
    bed = Bed()
    assert bed.edit(1, 1, name="k").seq == 4
    assert bed.edit(1, 1, name="k") == Verdict(Code.DUPLICATE, 4, bed.row.epoch)
    assert bed.shard.changed.get(KEY, bed.row.epoch, 1) == ChangedMessage(2, 50, False)


def test_an_id_that_was_a_conflict_never_becomes_an_edit() -> None:
    """A rebuild finds the record of an event by its id alone: the first with that id."""
    bed = Bed()
    assert bed.edit(1, 2, name="k") == Verdict(Code.CONFLICT, 1, bed.row.epoch)
    assert bed.edit(1, 1).code == Code.CHANGED
    assert bed.edit(1, 2, name="k") == Verdict(Code.CONFLICT, 2, bed.row.epoch), "its version has come"
    assert bed.edit(1, 1, name="k") == Verdict(Code.CONFLICT, 2, bed.row.epoch)
    assert bed.edit(1, 2).code == Code.CHANGED and bed.edit(1, 3, name="l").code == Code.CHANGED


@pytest.mark.parametrize("payload", [b"", b"{", b"1}", b"1 ", b"[1,\n2]", b"\xff", b'"\xff"', b"[" * 65 + b"]" * 65])
def test_an_edit_whose_payload_is_no_compact_json_is_a_dead_letter(payload: bytes) -> None:
    bed = Bed()
    applied = bed.change(EditMessage(1, 50, 1, BOB), payload=payload)
    assert applied.verdicts[0].code == Code.DEAD and bed.row.seq == 3
    assert bed.edit(1, 1).code == Code.CHANGED


def test_a_broken_event_is_none_for_a_rebuild_either() -> None:
    """A good one may have its id later."""
    record_id, change = keyed_id(KEY, "e", "k"), EditMessage(1, 50, 1, BOB)
    for payload, good in ((b'{"new":1}', True), (b"{", False)):
        value = encode_event(change, event_tail(record_id, change, payload), 1, record_id, KEYED)
        assert (event_in(Record(200, 1, KEY, value)) is not None) is good


@pytest.mark.parametrize("pos", [-1, 105 << 10, 1 << 64, 1 << 80])
def test_a_message_stands_before_its_event(pos: int) -> None:
    """A row with such a place would be in no snapshot, or keep others out for ever."""
    bed = Bed()
    assert bed.offset == 105
    assert bed.edit(1, 1, pos=pos).code == Code.DEAD
    assert bed.edit(1, 1, pos=(106 << 10) - 1).code == Code.CHANGED


def test_a_redaction_is_final() -> None:
    bed = Bed()
    bed.edit(1, 1)
    assert bed.redact(1).code == Code.CHANGED
    assert bed.edit(1, 2) == Verdict(Code.CONFLICT, 2, bed.row.epoch)
    assert bed.redact(1) == Verdict(Code.IGNORED, 0, bed.row.epoch)
    assert bed.react(1) == Verdict(Code.IGNORED, 0, bed.row.epoch)
    assert bed.row.seq == 5


@pytest.mark.parametrize(
    ("actor", "own", "code"),
    [(BOB, True, Code.CHANGED), (BOB, False, Code.FORBIDDEN), (ANN, False, Code.CHANGED), (ROOT, False, Code.CHANGED)],
)
def test_a_message_is_redacted_by_its_publisher_or_an_admin(actor: Actor, own: bool, code: Code) -> None:
    assert Bed().redact(1, actor, own=own).code == code


def test_who_lost_his_membership_of_a_private_topic_changes_nothing() -> None:
    bed = Bed("PRIVATE")
    bed.member("bob", "member")
    assert bed.edit(1, 1).code == Code.CHANGED
    assert bed.react(1).code == Code.CHANGED
    bed.member("bob", None)
    seq = bed.row.seq
    assert [bed.edit(1, 2).code, bed.redact(1).code, bed.react(1).code] == [Code.FORBIDDEN] * 3
    assert bed.row.seq == seq


@pytest.mark.parametrize(("role", "edit", "react"), [("publisher", 1, 0), ("subscriber", 0, 1)])
def test_an_edit_needs_the_right_to_publish_and_a_reaction_that_to_subscribe(role: str, edit: int, react: int) -> None:
    bed = Bed("PRIVATE")
    bed.member("bob", role)
    assert (bed.edit(1, 1).code == Code.CHANGED, bed.react(1).code == Code.CHANGED) == (edit, react)
    only = Actor("bob", given=Right.SUBSCRIBE, only=True)
    assert Bed().edit(1, 1, only).code == Code.FORBIDDEN


def test_a_refusal_is_kept_with_its_id_a_late_copy_of_the_record_changes_nothing() -> None:
    bed = Bed("PRIVATE")
    assert bed.edit(1, 1, name="k").code == Code.FORBIDDEN
    bed.member("bob", "member")
    assert bed.edit(1, 1, name="k") == Verdict(Code.DUPLICATE, 0, bed.row.epoch)
    assert bed.edit(1, 1, name="l").code == Code.CHANGED


@pytest.mark.parametrize("seq", [0, 4])
def test_an_event_of_a_message_that_the_topic_has_not_is_a_dead_letter(seq: int) -> None:
    applied = Bed().change(RedactMessage(seq, 50, True, BOB))
    assert applied.verdicts == [Verdict(Code.DEAD)]
    assert isinstance(applied.effects[0], Unusable) and applied.effects[0].reason == "corrupt"


def test_an_event_needs_an_id_and_a_tail_that_says_the_same() -> None:
    bed, change = Bed(), RedactMessage(1, 50, True, BOB)
    nameless = encode_event(change, event_tail(NO_ID, change), bed.row.epoch, NO_ID)
    other = encode_event(change, event_tail(keyed_id(KEY, "e", "1"), change), bed.row.epoch, keyed_id(KEY, "e", "2"))
    assert [bed.feed(value).verdicts[0].code for value in (nameless, other)] == [Code.DEAD, Code.DEAD]
    assert bed.row.seq == 3


def test_an_event_of_another_epoch_or_of_no_topic_or_of_an_ephemeral_one_does_nothing() -> None:
    bed = Bed()
    assert bed.change(RedactMessage(1, 50, True, BOB), epoch=7).verdicts[0].code == Code.STALE_EPOCH
    epoch = bed.row.epoch
    bed.feed(encode_control(encode_body(DeleteTopic("t")), epoch))
    assert bed.change(RedactMessage(1, 50, True, BOB), epoch=epoch).verdicts[0].code == Code.NO_TOPIC
    bed.create(profile="ephemeral")
    assert bed.change(RedactMessage(1, 50, True, BOB)).verdicts[0].code == Code.DEAD


def test_rows_go_with_their_topic() -> None:
    bed = Bed()
    bed.edit(1, 1)
    bed.feed(encode_control(encode_body(DeleteTopic("t")), bed.row.epoch))
    assert bed.shard.changed.count == 0


def test_before_logic_3_an_event_is_a_dead_letter_that_names_the_logic_it_needs() -> None:
    bed = Bed(logic=2)
    assert bed.edit(1, 1) == Verdict(Code.DEAD, MESSAGES_LOGIC)
    assert bed.row.seq == 3


def test_a_message_whose_row_had_to_leave_can_be_redacted_and_not_edited() -> None:
    bed = Bed()
    bed.shard.changed = ChangedMessages(below=50)
    assert bed.edit(1, 1, pos=50).code == Code.FORBIDDEN
    assert bed.edit(2, 1, pos=51).code == Code.CHANGED
    assert bed.redact(1).code == Code.CHANGED
    assert bed.shard.changed.count == 1


def test_the_golden_log_of_events_is_decided_as_ever() -> None:
    records, decided = golden.load(events.FILE)
    assert events.decide(records) == decided
    codes = {code for verdicts in decided["verdicts"] for code, _, _ in verdicts}
    assert codes >= {Code.CHANGED, Code.CONFLICT, Code.FORBIDDEN, Code.IGNORED, Code.DUPLICATE, Code.DEAD}
    assert decided["changed"] and decided["frames"]
