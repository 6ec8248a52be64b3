"""`headgate inbox`: what it asks, what it prints, and what it refuses."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Headgate
from tests.cli.twin import Reply, Twin, refusal

PATH = "/api/v1/inbox"
TOPIC = {
    "topic_id": "room",
    "epoch": 7,
    "mode": "direct",
    "head_seq": 9,
    "cursor_seq": 8,
    "read_seq": 5,
    "unread": 3,
}
DONE: Reply = (204, {}, None)


def asked(twin: Twin) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _, _ in twin.requests]


def bodies(twin: Twin) -> list[Any]:
    return [json.loads(body) for _, _, _, body in twin.requests if body]


def topics(*ids: str, following: str | None = None) -> Reply:
    return 200, {}, {"topics": [{**TOPIC, "topic_id": topic_id} for topic_id in ids], "next_page": following}


def frame(topic_id: str, seq: int) -> dict[str, Any]:
    return {"type": "message", "topic_id": topic_id, "seq": seq, "ts": 0, "publisher_id": "ann", "payload": {"n": seq}}


def missed(*places: tuple[str, int], more: bool = False) -> Reply:
    return 200, {}, {"messages": [frame(*place) for place in places], "more": more}


def test_the_list_goes_through_all_pages(headgate: Headgate, twin: Twin) -> None:
    twin.next(topics("a", "b", following="p2"))
    twin.next(topics("c"))
    done = headgate("inbox", "--url", twin.url)
    assert (done.status, [line["topic_id"] for line in done.lines]) == (0, ["a", "b", "c"])
    assert done.lines[0] == {**TOPIC, "topic_id": "a"}
    assert asked(twin) == [("GET", f"{PATH}?limit=1000{rest}") for rest in ("", "&page=p2")]


def test_the_list_of_a_device_ends_at_its_limit(headgate: Headgate, twin: Twin) -> None:
    twin.next(topics("a", "b", following="p2"))
    done = headgate("inbox", "--device", "a b", "--limit", "1", "--json", "--url", twin.url)
    assert [line["topic_id"] for line in done.lines] == ["a"]
    assert asked(twin) == [("GET", f"{PATH}?device_id=a+b&limit=1000")]


def test_a_person_reads_a_topic_a_line(headgate: Headgate, twin: Twin) -> None:
    hot = {**TOPIC, "topic_id": "hall", "mode": "inbox", "unread": 0}
    twin.next((200, {}, {"topics": [TOPIC, hot], "next_page": None}))
    shown = headgate.on_terminal("inbox", "--url", twin.url).out.splitlines()
    assert shown == [
        "room  3 unread  head #9  device at #8  read to #5",
        "hall  0 unread  head #9  device at #8  read to #5  inbox",
    ]


def test_messages_are_printed_and_nothing_is_acknowledged(headgate: Headgate, twin: Twin) -> None:
    twin.next(missed(("a", 1), ("a", 2), ("b", 1)))
    done = headgate("inbox", "messages", "--device", "d", "--url", twin.url)
    assert (done.status, done.err) == (0, "")
    assert [(line["topic_id"], line["seq"]) for line in done.lines] == [("a", 1), ("a", 2), ("b", 1)]
    assert asked(twin) == [("GET", f"{PATH}/messages?device_id=d&limit=100")]
    twin.next(missed(("a", 1), more=True))
    shown = headgate.on_terminal("inbox", "messages", "--limit", "1", "--url", twin.url)
    assert shown.out == '#1  a  ann  {"n":1}\n'
    assert (shown.status, shown.err) == (0, "there is more: acknowledge this (--ack) to get the rest\n")


def test_with_ack_the_last_of_each_topic_is_acknowledged_until_nothing_is_left(headgate: Headgate, twin: Twin) -> None:
    for reply in (missed(("a", 1), ("a", 2), ("b", 5), more=True), DONE, DONE, missed(("b", 6)), DONE):
        twin.next(reply)
    done = headgate("inbox", "messages", "--ack", "--device", "d", "--url", twin.url)
    assert (done.status, done.err) == (0, "")
    assert [line["seq"] for line in done.lines] == [1, 2, 5, 6]
    page, ack = ("GET", f"{PATH}/messages?device_id=d&limit=1000"), ("POST", f"{PATH}/ack")
    assert asked(twin) == [page, ack, ack, page, ack]
    assert bodies(twin) == [
        {"topic_id": topic_id, "seq": seq, "kind": "delivered", "device_id": "d"}
        for topic_id, seq in (("a", 2), ("b", 5), ("b", 6))
    ]


def test_with_ack_and_a_limit_the_command_ends_there(headgate: Headgate, twin: Twin) -> None:
    for reply in (missed(("a", 1), ("a", 2), more=True), DONE, missed(("a", 3), more=True), DONE):
        twin.next(reply)
    done = headgate("inbox", "messages", "--ack", "--limit", "3", "--url", twin.url)
    assert (done.status, done.err) == (0, "there is more: call again\n")
    assert [path for method, path in asked(twin) if method == "GET"] == [
        f"{PATH}/messages?limit={limit}" for limit in (3, 1)
    ]


def test_an_acknowledgement_that_fails_ends_the_command(headgate: Headgate, twin: Twin) -> None:
    twin.next(missed(("a", 1), ("b", 1), more=True))
    twin.next(refusal(503, "not_ready", retry_after=1))
    done = headgate("inbox", "messages", "--ack", "--url", twin.url)
    assert (done.status, len(done.lines)) == (1, 2)
    assert done.err.startswith("503 not_ready")
    assert len(asked(twin)) == 2


def test_where_the_rate_is_used_up_it_waits(headgate: Headgate, twin: Twin) -> None:
    limited = refusal(429, "rate_limited", retry_after=1)
    for reply in (limited, missed(("a", 1)), refusal(429, "rate_limited", retry_after=1), DONE):
        twin.next(reply)
    done = headgate("inbox", "messages", "--ack", "--url", twin.url)
    assert (done.status, len(done.lines)) == (0, 1)
    assert [method for method, _ in asked(twin)] == ["GET", "GET", "POST", "POST"]
    twin.next(refusal(429, "rate_limited", retry_after=301))
    done = headgate("inbox", "messages", "--url", twin.url)
    assert (done.status, done.err[:16]) == (1, "429 rate_limited")


def test_what_cannot_be_read_now_is_a_failure(headgate: Headgate, twin: Twin) -> None:
    twin.next(missed(more=True))
    done = headgate("inbox", "messages", "--ack", "--url", twin.url)
    assert (done.status, done.lines) == (1, [])
    assert done.err == "there is more that cannot be read now; try again in a few seconds\n"


def test_messages_that_python_has_no_value_for_are_printed_as_they_are(headgate: Headgate, twin: Twin) -> None:
    text = b'{"type":"message","topic_id":"t","seq":1,"ts":0,"publisher_id":"a","payload":["\\ud800",1e999]}'
    twin.next((200, {}, b'{"messages":[' + text + b'],"more":false}'))
    twin.next(DONE)
    done = headgate("inbox", "messages", "--ack", "--url", twin.url)
    assert (done.status, done.out.encode()) == (0, text + b"\n")
    assert bodies(twin) == [{"topic_id": "t", "seq": 1, "kind": "delivered"}]


def test_an_ack_says_how_far(headgate: Headgate, twin: Twin) -> None:
    twin.next(DONE)
    done = headgate("inbox", "ack", "a:b", "7", "--kind", "read", "--url", twin.url)
    assert done.lines == [{"topic_id": "a:b", "seq": 7, "kind": "read"}]
    twin.next(DONE)
    assert headgate.on_terminal("inbox", "ack", "t", "1", "--device", "d", "--url", twin.url).out == (
        "t  #1  delivered\n"
    )
    assert asked(twin) == [("POST", f"{PATH}/ack")] * 2
    assert bodies(twin) == [
        {"topic_id": "a:b", "seq": 7, "kind": "read"},
        {"topic_id": "t", "seq": 1, "kind": "delivered", "device_id": "d"},
    ]
    twin.next(refusal(404, "topic_not_found"))
    done = headgate("inbox", "ack", "t", "1", "--url", twin.url)
    assert (done.status, done.err[:19]) == (1, "404 topic_not_found")


@pytest.mark.parametrize(
    "given",
    [
        ("--device", ""),
        ("--limit", "0"),
        ("--device", "d", "messages"),
        ("--json", "ack", "t", "1"),
        ("none",),
        ("messages", "--limit", "1001"),
        ("messages", "--limit", "0"),
        ("messages", "--device", "é"),
        ("messages", "extra"),
        ("ack", "t"),
        ("ack", "t", "x"),
        ("ack", "t", "-1"),
        ("ack", "t", "1", "--kind", "seen"),
        ("ack", "t", "1", "--device", ""),
    ],
)
def test_a_wrong_command_asks_nothing(headgate: Headgate, twin: Twin, given: tuple[str, ...]) -> None:
    done = headgate("inbox", *given, HEADGATE_CLIENT__URL=twin.url)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert asked(twin) == []
