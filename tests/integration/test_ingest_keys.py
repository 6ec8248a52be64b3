"""Idempotency-Key on control operations: what a repeat is answered, what another body is, what a 504 leaves open."""

import asyncio
from typing import Any

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import id_text
from headgate.core.wire.link import AskVerdict
from headgate.core.wire.link_dead_letters import ChangeDeadLetter, DeadLetterChanged
from headgate.core.wire.link_stats import FlushTopic
from headgate.core.wire.link_users import EndSubscriptions
from headgate.runtime.links.port import Unanswered
from ingest.keyed_operations import KEEP_S
from tests.integration.ingest_twin import World, play, problem

TOPICS, DIRECT = "/api/v1/topics", "/api/v1/direct"
T, SUBSCRIBE, FLUSH = f"{TOPICS}/t", f"{TOPICS}/t/subscribe", f"{TOPICS}/t/flush"
LETTER = f"/api/v1/dead-letters/{id_text(bytes(16))}"
TICKETS, REVOCATIONS = "/api/v1/tickets", "/api/v1/revocations"
KEY: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}
BY_OWNER = [
    ("POST", FLUSH, FlushTopic),
    ("DELETE", SUBSCRIBE, EndSubscriptions),
    ("DELETE", LETTER, ChangeDeadLetter),
    ("POST", f"{LETTER}/replay", ChangeDeadLetter),
]


def silence(world: World, kind: type[Any]) -> None:
    """From now on questions of this kind are carried out, and never answered."""
    ask = world.directory.ask

    def asked(shard: int, build: Any) -> Any:
        if not isinstance(build(0), kind):
            return ask(shard, build)
        ask(shard, build).add_done_callback(lambda done: done.exception())
        return asyncio.get_running_loop().create_future()

    world.directory.ask = asked  # type: ignore[method-assign]


def hear(world: World) -> None:
    del world.directory.ask


class Letters:
    """One dead letter at the owner."""

    def __init__(self, world: World) -> None:
        self.asked: list[ChangeDeadLetter] = []
        self.is_there = True
        world.owner._ChangeDeadLetter = self.change  # type: ignore[attr-defined]

    def change(self, ask: ChangeDeadLetter) -> Any:
        self.asked.append(ask)
        if not self.is_there:
            raise Refusal("not_found", "there is no dead letter")
        self.is_there = not ask.purge
        return DeadLetterChanged(ask.req, "t")


@pytest.mark.parametrize(("method", "path", "kind"), BY_OWNER)
@pytest.mark.parametrize("how", ["silent", "lost", "away"])
def test_what_an_owner_was_asked_to_do_may_be_done(method: str, path: str, kind: type[Any], how: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        Letters(world)
        if how == "lost":
            setattr(world.owner, f"_{kind.__name__}", lambda ask: Unanswered(ask.req, "not_ready", "the link was lost"))
        elif how == "silent":
            silence(world, kind)
        else:
            world.directory.up = False
        started = world.clock.now()
        answer = await world.call(method, path)
        problem(answer, *((503, "not_ready") if how == "away" else (504, "outcome_unknown")))
        assert world.clock.now() - started <= 7

    play(scene)


@pytest.mark.parametrize("path", [T, f"{T}/members/bo"])
def test_a_removal_that_ended_in_504_and_was_done_is_repeated_as_204(path: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        await world.call("PUT", f"{T}/members/bo", json={"role": "member"})
        token = world.token("bo", ttl_s=2 * KEEP_S) if "members" in path else ""
        silence(world, AskVerdict)
        problem(await world.call("DELETE", path, token, **KEY), 504, "outcome_unknown")
        hear(world)
        problem(await world.call("DELETE", path, token), 404, "topic_not_found")
        other = {"headers": {"Idempotency-Key": "other"}}
        problem(await world.call("DELETE", path, token, **other), 404, "topic_not_found")
        for _ in range(2):
            assert (await world.call("DELETE", path, token, **KEY)).status_code == 204
        world.clock.virtual.now += KEEP_S
        problem(await world.call("DELETE", path, token, **KEY), 404, "topic_not_found")

    play(scene)


def test_a_removal_of_another_by_one_who_is_put_out_meanwhile_is_not_said_to_be_done() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        for user in ("bo", "cy"):
            await world.call("PUT", f"{T}/members/{user}", json={"role": "admin"})
        silence(world, AskVerdict)
        problem(await world.call("DELETE", f"{T}/members/cy", world.token("bo"), **KEY), 504, "outcome_unknown")
        hear(world)
        await world.call("DELETE", f"{T}/members/bo")
        problem(await world.call("DELETE", f"{T}/members/cy", world.token("bo"), **KEY), 404, "topic_not_found")

    play(scene)


def test_the_key_of_a_deletion_deletes_the_topic_that_was_made_again() -> None:
    async def scene(world: World) -> None:
        for _ in range(2):
            await world.create("t")
            for _ in range(2):
                assert (await world.call("DELETE", T, **KEY)).status_code == 204
            problem(await world.call("GET", T), 404, "topic_not_found")

    play(scene)


def test_a_repeat_of_a_creation_shows_one_who_was_put_out_what_he_made() -> None:
    async def scene(world: World) -> None:
        bo, body = world.token("bo"), {"topic_id": "t", "name": "n", "permissions": "PRIVATE"}
        made = (await world.call("POST", TOPICS, bo, json=body, **KEY)).json()
        await world.call("PATCH", T, bo, json={"name": "known to him"})
        again = (await world.call("POST", TOPICS, bo, json=body, **KEY)).json()
        assert again == {**made, "name": "known to him"}
        await world.call("PUT", f"{T}/members/cy", bo, json={"role": "owner"})
        await world.call("DELETE", f"{T}/members/bo", world.token("cy"))
        await world.call("PATCH", T, world.token("cy"), json={"name": "secret"})
        repeated = await world.call("POST", TOPICS, bo, json=body, **KEY)
        assert repeated.status_code == 201
        shown = repeated.json()
        assert (shown["name"], shown["epoch"], shown["owner_id"]) == ("n", made["epoch"], "bo")
        problem(await world.call("GET", T, bo), 404, "topic_not_found")

    play(scene)


def test_a_key_belongs_to_the_user_and_the_topic_that_is_created() -> None:
    async def scene(world: World) -> None:
        body = {"topic_id": "a", "name": "n"}
        bo = world.token("bo")
        for _ in range(2):
            assert (await world.call("POST", TOPICS, json=body, **KEY)).status_code == 201
            problem(await world.call("POST", TOPICS, json={**body, "name": "m"}, **KEY), 422, "idempotency_conflict")
            assert (await world.call("POST", TOPICS, json={**body, "topic_id": "b"}, **KEY)).status_code == 201
            assert (await world.call("POST", TOPICS, bo, json={**body, "topic_id": "c"}, **KEY)).status_code == 201
            assert (await world.call("POST", TOPICS, json={"name": "n"}, **KEY)).status_code == 201
            problem(await world.call("POST", TOPICS, json={"name": "m"}, **KEY), 422, "idempotency_conflict")
            for user in ("bo", "cy"):
                assert (await world.call("POST", DIRECT, json={"user_id": user}, **KEY)).status_code == 201

    play(scene)


@pytest.mark.parametrize("key", ["", "\x7f", "x" * 129])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        *[(method, path, None) for method, path, _ in BY_OWNER],
        ("DELETE", T, None),
        ("DELETE", f"{T}/members/bo", None),
        ("POST", TOPICS, {"name": "n"}),
        ("POST", DIRECT, {"user_id": "bo"}),
        ("POST", TICKETS, {}),
        ("POST", TICKETS, {"kind": "stream", "topic_ids": ["t"]}),
        ("POST", REVOCATIONS, {"user_id": "bo"}),
    ],
)
def test_a_key_that_is_none_is_named(method: str, path: str, body: Any, key: str) -> None:
    async def scene(world: World) -> None:
        await world.create("t")
        Letters(world)
        records, token = world.metrics.records, world.token(admin=True)
        answer = await world.call(method, path, token, json=body, headers={"Idempotency-Key": key})
        assert "Idempotency-Key" in problem(answer, 400, "bad_request")["detail"]
        assert world.metrics.records == records

    play(scene)


