"""Requests that change a message: what is read, what is named when one is refused, the tails of the events."""

import json

import pytest

from headgate.core.publish.change_request import (
    Edit,
    check_reaction,
    edit_tail,
    reaction_tail,
    read_edit,
    redact_tail,
)
from headgate.core.wire.errors import Refusal
from headgate.core.wire.frames import message_frame
from headgate.core.wire.ids import id_text

ID = bytes(range(16))


def framed(tail: bytes) -> dict[str, object]:
    frame: dict[str, object] = json.loads(message_frame("t", 9, 1, tail))
    assert (frame["message_id"], frame["publisher_id"]) == (id_text(ID), 'a"na')
    return {name: value for name, value in frame.items() if name not in ("message_id", "publisher_id", "type", "ts")}


def test_the_payload_is_kept_as_it_was_written() -> None:
    assert read_edit(b'{ "payload" : { "b":1e5 , "a": [ 1 ] }, "version": 3, "else": 1 }', 100) == Edit(
        b'{"b":1e5,"a":[1]}', 3
    )
    assert read_edit(b'{"payload":"\\ud800","version":1}', 100) == Edit(b'"\\ud800"', 1)
    assert read_edit(b'{"version":9007199254740991,"payload":null}', 4) == Edit(b"null", 9007199254740991)


@pytest.mark.parametrize(
    ("raw", "code", "named"),
    [
        (b"", "bad_request", "not JSON"),
        (b'{"payload":1', "bad_request", "not JSON"),
        (b"\xff", "bad_request", "not UTF-8"),
        (b'[{"payload":1,"version":1}]', "bad_request", "JSON object"),
        (b'{"payload":' + b"[" * 64 + b"]" * 64 + b',"version":1}', "bad_request", "deeper than 64"),
        (b'{"version":1}', "invalid_payload", "payload"),
        (b'{"payload":1}', "bad_request", "version"),
        (b'{"payload":1,"version":null}', "bad_request", "version"),
        (b'{"payload":1,"version":0}', "bad_request", "version"),
        (b'{"payload":1,"version":-1}', "bad_request", "version"),
        (b'{"payload":1,"version":1.0}', "bad_request", "version"),
        (b'{"payload":1,"version":"1"}', "bad_request", "version"),
        (b'{"payload":1,"version":9007199254740992}', "bad_request", "version"),
        (b'{"payload":"aaaaaaaaa","version":1}', "too_large", "at most 10"),
    ],
)
def test_what_is_wrong_is_named(raw: bytes, code: str, named: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_edit(raw, 10)
    assert caught.value.code == code
    assert named in caught.value.detail


@pytest.mark.parametrize("name", ["+1", "x" * 32, "\u00e9", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "a/b", " "])
def test_a_reaction_has_any_short_name(name: str) -> None:
    assert check_reaction(name) == name


@pytest.mark.parametrize("name", [None, 1, "", "x" * 33, "a\n", "\x00", "\x7f", "\x85", "\ufffd"])
def test_a_name_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(Refusal, match="bad_request"):
        check_reaction(name)


def test_each_change_has_a_frame_of_its_own() -> None:
    about = {"topic_id": "t", "seq": 9, "target_seq": 4}
    assert framed(edit_tail(ID, 'a"na', 4, Edit(b'{"x":1}', 2))) == about | {
        "payload": {"x": 1},
        "kind": "edit",
        "version": 3,
    }
    assert framed(redact_tail(ID, 'a"na', 4)) == about | {"payload": None, "kind": "redact"}
    added = about | {"payload": None, "kind": "reaction", "name": 'a"'}
    assert framed(reaction_tail(ID, 'a"na', 4, 'a"', removed=False)) == added
    assert framed(reaction_tail(ID, 'a"na', 4, 'a"', removed=True)) == added | {"removed": True}
