"""POST /api/v1/revocations: who may, what is written, and that it is obeyed at once."""

import asyncio
from typing import Any

import pytest
import structlog

from headgate.core.wire.link_users import Revocation, Revocations
from headgate.core.wire.records import LogName
from headgate.core.wire.revoked_tokens import read_record
from headgate.runtime.testing.faulty_log import Reach
from ingest.revocation_endpoint import TOLD_S, TRIES, RevocationEndpoint
from tests.integration.ingest_twin import World, play, problem

PATH = "/api/v1/revocations"
TOPICS = "/api/v1/topics"


def written(world: World) -> list[tuple[bytes | None, Revocation]]:
    part = world.store.parts[LogName.REVOCATIONS, 0]
    records = part.slice(part.first, 1_000).records
    return [(record.key, read_record(record.value or b"")) for record in records]


async def revoke(world: World, **body: Any) -> int:
    return (await world.call("POST", PATH, world.token("root", admin=True), json=body)).status_code


@pytest.mark.parametrize(
    ("body", "key", "revocation"),
    [
        ({"user_id": "bob"}, b"user:bob", Revocation("bob", "", 0)),
        ({"jti": "t1"}, b"jti:t1", Revocation("", "t1", 0)),
        ({"user_id": "bob", "not_before": 5}, b"user:bob", Revocation("bob", "", 5)),
        ({"user_id": "bob", "jti": None, "not_before": None}, b"user:bob", Revocation("bob", "", 0)),
    ],
)
def test_it_is_written_under_a_key_of_its_name(body: dict[str, Any], key: bytes, revocation: Revocation) -> None:
    async def scene(world: World) -> None:
        now_ms = world.clock.wall_ms()
        assert await revoke(world, **body) == 204
        ((found_key, found),) = written(world)
        assert found_key == key and (found.user_id, found.jti) == (revocation.user_id, revocation.jti)
        assert found.not_before == revocation.not_before or now_ms <= found.not_before <= now_ms + 100

    play(scene)


def test_a_token_that_was_used_before_is_refused_at_once_and_a_new_one_is_good() -> None:
    async def scene(world: World) -> None:
        token = world.token("bob")
        assert (await world.call("GET", TOPICS, token)).status_code == 200
        await asyncio.sleep(0.1)
        assert await revoke(world, user_id="bob") == 204
        problem(await world.call("GET", TOPICS, token), 401, "unauthenticated")
        assert (await world.call("GET", TOPICS, world.token("ana"))).status_code == 200
        await asyncio.sleep(1)
        assert (await world.call("GET", TOPICS, world.token("bob"))).status_code == 200

    play(scene)


@pytest.mark.parametrize("rights", [{}, {"service": True}, {"publish": ("*",)}, {"admin": True, "only": True}])
def test_by_a_non_admin_is_forbidden_and_nothing_is_written(rights: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        for body in ({"user_id": "ana"}, {"user_id": "root"}, {"jti": "x"}, {}):
            problem(await world.call("POST", PATH, world.token("ana", **rights), json=body), 403, "forbidden")
        assert written(world) == []

    play(scene)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": "bob", "jti": "t"},
        {"user_id": ""},
        {"user_id": "kafka"},
        {"user_id": 5},
        {"user_id": "x" * 129},
        {"jti": ""},
        {"jti": "x" * 257},
        {"jti": "a\n"},
        {"jti": ["t"]},
        {"user_id": "bob", "not_before": "now"},
        {"user_id": "bob", "not_before": 0},
        {"user_id": "bob", "not_before": -5},
        {"user_id": "bob", "not_before": 1.5},
        {"user_id": "bob", "not_before": True},
        {"user_id": "bob", "not_before": 1 << 53},
    ],
)
def test_what_is_refused(body: dict[str, Any]) -> None:
    async def scene(world: World) -> None:
        problem(await world.call("POST", PATH, world.token("root", admin=True), json=body), 400, "bad_request")
        assert written(world) == []

    play(scene)


def test_an_earlier_time_weakens_nothing() -> None:
    async def scene(world: World) -> None:
        assert await revoke(world, user_id="bob", not_before=1_000) == 204
        assert await revoke(world, user_id="bob", not_before=500) == 204
        assert [found.not_before for _, found in written(world)] == [1_000, 1_000]

    play(scene)


def test_a_log_that_is_away_is_503_and_one_that_is_silent_504() -> None:
    async def scene(world: World) -> None:
        admin = world.token("root", admin=True)
        world.log.reach = Reach.REFUSED
        problem(await world.call("POST", PATH, admin, json={"user_id": "bob"}), 503, "log_unavailable")
        world.log.reach = Reach.SILENT
        problem(await world.call("POST", PATH, admin, json={"user_id": "bob"}), 504, "outcome_unknown")
        world.log.reach = Reach.OK
        assert (await world.call("GET", TOPICS, world.token("bob"))).status_code == 200

    play(scene)


def test_without_a_dispatcher_nobody_would_hear_of_it() -> None:
    async def scene(world: World) -> None:
        world.directory.up = False
        admin = world.token("root", admin=True)
        problem(await world.call("POST", PATH, admin, json={"user_id": "bob"}), 503, "not_ready")
        assert written(world) == []

    play(scene)


