"""Frames of changed messages: what the client gets, byte for byte where order counts."""

import json

import pytest

from headgate.core.wire.amended_frames import (
    MessageState,
    amend,
    amended_frame,
    frame_members,
    payload_in,
    redacted_frame,
    targets_of,
)
from headgate.core.wire.frames import message_frame

REST = b',"parent_message_id":"p","parent_version":2,"attachments":[{"url":"u","name":"secret"}]}'
PAYLOADS = [b'{"a":[1.50,"x"]}', b'"\\ud800 alone"', b'{"payload":1,"kind":"edit"}', b"null"]


def frame(seq: int, payload: bytes = b"1", rest: bytes = b"}") -> bytes:
    tail = b'"message_id":"m","publisher_id":"a,\\"payload\\":","payload":%b%b' % (payload, rest)
    return message_frame("t", seq, 9, tail)


def edit(seq: int, target: int, payload: bytes = b'"e"') -> bytes:
    return frame(seq, payload, b',"kind":"edit","target_seq":%d,"version":2}' % target)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_payload_is_carried_as_it_was_written(payload: bytes) -> None:
    assert payload_in(frame(1, payload, REST)) == payload
    assert amended_frame(frame(1, payload, REST), MessageState()) == frame(1, payload, REST)


@pytest.mark.parametrize("rest", [REST, b',"na\\\\me":"\\ud800","\\ud800":2}'])
def test_names_and_values_with_escapes_are_cut_like_others(rest: bytes) -> None:
    found = frame_members(frame(1, b'["\\ud800"]', rest))
    assert found["payload"] == b'["\\ud800"]' and found["message_id"] == b'"m"'
    assert len(found) == len(json.loads(frame(1, b"1", rest)))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_an_edited_message_has_the_new_payload_and_says_since_when(payload: bytes) -> None:
    now = amended_frame(frame(3, payload, REST), MessageState(2, b'{"new":1}', 1_700_000_000_123))
    told = json.loads(now)
    assert told["payload"] == {"new": 1} and told["version"] == 2 and told["edited_at"] == "2023-11-14T22:13:20.123Z"
    assert told["attachments"] and told["parent_message_id"] == "p" and told["seq"] == 3
    assert list(told)[:4] == ["type", "topic_id", "seq", "ts"], "the seq is found before anything of a publisher"


def test_reactions_are_counted_by_name() -> None:
    told = json.loads(amended_frame(frame(1), MessageState(reactions={"b": 2, 'a"': 1})))
    assert told["reactions"] == {'a"': 1, "b": 2} and "version" not in told


def test_a_redacted_message_keeps_its_names_and_no_content() -> None:
    state = MessageState(3, b'"newer"', 5, redacted=True, reactions={"a": 1})
    told = json.loads(amended_frame(frame(1, b'"secret"', REST), state))
    assert told["payload"] is None and told["redacted"] is True and told["parent_message_id"] == "p"
    assert not {"attachments", "version", "edited_at", "reactions"} & set(told)
    assert redacted_frame(amended_frame(frame(1, b'"secret"', REST), state)) == redacted_frame(frame(1, b"1", REST))


def test_an_edit_of_a_redacted_message_still_says_what_it_was() -> None:
    told = json.loads(redacted_frame(edit(5, 2, b'"secret"')))
    assert (told["kind"], told["target_seq"], told["version"]) == ("edit", 2, 2)
    assert told["payload"] is None and told["redacted"] is True


def test_a_list_of_frames_is_amended_in_place_and_its_growth_is_known() -> None:
    frames = [frame(n) for n in range(4, 8)]
    before = sum(map(len, frames))
    grown = amend(frames, 4, 5, frame(5, b'"longer"'), redacted=False)
    assert payload_in(frames[1]) == b'"longer"' and sum(map(len, frames)) == before + grown


@pytest.mark.parametrize("seq", [3, 8])
def test_a_message_outside_of_the_list_changes_nothing(seq: int) -> None:
    frames = [frame(n) for n in range(4, 8)]
    assert amend(frames, 4, seq, frame(seq, b"2"), redacted=False) == 0
    assert frames == [frame(n) for n in range(4, 8)]


def test_a_redaction_blanks_the_edits_of_that_message_only() -> None:
    forged = frame(8, b'{"a":1,"kind":"edit","target_seq":4,"version":2}')
    frames = [frame(5), edit(6, 4, b'"secret"'), edit(7, 44), forged]
    before = sum(map(len, frames))
    grown = amend(frames, 5, 4, b"", redacted=True)
    assert frames == [frame(5), redacted_frame(edit(6, 4, b'"secret"')), edit(7, 44), forged]
    assert sum(map(len, frames)) == before + grown


def test_a_redaction_without_a_frame_blanks_what_is_held() -> None:
    frames = [frame(5, b'"secret"')]
    amend(frames, 5, 5, b"", redacted=True)
    assert frame_members(frames[0])["payload"] == b"null"


def test_the_messages_that_events_changed_are_found_among_frames() -> None:
    redact = frame(9, b"null", b',"kind":"redact","target_seq":4}')
    forged = frame(8, b'{"a":1,"kind":"edit","target_seq":7,"version":2}')
    assert targets_of([frame(5), edit(6, 4), edit(7, 3), forged, redact]) == {4: True, 3: False}


@pytest.mark.parametrize("tail", [b"", b"}", b"garbage", b'"a":{', b'"payload":"secret"', b'"\xff":1}', b"[" * 9_000])
def test_a_frame_whose_tail_is_no_json_keeps_what_we_wrote(tail: bytes) -> None:
    """A record that was written by hand may have any tail: it must not stop whoever amends the frame."""
    broken = message_frame("t", 4, 9, tail)
    known = {"type": "message", "topic_id": "t", "seq": 4, "ts": 9}
    assert payload_in(broken) == b"null"
    assert json.loads(redacted_frame(broken)) == {**known, "payload": None, "redacted": True}
    now = json.loads(amended_frame(broken, MessageState(2, b"1", 1)))
    assert {name: now[name] for name in known} == known and now["payload"] == 1
    marked = message_frame("t", 4, 9, tail + b',"kind":"edit","target_seq":"x",')
    assert targets_of([broken, marked, frame(5, rest=b',"kind":"edit","target_seq":"x"}')]) == {}
    frames = [marked, edit(5, 4)]
    amend(frames, 4, 4, b"", redacted=True)
    assert [json.loads(each)["payload"] for each in frames] == [None, None]


def test_a_deep_payload_with_a_lone_surrogate_is_carried() -> None:
    deep = b"[" * 64 + b'"\\ud800"' + b"]" * 64
    assert payload_in(frame(1, deep)) == deep
