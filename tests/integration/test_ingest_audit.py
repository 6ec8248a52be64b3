"""The audit log: one line for each control operation, whatever its outcome, and never a credential."""

import json
from typing import Any

from structlog.testing import capture_logs

from headgate.runtime.testing.faulty_log import Reach
from ingest import audit
from tests.integration.ingest_twin import World, play

TOPICS = "/api/v1/topics"
UPDATE = {"name": "m", "settings": {"presence": "none"}}
FIELDS = {"user", "topic", "target", "change", "outcome", "peer", "request_id", "record_id", "left_out"}


async def lines_of(world: World, method: str, path: str, token: str = "", **request: Any) -> list[dict[str, Any]]:
    with capture_logs() as lines:
        await world.call(method, path, token, **request)
    found = [dict(line) for line in lines if "outcome" in line]
    for line in found:
        assert set(line) - {"event", "log_level"} == FIELDS
        assert not ({world.token(service=True), token} - {""}) & set(map(str, line.values()))
    return found


async def line_of(world: World, method: str, path: str, token: str = "", **request: Any) -> dict[str, Any]:
    (line,) = await lines_of(world, method, path, token, **request)
    return line


def test_each_operation_leaves_one_line() -> None:
    async def scene(world: World) -> None:
        headers = {"X-Request-Id": "r-7"}
        operations: list[tuple[str, str, Any, str, str, str]] = [
            ("POST", TOPICS, {"topic_id": "t", "name": "n"}, "topic.create", "", "PUBLIC"),
            ("PATCH", f"{TOPICS}/t", UPDATE, "topic.update", "", "name settings.presence"),
            ("PATCH", f"{TOPICS}/t", {"permissions": "PRIVATE"}, "topic.update", "", "permissions=PRIVATE"),
            ("PUT", f"{TOPICS}/t/members/b%2Fo", {"role": "admin"}, "member.set", "b/o", "role=admin"),
            ("DELETE", f"{TOPICS}/t/members/b%2Fo", None, "member.remove", "b/o", ""),
            ("DELETE", f"{TOPICS}/t/subscribe", None, "subscriptions.end", "ana", ""),
            ("DELETE", f"{TOPICS}/t", None, "topic.delete", "", ""),
        ]  # fmt: skip
        records = set()
        for method, path, body, event, target, change in operations:
            line = await line_of(world, method, path, json=body, headers=headers)
            assert line["event"] == event
            assert (line["user"], line["topic"], line["target"], line["change"]) == ("ana", "t", target, change)
            assert (line["outcome"], line["peer"], line["request_id"]) == ("ok", "127.0.0.1", "r-7")
            records.add(line["record_id"])
        assert len(records) == 7, "each has a record of its own, but the end of subscriptions has none"
        assert "" in records

    play(scene)


def test_changes_of_messages_leave_one_line_without_the_payload() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = (await world.publish("t", payload=1)).json()["message_id"]
        path, named = f"{TOPICS}/t/messages/{message_id}", f"message_id={message_id}"
        reaction = f"{path}/reactions/%2B1"
        operations: list[tuple[str, str, Any, str, str]] = [
            ("PATCH", path, {"payload": "secret", "version": 1}, "message.edit", f"{named} version=1"),
            ("POST", "/edit_message", {"message_id": message_id, "content": "secret", "version": 2}, "message.edit",
             f"{named} version=2"),
            ("PUT", reaction, None, "message.react", f"{named} name=+1"),
            ("DELETE", reaction, None, "message.unreact", f"{named} name=+1"),
            ("DELETE", path, None, "message.redact", named),
        ]  # fmt: skip
        records = set()
        for method, where, body, event, change in operations:
            line = await line_of(world, method, where, json=body)
            assert (line["event"], line["topic"], line["change"], line["outcome"]) == (event, "t", change, "ok")
            assert "secret" not in str(line)
            records.add(line["record_id"])
        assert len(records) == 5
        again = await line_of(world, "DELETE", path)
        assert (again["outcome"], again["record_id"]) == ("ok", "")
        refused = await line_of(world, "PATCH", path, world.token("bo"), json={"payload": 1, "version": 3})
        assert (refused["outcome"], refused["topic"], refused["change"]) == ("forbidden", "t", named)

    play(scene)


def test_a_direct_topic_leaves_a_line_when_it_is_made_and_none_when_it_is_found() -> None:
    async def scene(world: World) -> None:
        line = await line_of(world, "POST", "/api/v1/direct", json={"user_id": "bo"})
        assert (line["event"], line["user"], line["target"], line["change"]) == ("topic.create", "ana", "bo", "PRIVATE")
        assert line["topic"].startswith("dm:") and line["record_id"] and line["outcome"] == "ok"
        assert await lines_of(world, "POST", "/api/v1/direct", json={"user_id": "bo"}) == []
        little = world.token("cy", only=True)
        refused = await line_of(world, "POST", "/api/v1/direct", little, json={"user_id": "bo"})
        assert (refused["outcome"], refused["record_id"]) == ("forbidden", "")

    play(scene)


