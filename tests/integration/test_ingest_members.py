"""Members over HTTP: let in, another role, put out, listed; who may; what is repeated; what the log and owner do."""

from typing import Any
from urllib.parse import quote

import pytest

from headgate.core.wire.link import AskVerdict
from headgate.runtime.testing.faulty_log import Reach
from tests.integration.ingest_twin import World, play, problem

TOPICS = "/api/v1/topics"


def path(user_id: str, topic_id: str = "t") -> str:
    return f"{TOPICS}/{topic_id}/members/{quote(user_id, safe='')}"


async def put(world: World, user_id: str, role: str | None = None, token: str = "", **request: Any) -> Any:
    body = {} if role is None else {"json": {"role": role}}
    return await world.call("PUT", path(user_id), token, **body, **request)


async def close_log(world: World) -> None:
    world.log.reach = Reach.REFUSED


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
        ("PUBLIC", "publisher", 200),
        ("PUBLISH_ONLY", "publisher", 403),  # who may not subscribe does not join
        ("PUBLISH_ONLY", "subscriber", 403),
        ("SUBSCRIBE_ONLY", "subscriber", 200),
        ("SUBSCRIBE_ONLY", "member", 403),
    ],
)
def test_who_may_subscribe_may_join_in_a_role_that_gives_no_right_he_lacks(
    permissions: str, role: str, status: int
) -> None:
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


def test_a_token_that_only_publishes_makes_its_user_no_member() -> None:
    async def scene(world: World) -> None:
        await world.create("p", permissions="PUBLISH_ONLY")
        await world.create("t", permissions="PRIVATE")
        publishes = world.token("bo", only=True, publish=("t", "p"))
        for topic_id in ("t", "p"):
            answer = await world.call("PUT", f"{TOPICS}/{topic_id}/members/bo", publishes, json={"role": "publisher"})
            problem(answer, 403, "forbidden")
        assert (await put(world, "bo", "publisher")).status_code == 200
        assert (await put(world, "bo", "publisher", publishes)).status_code == 200  # he is one: nothing changes

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
        row = world.owner.row("t")
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
        written_as = {"a%2Fb": "a/b", "a%252Fb": "a%2Fb", "%C3%A9": "é", "a+b": "a+b", "%EF%BF%BD": "\ufffd"}
        for written, user_id in written_as.items():
            answer = await world.call("PUT", f"{TOPICS}/t/members/{written}")
            assert answer.json()["user_id"] == user_id
        for written in ("%FF", "%FF%0A", "%ED%A0%80"):
            problem(await world.call("PUT", f"{TOPICS}/t/members/{written}"), 400, "bad_request")

    play(scene)


def test_a_user_whose_id_has_the_replacement_character_is_one_like_others() -> None:
    async def scene(world: World) -> None:
        await world.create("t", permissions="PRIVATE")
        for name in ("a\ufffd", "b", "c"):
            assert (await put(world, name)).json()["user_id"] == name
        assert (await world.publish("t", world.token("a\ufffd"), payload=1)).status_code == 200
        page, found = None, []
        for _ in range(4):
            query = {"limit": 1} | ({"page": page} if page else {})
            answer = (await world.call("GET", f"{TOPICS}/t/members", params=query)).json()
            found += [member["user_id"] for member in answer["members"]]
            page = answer["next_page"]
        assert (page, found) == (None, ["ana", "a\ufffd", "b", "c"])
        assert (await world.call("DELETE", path("a\ufffd"))).status_code == 204

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
