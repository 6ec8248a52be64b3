"""What somebody has missed over many topics: in order, as it is now, only what he may read, within the bounds."""

import asyncio
import json
from typing import Any

import pytest

from dispatcher import missed_requests, sliced_work
from dispatcher.dispatcher import _is_large
from headgate.core.wire.control import CreateTopic, DeleteTopic
from headgate.core.wire.ids import topic_key
from headgate.core.wire.link_inbox import MISSED_MESSAGES, MISSED_TOPICS, AskMissed, Missed, MissedTopic
from headgate.core.wire.rights import Caller
from tests.dispatcher.bed import dispatcher_of, shell_of, until
from tests.dispatcher.inbox_bed import InboxBed, code, seqs
from tests.dispatcher.members_bed import Far
from tests.dispatcher.messages_bed import ANN, EVE

STORES = pytest.mark.parametrize("path", [":memory:", None])


def three(path: str | None = None) -> InboxBed:
    """Topics t, x and y, whose messages alternate: y has the oldest, then x, then t."""
    bed = InboxBed(path=path)
    bed.create("x")
    bed.create("y")
    for _ in range(3):
        for topic_id in ("y", "x", "t"):
            bed.put(topic_id)
    if path:
        bed.write()
        bed.put("x")
    return bed


def everything(bed: InboxBed) -> list[MissedTopic]:
    return [bed.place(topic_id) for topic_id in ("t", "x", "y")]


@STORES
async def test_topics_come_by_their_oldest_missed_message_each_above_its_place(path: str | None) -> None:
    bed = three(path)
    last = [1, 2, 3, 4] if path else [1, 2, 3]
    answer = await bed.missed(*everything(bed))
    assert (seqs(answer), answer.whole) == ([("y", [1, 2, 3]), ("x", last), ("t", [1, 2, 3])], True)
    answer = await bed.missed(bed.place("y", 2), bed.place("x", 4), bed.place("t", 1))
    assert (seqs(answer), answer.whole) == ([("t", [2, 3]), ("y", [3])], True)
    assert [topic.first_ts for topic in answer.topics] == sorted(topic.first_ts for topic in answer.topics)
    assert json.loads(answer.topics[0].frames[0])["ts"] == answer.topics[0].first_ts


async def test_topics_whose_oldest_messages_have_one_time_come_by_their_ids() -> None:
    bed = InboxBed(path=None)
    for topic_id in ("b", "a", "c"):
        bed.create(topic_id)
    offset = bed.offset
    for topic_id in ("b", "c", "a"):
        bed.put(topic_id)
        bed.offset = offset + 50
        offset += 1
    found = {json.loads(e.frame)["topic_id"]: e for e in bed.owner.history.recent._entries}
    for entry in found.values():
        index = list(bed.owner.history.recent._entries).index(entry)
        same = entry._replace(ts=5)
        bed.owner.history.recent._entries[index] = same
        bed.owner.history.recent._topics[entry.epoch][0] = same
    answer = await bed.missed(*(bed.place(topic_id) for topic_id in ("c", "b", "a")))
    assert [topic.topic_id for topic in answer.topics] == ["a", "b", "c"]


@STORES
async def test_messages_are_given_as_they_are_now_and_events_never(path: str | None) -> None:
    bed = InboxBed(path=path)
    for payload in ("a", "b", "c"):
        bed.publish(payload)
    bed.edit(1, "A")
    bed.redact(2)
    bed.react(3, "+1", "eve")
    bed.publish("d")
    if path:
        bed.write()
    answer = await bed.missed(bed.place("t"))
    told = [json.loads(frame) for frame in answer.topics[0].frames]
    assert [frame["seq"] for frame in told] == [1, 2, 3, 7]
    assert (told[0]["payload"], told[0]["version"]) == ("A", 2)
    assert (told[1]["payload"], told[1]["redacted"]) == (None, True)
    assert told[2]["reactions"] == {"+1": 1}
    assert seqs(await bed.missed(bed.place("t", 3))) == [("t", [7])]
    bed.react(1, "+2", "eve")
    assert await bed.missed(bed.place("t", 7)) == Missed(1, [], True)  # only an event is above


@STORES
@pytest.mark.parametrize("limit", range(1, 11))
async def test_a_limit_cuts_in_order_and_says_so(path: str | None, limit: int) -> None:
    bed = three(path)
    total = 10 if path else 9
    answer = await bed.missed(*everything(bed), limit=limit)
    flat = [(topic_id, seq) for topic_id, found in seqs(answer) for seq in found]
    rest = [("y", 1), ("y", 2), ("y", 3), ("x", 1), ("x", 2), ("x", 3), *([("x", 4)] if path else [])]
    rest += [("t", 1), ("t", 2), ("t", 3)]
    assert (flat, answer.whole) == (rest[:limit], limit >= total)


