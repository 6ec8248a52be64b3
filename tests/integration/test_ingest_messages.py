"""Single messages over HTTP: shown, edited, redacted, reacted to, replied to; one record for each change, or none."""

import asyncio
import json
from typing import Any

import pytest

from headgate.core.wire.envelope import KEYED, UNMETERED, Kind, decode, is_ours
from headgate.core.wire.link import AskTopic
from headgate.core.wire.link_messages import AskMessage
from headgate.core.wire.records import LogName
from headgate.runtime.testing.faulty_log import Reach
from ingest.controls import Controls
from ingest.rates import RateLimits
from tests.integration.ingest_twin import World, play, problem

NOBODY = "00000000-0000-8000-8000-000000000000"


def path(message_id: str, rest: str = "") -> str:
    return f"/api/v1/topics/t/messages/{message_id}{rest}"


def records(world: World) -> int:
    return sum(part.end - part.first for (log, _), part in world.store.parts.items() if log is LogName.MESSAGES)


async def published(world: World, token: str = "", **body: Any) -> str:
    answer = await world.publish("t", token, **{"payload": 1, **body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["message_id"])


async def edit(world: World, message_id: str, payload: Any, version: int, token: str = "", key: str = "") -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"payload": payload, "version": version}
    return await world.call("PATCH", path(message_id), token, json=body, headers=headers)


async def versions_of(world: World, message_id: str) -> list[tuple[int, Any]]:
    shown = (await world.call("GET", path(message_id, "?versions=true"))).json()
    return [(version["version"], version["payload"]) for version in shown["versions"]]


def test_an_edit_answers_with_the_message_as_it_is_now() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = await published(world, payload={"a": 1}, attachments=[{"url": "u"}])
        answer = (await edit(world, message_id, {"b": 2}, 1)).json()
        shown = (await world.call("GET", path(message_id))).json()
        assert answer == {**shown, "event_seq": 2}
        assert (shown["payload"], shown["version"], shown["seq"]) == ({"b": 2}, 2, 1)
        assert shown["attachments"] == [{"url": "u"}]
        event = world.owner.messages("t")[1]
        assert (event["kind"], event["target_seq"], event["payload"]) == ("edit", 1, {"b": 2})
        assert await versions_of(world, message_id) == [(1, {"a": 1}), (2, {"b": 2})]

    play(scene)


def test_of_two_edits_of_one_version_the_log_takes_one() -> None:
    """Both are decided against version 1; the second loses when it is applied, not before."""

    async def scene(world: World) -> None:
        await world.create("t")
        message_id = await published(world)
        other, log, _, _ = world.another()
        await log.open()
        async with world.client_of(other) as client:
            headers = {"Authorization": f"Bearer {world.token(service=True)}"}
            world.log.latency = log.latency = lambda log, shard: 0.05
            one, two = await asyncio.gather(
                edit(world, message_id, "one", 1),
                client.patch(path(message_id), json={"payload": "two", "version": 1}, headers=headers),
            )
        assert sorted((one.status_code, two.status_code)) == [200, 409]
        lost = one if one.status_code == 409 else two
        assert problem(lost, 409, "version_conflict")["version"] == 2
        assert len(await versions_of(world, message_id)) == 2

    play(scene)


def test_a_repeat_with_its_key_finds_the_first_result() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = await published(world)
        first = (await edit(world, message_id, "a", 1, key="k")).json()
        assert first["event_seq"] == 2
        assert (await edit(world, message_id, "a", 1, key="k")).json() == first
        await edit(world, message_id, "b", 2)
        late = (await edit(world, message_id, "a", 1, key="k")).json()
        assert (late["payload"], late["version"], late["event_seq"]) == ("b", 3, 2)
        problem(await edit(world, message_id, "a", 1, key="another"), 409, "version_conflict")
        before = records(world)
        problem(await edit(world, message_id, "a", 1), 409, "version_conflict")
        problem(await edit(world, message_id, "a", 9), 409, "version_conflict")
        assert records(world) == before, "what is a conflict already is not written"
        assert await versions_of(world, message_id) == [(1, 1), (2, "a"), (3, "b")]

    play(scene)


