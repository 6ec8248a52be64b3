"""Questions about single messages: who may do what, and what the owner knows."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dispatcher.dispatcher import _is_large
from headgate.core.sequencer.changed_messages import ChangedMessages
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link
from headgate.core.wire.control import CreateTopic
from headgate.core.wire.link_messages import AskMessage, MessageAnswer, MessageVersion
from headgate.core.wire.message_changes import MAX_NAMES
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Code
from tests.dispatcher.bed import dispatcher_of, shell_of
from tests.dispatcher.members_bed import Far
from tests.dispatcher.messages_bed import ANN, BOB, EVE, MessagesBed

STORES = pytest.mark.parametrize("path", [":memory:", None])
PURPOSES = ("read", "reposition", "react", "unreact", "reply", "edit", "redact")


def outcome(answer: Any) -> str:
    return answer.code if isinstance(answer, link.Refused) else "ok"


@STORES
async def test_a_message_is_read_as_it_is_now_with_its_place(path: str | None) -> None:
    bed = MessagesBed(path=path)
    bed.publish("a")
    bed.edit(1, "b")
    answer = bed.about(1, "read", ANN)
    assert isinstance(answer, MessageAnswer)
    assert (answer.topic_id, answer.epoch, answer.seq, answer.pos) == ("t", bed.row.epoch, 1, bed.places[1])
    assert (answer.version, answer.redacted, answer.own, answer.settled) == (2, False, False, False)
    told = json.loads(answer.frame)
    assert (told["payload"], told["version"], told["seq"]) == ("b", 2, 1)
    assert bed.about(1, "read", BOB).own is True


@STORES
async def test_the_id_alone_names_a_message(path: str | None) -> None:
    bed = MessagesBed(path=path)
    bed.publish("a")
    if path is not None:
        bed.write()
    answer = bed.about(1, "reposition", ANN, topic_id="")
    assert (answer.topic_id, answer.seq, answer.frame) == ("t", 1, b"")
    bed.ids[2] = bytes(16)
    assert outcome(bed.about(2, "read", topic_id="")) == "message_not_found"
    bed.owner.history.complete = False  # older messages may come
    assert outcome(bed.about(2, "read", topic_id="")) == outcome(bed.about(2, "read")) == "not_ready"


async def test_a_question_goes_to_the_shard_that_it_names_and_one_for_versions_waits_for_room() -> None:
    ask = AskMessage(1, 3, "", ANN, bytes(16), "read")
    assert dispatcher_of(shell_of())._shard_of(ask) == 3
    assert not _is_large(ask)
    ask.versions = True
    assert _is_large(ask)


async def test_a_message_that_is_not_there_is_said_so_once_the_index_is_whole() -> None:
    bed = MessagesBed()
    bed.owner.history.log_begins(0)
    bed.publish("a")
    bed.ids[2] = bytes(16)
    assert bed.owner.history.complete
    assert outcome(bed.about(2, "read")) == outcome(bed.about(2, "read", topic_id="")) == "message_not_found"
    assert outcome(bed.about(1, "read", topic_id="other")) == "topic_not_found"
    assert outcome(bed.about(1, "dance")) == "bad_request"


@pytest.mark.parametrize("place", ["memory", "file"])
async def test_versions_are_listed_and_blanked_by_a_redaction(place: str) -> None:
    bed = MessagesBed(path=":memory:" if place == "file" else None)
    bed.publish("a")
    bed.edit(1, "b")
    bed.edit(1, "c", 2)
    if place == "file":
        bed.write()
    versions = bed.about(1, "read", versions=True).versions
    assert [(v.version, v.payload) for v in versions] == [(1, b'"a"'), (2, b'"b"'), (3, b'"c"')]
    assert versions[0].edited_at == 0 and versions[1].edited_at > 0
    bed.redact(1)
    versions = bed.about(1, "read", versions=True).versions
    assert [(v.version, v.payload) for v in versions] == [(n, b"null") for n in (1, 2, 3)]
    assert bed.about(1, "read").versions == []


async def test_of_many_versions_the_newest_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.message_requests.MAX_VERSIONS", 3)
    bed = MessagesBed()
    bed.publish(0)
    for n in range(1, 5):
        bed.edit(1, n, n)
    assert [v.version for v in bed.about(1, "read", versions=True).versions] == [4, 5]
    monkeypatch.setattr("dispatcher.message_requests.MAX_VERSIONS", 100)
    assert [v.version for v in bed.about(1, "read", versions=True).versions] == [1, 2, 3, 4, 5]
    monkeypatch.setattr("dispatcher.message_requests.HISTORY_BYTES", 2)
    assert bed.about(1, "read", versions=True).versions == [
        MessageVersion(4, b"3", 1_000 + (bed.places[4] >> 10) + 1),
        MessageVersion(5, b"4", 1_000 + (bed.places[5] >> 10) + 1),
    ]


async def test_no_more_versions_are_read_from_the_log_than_an_answer_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With more, those read first would have to leave for the last, and it would begin anew for ever."""
    monkeypatch.setattr("dispatcher.message_requests.HISTORY_BYTES", 50)
    bed = MessagesBed()
    bed.publish(0)
    for n in range(1, 40):
        bed.edit(1, "x" * 8, n)
    frames = {e.pos: e.frame for e in bed.owner.history.recent.changes()}
    plain = bed.owner.history.get(bed.row.epoch, 1)
    assert plain is not None and plain.frame is not None
    frames[plain.pos] = plain.frame
    bed.write()
    assert bed.owner.history.file is not None
    bed.owner.history.file._db.execute("UPDATE frames SET frame = NULL")
    peer, asked = Far(), list[int]()

    def want(row: Row, absent: list[tuple[int, int]], asker: object, again: Callable[[], None]) -> None:
        assert len(asked) < 16
        asked.extend(seq for _, seq in absent)
        for pos, _ in absent:
            bed.owner.history.loaded(pos, frames[pos])
        again()

    monkeypatch.setattr(bed.owner.pages, "want", want)
    answer: Any = bed.ask(AskMessage(1, 0, "t", BOB, bed.ids[1], "read", versions=True), peer)
    assert [v.version for v in answer.versions] == [36, 37, 38, 39, 40]
    bed.redact(1)
    asked.clear()
    bed.owner.history._loaded.clear()
    answer = bed.ask(AskMessage(1, 0, "t", BOB, bed.ids[1], "read", versions=True), peer)
    assert {v.payload for v in answer.versions} == {b"null"} and asked == [1], "nothing of it is read"


