"""Each answer gives a message as it is now, wherever its parts are."""

import json
from typing import Any

import pytest

from dispatcher.index import HistoryIndex
from dispatcher.page_builder import FOLDED
from headgate.core.wire import link
from headgate.core.wire.envelope import REPLY, Item, encode_message
from headgate.core.wire.frames import message_frame
from headgate.core.wire.ids import random_id
from tests.dispatcher.members_bed import KEY, RNG
from tests.dispatcher.messages_bed import ANN, ME, MessagesBed

PLACES = ["memory", "file", "both", "no file"]


def changed(place: str) -> MessagesBed:
    """Messages 1 to 4: edited twice, redacted after an edit, reacted to, plain. Then the events 5 to 11."""
    bed = MessagesBed(path=None if place == "no file" else ":memory:")
    for n in range(4):
        bed.publish({"n": n}, rest=',"attachments":[{"url":"u"}]' if n == 1 else "")
    if place == "both":
        bed.write()
    bed.edit(1, "one")
    bed.edit(1, "two", 2)
    bed.edit(2, "secret")
    bed.redact(2)
    bed.react(3, "+1", "bob")
    bed.react(3, "+1", "eve")
    bed.react(3, "x", "bob")
    bed.react(3, "x", "bob", removed=True)
    bed.react(3, "+1", "bob")
    if place == "file":
        bed.write()
    return bed


def check(messages: list[dict[str, Any]]) -> None:
    first, second, third, fourth, *events = messages
    assert (first["payload"], first["version"]) == ("two", 3) and first["edited_at"].endswith("Z")
    assert second["payload"] is None and second["redacted"] is True
    assert not {"version", "edited_at", "attachments"} & set(second)
    assert third["payload"] == {"n": 2} and third["reactions"] == {"+1": 2} and "version" not in third
    assert fourth["payload"] == {"n": 3} and not {"version", "reactions", "redacted"} & set(fourth)
    assert [(e["seq"], e["kind"], e["target_seq"]) for e in events[:4]] == [
        (5, "edit", 1), (6, "edit", 1), (7, "edit", 2), (8, "redact", 2),
    ]  # fmt: skip
    assert [e["payload"] for e in events[:3]] == ["one", "two", None], "an edit of what is redacted shows nothing"
    assert events[2]["redacted"] is True
    assert [e["kind"] for e in events[4:]] == ["reaction"] * 5


@pytest.mark.parametrize("place", PLACES)
async def test_history_gives_messages_as_they_are_now(place: str) -> None:
    bed = changed(place)
    check(bed.history())
    assert b"secret" not in b"".join(bed.page().frames)


@pytest.mark.parametrize("place", PLACES)
async def test_a_page_for_a_stream_gives_the_same_bytes(place: str) -> None:
    bed = changed(place)
    page = bed.ask(link.Fetch(1, "t", bed.row.epoch, 0))
    assert page.frames == bed.page().frames
    check([json.loads(frame) for frame in page.frames])


@pytest.mark.parametrize("place", PLACES)
async def test_pages_of_messages_only_count_what_they_answer(place: str) -> None:
    bed = changed(place)
    bed.publish("last")
    assert [m["seq"] for m in bed.history(kinds="message")] == [1, 2, 3, 4, 14]
    assert [m["seq"] for m in bed.history(kinds="message", limit=2)] == [4, 14]
    assert [m["seq"] for m in bed.history(kinds="message", limit=2, after_seq=2)] == [3, 4]
    assert [m["seq"] for m in bed.history(kinds="message", limit=2, before_seq=14)] == [3, 4]
    assert [m["seq"] for m in bed.history(kinds="message", after_seq=4, limit=1)] == [14]
    assert bed.history(kinds="message")[0]["payload"] == "two"
    assert bed.page(kinds="message").edge == 0
    assert bed.page(kinds="edit").code == "bad_request"


