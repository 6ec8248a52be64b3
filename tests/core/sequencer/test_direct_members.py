"""Direct topics in the log: two members from the first record on, and nobody else ever."""

import pytest

from headgate.core.sequencer.apply import Applied, apply_many
from headgate.core.sequencer.effects import TopicCreated, TopicDeleted
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.snapshot import chain_among, read_chunk
from headgate.core.sequencer.snapshot_writer import MemberKey, SnapshotWriter
from headgate.core.sequencer.topic_changes import TopicUpdated
from headgate.core.wire.control import (
    LOGIC,
    LOGIC_KEY,
    MESSAGES_LOGIC,
    Actor,
    Config,
    Control,
    CreateTopic,
    DeleteTopic,
    Logic,
    RemoveMember,
    SetMember,
    UpdateTopic,
    encode_body,
)
from headgate.core.wire.direct_topics import direct_topic_id
from headgate.core.wire.envelope import NO_ID, encode_control
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.member_roles import Right, Role
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code
from tests.core.snapshot_bed import restore

TOPIC = direct_topic_id("ann", "bob")
KEY = topic_key(TOPIC)
ROOT = Actor("root", given=Right.ALL)
CREATION = CreateTopic(TOPIC, TOPIC, "PRIVATE", "ann", peer_id="bob")


class Talk:
    """A shard; `epoch` is that of the talk of ann and bob once it was created."""

    def __init__(self, logic: int = LOGIC) -> None:
        self.shard, self.rows = Shard(), dict[bytes, Row]()
        self.offset = 100
        self.epoch = 0
        self.feed(Config(cluster_id="c", generation=1, shards=1, shard=0, logic=logic), key=b"hg:config")

    def feed(self, control: Control, record_id: bytes = NO_ID, key: bytes = KEY) -> Applied:
        epoch = 0 if isinstance(control, CreateTopic) else self.epoch
        record = Record(self.offset, 1_000 + self.offset, key, encode_control(encode_body(control), epoch, record_id))
        self.offset += 1
        ((_, applied),) = apply_many(self.shard, self.rows, [record])
        return applied

    def code(self, control: Control) -> int:
        return self.feed(control).verdicts[0].code

    def begin(self) -> Applied:
        applied = self.feed(CREATION, keyed_id(KEY, "ann", "k"))
        self.epoch = applied.verdicts[0].epoch
        return applied

    @property
    def members(self) -> dict[str, Membership]:
        return dict(self.shard.members.get(KEY, ()))


def test_both_are_members_from_the_first_record_on_and_neither_is_an_owner() -> None:
    talk = Talk()
    applied = talk.begin()
    assert [type(effect) for effect in applied.effects] == [TopicCreated]
    row = talk.rows[KEY]
    at_once = Membership(Role.MEMBER, 0, 0, row.created_at)
    assert talk.members == {"ann": at_once, "bob": at_once}
    assert (talk.shard.role(KEY, row, "ann"), talk.shard.member_count(KEY)) == (Role.MEMBER, 2)
    assert talk.shard.role(KEY, row, "eve") is None


def test_a_talk_with_oneself_has_one_member() -> None:
    talk = Talk()
    topic_id = direct_topic_id("ann", "ann")
    key = topic_key(topic_id)
    applied = talk.feed(CreateTopic(topic_id, topic_id, "PRIVATE", "ann", peer_id="ann"), key=key)
    assert applied.verdicts[0].code == Code.CREATED
    assert [user for user, _ in talk.shard.members[key]] == ["ann"]


def test_two_at_once_make_one_topic() -> None:
    talk = Talk()
    talk.begin()
    second = talk.feed(CreateTopic(TOPIC, TOPIC, "PRIVATE", "bob", peer_id="ann"))
    assert (second.verdicts[0].code, second.verdicts[0].epoch, second.effects) == (Code.EXISTS, talk.epoch, [])
    assert set(talk.members) == {"ann", "bob"}
    again = talk.begin()
    assert (again.verdicts[0].code, again.effects) == (Code.CREATED, []), "a repeat of the first"


