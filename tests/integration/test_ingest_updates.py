"""PATCH of a topic: merged key by key, all or nothing, and decided again when another change came between."""

import asyncio
from typing import Any

import pytest

from headgate.core.wire import topic_settings
from headgate.core.wire.control import UpdateTopic, encode_body
from headgate.core.wire.envelope import encode_control
from headgate.core.wire.ids import random_id, topic_key
from headgate.core.wire.link import AskVerdict
from headgate.core.wire.rights import Caller, actor_of
from headgate.runtime.testing.faulty_log import Reach
from ingest import topic_updates
from ingest.rates import RateLimits
from tests.integration.ingest_twin import World, play, problem

T = "/api/v1/topics/t"
MODES = ("PUBLIC", "PRIVATE")


async def patch(world: World, body: Any, token: str = "", **request: Any) -> Any:
    return await world.call("PATCH", T, token, json=body, **request)


def version_of(world: World) -> int:
    world.owner.catch_up()
    return world.owner.row("t").version


def test_what_is_given_changes_and_nothing_else() -> None:
    async def scene(world: World) -> None:
        made = await world.create("t", settings={"presence": "none"})
        changed = (await patch(world, {"name": "Tea"})).json()
        assert changed["name"] == "Tea"
        assert {name: changed[name] for name in made if name != "name"} == {
            name: value for name, value in made.items() if name != "name"
        }
        changed = (await patch(world, {"permissions": "PRIVATE", "settings": {"retention_messages": 5}})).json()
        assert (changed["name"], changed["permissions"]) == ("Tea", "PRIVATE")
        assert changed["settings"] == made["settings"] | {"retention_messages": 5}
        assert (await world.call("GET", T)).json() == changed
        changed = (await patch(world, {"settings": {"presence": None, "retention_messages": None}})).json()
        assert changed["settings"] == made["settings"] | {"presence": "count"}
        world.owner.catch_up()
        assert world.owner.row("t").settings == {}
        before = version_of(world)
        assert (await patch(world, {})).json() == changed
        assert (await patch(world, {"unknown": 1, "name": "Tea"})).json() == changed
        assert version_of(world) == before == 3

    play(scene)


def test_it_takes_effect_at_once_on_every_ingest() -> None:
    async def scene(world: World) -> None:
        other, log, _, _ = world.another()
        await log.open()
        async with world.client_of(other) as client:
            await world.create("t")
            headers = {"Authorization": f"Bearer {world.token('bo')}"}
            assert (await client.post(f"{T}/publish", json={"payload": 1}, headers=headers)).status_code == 200
            await patch(world, {"permissions": "SUBSCRIBE_ONLY"})
            assert (await client.post(f"{T}/publish", json={"payload": 1}, headers=headers)).status_code == 403
            await patch(world, {"permissions": "PUBLIC", "settings": {"rate_limit": {"per_s": 0.001, "burst": 1}}})
            answers = [
                (await client.post(f"{T}/publish", json={"payload": 1}, headers=headers)).status_code for _ in range(2)
            ]
            assert answers == [200, 429]

    play(scene)


@pytest.mark.parametrize("per_s", [1_000, 10])
def test_the_built_in_rate_is_a_rate_like_any_other_where_the_setting_is_another(per_s: int) -> None:
    usual = topic_settings.usual_with(10_000, 8_000, per_s)

    async def scene(world: World) -> None:
        world.owner.usual = usual
        made = await world.create("t")
        assert made["settings"]["rate_limit"] == {"per_s": per_s, "burst": 2 * per_s}
        built_in = {"per_s": 100, "burst": 200}
        changed = (await patch(world, {"settings": {"rate_limit": built_in}})).json()
        assert changed["settings"]["rate_limit"] == built_in
        world.owner.catch_up()
        assert world.owner.row("t").settings == {"rate_limit": built_in}, "what the owner applies"
        answer = await world.publish("t", token=world.token("bo"), payload=1)
        assert b'"topic";q=200;w=2' in answer.headers["ratelimit-policy"].encode()
        changed = (await patch(world, {"settings": {"rate_limit": {"per_s": 50}}})).json()
        assert changed["settings"]["rate_limit"] == {"per_s": 50, "burst": 2 * per_s}
        await patch(world, {"settings": {"rate_limit": None}})
        world.owner.catch_up()
        assert world.owner.row("t").settings == {}
        answer = await world.publish("t", token=world.token("bo"), payload=1)
        assert f'"topic";q={2 * per_s};w=2' in answer.headers["ratelimit-policy"]
        direct = (await world.call("POST", "/api/v1/direct", json={"user_id": "bo"})).json()
        assert direct["settings"] == made["settings"]

    play(scene, usual=usual, rates=RateLimits(publish_per_topic_per_s=per_s))