async def test_without_a_file_a_message_costs_the_changes_of_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all events of a topic looked at for each message a slice of changes held up delivery for seconds."""
    bed = changed("no file")
    asked: list[int] = []
    recent = bed.owner.history.recent
    whole = recent.changes_of

    def changes_of(epoch: int, seq: int) -> Any:
        asked.append(seq)
        return whole(epoch, seq)

    monkeypatch.setattr(recent, "changes_of", changes_of)
    monkeypatch.setattr(recent, "changes", lambda: pytest.fail("all of them"))
    history, epoch = bed.owner.history, bed.row.epoch
    kept = history.get(epoch, 3)
    assert kept is not None and b'"reactions":{"+1":2}' in bytes(history.fold(epoch, 3, 3).now(kept))  # type: ignore[arg-type]
    assert asked == [3]
    recent.drop(len(recent), recent.end)
    assert recent._changes == {} and list(whole(epoch, 3)) == []


@pytest.mark.parametrize("place", PLACES)
async def test_replies_are_listed_in_order_and_as_they_are_now(place: str) -> None:
    bed = MessagesBed(path=None if place == "no file" else ":memory:")
    bed.publish("root")
    for n in range(6):
        bed.publish(n, parent=1 if n % 2 else 0)
        if place == "both" and n == 3:
            bed.write()
    bed.edit(3, "edited")
    if place == "file":
        bed.write()
    parent = bed.ids[1]
    assert [(m["seq"], m["payload"]) for m in bed.history(parent_id=parent)] == [(3, "edited"), (5, 3), (7, 5)]
    assert [m["seq"] for m in bed.history(parent_id=parent, limit=1)] == [7]
    assert [m["seq"] for m in bed.history(parent_id=parent, after_seq=0, limit=2)] == [3, 5]
    assert bed.history(parent_id=bed.ids[2]) == []


async def test_a_page_that_looked_at_too_much_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.selection.SCAN_ROWS", 5)
    bed = MessagesBed()
    bed.publish("a")
    for n in range(9):
        bed.react(1, str(n))
    bed.publish("b")
    bed.write()
    page = bed.page(kinds="message", after_seq=0)
    assert ([json.loads(f)["seq"] for f in page.frames], page.edge) == ([1], 5)
    page = bed.page(kinds="message", after_seq=page.edge)
    assert (page.frames, page.edge) == ([], 10)
    page = bed.page(kinds="message", after_seq=page.edge)
    assert ([json.loads(f)["seq"] for f in page.frames], page.edge) == ([11], 0)
    page = bed.page(kinds="message")
    assert ([json.loads(f)["seq"] for f in page.frames], page.edge) == ([11], 7)


async def test_a_page_beyond_its_bytes_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.reading.HISTORY_BYTES", 500)
    bed = MessagesBed()
    for _ in range(4):
        bed.publish("x" * 200)
    assert bed.page(kinds="message", after_seq=0).edge == 1
    assert bed.page(kinds="message").edge == 4


async def test_with_gaps_above_a_changed_message_its_reader_waits_and_others_do_not() -> None:
    bed = MessagesBed()
    bed.publish("a")
    bed.write()
    history = bed.owner.history
    history.recent.start += 10  # offsets that are not here
    bed.offset += 10
    bed.publish("b")
    history._settle()
    assert not history.complete
    assert [m["seq"] for m in bed.history(after_seq=0)] == [1, 2], "nothing was ever changed in this topic"
    bed.react(2, "+1")
    assert [m["seq"] for m in bed.history(after_seq=0)] == [2, 3]
    page = bed.page(after_seq=0)
    assert page.complete is False


@pytest.mark.parametrize("order", [1, -1])
async def test_an_index_rebuilt_in_any_order_and_twice_gives_the_same(order: int) -> None:
    bed = changed("memory")
    entries = list(bed.owner.history.recent._entries)
    file = HistoryIndex(":memory:", ME)
    for entry in entries[::order] + entries[::order]:
        offset = entry.pos >> 10
        file.write([entry], (offset, offset + 1))
    fresh = MessagesBed(path=None)
    fresh.owner.rows.update(bed.owner.rows)
    fresh.owner.history.opened(file)
    fresh.owner.history.recent.start = fresh.owner.history.recent.end = entries[-1].pos + 1 >> 10
    fresh.owner.history._settle()
    check([json.loads(frame) for frame in fresh.owner.history.span(bed.row.epoch, 1, 100, 1 << 20).frames])
    assert fresh.owner.history.reacts(bed.row.epoch, 3, "+1", "eve")
    assert not fresh.owner.history.reacts(bed.row.epoch, 3, "x", "bob")


async def test_a_page_has_a_bounded_number_of_changed_messages() -> None:
    bed = MessagesBed(path=":memory:")
    for n in range(FOLDED + 10):
        bed.publish(n)
    for n in range(1, FOLDED + 6):
        bed.edit(n, "new")
    bed.write()
    history, epoch = bed.owner.history, bed.row.epoch
    assert len(history.span(epoch, 1, 1_000, 1 << 20).frames) == FOLDED
    assert len(history.span(epoch, FOLDED + 1, 1_000, 1 << 20).frames) == 10 + FOLDED + 5, "plain ones are not counted"


async def test_what_leaves_takes_its_changes_with_it() -> None:
    bed = changed("file")
    bed.publish("reply", parent=1)
    bed.write()
    file = bed.owner.history.file
    assert file is not None
    while file.tidy(1_000):
        pass
    for table in ("frames", "seqs", "ids", "edits", "states", "reactions", "counts", "replies", "purges"):
        assert file._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    assert file.frame_bytes == 0


@pytest.mark.parametrize("left", [1, 3, 4])
async def test_edits_show_nothing_though_the_redacted_message_has_left_the_log(left: int) -> None:
    """`left` records leave; the frame of an edit is read from the log, which still has its payload."""
    bed = MessagesBed()
    bed.publish("secret")
    bed.publish("other")
    for version in (1, 2):
        bed.edit(1, "secret again", version)
    frames = [e.frame for e in bed.owner.history.recent.changes()]
    bed.redact(1)
    bed.write()
    history = bed.owner.history
    assert history.file is not None
    history.file._db.execute("UPDATE frames SET frame = NULL")
    history.log_begins((bed.places[1] >> 10) + left)
    while history.tidy():
        pass
    for seq in range(left + 1, 5):
        plain = message_frame("t", seq, 1, b'"message_id":"m","publisher_id":"bob","payload":"other"}')
        history.loaded(bed.places[seq], plain if seq == 2 else frames[seq - 3])
    history.loaded(bed.places[5], message_frame("t", 5, 1, b'"message_id":"m"}'))
    page = bed.page()
    assert [json.loads(frame)["seq"] for frame in page.frames] == list(range(left + 1, 6))
    assert b"secret" not in b"".join(page.frames)


async def test_the_bytes_of_frames_are_counted_right_after_redactions() -> None:
    bed = changed("file")
    file = bed.owner.history.file
    assert file is not None
    (size,) = file._db.execute("SELECT sum(length(frame)) FROM frames").fetchone()
    assert file.frame_bytes == size
    assert ANN.user_id == "ann"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tail", [b"garbage", b'"payload":1}', b'"parent_message_id":7}', b'"parent_message_id":"x"}'])
async def test_messages_written_by_hand_are_changed_like_others(place: str, tail: bytes) -> None:
    bed = MessagesBed(path=None if place == "no file" else ":memory:")
    gateway = bed.hosting()
    for _ in range(2):
        record_id = random_id(KEY, RNG.entropy(12))
        bed._numbered(bed.record(encode_message(Item(record_id, REPLY, tail), bed.row.epoch)), record_id)
    if place == "both":
        bed.write()
    bed.react(1, "+1")
    bed.edit(1, "new")
    bed.redact(2)
    if place == "file":
        bed.write()
    first, second = (json.loads(frame) for frame in bed.page().frames[:2])
    assert (first["payload"], first["reactions"]) == ("new", {"+1": 1})
    assert second["payload"] is None and second["redacted"] is True
    assert bed.about(1, "edit").code == "forbidden"
    assert gateway.sent
