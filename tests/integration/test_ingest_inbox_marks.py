"""Marks over HTTP: `POST /api/v1/inbox/ack` and the alias `/ack`; and what all requests of the inbox have in common."""

from typing import Any

import pytest

from headgate.core.wire import link_acks, link_inbox
from headgate.core.wire.errors import Refusal
from tests.integration.inbox_twin import (
    ACK,
    INBOX,
    MESSAGES,
    InboxWorld,
    ack,
    filled,
    join,
    missed,
    play,
    published,
    topics,
)
from tests.integration.ingest_twin import problem

# -- POST /inbox/ack


def test_marks_are_kept_by_the_owner_of_the_user_and_never_move_back() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1, 2, 3)
        epoch = world.owner.row("t").epoch
        for seq in (2, 1):
            assert (await ack(world, topic_id="t", seq=seq, device_id="phone")).status_code == 204
            assert (await ack(world, topic_id="t", seq=seq, kind="read")).status_code == 204
        assert world.owner.cursors == {("bo", "phone", "t"): (epoch, 2)}
        assert world.owner.marks == {("bo", "t"): (epoch, 2, 2)}
        answer = await ack(world, topic_id="t", seq=99, kind="delivered")
        assert (answer.status_code, answer.content) == (204, b"")
        assert world.owner.cursors["bo", "default", "t"] == (epoch, 3)

    play(scene)


def test_the_topics_owner_is_told_of_what_is_read_and_of_nothing_else() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1, 2)
        epoch = world.owner.row("t").epoch
        await ack(world, topic_id="t", seq=2)
        assert world.owner.told == []
        await ack(world, topic_id="t", seq=2, kind="read")
        assert world.owner.told == [link_inbox.ReadStored("t", epoch, "bo", 2)]
        world.owner.refused = {link_inbox.MoveMarks: Refusal("not_ready", "away")}
        problem(await ack(world, topic_id="t", seq=2, kind="read"), 503, "not_ready")
        assert len(world.owner.told) == 1

    play(scene)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"topic_id": "t", "seq": 1, "kind": "seen"}, "bad_request"),
        ({"topic_id": "t", "seq": 1, "kind": 1}, "bad_request"),
        ({"topic_id": "t", "seq": 1, "device_id": ""}, "bad_request"),
        ({"topic_id": "t", "seq": 1, "device_id": "é"}, "bad_request"),
        ({"topic_id": "t", "seq": 1, "device_id": 7}, "bad_request"),
        ({"topic_id": "t"}, "bad_request"),
        ({"topic_id": "t", "seq": -1}, "bad_request"),
        ({"topic_id": "t", "seq": True}, "bad_request"),
        ({"topic_id": "t", "seq": "1"}, "bad_request"),
        ({"topic_id": "t", "seq": 1 << 53}, "bad_request"),
        ({"seq": 1}, "bad_request"),
        ({"topic_id": 1, "seq": 1}, "bad_request"),
        ({"topic_id": "-", "seq": 1}, "invalid_topic_id"),
        ([], "bad_request"),
    ],
)
def test_an_ack_that_is_none_is_refused(body: Any, code: str) -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1)
        problem(await world.call("POST", ACK, world.token("bo"), json=body), 400, code)
        assert world.owner.cursors == {}

    play(scene)


def test_a_topic_that_the_caller_is_no_member_of_is_not_there_whatever_the_body() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1)
        for user, topic_id in (("stranger", "t"), ("bo", "missing")):
            for rest in ({"seq": 1}, {"seq": "x"}, {}):
                answer = problem(await ack(world, user, topic_id=topic_id, **rest), 404, "topic_not_found")
                assert answer["detail"] == f"there is no topic {topic_id}"

    play(scene)


def test_a_member_who_may_not_read_has_no_marks() -> None:
    async def scene(world: InboxWorld) -> None:
        await world.create("t", permissions="PRIVATE")
        await join(world, "t", "pub", "publisher")
        message_id = await published(world, "t", 1)
        problem(await ack(world, "pub", topic_id="t", seq=1), 403, "forbidden")
        problem(await ack(world, "pub", path="/ack", message_id=message_id), 403, "forbidden")
        assert await missed(world, user="pub") == ([], False)

    play(scene)


def test_a_topic_that_keeps_nothing_has_no_marks() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", settings={"profile": "ephemeral"})
        problem(await ack(world, topic_id="t", seq=1), 422, "not_in_profile")

    play(scene)


def test_an_owner_away_is_503_and_one_that_is_silent_after_it_was_asked_504() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1)
        for kind, mark in ((link_inbox.ResolveMark, "read"), (link_acks.MoveCursors, "delivered")):
            world.owner.refused = {kind: Refusal("not_ready", "away")}
            problem(await ack(world, topic_id="t", seq=1, kind=mark), 503, "not_ready")
        world.owner.refused = {}
        ask = world.directory._ask

        def silent(request: Any, on_answer: Any) -> None:
            if not isinstance(request, link_inbox.MoveMarks | link_acks.MoveCursors):
                ask(request, on_answer)

        world.directory._ask = silent  # type: ignore[method-assign]
        begin = world.clock.now()
        for mark in ("read", "delivered"):
            problem(await ack(world, topic_id="t", seq=1, kind=mark), 504, "outcome_unknown")
        assert world.clock.now() - begin < 14

    play(scene)


