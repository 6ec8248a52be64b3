"""Records about members and settings: decided from the rows, alike on every node."""

import pytest

from headgate.core.sequencer.apply import Applied, apply_many
from headgate.core.sequencer.effects import TopicDeleted, Unusable
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row, Shard
from headgate.core.sequencer.topic_changes import MemberChanged, TopicUpdated
from headgate.core.wire.control import (
    LOGIC,
    MEMBERS_LOGIC,
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
from headgate.core.wire.envelope import KEYED, NO_ID, Item, encode_control, encode_message
from headgate.core.wire.errors import UnknownVersion
from headgate.core.wire.ids import keyed_id, topic_key
from headgate.core.wire.member_roles import Right, Role
from headgate.core.wire.records import Record
from headgate.core.wire.verdict import Code, Verdict

KEY = topic_key("t")
ANN, BOB, EVE = Actor("ann"), Actor("bob"), Actor("eve")
ROOT = Actor("root", given=Right.ALL)


class Bed:
    """A shard with the topic `t` of ann's."""

    def __init__(self, permissions: str = "PRIVATE", logic: int = LOGIC) -> None:
        self.shard, self.rows = Shard(), dict[bytes, Row]()
        self.offset = 100
        config = Config(cluster_id="c", generation=1, shards=1, shard=0, logic=logic)
        self.feed(config, 0, key=b"hg:config")
        self.epoch = self.feed(CreateTopic("t", "n", permissions, "ann"), 0).verdicts[0].epoch

    def feed(self, control: Control, epoch: int, record_id: bytes = NO_ID, key: bytes = KEY) -> Applied:
        return self.take(encode_control(encode_body(control), epoch, record_id), key)

    def take(self, value: bytes, key: bytes = KEY) -> Applied:
        record = Record(self.offset, 1_000 + self.offset, key, value)
        self.offset += 1
        ((_, applied),) = apply_many(self.shard, self.rows, [record])
        return applied

    def put(self, user: str, role: str, actor: Actor = ANN, record_id: bytes = NO_ID) -> int:
        return self.feed(SetMember("t", user, role, actor), self.epoch, record_id).verdicts[0].code

    def remove(self, user: str, actor: Actor = ANN) -> Applied:
        return self.feed(RemoveMember("t", user, actor), self.epoch)

    def update(self, actor: Actor = ANN, version: int | None = None, **changes: object) -> Applied:
        version = self.row.version if version is None else version
        return self.feed(UpdateTopic("t", version, actor, **changes), self.epoch)  # type: ignore[arg-type]

    def publish(self, name: str) -> None:
        self.take(encode_message(Item(keyed_id(KEY, "p", name), KEYED, b'"payload":1}'), self.epoch))

    @property
    def row(self) -> Row:
        return self.rows[KEY]

    def role(self, user: str) -> Role | None:
        return self.shard.role(KEY, self.row, user)


def test_the_creator_is_the_first_owner_and_stays_one_when_others_join() -> None:
    bed = Bed()
    assert (bed.role("ann"), bed.shard.member_count(KEY)) == (Role.OWNER, 1)
    assert bed.shard.membership(KEY, bed.row, "ann") == Membership(Role.OWNER, 0, 0, bed.row.created_at)
    assert bed.put("bob", "member") == Code.MEMBER
    assert (bed.role("ann"), bed.role("bob"), bed.shard.member_count(KEY)) == (Role.OWNER, Role.MEMBER, 2)


def test_a_member_joins_at_the_newest_seq_and_keeps_it_through_a_change_of_role() -> None:
    bed = Bed()
    bed.publish("a")
    bed.publish("b")
    applied = bed.feed(SetMember("t", "bob", "member", ANN), bed.epoch)
    assert (applied.verdicts[0].code, applied.verdicts[0].seq) == (Code.MEMBER, 2)
    joined = bed.shard.membership(KEY, bed.row, "bob")
    assert joined == Membership(Role.MEMBER, 2, 2, 1_000 + bed.offset - 1)
    bed.publish("c")
    assert bed.put("bob", "admin") == Code.MEMBER
    assert bed.shard.membership(KEY, bed.row, "bob") == Membership(Role.ADMIN, *joined[1:])


def test_a_change_that_changes_nothing_has_no_effect() -> None:
    bed = Bed()
    bed.put("bob", "member")
    changes = bed.shard.changes
    applied = bed.feed(SetMember("t", "bob", "member", ANN), bed.epoch)
    gone = bed.remove("nobody")
    assert (applied.verdicts[0].code, applied.effects) == (Code.MEMBER, [])
    assert (gone.verdicts[0].code, gone.effects, bed.shard.changes) == (Code.REMOVED, [], changes)


def test_a_removed_member_is_fenced_off_and_a_joining_one_is_not() -> None:
    bed = Bed("PUBLIC")
    joined = bed.feed(SetMember("t", "bob", "member", BOB), bed.epoch)
    assert [effect.fence for effect in joined.effects if isinstance(effect, MemberChanged)] == [0]
    gone = bed.remove("bob", BOB)
    assert gone.effects == [MemberChanged("t", bed.epoch, "bob", None, 1)]
    assert (bed.row.fence, bed.role("bob"), bed.shard.member_count(KEY)) == (1, None, 1)
    bed.put("bob", "member", BOB)
    assert bed.remove("bob", BOB).effects == [MemberChanged("t", bed.epoch, "bob", None, 2)]


@pytest.mark.parametrize(
    ("old", "new", "fenced"),
    [
        ("member", "publisher", True),
        ("admin", "member", False),
        ("subscriber", "publisher", True),
        ("publisher", "member", False),
    ],
)
def test_only_a_role_that_may_no_longer_subscribe_makes_a_fence(old: str, new: str, fenced: bool) -> None:
    bed = Bed()
    bed.put("bob", old)
    applied = bed.feed(SetMember("t", "bob", new, ANN), bed.epoch)
    assert [effect.fence for effect in applied.effects if isinstance(effect, MemberChanged)] == [int(fenced)]


def test_the_last_owner_neither_leaves_nor_is_demoted_and_two_that_leave_at_once_leave_one() -> None:
    bed = Bed()
    assert bed.remove("ann").verdicts[0].code == Code.LAST_OWNER
    assert bed.put("ann", "admin") == Code.LAST_OWNER
    assert bed.put("ann", "admin", ROOT) == Code.LAST_OWNER
    assert bed.put("bob", "owner") == Code.MEMBER
    assert bed.remove("ann").verdicts[0].code == Code.REMOVED
    assert bed.remove("bob", BOB).verdicts[0].code == Code.LAST_OWNER


def test_a_role_that_was_lost_before_the_record_was_applied_changes_nothing() -> None:
    bed = Bed()
    bed.put("bob", "admin")
    bed.put("bob", "member")
    assert bed.put("eve", "member", BOB) == Code.FORBIDDEN
    assert bed.update(BOB, name="x").verdicts[0].code == Code.FORBIDDEN
    assert (bed.role("eve"), bed.row.name) == (None, "n")


def test_the_claim_admin_acts_as_an_owner_and_only_takes_the_role_away() -> None:
    bed = Bed()
    assert bed.put("eve", "owner", ROOT) == Code.MEMBER
    assert bed.put("bob", "member", Actor("ann", only=True)) == Code.FORBIDDEN
    assert bed.put("bob", "subscriber", Actor("bob", given=Right.SUBSCRIBE, only=True)) == Code.MEMBER


def test_a_control_of_an_older_epoch_or_of_no_topic_does_nothing() -> None:
    bed = Bed()
    old, bed.epoch = bed.epoch, bed.epoch + 1
    assert bed.put("bob", "member") == Code.STALE_EPOCH
    bed.feed(DeleteTopic("t"), old)
    assert bed.put("bob", "member") == Code.NO_TOPIC
    assert bed.shard.members == {}


def test_a_recreated_topic_has_no_old_member() -> None:
    bed = Bed()
    bed.put("bob", "owner")
    bed.feed(DeleteTopic("t"), bed.epoch)
    bed.feed(CreateTopic("t", "n", "PRIVATE", "eve"), 0)
    assert (bed.role("bob"), bed.role("ann"), bed.role("eve")) == (None, None, Role.OWNER)


@pytest.mark.parametrize(
    ("before", "after", "fenced"),
    [
        ("PUBLIC", "PRIVATE", True),
        ("PUBLIC", "PUBLISH_ONLY", True),
        ("PUBLIC", "SUBSCRIBE_ONLY", False),
        ("SUBSCRIBE_ONLY", "PRIVATE", True),
        ("PRIVATE", "PUBLIC", False),
        ("PUBLISH_ONLY", "PRIVATE", False),
    ],
)
def test_a_fence_for_everybody_where_anyone_may_no_longer_subscribe(before: str, after: str, fenced: bool) -> None:
    bed = Bed(before)
    applied = bed.update(permissions=after)
    (effect,) = applied.effects
    assert isinstance(effect, TopicUpdated)
    assert (effect.fence, bed.row.fence, bed.row.permissions) == (int(fenced), int(fenced), after)


def test_a_change_decided_against_another_version_overwrites_nothing() -> None:
    bed = Bed()
    assert bed.update(name="one", version=0).verdicts[0] == Verdict(Code.UPDATED, 1, bed.epoch)
    assert bed.update(name="two", version=0).verdicts[0] == Verdict(Code.CONFLICT, 1, bed.epoch)
    assert bed.update(settings={"presence": "list"}, version=1).verdicts[0] == Verdict(Code.UPDATED, 2, bed.epoch)
    assert (bed.row.name, bed.row.settings) == ("one", {"presence": "list"})
    assert bed.update(name="one").effects == []


@pytest.mark.parametrize(
    "control",
    [
        SetMember("t", "bob", "king", ANN),
        SetMember("t", "", "member", ANN),
        SetMember("t", "x" * 129, "member", ANN),
        UpdateTopic("t", 0, ANN, permissions="SECRET"),
        UpdateTopic("t", 0, ANN, settings={"profile": "ephemeral"}),
    ],
)
def test_a_record_that_cannot_be_obeyed_is_a_dead_letter_and_changes_nothing(control: Control) -> None:
    bed = Bed()
    applied = bed.feed(control, bed.epoch)
    assert applied.verdicts[0].code == Code.DEAD
    (letter,) = applied.effects
    assert isinstance(letter, Unusable) and letter.reason == "corrupt" and letter.detail
    assert (bed.shard.member_count(KEY), bed.row.version, bed.row.permissions) == (1, 0, "PRIVATE")


def test_a_repeat_of_a_change_gets_its_verdict_and_does_nothing_twice() -> None:
    bed = Bed()
    record_id = keyed_id(KEY, "ann", "member\0k")
    assert bed.put("bob", "member", record_id=record_id) == Code.MEMBER
    bed.remove("bob")
    assert bed.put("bob", "member", record_id=record_id) == Code.MEMBER
    assert bed.role("bob") is None


def test_each_verdict_has_the_epoch_and_what_the_change_came_to() -> None:
    bed = Bed()
    bed.publish("a")
    controls: list[tuple[Control, Code, int]] = [
        (SetMember("t", "bob", "member", ANN), Code.MEMBER, 1),
        (SetMember("t", "bob", "member", ANN), Code.MEMBER, 1),
        (SetMember("t", "eve", "member", EVE), Code.FORBIDDEN, 0),
        (RemoveMember("t", "ann", ANN), Code.LAST_OWNER, 0),
        (RemoveMember("t", "bob", ANN), Code.REMOVED, 0),
        (RemoveMember("t", "bob", ANN), Code.REMOVED, 0),
        (UpdateTopic("t", 0, EVE, name="x"), Code.FORBIDDEN, 0),
        (UpdateTopic("t", 0, ANN, name="x"), Code.UPDATED, 1),
        (UpdateTopic("t", 1, ANN, name="x"), Code.UPDATED, 1),
    ]
    for control, code, seq in controls:
        assert bed.feed(control, bed.epoch).verdicts == [Verdict(code, seq, bed.epoch)]


@pytest.mark.parametrize(
    ("change", "verdict", "seq"),
    [
        (SetMember("t", "eve", "member", EVE), Code.FORBIDDEN, 0),
        (RemoveMember("t", "ann", ANN), Code.LAST_OWNER, 0),
        (RemoveMember("t", "bob", ANN), Code.REMOVED, 0),
        (UpdateTopic("t", 0, ANN, name="x"), Code.UPDATED, 1),
        (SetMember("t", "bob", "member", ANN), Code.MEMBER, 2),
        (SetMember("t", "ann", "owner", ANN), Code.MEMBER, 0),
    ],
)
def test_the_verdict_of_a_repeat_is_the_first_one_s(change: Control, verdict: Code, seq: int) -> None:
    bed = Bed()
    bed.publish("a")
    bed.publish("b")
    for _ in range(2):
        applied = bed.feed(change, bed.epoch, keyed_id(KEY, "ann", "k"))
        assert applied.verdicts == [Verdict(verdict, seq, bed.epoch)]
    assert applied.effects == []


def test_an_administrator_who_is_no_creator_may_change_the_topic() -> None:
    bed = Bed()
    bed.put("bob", "admin")
    assert bed.update(BOB, name="x").verdicts == [Verdict(Code.UPDATED, 1, bed.epoch)]


def test_settings_that_keep_the_profile_are_taken_and_others_are_not() -> None:
    bed = Bed()
    bed.row.settings = {"profile": "ephemeral"}
    kept = {"profile": "ephemeral", "presence": "none"}
    assert bed.update(settings=kept).verdicts == [Verdict(Code.UPDATED, 1, bed.epoch)] and bed.row.settings == kept
    (letter,) = bed.update(settings={"presence": "none"}).effects
    assert isinstance(letter, Unusable) and "profile" in letter.detail and bed.row.settings == kept


def test_a_refusal_is_kept_with_its_id_a_late_copy_of_the_record_changes_nothing() -> None:
    bed = Bed()
    forbidden, nothing = keyed_id(KEY, "bob", "a"), keyed_id(KEY, "ann", "b")
    assert bed.put("eve", "member", BOB, forbidden) == Code.FORBIDDEN
    assert bed.feed(RemoveMember("t", "bob", ANN), bed.epoch, nothing).verdicts[0].code == Code.REMOVED
    bed.put("bob", "admin")
    assert bed.put("eve", "member", BOB, forbidden) == Code.FORBIDDEN
    assert bed.feed(RemoveMember("t", "bob", ANN), bed.epoch, nothing).verdicts[0].code == Code.REMOVED
    assert (bed.role("bob"), bed.role("eve")) == (Role.ADMIN, None)


def test_the_id_of_a_change_is_kept_as_long_as_a_keyed_one() -> None:
    bed = Bed()
    before = bed.shard.window.mark()
    bed.put("bob", "member", record_id=keyed_id(KEY, "ann", "k"))
    after = bed.shard.window.mark()
    assert (after.keyed.ids, after.unkeyed) == (before.keyed.ids + 1, before.unkeyed)


def test_a_change_without_an_id_is_no_repeat_of_a_message_whose_id_is_zero() -> None:
    bed = Bed()
    bed.take(encode_message(Item(NO_ID, 0, b'"payload":1}'), bed.epoch))
    assert bed.put("bob", "member") == Code.MEMBER and bed.role("bob") is Role.MEMBER


@pytest.mark.parametrize("size", [1, 128])
def test_a_user_id_has_1_to_128_bytes(size: int) -> None:
    bed = Bed()
    assert bed.put("x" * size, "member") == Code.MEMBER and bed.role("x" * size) is Role.MEMBER


def test_a_conflict_is_not_kept_the_same_request_may_be_decided_anew() -> None:
    bed = Bed()
    record_id = keyed_id(KEY, "ann", "k")
    bed.update(name="x")
    stale, fresh = UpdateTopic("t", 0, ANN, name="y"), UpdateTopic("t", 1, ANN, name="y")
    assert bed.feed(stale, bed.epoch, record_id).verdicts[0].code == Code.CONFLICT
    assert bed.feed(fresh, bed.epoch, record_id).verdicts[0].code == Code.UPDATED
    assert bed.row.name == "y"


def test_before_logic_2_members_mean_what_older_code_makes_of_them_and_after_it_they_count() -> None:
    bed = Bed(logic=1)
    join = SetMember("t", "bob", "member", ANN)
    assert bed.feed(join, bed.epoch).verdicts == [Verdict(Code.DEAD, MEMBERS_LOGIC)]
    changes = bed.shard.changes
    for logic, code in ((1, Code.IGNORED), (2, Code.CONFIGURED), (2, Code.IGNORED)):
        assert bed.feed(Logic(logic), 0).verdicts[0].code == code
    assert bed.shard.changes == changes + 1
    assert bed.put("bob", "member") == Code.MEMBER
    assert bed.feed(Logic(1), 0).verdicts[0].code == Code.IGNORED


def test_a_logic_that_this_code_does_not_have_parks_and_changes_nothing() -> None:
    bed = Bed()
    before = (bed.shard.next_offset, bed.shard.digest.value)
    with pytest.raises(UnknownVersion, match=f"logic {LOGIC + 1}"):
        bed.feed(Logic(LOGIC + 1), 0)
    assert (bed.shard.next_offset, bed.shard.digest.value) == before
    with pytest.raises(UnknownVersion):
        Bed(logic=LOGIC + 1)


def test_n_counts_messages_and_not_what_else_took_a_seq() -> None:
    row = Row("t", 1, 10, "n", "PUBLIC", "ann", 0, {}, others=3)
    assert row.n == 7


def test_a_topic_whose_permissions_nobody_knows_gives_no_rights_and_stops_no_shard() -> None:
    """A create record is not checked for them: whoever may write to the log can make such a topic."""
    bed = Bed("SECRET")
    assert bed.put("bob", "member", BOB) == Code.FORBIDDEN
    assert bed.put("bob", "member", ANN) == Code.MEMBER
    assert bed.update(ANN, permissions="PUBLIC").verdicts[0].code == Code.UPDATED
    assert bed.put("eve", "member", EVE) == Code.MEMBER


def test_a_deleted_topic_hands_on_its_members_or_its_creator() -> None:
    bed = Bed()
    (gone,) = bed.feed(DeleteTopic("t"), bed.epoch).effects
    assert gone == TopicDeleted("t", bed.epoch, "ann", None)
    bed = Bed()
    bed.put("bob", "member")
    (gone,) = bed.feed(DeleteTopic("t"), bed.epoch).effects
    assert isinstance(gone, TopicDeleted)
    assert gone.members is not None
    assert [user for user, _ in gone.members] == ["ann", "bob"]
    assert bed.shard.members == {}