@pytest.mark.parametrize(("method", "path", "status"), [("DELETE", LETTER, 204), ("POST", f"{LETTER}/replay", 202)])
def test_a_dead_letter_is_changed_once_for_a_key(method: str, path: str, status: int) -> None:
    async def scene(world: World) -> None:
        letters = Letters(world)
        await world.create("t")
        answers = [await world.call(method, path, **KEY) for _ in range(2)]
        assert [(answer.status_code, answer.content) for answer in answers] == [(status, answers[0].content)] * 2
        assert len(letters.asked) == 1
        await world.call(method, path)
        assert len(letters.asked) == 2

    play(scene)


def test_a_purge_that_ended_in_504_and_was_done_is_repeated_as_204() -> None:
    async def scene(world: World) -> None:
        Letters(world)
        await world.create("t")
        silence(world, ChangeDeadLetter)
        problem(await world.call("DELETE", LETTER, **KEY), 504, "outcome_unknown")
        hear(world)
        problem(await world.call("DELETE", LETTER), 404, "not_found")
        problem(await world.call("POST", f"{LETTER}/replay", **KEY), 404, "not_found")
        for _ in range(2):
            assert (await world.call("DELETE", LETTER, **KEY)).status_code == 204

    play(scene)


def test_another_ticket_under_a_key_is_a_conflict_and_the_same_is_made_anew() -> None:
    async def scene(world: World) -> None:
        stream = {"kind": "stream", "topic_ids": ["t"]}
        made = [await world.call("POST", TICKETS, json=stream, **KEY) for _ in range(2)]
        assert [answer.status_code for answer in made] == [200, 200]
        assert made[0].json()["ticket"] != made[1].json()["ticket"]
        for body in ({}, {**stream, "ttl_s": 9}, {**stream, "topic_ids": ["u"]}):
            problem(await world.call("POST", TICKETS, json=body, **KEY), 422, "idempotency_conflict")

    play(scene)


def test_a_repeated_revocation_spares_the_tokens_that_were_issued_since() -> None:
    async def scene(world: World) -> None:
        admin, body = world.token("root", admin=True), {"user_id": "bo"}
        assert (await world.call("POST", REVOCATIONS, admin, json=body, **KEY)).status_code == 204
        world.clock.virtual.now += 5
        late = world.token("bo")
        assert (await world.call("POST", REVOCATIONS, admin, json=body, **KEY)).status_code == 204
        assert (await world.call("GET", TOPICS, late)).status_code == 200
        for other in ({"user_id": "cy"}, {**body, "not_before": world.clock.wall_ms()}):
            problem(await world.call("POST", REVOCATIONS, admin, json=other, **KEY), 422, "idempotency_conflict")
        world.clock.virtual.now += 5
        assert (await world.call("POST", REVOCATIONS, admin, json=body)).status_code == 204
        problem(await world.call("GET", TOPICS, late), 401, "unauthenticated")

    play(scene)