def test_an_idempotency_key_is_checked_and_a_repeat_changes_nothing() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1, 2)
        for seq in (2, 1):
            answer = await world.call(
                "POST",
                ACK,
                world.token("bo"),
                json={"topic_id": "t", "seq": seq, "kind": "read"},
                headers={"Idempotency-Key": "k"},
            )
            assert answer.status_code == 204
        assert (await topics(world))["t"]["read_seq"] == 2
        headers = {"Idempotency-Key": "é".encode()}
        body = {"topic_id": "t", "seq": 1}
        problem(await world.call("POST", ACK, world.token("bo"), json=body, headers=headers), 400, "bad_request")

    play(scene)


# -- POST /ack


def test_the_alias_acknowledges_by_message_id() -> None:
    async def scene(world: InboxWorld) -> None:
        _, second, _ = await filled(world, "t", 1, 2, 3)
        epoch = world.owner.row("t").epoch
        assert (await ack(world, path="/ack", message_id=second, device_id="phone")).status_code == 204
        assert world.owner.cursors == {("bo", "phone", "t"): (epoch, 2)}
        assert (await ack(world, path="/ack", message_id=second, kind="read")).status_code == 204
        assert world.owner.marks == {("bo", "t"): (epoch, 2, 2)}
        assert [told.seq for told in world.owner.told] == [2]

    play(scene)


def test_the_alias_knows_no_message_of_a_topic_that_is_not_the_callers() -> None:
    async def scene(world: InboxWorld) -> None:
        (message_id,) = await filled(world, "t", 1)
        unknown = "00000000-0000-8000-8000-000000000000"
        for user, asked in (("stranger", message_id), ("bo", unknown)):
            answer = problem(await ack(world, user, path="/ack", message_id=asked), 404, "message_not_found")
            assert answer["detail"] == f"there is no message {asked}"
        little = world.token("bo", only=True)
        body = {"message_id": message_id}
        problem(await world.call("POST", "/ack", little, json=body), 403, "forbidden")
        (message_id,) = await filled(world, "old", 1)

        def recreated(request: Any) -> None:
            if isinstance(request, link_inbox.ResolveMark):
                world.owner.row("old").epoch += 1

        world.owner.before = recreated
        problem(await ack(world, path="/ack", message_id=message_id), 404, "message_not_found")
        assert world.owner.cursors == {}

    play(scene)


@pytest.mark.parametrize(
    "rest", [{"kind": "seen"}, {"kind": 1}, {"device_id": ""}, {"device_id": 7}, {"message_id": "x"}]
)
def test_an_alias_that_names_nothing_is_refused(rest: dict[str, Any]) -> None:
    async def scene(world: InboxWorld) -> None:
        (message_id,) = await filled(world, "t", 1)
        body = {"message_id": message_id, **rest}
        problem(await ack(world, path="/ack", **body), 400, "bad_request")

    play(scene)


# -- all of them


def test_each_request_costs_a_read() -> None:
    async def scene(world: InboxWorld) -> None:
        (message_id,) = await filled(world, "t", 1)
        bo = world.token("bo")
        requests: list[tuple[str, str, Any]] = [
            ("GET", INBOX, None),
            ("GET", MESSAGES, None),
            ("POST", ACK, {"topic_id": "t", "seq": 1}),
            ("POST", "/ack", {"message_id": message_id}),
        ]
        spent = 0
        while (await world.call("GET", INBOX, bo)).status_code == 200:
            spent += 1
        assert spent == 600
        for method, path, body in requests:
            problem(await world.call(method, path, bo, json=body), 429, "rate_limited")
        other = world.token("cy", service=True)
        assert (await world.call("GET", INBOX, other)).status_code == 200

    play(scene)


def test_heads_wrong_methods_and_wrong_bodies() -> None:
    async def scene(world: InboxWorld) -> None:
        await filled(world, "t", 1)
        bo = world.token("bo")
        for path in (INBOX, MESSAGES):
            head = await world.call("HEAD", path, bo)
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) == len((await world.call("GET", path, bo)).content)
            problem(await world.call("POST", path, bo), 405, "method_not_allowed")
            problem(await world.call("GET", path, None), 401, "unauthenticated")
            problem(await world.call("GET", f"{path}?limit=0", bo), 400, "bad_request")
            problem(await world.call("GET", f"{path}?limit=1001", bo), 400, "bad_request")
            problem(await world.call("GET", f"{path}?device_id=", bo), 400, "bad_request")
        problem(await world.call("GET", f"{INBOX}?page=x", bo), 400, "bad_request")
        for path in (ACK, "/ack"):
            problem(await world.call("GET", path, bo), 405, "method_not_allowed")
            text = {"Content-Type": "text/plain"}
            problem(await world.call("POST", path, bo, content=b"{}", headers=text), 415, "unsupported_media_type")
            problem(await world.call("POST", path, bo, content=b"x" * (256 * 1024 + 1)), 413, "too_large")

    play(scene)


def test_open_mode_has_an_inbox_too() -> None:
    async def scene(world: InboxWorld) -> None:
        body = {"topic_id": "t", "name": "t"}
        assert (await world.call("POST", "/api/v1/topics?user=ana", None, json=body)).status_code == 201
        await world.call("POST", "/api/v1/topics/t/publish?user=cy", None, json={"payload": 1})
        answer = (await world.call("GET", f"{INBOX}?user=ana", None)).json()
        assert [topic["unread"] for topic in answer["topics"]] == [1]
        assert (await world.call("GET", f"{INBOX}?user=cy", None)).json()["topics"] == []

    play(scene, mode="open")