def test_a_redaction_is_final_and_its_repeat_writes_nothing() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = await published(world, payload="secret")
        await edit(world, message_id, "secret", 1)
        assert (await world.call("DELETE", path(message_id))).status_code == 204
        before = records(world)
        again = await world.call("DELETE", path(message_id))
        assert (again.status_code, again.content, records(world)) == (204, b"", before)
        shown = await world.call("GET", path(message_id, "?versions=true"))
        assert "secret" not in shown.text
        assert (shown.json()["payload"], shown.json()["redacted"]) == (None, True)
        problem(await edit(world, message_id, 2, 2), 409, "version_conflict")
        problem(await world.call("PUT", path(message_id, "/reactions/x")), 422, "immutable")
        assert records(world) == before
        problem(await edit(world, message_id, 2, 2, key="k"), 409, "version_conflict")

    play(scene)


def test_reactions_are_a_set() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = await published(world)
        bo = world.token("bo")
        for token in ("", bo):
            assert (await world.call("PUT", path(message_id, "/reactions/%2B1"), token)).status_code == 204
        before = records(world)
        assert (await world.call("PUT", path(message_id, "/reactions/%2B1"), bo)).status_code == 204
        assert (await world.call("DELETE", path(message_id, "/reactions/x"), bo)).status_code == 204
        assert records(world) == before
        assert (await world.call("GET", path(message_id))).json()["reactions"] == {"+1": 2}
        assert (await world.call("DELETE", path(message_id, "/reactions/%2B1"), bo)).status_code == 204
        assert (await world.call("GET", path(message_id))).json()["reactions"] == {"+1": 1}

    play(scene)


def test_a_message_has_at_most_fifty_names() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = await published(world)
        for number in range(50):
            assert (await world.call("PUT", path(message_id, f"/reactions/{number}"))).status_code == 204
        problem(await world.call("PUT", path(message_id, "/reactions/50")), 429, "limit_reached")
        assert (await world.call("PUT", path(message_id, "/reactions/49"), world.token("bo"))).status_code == 204

    play(scene)


def test_who_may_change_a_message() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        ana, bo, cy = world.token("ana"), world.token("bo"), world.token("cy")
        message_id = await published(world, bo)
        for token in (ana, cy):
            problem(await edit(world, message_id, 2, 1, token), 403, "forbidden")
        problem(await world.call("DELETE", path(message_id), cy), 403, "forbidden")
        assert (await edit(world, message_id, 2, 1, bo)).status_code == 200
        assert (await world.call("DELETE", path(message_id), ana)).status_code == 204
        problem(await world.call("GET", path(NOBODY)), 404, "message_not_found")
        problem(await world.call("GET", path("x")), 400, "bad_request")

    play(scene)