async def test_bytes_cut_too_and_one_message_is_always_given(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = InboxBed(path=None)
    bed.create("x")
    bed.put("x", "x" * 1_000)
    for _ in range(3):
        bed.put("t", "t" * 1_000)
    places = bed.place("x"), bed.place("t")
    monkeypatch.setattr(missed_requests, "MISSED_BYTES", 2_500)
    answer = await bed.missed(*places)
    assert (seqs(answer), answer.whole) == ([("x", [1]), ("t", [1])], False)
    monkeypatch.setattr(missed_requests, "MISSED_BYTES", 1_100)
    assert seqs(await bed.missed(*places)) == [("x", [1])]
    monkeypatch.setattr(missed_requests, "MISSED_BYTES", 10)
    answer = await bed.missed(*places)
    assert (seqs(answer), answer.whole) == ([("x", [1])], False)


async def test_what_the_caller_may_not_read_or_what_was_recreated_is_left_out() -> None:
    bed = three()
    bed.create("private", "PRIVATE")
    bed.put("private", publisher="ann")
    bed.create("volatile", profile="ephemeral")
    old = bed.place("y")
    key = topic_key("y")
    bed.feed(bed.control(DeleteTopic("y"), key), bed.control(CreateTopic("y", "y", "PUBLIC", "ann"), key))
    bed.put("y")
    none = MissedTopic("none", 7, 0)
    asked = (bed.place("private"), bed.place("volatile"), old, none, bed.place("x"))
    assert [topic for topic, _ in seqs(await bed.missed(*asked, caller=EVE))] == ["x"]
    assert [topic for topic, _ in seqs(await bed.missed(*asked))] == ["x", "private"]
    only = Caller("eve", only=True)
    assert seqs(await bed.missed(*asked, caller=only)) == []


async def test_retention_holds_and_a_place_below_it_begins_at_the_first_kept() -> None:
    bed = InboxBed(path=None)
    bed.create("few", retention_messages=2)
    for _ in range(5):
        bed.put("few")
        bed.put("t")
    assert seqs(await bed.missed(bed.place("few", 1))) == [("few", [4, 5])]
    history = bed.owner.history
    history.recent.drop(6, history.recent._entries[6].pos >> 10)
    history.log_begins(history.recent.start)
    assert seqs(await bed.missed(bed.place("t", 1))) == [("t", [4, 5])]


async def test_a_topic_twice_in_one_request_is_one() -> None:
    bed = three()
    assert seqs(await bed.missed(bed.place("x"), bed.place("x", 2))) == [("x", [3])]


async def test_while_older_messages_are_on_their_way_the_answer_waits_for_them() -> None:
    bed = InboxBed(path=None)
    for _ in range(4):
        bed.publish("a")
    history, far = bed.owner.history, Far()
    dropped = [history.recent.get(bed.row.epoch, seq) for seq in (1, 2)]
    history.recent.drop(2, bed.places[3] >> 10)
    bed.open(":memory:")
    assert not history.complete
    assert seqs(await bed.missed(bed.place("t", 2))) == [("t", [3, 4])]
    bed.api.handle(far, AskMissed(5, 0, ANN, [bed.place("t")], 10))
    assert far.sent == []
    assert seqs(await bed.missed(bed.place("t", 3))) == [("t", [4])], "another is not held up"
    assert history.fill([e for e in dropped if e], 0, history.recent.start)
    await until(lambda: far.sent)
    assert seqs(far.sent[0]) == [("t", [1, 2, 3, 4])]  # type: ignore[arg-type]


async def test_frames_that_were_dropped_are_read_from_the_log_and_the_request_goes_on_where_it_was() -> None:
    bed = three(":memory:")
    history, far = bed.owner.history, Far()
    frames = {}
    for topic_id in ("x", "y"):
        row = bed.owner.rows[topic_key(topic_id)]
        for seq in (1, 2, 3):
            kept = history.get(row.epoch, seq)
            assert kept is not None
            frames[kept.pos] = kept.frame
    file = history.file
    assert file is not None
    file._db.executemany("UPDATE frames SET frame = NULL WHERE pos = ?", [(pos,) for pos in frames])
    bed.api.handle(far, AskMissed(5, 0, ANN, everything(bed), 100))
    while not far.sent:
        (wanted,) = bed.owner.pages._wanted
        bed.owner.pages._wanted.clear()
        for pos, _ in wanted.absent:
            history.loaded(pos, frames[pos] or b"")
        wanted.again()
        await until(lambda: far.sent or bed.owner.pages._wanted)
    assert seqs(far.sent[0]) == [("y", [1, 2, 3]), ("x", [1, 2, 3, 4]), ("t", [1, 2, 3])]  # type: ignore[arg-type]


async def test_who_waits_for_the_log_is_bounded_and_a_closed_link_frees_its_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bed = three(":memory:")
    file = bed.owner.history.file
    assert file is not None
    file._db.execute("UPDATE frames SET frame = NULL")
    monkeypatch.setattr(missed_requests, "WAITING_IN_LOG", 1)
    first, second, third = Far(), Far(), Far()
    bed.api.handle(first, AskMissed(1, 0, ANN, [bed.place("y")], 10))
    assert first.sent == []
    bed.api.handle(second, AskMissed(1, 0, ANN, [bed.place("y")], 10))
    assert code(second.sent[0]) == "not_ready"
    first.open = False
    bed.api.handle(third, AskMissed(1, 0, ANN, [bed.place("y")], 10))
    assert third.sent == [] and len(bed.owner.pages._wanted) == 2


async def test_a_thousand_topics_are_answered_in_slices_one_request_after_the_other() -> None:
    bed, first, second = InboxBed(path=None), Far(), Far()
    names = [f"n{n:04}" for n in range(MISSED_TOPICS)]
    for name in names:
        bed.create(name)
        bed.put(name)
    bed.api.handle(first, AskMissed(1, 0, ANN, [bed.place(name) for name in names], MISSED_MESSAGES))
    bed.api.handle(second, AskMissed(2, 0, ANN, [bed.place("n0007")], 1))
    assert (first.sent, second.sent) == ([], [])
    await until(lambda: second.sent)
    assert [topic.topic_id for topic in first.sent[0].topics] == names  # type: ignore[union-attr]
    assert seqs(second.sent[0]) == [("n0007", [1])]  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"limit": 0}, {"limit": MISSED_MESSAGES + 1}, {"count": MISSED_TOPICS + 1}])
