"""`headgate messages`: what its commands ask, and what they print."""

import json
from typing import Any

from tests.cli.conftest import Headgate
from tests.cli.twin import Twin, refusal

PATH = "/api/v1/topics/a%3Ab/messages/m-1"
FRAME = {
    "type": "message",
    "topic_id": "a:b",
    "seq": 4,
    "message_id": "m-1",
    "publisher_id": "ana",
    "payload": {"x": 1},
}
AT = "2026-01-01T00:00:00.000Z"


def asked(twin: Twin) -> list[tuple[str, str, Any]]:
    return [(method, path, json.loads(body) if body else None) for method, path, _, body in twin.requests]


def test_a_message_is_shown_with_and_without_its_versions(headgate: Headgate, twin: Twin) -> None:
    versions = [{"version": 1, "payload": 0, "edited_at": None}, {"version": 2, "payload": {"x": 1}, "edited_at": AT}]
    twin.next((200, {}, FRAME))
    twin.next((200, {}, {**FRAME, "versions": versions}))
    twin.next((200, {}, {**FRAME, "versions": versions}))
    url = ("--url", twin.url)
    assert headgate("messages", "get", "a:b", "m-1", *url).lines == [FRAME]
    assert headgate("messages", "get", "a:b", "m-1", "--versions", *url).lines == [{**FRAME, "versions": versions}]
    done = headgate.on_terminal("messages", "get", "a:b", "m-1", "--versions", *url)
    assert done.out == f'#4  a:b  ana  {{"x":1}}\nversion 1  0\nversion 2  {{"x":1}}  {AT}\n'
    assert asked(twin)[:2] == [("GET", PATH, None), ("GET", PATH + "?versions=true", None)]


def test_an_edit_names_the_version_or_asks_for_the_present_one(headgate: Headgate, twin: Twin) -> None:
    url = ("--url", twin.url)
    edited = {**FRAME, "version": 4, "event_seq": 9}
    twin.next((200, {}, edited))
    assert headgate("messages", "edit", "a:b", "m-1", '{"x": 1}', "--version", "3", *url).lines == [edited]
    for frame in (FRAME, edited, {**FRAME, "version": 7}, edited):
        twin.next((200, {}, frame))
    headgate("messages", "edit", "a:b", "m-1", "1", *url)
    headgate("messages", "edit", "a:b", "m-1", '"\\ud800"', *url)
    assert asked(twin) == [
        ("PATCH", PATH, {"payload": {"x": 1}, "version": 3}),
        ("GET", PATH, None),
        ("PATCH", PATH, {"payload": 1, "version": 1}),
        ("GET", PATH, None),
        ("PATCH", PATH, {"payload": "\ud800", "version": 7}),
    ]


def test_redactions_and_reactions_say_what_was_done(headgate: Headgate, twin: Twin) -> None:
    url = ("--url", twin.url)
    for _ in range(4):
        twin.next((204, {}, None))
    about = {"topic_id": "a:b", "message_id": "m-1"}
    assert headgate("messages", "redact", "a:b", "m-1", *url).lines == [{**about, "redacted": True}]
    assert headgate("messages", "react", "a:b", "m-1", "+1", *url).lines == [{**about, "name": "+1", "removed": False}]
    taken = headgate("messages", "react", "a:b", "m-1", "a/\u00e9", "--remove", "--json", *url).lines
    assert taken == [{**about, "name": "a/\u00e9", "removed": True}]
    assert headgate.on_terminal("messages", "redact", "a:b", "m-1", *url).out == "m-1  redacted\n"
    assert asked(twin)[:3] == [
        ("DELETE", PATH, None),
        ("PUT", PATH + "/reactions/%2B1", None),
        ("DELETE", PATH + "/reactions/a%2F%C3%A9", None),
    ]


def test_a_refusal_is_one_line(headgate: Headgate, twin: Twin) -> None:
    twin.next(refusal(409, "version_conflict"))
    done = headgate("messages", "edit", "t", "m", "1", "--version", "1", "--url", twin.url)
    assert (done.status, done.out, done.err) == (1, "", "409 version_conflict: said version_conflict\n")
