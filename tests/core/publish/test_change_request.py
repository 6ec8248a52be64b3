"""Requests that change a message: what is read, and what is named when one is refused."""

import time

import pytest

from headgate.core.publish.body import read_members
from headgate.core.publish.change_request import Edit, check_reaction, read_edit
from headgate.core.wire.errors import Refusal


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


@pytest.mark.parametrize("name", ["\ufffd", "a\ufffd"])
def test_the_replacement_character_is_one_like_others(name: str) -> None:
    assert check_reaction(name) == name


@pytest.mark.parametrize("name", [None, 1, "", "x" * 33, "a\n", "\x00", "\x7f", "\x85"])
def test_a_name_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(Refusal, match="bad_request"):
        check_reaction(name)


@pytest.mark.parametrize("payload", [b'"p"', b'"\\ud800"'])
def test_members_that_no_request_has_cost_no_objects(payload: bytes) -> None:
    """A body of 256 KiB with 43,000 members held the loop for 84 ms."""
    raw = b"{" + b'"":0,' * 43_000 + b'"k":0,"payload":%b,"version":1}' % payload
    started = time.process_time()
    assert read_members(raw) == {"payload": payload, "version": b"1"}
    assert read_edit(raw, 100) == Edit(payload, 1)
    assert time.process_time() - started < 0.04