async def test_what_is_beyond_the_bounds_is_refused(fields: dict[str, int]) -> None:
    bed = three()
    places = [MissedTopic(str(n), 1, 0) for n in range(fields.get("count", 1))]
    assert code(bed.ask(AskMissed(1, 0, ANN, places, fields.get("limit", 1)))) == "bad_request"


async def test_requests_that_wait_are_bounded_by_their_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    bed, far = three(), Far()
    monkeypatch.setattr(missed_requests, "SLICE", 1)
    monkeypatch.setattr(missed_requests, "WAITING_TOPICS", 5)
    bed.api.handle(far, AskMissed(1, 0, ANN, everything(bed), 10))
    assert far.sent == []
    assert code(bed.ask(AskMissed(2, 0, ANN, everything(bed), 10))) == "overloaded"
    await until(lambda: far.sent)
    assert seqs(await bed.missed(*everything(bed), limit=1)) == [("y", [1])]


async def test_waiting_requests_of_closed_links_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    bed, far = InboxBed(path=None), Far()
    for _ in range(4):
        bed.publish("a")
    bed.owner.history.recent.drop(2, bed.places[3] >> 10)
    bed.owner.history.complete = False
    monkeypatch.setattr(missed_requests, "WAITING_TOPICS", 1)
    bed.api.handle(far, AskMissed(1, 0, ANN, [bed.place("t")], 10))
    assert far.sent == []
    assert code(bed.ask(AskMissed(2, 0, ANN, [bed.place("t", 3)], 10))) == "overloaded"
    far.open = False
    assert seqs(await bed.missed(bed.place("t", 3))) == [("t", [4])]


async def test_a_redaction_or_a_removal_between_two_slices_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed_requests, "SLICE", 1)
    bed, far = InboxBed("PRIVATE", None), Far()
    bed.feed(bed.join("eve"))
    for topic_id in ("x", "y"):
        bed.create(topic_id)
    bed.publish("secret")
    bed.put("x")
    bed.put("y", "old")
    places = [bed.place(topic_id) for topic_id in ("t", "x", "y")]
    bed.api.handle(far, AskMissed(1, 0, ANN, places, 10))
    search = await _begun(bed)
    assert [place.topic_id for place in search.taken] == ["t"]
    bed.redact(1, "ann", own=False)
    await until(lambda: far.sent)
    assert b"secret" not in b"".join(frame for topic in far.sent[0].topics for frame in topic.frames)  # type: ignore[union-attr]
    assert seqs(far.sent[0]) == [("t", [1]), ("x", [1]), ("y", [1])]  # type: ignore[arg-type]

    bed.publish("another secret")
    far = Far()
    bed.api.handle(far, AskMissed(1, 0, EVE, places, 10))
    await _begun(bed)
    bed.feed(bed.remove("eve"))
    await until(lambda: far.sent)
    assert [topic for topic, _ in seqs(far.sent[0])] == ["x", "y"]  # type: ignore[arg-type]