RIGHTS = {  # PUBLIC topic, message of bob's; eve is nobody, ann the owner
    "eve": {"read": "ok", "reposition": "ok", "react": "ok", "unreact": "ok", "reply": "ok", "edit": "forbidden",
            "redact": "forbidden"},
    "bob": dict.fromkeys(PURPOSES, "ok"),
    "ann": {**dict.fromkeys(PURPOSES, "ok"), "edit": "forbidden"},
}  # fmt: skip


@pytest.mark.parametrize("user", RIGHTS)
async def test_who_may_do_what_in_a_public_topic(user: str) -> None:
    bed = MessagesBed()
    bed.publish("a")
    assert {p: outcome(bed.about(1, p, Caller(user), name="+1")) for p in PURPOSES} == RIGHTS[user]


async def test_a_private_topic_and_its_messages_do_not_exist_for_others() -> None:
    bed = MessagesBed("PRIVATE")
    bed.publish("a")
    assert {outcome(bed.about(1, p, EVE, name="+1")) for p in PURPOSES} == {"topic_not_found"}
    assert {outcome(bed.about(1, p, EVE, name="+1", topic_id="")) for p in PURPOSES} == {"message_not_found"}
    bed.feed(bed.join("eve", "publisher"))
    assert outcome(bed.about(1, "read", EVE)) == "forbidden"
    assert outcome(bed.about(1, "reply", EVE)) == "ok"


