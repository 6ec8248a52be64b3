"""Members over HTTP: let in, another role, put out, listed; who may; what is repeated; what the log and owner do."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from headgate.core.wire.control import RemoveMember, SetMember
from headgate.core.wire.link import AskTopic, AskVerdict
from headgate.core.wire.link_members import AskMember, AskMembers
from headgate.core.wire.rights import Caller, actor_of
from headgate.runtime.testing.faulty_log import Reach
from tests.integration.ingest_twin import World, play, problem

TOPICS = "/api/v1/topics"


def path(user_id: str, topic_id: str = "t") -> str:
    return f"{TOPICS}/{topic_id}/members/{quote(user_id, safe='')}"


async def put(world: World, user_id: str, role: str | None = None, token: str = "", **request: Any) -> Any:
    body = {} if role is None else {"json": {"role": role}}
    return await world.call("PUT", path(user_id), token, **body, **request)


def test_a_member_is_let_in_given_another_role_and_put_out() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        bo = world.token("bo")
        problem(await world.publish("t", bo, payload=1), 404, "topic_not_found")
        await world.publish("t", payload=0)
        joined = (await put(world, "bo")).json()
        assert set(joined) == {"topic_id", "user_id", "role", "joined_seq", "joined_at"}
        assert (joined["topic_id"], joined["user_id"], joined["role"], joined["joined_seq"]) == ("t", "bo", "member", 1)
        assert (await world.publish("t", bo, payload=1)).status_code == 200
        again = (await put(world, "bo", "subscriber")).json()
        assert again == {**joined, "role": "subscriber"}, "another role is the same membership"
        problem(await world.publish("t", bo, payload=2), 403, "forbidden")
        assert (await world.call("GET", f"{TOPICS}/t", bo)).json()["member_count"] == 2
        answer = await world.call("DELETE", path("bo"))
        assert (answer.status_code, answer.content) == (204, b"")
        problem(await world.publish("t", bo, payload=3), 404, "topic_not_found")
        assert (await world.call("DELETE", path("bo"))).status_code == 204, "he is no member: nothing to do"

    play(scene)


def test_a_role_takes_effect_on_another_ingest_at_once() -> None:
    async def scene(world: World) -> None:
        other, log, _, _ = world.another()
        await log.open()
        async with world.client_of(other) as client:
            await world.create("t", permissions="PRIVATE")
            await put(world, "bo")
            headers = {"Authorization": f"Bearer {world.token('bo')}"}
            publish = f"{TOPICS}/t/publish"
            assert (await client.post(publish, json={"payload": 1}, headers=headers)).status_code == 200
            await world.call("DELETE", path("bo"))
            assert (await client.post(publish, json={"payload": 1}, headers=headers)).status_code == 404

    play(scene)


@pytest.mark.parametrize(
    ("actor", "target", "role", "status"),
    [
        ("bo", "cy", "member", 403),  # a member changes nobody
        ("bo", "bo", "subscriber", 200),  # himself downwards
        ("bo", "bo", "admin", 403),
        ("dee", "cy", "admin", 200),  # an admin everybody but owners
        ("dee", "cy", "owner", 403),
        ("dee", "ana", "member", 403),
        ("dee", "dee", "member", 200),
        ("ana", "dee", "owner", 200),  # an owner owners too
        ("ana", "ana", "admin", 409),  # the last one
        ("eve", "eve", "subscriber", 404),  # a stranger
        ("eve", "cy", "member", 404),
    ],
)
def test_who_may_give_which_role(actor: str, target: str, role: str, status: int) -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        await put(world, "bo", "member")
        await put(world, "dee", "admin")
        answer = await put(world, target, role, world.token(actor))
        if status == 200:
            assert (answer.status_code, answer.json()["role"]) == (200, role)
        else:
            code = {403: "forbidden", 404: "topic_not_found", 409: "last_owner"}[status]
            problem(answer, status, code)

    play(scene)


@pytest.mark.parametrize(
    ("permissions", "role", "status"),
    [
        ("PUBLIC", "member", 200),
        ("PUBLIC", "admin", 403),
        ("PUBLISH_ONLY", "publisher", 200),
        ("PUBLISH_ONLY", "subscriber", 403),
        ("SUBSCRIBE_ONLY", "subscriber", 200),
        ("SUBSCRIBE_ONLY", "member", 403),
    ],
)
def test_anyone_may_join_in_a_role_that_gives_no_right_he_lacks(permissions: str, role: str, status: int) -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions=permissions)
        bo = world.token("bo")
        assert (await put(world, "bo", role, bo)).status_code == status
        assert (await world.call("DELETE", path("bo"), bo)).status_code == 204
        assert (await world.call("DELETE", path("bo"), bo)).status_code == 204

    play(scene)


def test_the_last_owner_cannot_leave_and_another_one_can() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        ana = world.token("ana")
        problem(await world.call("DELETE", path("ana"), ana), 409, "last_owner")
        await put(world, "bo", "owner")
        assert (await world.call("DELETE", path("ana"), ana)).status_code == 204
        problem(await world.call("DELETE", f"{TOPICS}/t", ana), 403, "forbidden")
        assert (await world.call("DELETE", f"{TOPICS}/t", world.token("bo"))).status_code == 204

    play(scene)


def test_a_token_with_only_is_not_used_beyond_its_patterns() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        little = world.token("bo", only=True, subscribe=("other",))
        for method in ("PUT", "DELETE"):
            problem(await world.call(method, path("bo"), little), 403, "forbidden")
        narrow = world.token("bo", only=True, subscribe=("t",))
        assert (await put(world, "bo", "subscriber", narrow)).status_code == 200
        problem(await put(world, "bo", "member", narrow), 403, "forbidden")

    play(scene)


def test_pages_of_members_are_ascending_and_whole() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        names = sorted(f"u/{at:02} é" for at in range(7))
        for name in names:
            assert (await put(world, name, "subscriber")).json()["user_id"] == name
        for limit in (3, 8, 9):
            found: list[str] = []
            page: str | None = None
            while True:
                query: dict[str, Any] = {"limit": limit} | ({"page": page} if page else {})
                answer = (await world.call("GET", f"{TOPICS}/t/members", params=query)).json()
                assert set(answer) == {"members", "count", "next_page"} and answer["count"] == 8
                assert 0 < len(answer["members"]) <= limit
                found += [member["user_id"] for member in answer["members"]]
                page = answer["next_page"]
                if page is None:
                    break
            assert found == ["ana", *names]
        assert set(answer["members"][0]) == {"user_id", "role", "joined_seq", "joined_at"}

    play(scene)


def test_a_page_of_a_thousand_members_is_whole_and_names_the_next() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        world.owner.catch_up()
        row = world.owner._row("t")
        members = world.owner._state(row).members
        await put(world, "bo")
        entry = next(iter(members.values()))
        for at in range(1_000 - entry.count):
            found = entry.get("bo")
            assert found is not None
            entry.put(f"u{at:04}", found)
        url = f"{TOPICS}/t/members"
        whole = (await world.call("GET", url, params={"limit": 1_000})).json()
        assert (len(whole["members"]), whole["next_page"]) == (1_000, None)
        await put(world, "zoe")
        first = (await world.call("GET", url, params={"limit": 1_000})).json()
        last = (await world.call("GET", url, params={"limit": 1_000, "page": first["next_page"]})).json()
        assert (len(first["members"]), [m["user_id"] for m in last["members"]]) == (1_000, ["zoe"])

    play(scene)


def test_only_admins_list_members() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        await put(world, "bo", "member")
        await put(world, "dee", "admin")
        for user, status in (("bo", 403), ("dee", 200), ("eve", 404)):
            assert (await world.call("GET", f"{TOPICS}/t/members?limit=0", world.token(user))).status_code in (
                400 if status == 200 else status,
            )
            assert (await world.call("GET", f"{TOPICS}/t/members", world.token(user))).status_code == status

    play(scene)


@pytest.mark.parametrize(
    ("user_id", "body", "named"),
    [
        ("bo", b"[]", "the body"),
        ("bo", b'{"role":"emperor"}', "role"),
        ("bo", b'{"role":null}', "role"),
        ("bo", b'{"role":7}', "role"),
        ("x" * 129, b"{}", "a user id"),
        ("é" * 65, b"{}", "a user id"),
        ("a\nb", b"{}", "a user id"),
        ("kafka", b"{}", "a user id"),
    ],
)
def test_what_is_wrong_is_named(user_id: str, body: bytes, named: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        answer = await world.call("PUT", path(user_id), content=body)
        assert problem(answer, 400, "bad_request")["detail"].startswith(named)
        assert not any(isinstance(ask, AskVerdict) for ask in world.directory.asked[2:])

    play(scene)


def test_a_user_id_is_percent_decoded_once() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        for written, user_id in (("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb"), ("%C3%A9", "é"), ("a+b", "a+b")):
            answer = await world.call("PUT", f"{TOPICS}/t/members/{written}")
            assert answer.json()["user_id"] == user_id
        for written in ("%FF", "%FF%0A", "%ED%A0%80"):
            problem(await world.call("PUT", f"{TOPICS}/t/members/{written}"), 400, "bad_request")

    play(scene)


def test_the_checks_come_in_their_order() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        await put(world, "bo")
        bad: dict[str, Any] = {"content": b"{", "headers": {"Idempotency-Key": "\x7f"}}
        await close_log(world)
        problem(await world.call("PUT", path("", "bad id") + "x", **bad), 400, "invalid_topic_id")
        problem(await world.call("PUT", path("cy"), world.token("eve"), **bad), 404, "topic_not_found")
        problem(await world.call("PUT", path("cy"), world.token("bo"), **bad), 403, "forbidden")
        problem(await world.call("PUT", path("cy"), **bad), 400, "bad_request")
        ana = world.token("ana")
        for _ in range(60):
            problem(await put(world, "cy", token=ana), 503, "log_unavailable")
        problem(await put(world, "cy", token=ana), 429, "rate_limited")
        problem(await put(world, "cy", "emperor", token=ana), 400, "bad_request")

    play(scene)


async def close_log(world: World) -> None:
    world.log.reach = Reach.REFUSED


def test_a_repeat_with_its_key_is_the_first() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        key: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}
        first = (await put(world, "bo", "member", **key)).json()
        await put(world, "bo", "subscriber")
        assert (await put(world, "bo", "member", **key)).json() == {**first, "role": "subscriber"}, "applied once"
        other = (await put(world, "cy", "member", **key)).json()
        assert other["user_id"] == "cy", "a key belongs to a method and a path"
        bo = world.token("bo")
        for _ in range(2):
            assert (await world.call("DELETE", path("bo"), bo, **key)).status_code == 204
        problem(await world.call("DELETE", path("bo"), bo), 404, "topic_not_found")

    play(scene)


def test_a_repeat_after_504_finds_what_became_of_the_first() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        key: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}
        ask = world.directory.ask

        def silent(shard: int, build: Any) -> Any:
            return asyncio.get_running_loop().create_future() if isinstance(build(0), AskVerdict) else ask(shard, build)

        world.directory.ask = silent  # type: ignore[method-assign]
        problem(await put(world, "bo", "admin", **key), 504, "outcome_unknown")
        world.directory.ask = ask  # type: ignore[method-assign]
        records = world.metrics.records
        assert (await put(world, "bo", "admin", **key)).json()["role"] == "admin"
        assert world.metrics.records == records + 1
        assert len([v for v in world.owner.verdicts.values() if v[0].code == 12]) == 2

    play(scene)


def test_without_an_owner_nothing_is_appended() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        records = world.metrics.records
        world.directory.up = False
        for method in ("PUT", "DELETE"):
            problem(await world.call(method, path("bo")), 503, "not_ready")
        problem(await world.call("GET", f"{TOPICS}/t/members"), 503, "not_ready")
        assert world.metrics.records == records

    play(scene)


def test_a_membership_is_answered_where_the_owner_is_slow_to_show_it() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        ask = world.directory.ask

        def silent(shard: int, build: Any) -> Any:
            return asyncio.get_running_loop().create_future() if isinstance(build(0), AskMember) else ask(shard, build)

        world.directory.ask = silent  # type: ignore[method-assign]
        answer = (await put(world, "bo", "admin")).json()
        assert (answer["user_id"], answer["role"], answer["joined_seq"]) == ("bo", "admin", 0)
        assert answer["joined_at"].startswith("20")

    play(scene)


def test_an_admin_who_was_demoted_meanwhile_is_refused_by_the_record() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        await put(world, "bo", "admin")
        change = world.ingest._catalog.fetch

        async def late(topic_id: str, *caller: Caller) -> Any:
            found = await change(topic_id, *caller)
            world.ingest._catalog.fetch = change  # type: ignore[method-assign]
            await put(world, "bo", "member")  # between the check and the record
            return found

        world.ingest._catalog.fetch = late  # type: ignore[method-assign, assignment]
        problem(await put(world, "cy", "member", world.token("bo")), 403, "forbidden")

        async def gone(topic_id: str, *caller: Caller) -> Any:
            await put(world, "bo", "admin")
            found = await change(topic_id, *caller)
            world.ingest._catalog.fetch = change  # type: ignore[method-assign]
            await world.call("DELETE", path("bo"))
            return found

        await put(world, "bo", "admin")
        world.ingest._catalog.fetch = gone  # type: ignore[method-assign, assignment]
        problem(await put(world, "cy", "member", world.token("bo")), 404, "topic_not_found")

    play(scene)


def test_a_topic_that_was_created_again_keeps_no_change_meant_for_the_old_one() -> None:
    async def scene(world: World) -> None:
        made = await world.create("t")
        await world.call("DELETE", f"{TOPICS}/t")
        await world.create("t")
        actor = actor_of(Caller("ana", admin=True), "t")
        for record in (SetMember("t", "bo", "member", actor), RemoveMember("t", "bo", actor)):
            # The record is written as an ingest with an old view of the topic would.
            outcome = await _controls(world).change("t", record, made["epoch"], bytes(15) + b"x")
            assert outcome.verdict.code == 4

    play(scene)


def _controls(world: World) -> Any:
    from headgate.runtime.ports import Shell  # noqa: PLC0415
    from ingest.controls import Controls  # noqa: PLC0415

    return Controls(world.ingest._appender, world.ingest._owners, Shell(world.clock, world.rng, world.metrics))


def test_members_wait_for_dispatchers_that_know_them() -> None:
    async def scene(world: World) -> None:
        world.owner.logic = 1
        await world.create("t")
        records = world.metrics.records
        for method, url, body in (
            ("PUT", path("bo"), {}),
            ("DELETE", path("bo"), None),
            ("PATCH", f"{TOPICS}/t", {"name": "n"}),
        ):
            answer = await world.call(method, url, json=body)
            assert "upgraded" in problem(answer, 503, "not_ready")["detail"]
        assert world.metrics.records == records
        assert (await world.call("GET", f"{TOPICS}/t/members")).json()["count"] == 1

    play(scene)


def test_a_refusal_costs_one_question_whatever_the_reason() -> None:
    async def scene(world: World) -> None:
        await world.create("hidden", permissions="PRIVATE")
        eve = world.token("eve")
        for topic_id in ("hidden", "missing"):
            for method, url in (
                ("PUT", path("eve", topic_id)),
                ("PUT", path("bo", topic_id)),
                ("DELETE", path("eve", topic_id)),
                ("GET", f"{TOPICS}/{topic_id}/members"),
                ("PATCH", f"{TOPICS}/{topic_id}"),
            ):
                world.directory.asked.clear()
                problem(await world.call(method, url, eve), 404, "topic_not_found")
                assert [type(ask) for ask in world.directory.asked] == [AskTopic]
        world.directory.asked.clear()
        await world.call("GET", f"{TOPICS}/hidden/members", world.token("ana"))
        assert [type(ask) for ask in world.directory.asked][-1] is AskMembers

    play(scene)