@pytest.mark.parametrize("topics", [1, 5])
async def test_topics_that_change_all_the_time_are_answered_with_fewer_messages(
    monkeypatch: pytest.MonkeyPatch, topics: int
) -> None:
    monkeypatch.setattr(missed_requests, "SLICE", 2)
    monkeypatch.setattr(missed_requests, "TAKEN", 2)
    bed, far = InboxBed(path=None), Far()
    names = [f"n{at}" for at in range(topics)]
    for name in names:
        bed.create(name)
    for _ in range(10 // topics):
        for name in names:
            bed.put(name)
    bed.publish("last")
    bed.api.handle(far, AskMissed(1, 0, ANN, [*map(bed.place, [*names, "t"])], 100))
    turns = 0
    while not far.sent:
        turns += 1
        assert turns < 1_000, "it is never answered"
        for name in names:  # as an edit does
            row = bed.owner.rows[topic_key(name)]
            row.seq, row.others = row.seq + 1, row.others + 1
        await asyncio.sleep(0)
    (answer,) = far.sent
    assert isinstance(answer, Missed)
    assert seqs(answer)[0] == ("n0", [1]) and not answer.whole


async def test_many_events_without_a_message_are_looked_at_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.selection.SCAN_ROWS", 5)
    bed = InboxBed()
    bed.publish("a")
    for n in range(23):
        bed.react(1, f"r{n}", "eve")
    bed.publish("b")
    for n in range(23):
        bed.react(1, f"s{n}", "eve")
    bed.write()
    assert seqs(await bed.missed(bed.place("t", 1))) == [("t", [25])]
    assert seqs(await bed.missed(bed.place("t", 0))) == [("t", [1, 25])]
    answer = await bed.missed(bed.place("t", 25))
    assert (answer.topics, answer.whole) == ([], True)


async def test_at_the_limit_events_that_were_not_looked_at_count_as_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.selection.SCAN_ROWS", 5)
    bed = InboxBed()
    bed.publish("a")
    for n in range(23):
        bed.react(1, f"r{n}", "eve")
    bed.write()
    answer = await bed.missed(bed.place("t"), limit=1)
    assert (seqs(answer), answer.whole) == ([("t", [1])], False)


async def test_a_shard_that_is_given_up_refuses_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed_requests, "SLICE", 1)
    bed, far = three(), Far()
    bed.api.handle(far, AskMissed(1, 0, ANN, everything(bed), 10))
    bed.owner.closed = True
    await until(lambda: far.sent)
    assert code(far.sent[0]) == "not_ready"


async def test_a_question_goes_to_the_shard_that_it_names_and_waits_for_room() -> None:
    ask = AskMissed(1, 3, ANN, [], 1)
    assert dispatcher_of(shell_of())._shard_of(ask) == 3
    assert _is_large(ask)


async def _begun(bed: InboxBed) -> Any:
    """The request under way, once messages of its first topic are taken."""
    requests: Any = bed.api._handlers[AskMissed].__self__  # type: ignore[attr-defined]
    (search,) = requests._searches
    while not search.taken:
        await asyncio.sleep(0)
    return search


async def test_a_request_that_nobody_waits_for_any_longer_is_given_up_before_its_next_slice() -> None:
    bed = InboxBed(path=None)
    places = [bed.place(bed.create(f"x{n}").topic_id) for n in range(3 * missed_requests.SLICE)]
    for place in places:
        bed.put(place.topic_id)
    late, other, loop = Far(), Far(), asyncio.get_running_loop()
    bed.api.handle(late, AskMissed(1, 0, ANN, places, 10))
    assert late.sent == [], "it takes more than one slice"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", lambda before=loop.time: before() + sliced_work.ANSWER_S + 0.1)
        bed.api.handle(other, AskMissed(2, 0, ANN, places, 10))
        await until(lambda: other.sent)
    assert [code(answer) for answer in late.sent] == ["overloaded"]
    assert isinstance(other.sent[0], Missed) and len(other.sent[0].topics) == 10
