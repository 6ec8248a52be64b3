"""What a mark means: who may set it, how far it is, and how many messages there were up to there."""

import sqlite3

import pytest

from dispatcher import message_counts
from headgate.core.wire.control import CreateTopic, DeleteTopic
from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.link_inbox import ResolvedMark, ResolveMark
from headgate.core.wire.rights import Caller
from tests.dispatcher.bed import until
from tests.dispatcher.inbox_bed import InboxBed, code
from tests.dispatcher.members_bed import Far
from tests.dispatcher.messages_bed import ANN, EVE

STORES = pytest.mark.parametrize("path", [":memory:", None])


def mixed(path: str | None, blocks: int = 1) -> InboxBed:
    """Messages, and after every third a reaction: message, message, message, event, ..."""
    bed = InboxBed(path=path)
    for _ in range(blocks):
        first = bed.publish("a")
        bed.publish("b")
        bed.publish("c")
        bed.react(first, "+1", "bob")
    return bed


def expected(seq: int) -> int:
    return seq - seq // 4


@STORES
@pytest.mark.parametrize("written", [False, True])
async def test_n_counts_the_messages_up_to_the_seq_and_no_events(path: str | None, written: bool) -> None:
    bed = mixed(path, 5)
    if written and path:
        bed.write()
        bed.publish("in memory")
    for seq in range(bed.row.seq + 1):
        answer = bed.mark(seq)
        assert answer == ResolvedMark(1, "t", bed.row.epoch, seq, expected(seq)), seq


async def test_where_nothing_was_ever_changed_n_is_the_seq_and_nothing_is_read() -> None:
    bed = InboxBed(path=None)
    bed.publish("a")
    bed.publish("b")
    bed.owner.history.complete = False
    bed.owner.history.recent.drop(2, 3)
    assert bed.mark(1).n == 1 and bed.mark(2).n == 2


async def test_a_seq_above_the_head_is_the_head() -> None:
    bed = mixed(None, 2)
    head = bed.row.seq
    assert bed.mark(MAX_INTEGER) == bed.mark(head + 1) == ResolvedMark(1, "t", bed.row.epoch, head, bed.row.n)
    assert code(bed.mark(-1)) == code(bed.mark(-(10**9))) == "bad_request"


async def test_only_a_member_who_may_read_has_marks() -> None:
    bed = mixed(None)
    assert code(bed.mark(1, EVE)) == "topic_not_found"  # PUBLIC, and no member
    bed.feed(bed.join("eve", "subscriber"), bed.join("pat", "publisher"))
    assert code(bed.mark(1, EVE)) == "ok"
    assert code(bed.mark(1, Caller("eve", only=True))) == "forbidden"
    bed.feed(bed.remove("eve"))
    assert code(bed.mark(1, EVE)) == "topic_not_found"
    assert code(bed.mark(1, ANN, topic_id="none")) == "topic_not_found"
    bed.create("e", profile="ephemeral")
    assert code(bed.mark(1, ANN, topic_id="e")) == "not_in_profile"


async def test_in_a_private_topic_a_publisher_who_may_not_read_marks_nothing() -> None:
    bed = InboxBed("PRIVATE", None)
    bed.feed(bed.join("pat", "publisher"))
    bed.publish("a")
    assert code(bed.mark(1, Caller("pat"))) == "forbidden"


@STORES
async def test_a_message_is_named_by_its_id_and_an_event_has_its_own_place(path: str | None) -> None:
    bed = mixed(path, 2)
    for seq in (1, 4, 7):
        answer = bed.mark(message_id=bed.ids[seq])
        assert (answer.seq, answer.n) == (seq, expected(seq))
    bed.create("x")
    assert code(bed.mark(message_id=bed.ids[1], topic_id="x")) == "message_not_found"
    assert code(bed.mark(message_id=bytes(16))) == code(bed.mark(message_id=b"short")) == "message_not_found"


async def test_an_id_that_is_not_found_is_looked_for_again_at_the_end_of_the_log() -> None:
    bed = mixed(None)
    seen: list[str] = []

    def wait(asker: object, again: object) -> bool:
        seen.append("waits")
        bed.publish("late", record_id=b"\x07" * 16)
        again(True)  # type: ignore[operator]
        return True

    bed.owner.log_end.wait = wait  # type: ignore[method-assign]
    answer = bed.mark(message_id=b"\x07" * 16)
    assert (seen, answer.seq) == (["waits"], 5)
    bed.owner.log_end.wait = lambda asker, again: False  # type: ignore[method-assign]
    assert code(bed.mark(message_id=bytes(16))) == "not_ready"


async def test_an_unknown_id_is_not_ready_while_the_history_is_not_whole() -> None:
    bed = mixed(None)
    bed.owner.history.complete = False
    assert code(bed.mark(message_id=bytes(16))) == "not_ready"


async def test_a_message_that_retention_has_cut_is_not_found_and_a_mark_below_it_counts_all_that_is_gone() -> None:
    bed = mixed(None, 4)
    history = bed.owner.history
    gone = 9
    history.recent.drop(gone, bed.places[gone + 1] >> 10)
    history.log_begins(bed.places[gone + 1] >> 10)
    assert history.complete
    assert code(bed.mark(message_id=bed.ids[3])) == "message_not_found"
    for seq in range(gone + 1):
        assert (bed.mark(seq).seq, bed.mark(seq).n) == (seq, expected(gone)), seq
    assert bed.mark(gone + 4).n == expected(gone + 4)


