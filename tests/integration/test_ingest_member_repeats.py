"""Changes of members that are repeated, late, or overtaken by others."""

import asyncio
from typing import Any

from headgate.core.wire.control import RemoveMember, SetMember
from headgate.core.wire.link import AskTopic, AskVerdict
from headgate.core.wire.link_members import AskMember, AskMembers
from headgate.core.wire.rights import Caller, actor_of
from tests.integration.ingest_twin import World, play, problem
from tests.integration.test_ingest_members import TOPICS, path, put


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


def test_another_role_under_a_key_is_a_conflict_and_so_is_another_topic_under_its() -> None:
    async def scene(world: World) -> None:
        key: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}
        body = {"topic_id": "t", "name": "t"}
        for _ in range(2):
            assert (await world.call("POST", TOPICS, json=body, **key)).status_code == 201
        problem(await world.call("POST", TOPICS, json={**body, "name": "s"}, **key), 422, "idempotency_conflict")
        assert (await put(world, "bo", "admin", **key)).json()["role"] == "admin"
        problem(await put(world, "bo", "owner", **key), 422, "idempotency_conflict")
        assert (await put(world, "bo", "admin", **key)).json()["role"] == "admin"

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
