"""`headgate dead-letters`: what it asks, what it prints, and what it refuses."""

import json
from typing import Any

from tests.cli.conftest import Headgate
from tests.cli.twin import Twin, refusal

LETTER: dict[str, Any] = {
    "id": "fda4c928-b718-815f-8e46-edae6d08e596",
    "topic_id": "orders",
    "epoch": 7,
    "seq": 3,
    "message_id": "fda4c928-b718-815f-8e46-000000000000",
    "user_id": "bob",
    "device_id": "phone",
    "attempts": 3,
    "reason": "max_attempts",
    "last_error": "down",
    "at": "2026-01-01T00:00:00.000Z",
}
MESSAGE = {"type": "message", "topic_id": "orders", "seq": 3, "ts": 0, "publisher_id": "ann", "payload": {"n": 3}}
PATH = "/api/v1/dead-letters"


def asked(twin: Twin) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _, _ in twin.requests]


def page(*ids: str, following: str | None = None) -> tuple[int, dict[str, str], Any]:
    return 200, {}, {"dead_letters": [{**LETTER, "id": letter_id} for letter_id in ids], "next_page": following}


def test_a_list_goes_through_all_pages(headgate: Headgate, twin: Twin) -> None:
    twin.next(page("a", "b", following="p2"))
    twin.next(page("c"))
    done = headgate("dead-letters", "list", "--topic", "a:b", "--url", twin.url)
    assert (done.status, [line["id"] for line in done.lines]) == (0, ["a", "b", "c"])
    assert asked(twin) == [("GET", f"{PATH}?topic_id=a%3Ab&limit=1000{rest}") for rest in ("", "&page=p2")]


def test_without_a_topic_all_that_the_caller_administers_are_listed(headgate: Headgate, twin: Twin) -> None:
    twin.next(page())
    assert headgate("dead-letters", "list", "--url", twin.url).lines == []
    assert asked(twin) == [("GET", f"{PATH}?limit=1000")]


def test_a_person_reads_a_letter_a_line_and_its_message(headgate: Headgate, twin: Twin) -> None:
    twin.next(page(LETTER["id"]))
    line = f"{LETTER['id']}  orders #3  bob/phone  3 attempts  max_attempts  down  2026-01-01T00:00:00.000Z\n"
    assert headgate.on_terminal("dead-letters", "list", "--url", twin.url).out == line
    twin.next((200, {}, {**LETTER, "replaying": True, "message": MESSAGE}))
    shown = headgate.on_terminal("dead-letters", "show", LETTER["id"], "--url", twin.url).out
    assert shown.startswith(line + "is being replayed\n")
    assert '{"n":3}' in shown
    twin.next((200, {}, {**LETTER, "replaying": False, "message": None, "user_id": None, "group": "workers"}))
    shown = headgate.on_terminal("dead-letters", "show", LETTER["id"], "--url", twin.url).out
    assert "#3  workers  3" in shown
    assert shown.endswith("the message is no longer kept\n")


def test_letters_are_replayed_and_purged_by_id(headgate: Headgate, twin: Twin) -> None:
    url = ("--url", twin.url)
    for _ in range(2):
        twin.next((202, {}, {"id": "a", "topic_id": "orders"}))
    assert headgate("dead-letters", "replay", "a", "b", *url).lines == [
        {"id": "a", "replayed": True},
        {"id": "b", "replayed": True},
    ]
    twin.next((204, {}, None))
    assert headgate.on_terminal("dead-letters", "purge", "a/b", *url).out == "a/b  purged\n"
    assert asked(twin) == [
        ("POST", f"{PATH}/a/replay"),
        ("POST", f"{PATH}/b/replay"),
        ("DELETE", f"{PATH}/a%2Fb"),
    ]


def test_all_letters_of_a_topic_are_taken_before_the_first_is_changed(headgate: Headgate, twin: Twin) -> None:
    twin.next(page("a", following="p2"))
    twin.next(page("b"))
    for _ in range(2):
        twin.next((204, {}, None))
    done = headgate("dead-letters", "purge", "--all-of", "orders", "--url", twin.url)
    assert done.lines == [{"id": "a", "purged": True}, {"id": "b", "purged": True}]
    assert [method for method, _ in asked(twin)] == ["GET", "GET", "DELETE", "DELETE"]


def test_ids_or_a_topic_and_not_both(headgate: Headgate, twin: Twin) -> None:
    for command in ("replay", "purge"):
        for given in ((), ("a", "--all-of", "orders")):
            done = headgate("dead-letters", command, *given, "--url", twin.url)
            assert (done.status, done.lines) == (2, [])
            assert "--all-of TOPIC" in done.err
    assert asked(twin) == []


def test_a_refusal_is_one_line(headgate: Headgate, twin: Twin) -> None:
    twin.next(refusal(404, "not_found"))
    done = headgate("dead-letters", "replay", "a", "--url", twin.url)
    assert done.status == 1
    assert done.err.startswith("404 not_found")
    assert json.dumps(done.lines) == "[]"