async def test_reactions_are_settled_where_the_log_needs_no_record() -> None:
    bed = MessagesBed()
    bed.publish("a")
    assert not bed.about(1, "react", EVE, name="+1").settled
    assert bed.about(1, "unreact", EVE, name="+1").settled
    bed.react(1, "+1", "eve")
    assert bed.about(1, "react", EVE, name="+1").settled
    assert not bed.about(1, "react", BOB, name="+1").settled
    assert not bed.about(1, "unreact", EVE, name="+1").settled
    assert outcome(bed.about(1, "react", EVE, name="a\n")) == "bad_request"


async def test_a_message_has_a_bounded_number_of_names_of_reactions() -> None:
    bed = MessagesBed()
    bed.publish("a")
    for n in range(MAX_NAMES):
        assert outcome(bed.about(1, "react", EVE, name=f"n{n}")) == "ok"
        bed.react(1, f"n{n}", "bob")
    assert outcome(bed.about(1, "react", EVE, name="one more")) == "limit_reached"
    assert outcome(bed.about(1, "react", EVE, name="n7")) == "ok"
    bed.react(1, "n7", "bob", removed=True)
    assert outcome(bed.about(1, "react", EVE, name="one more")) == "ok"


async def test_a_redacted_message_is_settled_and_takes_no_reaction() -> None:
    bed = MessagesBed()
    bed.publish("a")
    bed.edit(1, "b")
    assert not bed.about(1, "redact").settled
    bed.redact(1)
    answer = bed.about(1, "redact")
    assert (answer.settled, answer.redacted, answer.version, answer.own) == (True, True, 2, True)
    assert outcome(bed.about(1, "react", name="+1")) == "immutable"
    assert bed.about(1, "unreact", name="+1").settled
    assert bed.about(1, "edit").redacted


async def test_an_event_can_be_read_and_not_changed() -> None:
    bed = MessagesBed()
    bed.publish("a")
    bed.edit(1, "b")
    assert json.loads(bed.about(2, "read").frame)["kind"] == "edit"
    for purpose in ("edit", "redact", "react", "reply"):
        assert outcome(bed.about(2, purpose, name="+1")) in ("message_not_found",)


async def test_a_message_too_old_for_the_rows_cannot_be_edited() -> None:
    bed = MessagesBed()
    bed.publish("a")
    bed.owner.shard.changed = ChangedMessages(below=bed.places[1])
    assert outcome(bed.about(1, "edit")) == "immutable"
    assert outcome(bed.about(1, "redact")) == "ok"


async def test_a_message_below_the_topics_retention_is_not_found() -> None:
    bed = MessagesBed()
    for n in range(3):
        bed.publish(n)
    bed.row.settings["retention_messages"] = 2
    assert [outcome(bed.about(seq, "read")) for seq in (1, 2, 3)] == ["message_not_found", "ok", "ok"]


async def test_an_ephemeral_topic_keeps_no_messages() -> None:
    bed = MessagesBed()
    bed.feed(bed.control(CreateTopic("e", "e", "PUBLIC", "ann", {"profile": "ephemeral"}), b"e"))
    bed.publish("a")
    assert outcome(bed.about(1, "read", topic_id="e")) == "not_in_profile"


async def test_the_verdict_of_an_old_event_is_known_from_the_index() -> None:
    bed = MessagesBed()
    bed.publish("a")
    bed.edit(1, "b")
    offset = bed.places[2] >> 10
    bed.owner.verdicts.__init__()  # type: ignore[misc]  # as after a fail-over
    answer = bed.ask(link.AskVerdict(1, 0, offset))
    assert [(v.code, v.seq) for v in answer.verdicts] == [(Code.CHANGED, 2)]
