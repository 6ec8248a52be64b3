"""POST /api/v1/tickets: what a ticket is made of, and what is refused."""

from typing import Any

import pytest
import structlog

from headgate.core.wire.link_users import Revocation, Revocations
from headgate.core.wire.rights import Caller
from headgate.runtime.tickets import MAX_TOPICS, Ticket, TicketKeys
from tests.integration.ingest_twin import SECRET, World, play, problem

PATH = "/api/v1/tickets"


def read(world: World, text: str) -> Ticket:
    return TicketKeys([SECRET.encode()]).read(text, world.clock.wall_ms())


@pytest.mark.parametrize("body", [b"", b"{}", b'{"kind":"once"}', b'{"later":1}'])
def test_once_is_the_default_and_lasts_30_seconds(body: bytes) -> None:
    async def scene(world: World) -> None:
        answer = await world.call("POST", PATH, world.token(subscribe=("s*",)), content=body)
        assert answer.status_code == 200 and answer.json().keys() == {"ticket", "expires_in"}
        assert answer.json()["expires_in"] == 30
        ticket = read(world, answer.json()["ticket"])
        assert ticket.identity.caller == Caller("ana", subscribe=("s*",)) and ticket.id
        again = await world.call("POST", PATH, content=body)
        assert read(world, again.json()["ticket"]).id != ticket.id

    play(scene)


def test_a_stream_ticket_names_its_topics_and_its_time() -> None:
    async def scene(world: World) -> None:
        for ttl_s, seconds in ((60, 60), (0.5, 0), (3_600, 3_600), (None, 3_600)):
            body = {"kind": "stream", "topic_ids": ["a", "b"]} | ({} if ttl_s is None else {"ttl_s": ttl_s})
            answer = await world.call("POST", PATH, world.token(ttl_s=7_200), json=body)
            assert answer.json()["expires_in"] == seconds
            assert read(world, answer.json()["ticket"]).identity.topics == frozenset({"a", "b"})

    play(scene)


def test_no_ticket_outlives_its_token() -> None:
    async def scene(world: World) -> None:
        body = {"kind": "stream", "topic_ids": ["a"], "ttl_s": 3_600}
        answer = await world.call("POST", PATH, world.token(ttl_s=100), json=body)
        assert 100 <= answer.json()["expires_in"] <= 105, "the leeway of a token included"

    play(scene)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"kind": "twice"}, "bad_request"),
        ({"kind": None}, "bad_request"),
        ({"kind": ["once"]}, "bad_request"),
        ({"topic_ids": ["a"]}, "bad_request"),
        ({"kind": "once", "ttl_s": 10}, "bad_request"),
        ({"kind": "stream"}, "bad_request"),
        ({"kind": "stream", "topic_ids": []}, "bad_request"),
        ({"kind": "stream", "topic_ids": "a"}, "bad_request"),
        ({"kind": "stream", "topic_ids": ["a*"]}, "invalid_topic_id"),
        ({"kind": "stream", "topic_ids": [5]}, "invalid_topic_id"),
        ({"kind": "stream", "topic_ids": ["a"] * (MAX_TOPICS + 1)}, "bad_request"),
        ({"kind": "stream", "topic_ids": ["a"], "ttl_s": 0}, "bad_request"),
        ({"kind": "stream", "topic_ids": ["a"], "ttl_s": 3_601}, "bad_request"),
        ({"kind": "stream", "topic_ids": ["a"], "ttl_s": "60"}, "bad_request"),
        ({"kind": "stream", "topic_ids": ["a"], "ttl_s": True}, "bad_request"),
        ({"kind": "stream", "topic_ids": ["a"], "ttl_s": None}, "bad_request"),
    ],
)
def test_what_is_refused(body: dict[str, Any], code: str) -> None:
    async def scene(world: World) -> None:
        problem(await world.call("POST", PATH, json=body), 400, code)

    play(scene)


def test_only_a_token_makes_a_ticket() -> None:
    async def scene(world: World) -> None:
        problem(await world.call("POST", PATH, None), 401, "unauthenticated")
        ticket = (await world.call("POST", PATH)).json()["ticket"]
        problem(await world.call("POST", PATH, ticket), 401, "unauthenticated")
        problem(await world.call("POST", f"{PATH}?ticket={ticket}", None), 401, "unauthenticated")

    play(scene)


def test_a_ticket_costs_a_read() -> None:
    async def scene(world: World) -> None:
        answers = [(await world.call("POST", PATH, world.token())).status_code for _ in range(601)]
        assert set(answers[:600]) == {200} and answers[600] == 429

    play(scene)


def test_a_revoked_token_makes_no_ticket() -> None:
    async def scene(world: World) -> None:
        token = world.token()
        world.ingest.on_push(0, Revocations([Revocation("ana", "", world.clock.wall_ms() + 1_000)]))
        problem(await world.call("POST", PATH, token), 401, "unauthenticated")

    play(scene)


def test_a_ticket_is_in_the_audit_log_without_itself() -> None:
    async def scene(world: World) -> None:
        with structlog.testing.capture_logs() as lines:
            once = await world.call("POST", PATH)
            stream = await world.call("POST", PATH, json={"kind": "stream", "topic_ids": ["a", "b"]})
        assert [(line["event"], line["user"], line["change"], line["topic"]) for line in lines] == [
            ("ticket.create", "ana", "kind=once", ""),
            ("ticket.create", "ana", "kind=stream, 2 topics", "a"),
        ]
        for answer in (once, stream):
            assert answer.json()["ticket"] not in str(lines)

    play(scene)