def test_tickets_and_revocations_leave_one_line_without_the_ticket() -> None:
    async def scene(world: World) -> None:
        bo = world.token("bo")
        with capture_logs() as lines:
            ticket = (await world.call("POST", "/api/v1/tickets", bo)).json()["ticket"]
        assert ticket not in str(lines)
        line = await line_of(world, "POST", "/api/v1/tickets", bo)
        assert (line["event"], line["user"], line["target"], line["change"]) == (
            "ticket.create",
            "bo",
            "bo",
            "kind=once",
        )
        line = await line_of(world, "POST", "/api/v1/revocations", bo, json={"user_id": "cy"})
        assert (line["event"], line["outcome"], line["target"]) == ("revocation.create", "forbidden", "")
        root = world.token("root", admin=True)
        line = await line_of(world, "POST", "/api/v1/revocations", root, json={"user_id": "cy"})
        assert (line["event"], line["outcome"], line["target"]) == ("revocation.create", "ok", "cy")
        line = await line_of(world, "POST", "/api/v1/revocations", root, json={"jti": "j1"})
        assert (line["target"], line["change"]) == ("", "jti=j1")

    play(scene)


def test_refusals_leave_a_line_with_their_code() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        await world.create("open")
        eve = world.token("eve")
        for method, path, token, body, outcome in (
            ("DELETE", f"{TOPICS}/t", eve, None, "topic_not_found"),
            ("PUT", f"{TOPICS}/open/members/bo", eve, {"role": "admin"}, "forbidden"),
            ("DELETE", f"{TOPICS}/open/members/ana", "", None, "last_owner"),
            ("POST", TOPICS, "", {"topic_id": "t", "name": "n"}, "topic_exists"),
            ("PATCH", f"{TOPICS}/open", "", {"settings": {"profile": "ephemeral"}}, "immutable"),
        ):
            line = await line_of(world, method, path, token, json=body)
            assert line["outcome"] == outcome
        world.log.reach = Reach.SILENT
        line = await line_of(world, "PUT", f"{TOPICS}/t/members/bo")
        assert line["outcome"] == "outcome_unknown"
        assert line["record_id"]

    play(scene)


def test_what_could_not_be_read_and_what_was_not_looked_at_leave_none() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        ana = world.token("ana")
        for _ in range(59):
            await world.call("PUT", f"{TOPICS}/t/members/bo", ana)
        for method, path, token, body in (
            ("PATCH", f"{TOPICS}/t", "", b"{"),
            ("PUT", f"{TOPICS}/t/members/bo", "", b'{"role":1}'),
            ("PATCH", f"{TOPICS}/t", "", b"x" * 300_000),
            ("DELETE", f"{TOPICS}/t", "not-a-token", b""),
        ):
            assert await lines_of(world, method, path, token, content=body) == []
        await world.call("PUT", f"{TOPICS}/t/members/bo", ana)
        assert await lines_of(world, "PUT", f"{TOPICS}/t/members/bo", ana) == [], "429"

    play(scene)


def test_a_first_publish_that_makes_its_topic_is_an_operation_and_other_publishes_are_none() -> None:
    async def scene(world: World) -> None:
        body = json.dumps({"payload": 1})
        line = await line_of(world, "POST", f"{TOPICS}/new/publish", content=body)
        assert (line["event"], line["topic"], line["user"], line["peer"]) == ("topic.create", "new", "ana", "127.0.0.1")
        assert await lines_of(world, "POST", f"{TOPICS}/new/publish", content=body) == []
        assert await lines_of(world, "GET", f"{TOPICS}/new/members") == []

    play(scene, auto_create=True)


def test_a_request_id_of_a_stranger_is_printable_and_short() -> None:
    async def scene(world: World) -> None:
        for value, shown in (("x" * 128, "x" * 128), ("x" * 129, ""), ("a\tb", ""), ("é", "")):
            headers = {"X-Request-Id": value.encode("latin-1")}
            line = await line_of(world, "POST", TOPICS, json={"name": "n"}, headers=headers)
            assert line["request_id"] == shown

    play(scene)


def test_an_operation_that_fails_here_is_unfinished() -> None:
    async def scene(world: World) -> None:
        def broken(*_: Any) -> Any:
            raise RuntimeError("planted")

        await world.create("t")
        world.ingest._appender.append = broken  # type: ignore[method-assign, assignment]
        line = await line_of(world, "PUT", f"{TOPICS}/t/members/bo")
        assert line["outcome"] == audit.UNFINISHED

    play(scene)


def test_a_target_that_is_no_user_is_not_written() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        for user_id in ("a%0Ab", "x" * 129, "%FF"):
            line = await line_of(world, "DELETE", f"{TOPICS}/t/members/{user_id}", world.token("eve"))
            assert (line["outcome"], line["target"]) == ("topic_not_found", "")

    play(scene)


def test_a_stranger_does_not_fill_the_disk_with_refusals() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        eve, path = world.token("eve"), f"{TOPICS}/t"
        lines = [line for _ in range(100) for line in await lines_of(world, "DELETE", path, eve)]
        assert 60 <= len(lines) <= 61
        assert await lines_of(world, "DELETE", path, world.token("mallory"), json=None), "others have their own lines"
        assert (await line_of(world, "PUT", f"{path}/members/eve", eve, json={"role": "member"}))["outcome"] == "ok"
        world.clock.virtual.now += 2
        assert (await line_of(world, "DELETE", path, eve))["outcome"] == "forbidden"
        await lines_of(world, "DELETE", path, eve)
        await lines_of(world, "DELETE", path, eve)
        world.clock.virtual.now += 2
        assert (await line_of(world, "DELETE", path, eve))["left_out"] >= 1

    play(scene)
