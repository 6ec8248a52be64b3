"""`headgate members`, `headgate topics update` and `headgate connections`: what they ask, and what they print."""

import json
from typing import Any

from tests.cli.conftest import Headgate
from tests.cli.twin import Twin, refusal

MEMBER = {"user_id": "b/o", "role": "member", "joined_seq": 3, "joined_at": "2026-01-01T00:00:00.000Z"}


def asked(twin: Twin) -> list[tuple[str, str, Any]]:
    return [(method, path, json.loads(body) if body else None) for method, path, _, body in twin.requests]


def test_members_are_let_in_and_put_out(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"topic_id": "a:b", **MEMBER}))
    twin.next((200, {}, {"topic_id": "a:b", **MEMBER, "role": "admin"}))
    twin.next((204, {}, None))
    url = ("--url", twin.url)
    assert headgate("members", "add", "a:b", "b/o", *url).lines == [{"topic_id": "a:b", **MEMBER}]
    assert headgate("members", "add", "a:b", "b/o", "--role", "admin", *url).lines[0]["role"] == "admin"
    removed = {"topic_id": "a:b", "user_id": "b/o", "removed": True}
    assert headgate("members", "remove", "a:b", "b/o", "--json", *url).lines == [removed]
    path = "/api/v1/topics/a%3Ab/members/b%2Fo"
    assert asked(twin) == [("PUT", path, {}), ("PUT", path, {"role": "admin"}), ("DELETE", path, None)]


def test_a_list_of_members_goes_through_all_pages(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"members": [MEMBER, {**MEMBER, "user_id": "c"}], "count": 3, "next_page": "p&2"}))
    twin.next((200, {}, {"members": [{**MEMBER, "user_id": "d"}], "count": 3, "next_page": None}))
    done = headgate("members", "list", "t", "--url", twin.url)
    assert (done.status, [line["user_id"] for line in done.lines]) == (0, ["b/o", "c", "d"])
    assert [path for _, path, _ in asked(twin)] == [
        "/api/v1/topics/t/members?limit=1000",
        "/api/v1/topics/t/members?limit=1000&page=p%262",
    ]


def test_a_person_reads_a_member_a_line(headgate: Headgate, twin: Twin) -> None:
    twin.next((200, {}, {"members": [MEMBER], "count": 1, "next_page": None}))
    done = headgate.on_terminal("members", "list", "t", "--url", twin.url)
    assert (done.status, done.out) == (0, "b/o  member  joined at seq 3  2026-01-01T00:00:00.000Z\n")


def test_an_update_sends_what_is_given(headgate: Headgate, twin: Twin) -> None:
    url = ("--url", twin.url)
    for _ in range(2):
        twin.next((200, {}, {"topic_id": "t", "name": "n"}))
    assert headgate("topics", "update", "t", "--name", "n", *url).lines == [{"topic_id": "t", "name": "n"}]
    headgate("topics", "update", "t", "--permissions", "PRIVATE", "--settings", '{"presence":null}', *url)
    assert asked(twin) == [
        ("PATCH", "/api/v1/topics/t", {"name": "n"}),
        ("PATCH", "/api/v1/topics/t", {"permissions": "PRIVATE", "settings": {"presence": None}}),
    ]


def test_a_refusal_is_one_line(headgate: Headgate, twin: Twin) -> None:
    twin.next(refusal(409, "last_owner"))
    done = headgate("members", "remove", "t", "ana", "--url", twin.url)
    assert (done.status, done.out, done.err) == (1, "", "409 last_owner: said last_owner\n")


def test_connections_are_one_a_line(headgate: Headgate, twin: Twin) -> None:
    topics = [{"subscription_id": "s", "topic_id": name} for name in ("a", "b")]
    connection: dict[str, Any] = {"connection_id": "c1", "device_id": "default", "transport": "sse", "gateway": "g"}
    connection |= {"subscriptions": topics}
    for _ in range(3):
        twin.next((200, {}, {"connections": [connection], "complete": True}))
    assert headgate("connections", "--url", twin.url).lines == [connection]
    headgate("connections", "--user", "b&o", "--url", twin.url)
    done = headgate.on_terminal("connections", "--url", twin.url)
    assert done.out == "c1  default  sse  g  a b\n"
    assert [path for _, path, _ in asked(twin)][:2] == ["/api/v1/connections", "/api/v1/connections?user_id=b%26o"]


def test_the_first_topics_and_users_are_one_a_line(headgate: Headgate, twin: Twin) -> None:
    hour = {"topic_messages_per_hour": [{"topic_id": "t", "count": 9, "error": 2}], "topic_failures": []}
    users = [{"user_id": "ann", "count": 1}]
    first: dict[str, Any] = {"topic_members": [{"topic_id": "t", "count": 3}], **hour, "inbox_backlog": users}
    for complete in (True, False):
        twin.next((200, {}, {**first, "complete": complete}))
    done = headgate("top", "--url", twin.url)
    assert done.err == "" and done.lines == [
        {"list": "topic_members", "rank": 1, "topic_id": "t", "count": 3},
        {"list": "topic_messages_per_hour", "rank": 1, "topic_id": "t", "count": 9, "error": 2},
        {"list": "inbox_backlog", "rank": 1, "user_id": "ann", "count": 1},
    ]
    person = headgate.on_terminal("top", "--url", twin.url)
    assert person.out.splitlines()[1] == "topic_messages_per_hour  1  t  9  or 2 more"
    assert person.err == "the owner of a shard did not answer: the lists are not complete\n"
    assert [path for _, path, _ in asked(twin)] == ["/api/v1/top"] * 2


def test_the_talk_with_a_user_is_one_line(headgate: Headgate, twin: Twin) -> None:
    topic = {"topic_id": "dm:1", "name": "dm:1", "permissions": "PRIVATE", "created_at": "2026-01-01T00:00:00.000Z"}
    for status in (201, 200):
        twin.next((status, {}, topic))
    assert headgate("direct", "b/o", "--url", twin.url).lines == [topic]
    assert headgate.on_terminal("direct", "bo", "--url", twin.url).out == "dm:1  PRIVATE  2026-01-01T00:00:00.000Z\n"
    assert asked(twin) == [
        ("POST", "/api/v1/direct", {"user_id": "b/o"}),
        ("POST", "/api/v1/direct", {"user_id": "bo"}),
    ]
