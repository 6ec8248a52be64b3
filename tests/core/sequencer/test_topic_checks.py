"""What logic 4 adds: who joins must be able to subscribe, and who deletes a topic must be able to administer it."""

import pytest

from headgate.core.sequencer.effects import TopicDeleted
from headgate.core.wire.control import CHECKS_LOGIC, LOGIC_KEY, Actor, DeleteTopic, Logic, encode_body
from headgate.core.wire.envelope import NO_ID
from headgate.core.wire.ids import keyed_id
from headgate.core.wire.member_roles import Right
from headgate.core.wire.verdict import Code, Verdict
from tests.core.golden import checks, load
from tests.core.sequencer.test_topic_changes import ANN, BOB, EVE, KEY, ROOT, Bed

PUBLISHES = Actor("eve", given=Right.PUBLISH, only=True)


def delete(bed: Bed, actor: Actor | None, record_id: bytes = NO_ID) -> int:
    return bed.feed(DeleteTopic("t", actor), bed.epoch, record_id).verdicts[0].code


def test_the_golden_log_of_logic_4_is_decided_as_ever() -> None:
    records, decided = load(checks.FILE)
    assert checks.decide(records) == decided


@pytest.mark.parametrize("logic", [CHECKS_LOGIC - 1, CHECKS_LOGIC])
@pytest.mark.parametrize(("permissions", "actor"), [("PUBLISH_ONLY", EVE), ("PRIVATE", PUBLISHES)])
def test_who_may_publish_alone_makes_himself_no_member(permissions: str, actor: Actor, logic: int) -> None:
    bed = Bed(permissions, logic)
    is_checked = logic >= CHECKS_LOGIC
    assert bed.put("eve", "publisher", actor) == (Code.FORBIDDEN if is_checked else Code.MEMBER)
    assert (bed.role("eve") is None) is is_checked
    assert bed.put("bob", "publisher") == Code.MEMBER
    assert bed.put("bob", "publisher", Actor("bob", given=Right.PUBLISH, only=True)) == Code.MEMBER


def test_a_deletion_by_an_admin_who_was_put_out_before_it_was_applied_deletes_nothing() -> None:
    bed = Bed()
    bed.put("bob", "admin")
    bed.remove("bob")
    assert delete(bed, BOB) == Code.FORBIDDEN
    assert bed.row.epoch == bed.epoch and bed.shard.member_count(KEY) == 1
    assert delete(bed, ANN) == Code.DELETED and KEY not in bed.rows


@pytest.mark.parametrize(
    ("actor", "code"),
    [
        (ANN, Code.DELETED),
        (ROOT, Code.DELETED),
        (None, Code.DELETED),  # of an ingest that is older than the check
        (EVE, Code.FORBIDDEN),
        (Actor("ann", only=True), Code.FORBIDDEN),
        (Actor("eve", given=Right.PUBLISH | Right.SUBSCRIBE), Code.FORBIDDEN),
    ],
)
def test_who_may_delete(actor: Actor | None, code: Code) -> None:
    bed = Bed("PUBLIC")
    assert delete(bed, actor) == code
    assert (KEY in bed.rows) is (code is Code.FORBIDDEN)


def test_before_logic_4_the_actor_of_a_deletion_is_not_looked_at() -> None:
    bed = Bed(logic=CHECKS_LOGIC - 1)
    applied = bed.feed(DeleteTopic("t", EVE), bed.epoch)
    assert applied.verdicts[0].code == Code.DELETED and isinstance(applied.effects[0], TopicDeleted)
    raised = Bed(logic=CHECKS_LOGIC - 1)
    raised.feed(Logic(CHECKS_LOGIC), 0, key=LOGIC_KEY)
    assert delete(raised, EVE) == Code.FORBIDDEN


def test_a_late_copy_of_a_refused_deletion_is_refused_although_its_actor_may_by_now() -> None:
    bed = Bed()
    refused = keyed_id(KEY, "bob", "delete\0k")
    assert delete(bed, BOB, refused) == Code.FORBIDDEN
    bed.put("bob", "admin")
    assert delete(bed, BOB, refused) == Code.FORBIDDEN
    done = keyed_id(KEY, "bob", "delete\0l")
    for _ in range(2):
        assert bed.feed(DeleteTopic("t", BOB), bed.epoch, done).verdicts == [Verdict(Code.DELETED, 0, bed.epoch)]
    assert KEY not in bed.rows


def test_a_deletion_without_an_actor_is_written_as_before() -> None:
    assert encode_body(DeleteTopic("t")) == b'{"op":"delete","topic_id":"t"}'