@pytest.mark.parametrize(
    ("body", "status", "code", "named"),
    [
        ([], 400, "bad_request", "the body"),
        ({"name": None}, 400, "bad_request", "name"),
        ({"name": ""}, 400, "bad_request", "name"),
        ({"name": "x" * 257}, 400, "bad_request", "name"),
        ({"permissions": None}, 400, "bad_request", "permissions"),
        ({"permissions": "OPEN"}, 400, "bad_request", "permissions"),
        ({"permissions": ["PUBLIC"]}, 400, "bad_request", "permissions"),
        ({"settings": None}, 400, "bad_request", "settings"),
        ({"settings": []}, 400, "bad_request", "settings"),
        ({"settings": {"colour": 1}}, 400, "bad_request", "settings.colour"),
        ({"settings": {"presence": "x"}}, 400, "bad_request", "settings.presence"),
        ({"settings": {"hot_enter": 8_000}}, 400, "bad_request", "settings.hot_exit must be below settings.hot_enter"),
        ({"settings": {"hot_exit": 10_000}}, 400, "bad_request", "settings.hot_exit must be below"),
        ({"settings": {"paced_above": 0}}, 400, "bad_request", "settings.paced_above"),
        ({"settings": {"on_slow": "conflate"}}, 400, "bad_request", "settings.on_slow"),
        ({"settings": {"profile": "ephemeral"}}, 422, "immutable", "settings.profile"),
        ({"name": "new", "settings": {"colour": 1}}, 400, "bad_request", "settings.colour"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(body: Any, status: int, code: str, named: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        records = world.metrics.records
        assert problem(await patch(world, body), status, code)["detail"].startswith(named)
        assert (world.metrics.records, version_of(world)) == (records, 0)

    play(scene)


def test_a_profile_may_be_named_again_and_not_restored() -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings={"profile": "ephemeral"})
        assert (await patch(world, {"settings": {"profile": "ephemeral", "on_slow": "conflate"}})).status_code == 200
        problem(await patch(world, {"settings": {"profile": None}}), 422, "immutable")

    play(scene)


def test_only_admins_change_a_topic() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        for role, status in (("member", 403), ("publisher", 403), ("admin", 200), ("owner", 200)):
            await world.call("PUT", f"{T}/members/{role}", json={"role": role})
            answer = await patch(world, {"name": role}, world.token(role))
            assert answer.status_code == status
        problem(await patch(world, {"name": 5}, world.token("eve")), 403, "forbidden")
        assert (await patch(world, {"name": "n"}, world.token("eve", admin=True))).status_code == 200
        problem(await patch(world, {"name": "n"}, world.token("eve", admin=True, only=True)), 403, "forbidden")

    play(scene)


def between(world: World, changes: list[dict[str, Any]]) -> None:
    """Before each of the next records, another change is in the log."""
    append = world.ingest._appender.append

    def late(shard: int, key: bytes | None, value: bytes | None) -> "asyncio.Future[Any]":
        if not changes:
            return append(shard, key, value)
        row = world.owner.row("t")
        actor = actor_of(Caller("root", admin=True), "t")
        record = UpdateTopic("t", version_of(world), actor, **changes.pop(0))
        name = topic_key("t")
        both = [
            append(shard, name, encode_control(encode_body(record), row.epoch, random_id(name, world.rng.entropy(12)))),
            append(shard, key, value),
        ]
        return both[1]

    world.ingest._appender.append = late  # type: ignore[method-assign]


def test_a_change_that_came_between_is_merged_and_not_lost() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        between(world, [{"settings": {"presence": "none"}}, {"name": "other"}])
        changed = (await patch(world, {"settings": {"retention_messages": 5}})).json()
        assert changed["name"] == "other"
        assert (changed["settings"]["presence"], changed["settings"]["retention_messages"]) == ("none", 5)
        assert version_of(world) == 3

    play(scene)


def test_behind_changes_without_end_it_is_503_and_nothing_is_changed() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        between(world, [{"name": str(at)} for at in range(topic_updates.TRIES)])
        problem(await patch(world, {"permissions": "PRIVATE"}), 503, "overloaded")
        assert (await world.call("GET", T)).json()["permissions"] == "PUBLIC"

    play(scene)


def test_in_a_storm_of_changes_through_two_ingests_each_is_made() -> None:
    async def scene(world: World) -> None:
        other, log, _, metrics = world.another()
        await log.open()
        await world.create("t")
        async with world.client_of(other) as client:
            headers = {"Authorization": f"Bearer {world.token(service=True)}"}
            calls = []
            for n in range(60):
                body = (
                    {"settings": {"retention_messages": 1_000 + n}},
                    {"permissions": MODES[n % 2]},
                    {"name": str(n)},
                )
                change = patch(world, body[n % 3]) if n % 2 else client.patch(T, json=body[n % 3], headers=headers)
                calls.append(change)
            answers = await asyncio.gather(*calls)
        assert [answer.status_code for answer in answers] == [200] * 60
        assert version_of(world) > 40, "each but those that asked for what was there"
        assert world.metrics.records + metrics.records <= 150, "changes through one ingest do not make each other void"

    play(scene)


def test_a_change_waits_at_most_seven_seconds_for_those_before_it() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        ask = world.directory.ask

        def silent(shard: int, build: Any) -> Any:
            return asyncio.get_running_loop().create_future() if isinstance(build(0), AskVerdict) else ask(shard, build)

        world.directory.ask = silent  # type: ignore[method-assign]
        first = asyncio.ensure_future(patch(world, {"name": "first"}))
        await asyncio.sleep(1)
        world.directory.ask = ask  # type: ignore[method-assign]
        began = world.clock.now()
        second = await patch(world, {"name": "second"})
        assert (second.status_code, second.json()["name"]) == (200, "second")
        assert 5.5 < world.clock.now() - began < 6.5
        problem(await first, 504, "outcome_unknown")

    play(scene)


def test_a_repeat_after_504_changes_nothing_again() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        ask = world.directory.ask

        def silent(shard: int, build: Any) -> Any:
            return asyncio.get_running_loop().create_future() if isinstance(build(0), AskVerdict) else ask(shard, build)

        key = {"Idempotency-Key": "k"}
        world.directory.ask = silent  # type: ignore[method-assign]
        problem(await patch(world, {"name": "first"}, headers=key), 504, "outcome_unknown")
        world.directory.ask = ask  # type: ignore[method-assign]
        await patch(world, {"name": "second"})
        assert (await patch(world, {"name": "first"}, headers=key)).json()["name"] == "second"
        assert version_of(world) == 2
        problem(await patch(world, {"name": "n"}, headers={"Idempotency-Key": "x" * 129}), 400, "bad_request")

    play(scene)


def test_a_retention_above_the_logs_is_refused_and_names_it() -> None:
    async def scene(world: World) -> None:
        too_long = {"retention_ms": 60_001}
        refused = await world.call("POST", "/api/v1/topics", json={"name": "n", "topic_id": "t", "settings": too_long})
        assert "60000" in problem(refused, 400, "bad_request")["detail"]
        await world.create("t", settings={"retention_ms": 60_000})
        assert "60000" in problem(await patch(world, {"settings": too_long}), 400, "bad_request")["detail"]
        assert (await patch(world, {"settings": {"retention_ms": 59_999}})).json()["settings"]["retention_ms"] == 59_999
        for others in ({"retention_ms": 60_000}, {"retention_ms": None}, {"presence": "none"}):
            assert (await patch(world, {"settings": others})).status_code == 200
        assert version_of(world) == 4

    play(scene, kept_ms=60_000)


def test_another_body_under_a_key_is_a_conflict() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        key = {"Idempotency-Key": "k"}
        body = {"name": "n", "settings": {"retention_messages": 5, "retention_ms": 9}}
        assert (await patch(world, body, headers=key)).status_code == 200
        same = {"settings": {"retention_ms": 9, "retention_messages": 5}, "name": "n", "unknown": 1}
        assert (await patch(world, same, headers=key)).status_code == 200
        for other in (
            {"name": "m"},
            {"name": "n"},
            {"settings": body["settings"]},
            {},
            {**body, "permissions": "PUBLIC"},
        ):
            problem(await patch(world, other, headers=key), 422, "idempotency_conflict")
        problem(await patch(world, {"name": 5}, headers=key), 400, "bad_request")
        bo = world.token("bo", admin=True)
        assert (await patch(world, {"name": "m"}, bo, headers=key)).status_code == 200, "a key belongs to a user"
        assert version_of(world) == 2

    play(scene)


def test_what_was_not_handed_to_the_log_is_not_the_first_of_its_key() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        key = {"Idempotency-Key": "k"}
        world.log.reach = Reach.REFUSED
        problem(await patch(world, {"name": "a"}, headers=key), 503, "log_unavailable")
        world.log.reach = Reach.SILENT
        problem(await patch(world, {"name": "b"}, headers=key), 504, "outcome_unknown")
        problem(await patch(world, {"name": "c"}, headers=key), 422, "idempotency_conflict")

    play(scene)


def test_the_topic_is_answered_where_its_owner_goes_away_behind_the_verdict() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        verdicts = world.ingest._owners.verdicts

        async def last(shard: int, offset: int, deadline: float) -> Any:
            found = await verdicts(shard, offset, deadline)
            world.directory.up = False
            return found

        world.ingest._owners.verdicts = last  # type: ignore[method-assign]
        changed = (await patch(world, {"name": "n", "settings": {"retention_messages": 5}})).json()
        assert (changed["name"], changed["settings"]["retention_messages"]) == ("n", 5)
        problem(await patch(world, {"name": "m"}), 503, "not_ready")

    play(scene)


def test_changes_take_the_rate_of_creations() -> None:
    async def scene(world: World) -> None:
        ana = world.token("ana")
        await world.create("t")
        for at in range(60):
            assert (await patch(world, {"name": str(at)}, ana)).status_code == 200
        problem(await patch(world, {"name": "n"}, ana), 429, "rate_limited")
        problem(await patch(world, {"name": 7}, ana), 400, "bad_request")

    play(scene)