async def test_a_message_that_the_topics_retention_has_cut_is_not_found() -> None:
    bed = InboxBed(path=None)
    bed.create("few", retention_messages=2)
    for _ in range(3):
        bed.put("few")
    ids = [entry.id for entry in bed.owner.history.recent._entries]
    assert [code(bed.mark(message_id=each, topic_id="few")) for each in ids] == ["message_not_found", "ok", "ok"]


async def test_while_older_messages_are_on_their_way_the_answer_waits_for_them() -> None:
    bed = mixed(None, 4)
    history, far = bed.owner.history, Far()
    dropped = [bed.owner.history.recent.get(bed.row.epoch, seq) for seq in range(1, 10)]
    history.recent.drop(9, bed.places[10] >> 10)
    bed.open(":memory:")
    assert not history.complete
    assert bed.mark(9).n == expected(9) and bed.mark(12).n == expected(12)
    bed.api.handle(far, ResolveMark(5, "t", ANN, 2))
    assert far.sent == []
    assert history.fill([e for e in dropped if e], 0, history.recent.start)
    await until(lambda: far.sent)
    assert far.sent == [ResolvedMark(5, "t", bed.row.epoch, 2, 2)]


async def test_a_waiting_answer_is_bounded_and_forgotten_with_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = mixed(None, 4)
    bed.owner.history.recent.drop(9, bed.places[10] >> 10)
    bed.owner.history.complete = False
    far = Far()
    bed.api.handle(far, ResolveMark(5, "t", ANN, 2))
    monkeypatch.setattr("dispatcher.history.MAX_WAITING", 1)
    assert code(bed.mark(2)) == "not_ready"
    far.open = False
    bed.owner.history.release()
    assert far.sent == []


async def test_a_long_count_is_cut_into_slices_and_what_comes_meanwhile_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_counts, "BLOCK", 8)
    monkeypatch.setattr(message_counts, "COUNTED", 1)
    bed, far = mixed(":memory:", 40), Far()
    bed.write()
    bed.api.handle(far, ResolveMark(5, "t", ANN, 3))
    assert far.sent == []
    bed.react(1, "late", "eve")
    await until(lambda: far.sent)
    assert far.sent == [ResolvedMark(5, "t", bed.row.epoch, 3, 3)]


async def test_whole_blocks_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_counts, "BLOCK", 8)
    bed = mixed(":memory:", 40)
    bed.write()
    asked: list[int] = []
    events = bed.owner.history.events

    def counted(epoch: int, low: int, high: int) -> int:
        asked.append(low)
        return events(epoch, low, high)

    monkeypatch.setattr(bed.owner.history, "events", counted)
    for each in (0, 1, 2):
        asked.clear()
        far = Far()
        bed.api.handle(far, ResolveMark(5, "t", ANN, each))
        await until(lambda far=far: far.sent)  # type: ignore[misc]
        assert far.sent[0].n == each  # type: ignore[union-attr]
    assert len(asked) <= 2  # the block of the mark, and that of the newest message


async def test_a_block_that_is_not_full_yet_is_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_counts, "BLOCK", 8)
    bed = InboxBed(path=None)
    for n in range(9):
        bed.publish(n)
    bed.react(1, "+1", "bob")
    assert bed.mark(1).n == 1
    for n in range(12):
        bed.react(2, f"r{n}", "bob")
    assert [bed.mark(seq).n for seq in range(1, bed.row.seq + 1)] == [*range(1, 10), *([9] * 13)]


async def test_a_fault_in_the_middle_of_a_count_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bed, far = mixed(":memory:", 40), Far()
    bed.write()
    file = bed.owner.history.file
    assert file is not None

    def failing(epoch: int, low: int, high: int) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(file, "events", failing)
    bed.api.handle(far, ResolveMark(5, "t", ANN, 3))
    assert bed.owner.history.faults == 1 and far.sent == []  # it waits until the file is there again


async def test_a_topic_recreated_or_a_shard_given_up_between_two_slices_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_counts, "BLOCK", 8)
    monkeypatch.setattr(message_counts, "COUNTED", 1)
    bed, far, other = mixed(":memory:", 40), Far(), Far()
    bed.api.handle(far, ResolveMark(5, "t", ANN, 3))
    bed.feed(bed.control(DeleteTopic("t")), bed.control(CreateTopic("t", "t", "PUBLIC", "ann")))
    await until(lambda: far.sent)
    assert code(far.sent[0]) == "topic_not_found"
    bed = mixed(":memory:", 40)
    bed.api.handle(other, ResolveMark(5, "t", ANN, 3))
    bed.owner.closed = True
    await until(lambda: other.sent)
    assert code(other.sent[0]) == "not_ready"


async def test_a_fault_of_the_file_counts_nothing_wrong() -> None:
    bed, far = mixed(":memory:", 40), Far()
    bed.write()
    file = bed.owner.history.file
    assert file is not None
    file.close()
    bed.api.handle(far, ResolveMark(5, "t", ANN, 3))
    assert far.sent == []  # it waits until the file is there again