def test_a_right_that_is_lost_meanwhile_is_decided_by_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner lets the question pass, and the member is put out before the record is written."""

    async def scene(world: World) -> None:
        await world.create("t", permissions="SUBSCRIBE_ONLY")
        await world.call("PUT", "/api/v1/topics/t/members/bo", json={"role": "member"})
        bo = world.token("bo")
        message_id = await published(world, bo)
        append = Controls.decide_event

        async def put_out_first(self: Any, topic_id: str, event: bytes, keyed: Any) -> Any:
            await world.call("DELETE", "/api/v1/topics/t/members/bo")
            return await append(self, topic_id, event, keyed)

        monkeypatch.setattr(Controls, "decide_event", put_out_first)
        problem(await edit(world, message_id, 2, 1, bo), 403, "forbidden")
        assert [frame["payload"] for frame in world.owner.messages("t")] == [1]

    play(scene)


def test_an_owner_that_is_away() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = await published(world)
        world.directory.up = False
        before = records(world)
        for answer in (
            await edit(world, message_id, 2, 1),
            await world.call("DELETE", path(message_id)),
            await world.call("PUT", path(message_id, "/reactions/x")),
            await world.call("GET", path(message_id)),
        ):
            problem(answer, 503, "not_ready")
        assert records(world) == before
        world.directory.up = True
        world.log.reach = Reach.SILENT
        problem(await edit(world, message_id, 2, 1), 504, "outcome_unknown")
        world.log.reach = Reach.REFUSED
        problem(await edit(world, message_id, 2, 1), 503, "log_unavailable")

    play(scene)


def test_a_change_counts_as_a_publish() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        bo = world.token("bo")
        message_id = await published(world, bo)
        changed = await edit(world, message_id, 2, 1, bo)
        assert changed.headers["ratelimit"].startswith('"user";r=1;')
        assert '"topic"' in changed.headers["ratelimit"]
        reacted = await world.call("PUT", path(message_id, "/reactions/x"), bo)
        assert (reacted.status_code, reacted.headers["ratelimit"].partition(";t=")[0]) == (204, '"user";r=0')
        for refused in (
            await edit(world, message_id, 3, 2, bo),
            await world.call("DELETE", path(message_id), bo),
            await world.call("DELETE", path(message_id, "/reactions/x"), bo),
        ):
            problem(refused, 429, "rate_limited")
            assert refused.headers["ratelimit"].startswith('"user";r=0;')
        assert await versions_of(world, message_id) == [(1, 1), (2, 2)]

    play(scene, rates=RateLimits(publish_per_user_per_min=3))


def test_a_message_that_is_shown_costs_a_read() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id, bo = await published(world), world.token("bo")
        assert (await world.call("GET", path(message_id), bo)).status_code == 200
        problem(await world.call("GET", path(message_id), bo), 429, "rate_limited")

    play(scene, rates=RateLimits(reads_per_user_per_min=1))


def test_the_record_of_a_change_says_whether_it_may_be_repeated_and_whether_it_counts() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        bo = world.token("bo")
        mine, his = await published(world), await published(world, bo)
        await edit(world, mine, 2, 1)
        await edit(world, mine, 3, 2, key="k")
        await edit(world, his, 2, 1, bo)
        await edit(world, his, 3, 2, bo, key="k")
        parts = [part for (log, _), part in world.store.parts.items() if log is LogName.MESSAGES]
        values = [record.value or b"" for part in parts for record in part.slice(part.first, 1_000).records]
        found = [decode(value) for value in values if is_ours(value)]
        flags = [record.flags for record in found if record.kind is Kind.EVENT]
        assert flags == [UNMETERED, KEYED | UNMETERED, 0, KEYED]

    play(scene)


def test_an_older_dispatcher_takes_no_changes() -> None:
    async def scene(world: World) -> None:
        world.owner.logic = 2
        await world.create("t")
        message_id = await published(world)
        for answer in (await edit(world, message_id, 2, 1), await world.call("DELETE", path(message_id))):
            assert "upgraded" in problem(answer, 503, "not_ready")["detail"]

    play(scene)


def test_a_reply_names_a_message_of_the_topic() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.create("u")
        parent = await published(world)
        assert not [ask for ask in world.directory.asked if isinstance(ask, AskMessage)]
        await published(world, parent_message_id=parent)
        problem(await world.publish("t", payload=1, parent_message_id=NOBODY), 404, "message_not_found")
        problem(await world.publish("u", payload=1, parent_message_id=parent), 404, "message_not_found")
        frames = world.owner.messages("t")
        assert [frame.get("parent_message_id") for frame in frames] == [None, parent]
        assert [deliver.reply for deliver in world.owner.frames["t"]] == [False, True]

    play(scene)


def test_a_reply_does_not_make_its_topic() -> None:
    async def scene(world: World) -> None:
        problem(await world.publish("t", payload=1, parent_message_id=NOBODY), 404, "message_not_found")
        items = [{"topic_id": "t", "payload": 1, "parent_message_id": NOBODY}]
        (result,) = (await world.call("POST", "/api/v1/publish/batch", json=items)).json()["results"]
        assert result["code"] == "topic_not_found"
        problem(await world.call("POST", "/api/v1/topics/t/publish/batch", json=items), 404, "topic_not_found")
        problem(await world.call("GET", "/api/v1/topics/t"), 404, "topic_not_found")

    play(scene, auto_create=True)


def test_a_repeated_reply_is_answered_from_memory_with_the_owner_away() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        parent = await published(world)
        reply: dict[str, Any] = {"payload": 2, "parent_message_id": parent, "client_msg_id": "c"}
        first = await world.publish("t", **reply)
        world.directory.up = False
        again = await world.publish("t", **reply)
        assert (again.status_code, again.json()["message_id"]) == (200, first.json()["message_id"])
        problem(await world.publish("t", **{**reply, "client_msg_id": "d"}), 503, "not_ready")
        problem(await world.publish("t", **{**reply, "payload": 3}), 422, "idempotency_conflict")

    play(scene)


def test_an_ephemeral_topic_keeps_no_parent_to_look_for() -> None:
    async def scene(world: World) -> None:
        await world.create("t", settings={"profile": "ephemeral"})
        await published(world, parent_message_id=NOBODY)
        assert json.loads(world.owner.relayed[0])["parent_message_id"] == NOBODY
        problem(await world.call("GET", path(NOBODY)), 422, "not_in_profile")

    play(scene)


def test_the_parents_of_a_batch_are_asked_for_once_each_and_one_bad_one_harms_no_other() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        await world.create("u")
        parents = [await published(world) for _ in range(120)]
        items = [{"topic_id": "t", "payload": 1, "parent_message_id": parent} for parent in [*parents, *parents]]
        items.insert(7, {"topic_id": "t", "payload": 1, "parent_message_id": NOBODY})
        items.insert(9, {"topic_id": "u", "payload": 1, "parent_message_id": parents[0]})
        items.append({"topic_id": "u", "payload": "no reply"})
        world.directory.asked.clear()
        results = (await world.call("POST", "/api/v1/publish/batch", json=items)).json()["results"]
        bad = [at for at, result in enumerate(results) if result["status"] != 200]
        assert (bad, {results[at]["code"] for at in bad}) == ([7, 9], {"message_not_found"})
        assert sum(isinstance(ask, AskMessage) for ask in world.directory.asked) == 122
        assert len(world.owner.messages("t")) == 360

    play(scene)


def test_the_parents_of_a_batch_wait_three_seconds_in_all_for_a_silent_owner() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        parents = [await published(world) for _ in range(250)]
        items = [{"payload": 1, "parent_message_id": parent} for parent in parents]
        answer = world.directory._ask

        def silent(request: Any, on_answer: Any) -> None:
            if not isinstance(request, AskMessage):
                answer(request, on_answer)

        world.directory._ask = silent  # type: ignore[method-assign]
        started = world.clock.now()
        batch = await world.call("POST", "/api/v1/topics/t/publish/batch", json=[*items, {"payload": 2}])
        assert world.clock.now() - started < 4
        results = batch.json()["results"]
        assert {result.get("code") for result in results[:-1]} == {"not_ready"}
        assert results[-1]["status"] == 200

    play(scene)


def test_two_devices_one_after_the_other_keep_their_order_over_two_ingests() -> None:
    """The second publishes after the first has its answer; what is sent at once may come in either order."""

    async def scene(world: World) -> None:
        await world.create("t")
        other, log, _, _ = world.another()
        await log.open()
        headers = {"Authorization": f"Bearer {world.token(service=True)}"}
        async with world.client_of(other) as client:
            for number in range(20):
                await published(world, payload=2 * number)
                answer = await client.post(
                    "/api/v1/topics/t/publish", json={"payload": 2 * number + 1}, headers=headers
                )
                assert answer.status_code == 200
        assert [frame["payload"] for frame in world.owner.messages("t")] == list(range(40))

    play(scene)


def test_a_change_of_a_known_message_asks_its_owner_twice_at_most() -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        message_id = await published(world)
        world.directory.asked.clear()
        await world.call("PUT", path(message_id, "/reactions/x"))
        asked = [type(ask).__name__ for ask in world.directory.asked]
        assert asked == ["AskMessage", "AskVerdict"]
        assert AskTopic.__name__ not in asked

    play(scene)