def test_while_no_dispatcher_tells_it_is_504_after_two_seconds_and_the_repeat_is_good_once_one_has() -> None:
    async def scene(world: World) -> None:
        admin, bob = world.token("root", admin=True), world.token("bob")
        world.log.tells = False  # dead, or standing still, and its link looks alive
        began = world.clock.now()
        body = {"user_id": "bob", "not_before": world.clock.wall_ms() + 1_000}
        problem(await world.call("POST", PATH, admin, json=body), 504, "outcome_unknown")
        assert TOLD_S <= world.clock.now() - began < TOLD_S + 0.1
        assert len(written(world)) == 1
        assert (await world.call("GET", TOPICS, bob)).status_code == 200, "nothing counts that others do not know"
        ((_, revocation),) = written(world)
        world.ingest.on_push(0, Revocations([revocation]))
        problem(await world.call("GET", TOPICS, bob), 401, "unauthenticated")
        assert (await world.call("POST", PATH, admin, json=body)).status_code == 204

    play(scene)


def test_others_that_are_told_meanwhile_do_not_end_the_wait() -> None:
    async def scene(world: World) -> None:
        world.log.tells = False
        waiting = asyncio.ensure_future(revoke(world, user_id="bob", not_before=1_000))
        await asyncio.sleep(0.5)
        for told in (Revocation("eve", "", 9_000), Revocation("", "bob", 9_000), Revocation("bob", "", 999)):
            world.ingest.on_push(0, Revocations([told]))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        world.ingest.on_push(0, Revocations([Revocation("bob", "", 1_000)]))
        await asyncio.sleep(0.1)
        assert await waiting == 204

    play(scene)


def test_of_two_at_once_the_later_time_is_the_newest_record_of_the_log() -> None:
    async def scene(world: World) -> None:
        world.log.tells = False
        both = [asyncio.ensure_future(revoke(world, user_id="bob", not_before=at)) for at in (2_000, 1_000)]
        await asyncio.sleep(0.1)
        assert [found.not_before for _, found in written(world)] == [2_000, 1_000]
        world.ingest.on_push(0, Revocations([Revocation("bob", "", 2_000)]))  # 1,000 is no news any longer
        assert await asyncio.gather(*both) == [204, 204]
        assert [found.not_before for _, found in written(world)] == [2_000, 1_000, 2_000]

    play(scene)


def test_one_that_is_overtaken_again_and_again_is_to_be_repeated() -> None:
    async def scene(world: World) -> None:
        endpoint, times = endpoint_of(world), iter(range(2_000, 3_000))
        append = endpoint._append

        async def overtaken(revocation: Revocation) -> None:
            await append(revocation)
            world.ingest.on_push(0, Revocations([Revocation("bob", "", next(times))]))

        endpoint._append = overtaken
        body = {"user_id": "bob", "not_before": 1_000}
        problem(await world.call("POST", PATH, world.token("root", admin=True), json=body), 504, "outcome_unknown")
        assert len(written(world)) == TRIES
        endpoint._append = append
        assert await revoke(world, user_id="bob", not_before=1_000) == 204
        assert written(world)[-1][1].not_before == 2_000 + TRIES - 1

    play(scene)


def endpoint_of(world: World) -> Any:
    found = world.ingest.app._paths.find(PATH.encode())
    assert found is not None
    charging: Any = found[0].by_name["POST"].handler  # takes the bytes of the body first; then waits are spread
    endpoint = charging.args[1].args[1].__self__
    assert isinstance(endpoint, RevocationEndpoint)
    return endpoint


def test_at_the_bound_a_new_name_is_refused_and_a_known_one_is_not() -> None:
    async def scene(world: World) -> None:
        endpoint = endpoint_of(world)
        endpoint._most = 20
        assert [await revoke(world, user_id=f"u{n}") for n in range(30)] == [204] * 20 + [429] * 10
        assert await revoke(world, user_id="u3") == 204
        assert await revoke(world, jti="u3") == 429

    play(scene)


def test_with_a_longest_life_the_bound_counts_only_what_may_still_be_good() -> None:
    async def scene(world: World) -> None:
        endpoint = endpoint_of(world)
        endpoint._most = 20
        endpoint._authenticator._life_s = 7_200
        now_ms = world.clock.wall_ms()
        assert await revoke(world, user_id="old", not_before=now_ms - 7_300_000) == 204
        assert written(world) == [], "all that it would void has expired"
        assert [await revoke(world, user_id=f"u{n}") for n in range(21)] == [204] * 20 + [429]
        (_, first), *_ = written(world)
        assert first.until == first.not_before + 7_260_000
        await asyncio.sleep(7_270)
        assert [await revoke(world, jti=f"t{n}") for n in range(21)] == [204] * 20 + [429]

    play(scene)


def test_each_attempt_is_in_the_audit_log() -> None:
    async def scene(world: World) -> None:
        with structlog.testing.capture_logs() as lines:
            assert await revoke(world, user_id="bob") == 204
            assert await revoke(world, jti="t1", not_before=5) == 204
            assert (await world.call("POST", PATH, world.token("eve"), json={"user_id": "bob"})).status_code == 403
        kept = [(line["user"], line["target"], line["change"], line["outcome"]) for line in lines]
        assert kept[0][:2] == ("root", "bob") and kept[0][3] == "ok"
        assert kept[1:] == [("root", "", "jti=t1", "ok"), ("eve", "", "", "forbidden")]
        assert {line["event"] for line in lines} == {"revocation.create"}

    play(scene)