@pytest.mark.parametrize("actor", [Actor("ann"), Actor("bob"), Actor("eve"), ROOT], ids=lambda actor: actor.user_id)
def test_nobody_is_let_in_put_out_or_leaves_whoever_asks(actor: Actor) -> None:
    talk = Talk()
    talk.begin()
    before = talk.members
    changes: list[Control] = [
        SetMember(TOPIC, "eve", "member", actor),
        SetMember(TOPIC, "ann", "owner", actor),
        SetMember(TOPIC, "bob", "subscriber", actor),
        RemoveMember(TOPIC, "ann", actor),
        RemoveMember(TOPIC, "bob", actor),
        UpdateTopic(TOPIC, 0, actor, permissions="PUBLIC"),
    ]
    for change in changes:
        applied = talk.feed(change)
        assert (applied.verdicts[0].code, applied.effects) == (Code.FORBIDDEN, [])
    assert (talk.members, talk.rows[KEY].permissions, talk.rows[KEY].fence) == (before, "PRIVATE", 0)


def test_an_operator_may_change_settings_and_its_users_may_not() -> None:
    talk = Talk()
    talk.begin()
    settings = {"retention_ms": 5}
    assert talk.code(UpdateTopic(TOPIC, 0, Actor("ann"), settings=settings)) == Code.FORBIDDEN
    changed = talk.feed(UpdateTopic(TOPIC, 0, ROOT, permissions="PRIVATE", settings=settings))
    assert [type(effect) for effect in changed.effects] == [TopicUpdated]


def test_a_deleted_talk_begins_anew_with_both() -> None:
    talk = Talk()
    talk.begin()
    (gone,) = talk.feed(DeleteTopic(TOPIC)).effects
    assert isinstance(gone, TopicDeleted) and gone.members is not None
    assert [user for user, _ in gone.members] == ["ann", "bob"]
    assert talk.members == {}
    first = talk.epoch
    talk.epoch = talk.feed(CREATION).verdicts[0].epoch
    assert talk.epoch > first and set(talk.members) == {"ann", "bob"}


@pytest.mark.parametrize(
    "control",
    [
        CreateTopic(TOPIC, TOPIC, "PRIVATE", "ann"),
        CreateTopic(TOPIC, TOPIC, "PRIVATE", "ann", peer_id="eve"),
        CreateTopic(TOPIC, TOPIC, "PUBLIC", "ann", peer_id="bob"),
        CreateTopic(direct_topic_id("ann", "b" * 129), "n", "PRIVATE", "ann", peer_id="b" * 129),
        CreateTopic(direct_topic_id("ann", ""), "n", "PRIVATE", "ann", peer_id=""),
    ],
)
def test_what_is_no_talk_of_the_two_it_names_is_a_dead_letter(control: CreateTopic) -> None:
    talk = Talk()
    applied = talk.feed(control, key=topic_key(control.topic_id))
    assert (applied.verdicts[0].code, applied.row, talk.shard.members) == (Code.DEAD, None, {})


def test_an_older_logic_knows_no_direct_topics() -> None:
    talk = Talk(logic=MESSAGES_LOGIC - 1)
    verdict = talk.feed(CREATION).verdicts[0]
    assert (verdict.code, verdict.seq, talk.rows, talk.shard.members) == (Code.DEAD, MESSAGES_LOGIC, {}, {})


def test_an_older_logic_changes_a_topic_with_such_an_id_like_any_other() -> None:
    """As nodes do that know no newer logic."""
    talk = Talk(logic=MESSAGES_LOGIC - 1)
    talk.epoch = talk.feed(CreateTopic(TOPIC, TOPIC, "PRIVATE", "ann")).verdicts[0].epoch
    assert talk.code(SetMember(TOPIC, "eve", "member", Actor("ann"))) == Code.MEMBER
    talk.feed(Logic(MESSAGES_LOGIC), key=LOGIC_KEY)
    assert talk.code(SetMember(TOPIC, "bob", "member", Actor("ann"))) == Code.FORBIDDEN


def test_both_are_in_a_snapshot_whose_base_was_older() -> None:
    talk, writer = Talk(), SnapshotWriter()
    values = [value for value in writer.base(talk.shard, talk.rows, 0) if value is not None]
    talk.begin()
    writer.touch(KEY)
    for user in talk.members:
        writer.touch(MemberKey(KEY, user))
    values += [value for value in writer.delta(talk.shard, talk.rows) if value is not None]
    chunks = [chunk for at, value in enumerate(values) if (chunk := read_chunk(at, value)) is not None]
    shard, rows = restore(chain_among(chunks))
    assert dict(shard.members[KEY]) == talk.members and set(rows) == {KEY}
