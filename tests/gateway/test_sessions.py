"""What the protocols of connections may ask of the sessions."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.head import Head
from headgate.core.client.framing import SSE, WEBSOCKET
from headgate.core.client.inbound import subscribe_from_query
from headgate.core.client.limits import Limits
from headgate.core.fanout.session import Session
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Refused, Request
from headgate.core.wire.rights import Caller, Identity
from tests.gateway.bed import Bed, code_of, head

BOB = Caller("bob", publish=("b*",), subscribe=("*",))


class Pipe:
    """A session's outlet that keeps what it gets."""

    def __init__(self) -> None:
        self.written = b""
        self.queue = 0
        self.ended: tuple[int, str] | None = None
        self.refused: Refusal | None = None

    def write(self, data: bytes) -> None:
        self.written += data

    def queued(self) -> int:
        return self.queue

    def end(self, code: int, reason: str) -> None:
        self.ended = (code, reason)

    def refuse(self, refusal: Refusal) -> None:
        self.refused = refusal

    @property
    def code(self) -> int | None:
        return None if self.ended is None else self.ended[0]

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The text frames, whatever is written before them."""
        found, data = [], self.written
        while (at := data.find(b"\x81")) >= 0:
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            found.append(json.loads(data[begin : begin + size]))
            data = data[begin + size :]
        return found


def opened(bed: Bed, *query: tuple[str, str], **headers: str) -> tuple[Pipe, Session]:
    """A WebSocket session that started."""
    pipe = Pipe()
    session = bed.sessions.create(pipe, WEBSOCKET, b"101")
    bed.sessions.start_websocket(session, head(*query, **headers), lambda: None)
    return pipe, session


def who(bed: Bed, request: Head) -> Identity | None:
    """Who sent a stream's request, where that is known at once. Raises the refusal."""
    told: list[Identity | Refusal | None] = []
    bed.sessions.callers.identify(request, told.append)
    (caller,) = told
    if isinstance(caller, Refusal):
        raise caller
    return caller


# Room


async def test_a_gateway_is_busy_from_its_last_connection_on() -> None:
    bed = Bed(limits=Limits(connections=2))
    opened(bed)
    assert bed.sessions.busy() is None
    _, session = opened(bed)
    assert bed.sessions.busy() == "this gateway is full; connect again later"
    bed.sessions.lost(session)
    assert bed.sessions.busy() is None


@pytest.mark.parametrize(("drains", "code"), [(False, 4503), (True, 4601)])
async def test_a_session_that_has_no_place_is_told_why(drains: bool, code: int) -> None:
    bed = Bed(limits=Limits(connections=0))
    if drains:
        bed.sessions.begin_drain()
        assert bed.sessions.busy() == "this gateway is being stopped; connect again"
    pipe = Pipe()
    bed.sessions.turn_away(bed.sessions.create(pipe, SSE, b"head"), 7_000)
    assert pipe.code == code and pipe.written.startswith(b"head") and bed.hub.session_count == 0
    assert (b'"retry_after_ms":7000' in pipe.written) != drains


# Who asks


@pytest.mark.parametrize(
    ("query", "header", "user"),
    [
        ((("user", "ann"),), "bob", "ann"),
        ((), "bob", "bob"),
        ((("user", ""),), "bob", "bob"),
        ((), "Zo\u00c3\u00ab", "Zoë"),  # the header's bytes are UTF-8, read as Latin-1
        ((), "", "anonymous"),
    ],
)
async def test_in_open_mode_a_request_says_who_it_is(
    query: tuple[tuple[str, str], ...], header: str, user: str
) -> None:
    identity = who(Bed(), head(*query, x_headgate_user=header, authorization="Bearer junk"))
    assert identity is not None and identity.caller.user_id == user


async def test_in_open_mode_a_name_that_is_no_user_id_is_refused() -> None:
    with pytest.raises(Refusal, match="bad_request"):
        who(Bed(), head(("user", "x" * 129)))


async def test_a_token_comes_in_a_header_a_subprotocol_or_the_query_and_the_first_counts() -> None:
    bed = Bed(mode="jwt")
    ann, bob, cyd = (bed.token(name) for name in ("ann", "bob", "cyd"))
    header, offer = f"Bearer {ann}", f"headgate.v1, bearer.{bob}"

    def user(*query: tuple[str, str], **headers: str) -> str | None:
        identity = who(bed, head(*query, **headers))
        return None if identity is None else identity.caller.user_id

    assert user(("token", cyd), authorization=header, sec_websocket_protocol=offer) == "ann"
    assert user(("token", cyd), sec_websocket_protocol=offer) == "bob"
    assert user(("token", cyd)) == "cyd"
    assert user(("user", "dan"), x_headgate_user="dan") is None


@pytest.mark.parametrize(("query", "code"), [(("ticket", "t"), "unauthenticated"), (("token", "t"), "unauthenticated")])
async def test_a_ticket_or_a_bad_token_is_unauthenticated(query: tuple[str, str], code: str) -> None:
    with pytest.raises(Refusal, match=code):
        who(Bed(mode="jwt"), head(query))


async def test_a_token_in_the_query_counts_only_where_the_settings_allow_it() -> None:
    bed = Bed(mode="jwt", query_token=False)
    assert who(bed, head(("token", bed.token()))) is None


# A WebSocket session begins


async def test_a_websocket_session_writes_its_preface_welcome_and_the_answers_in_one_order() -> None:
    bed = Bed()
    bed.owners.create("a")
    pipe, _ = opened(bed, ("topic_id", "nope"), ("topic_id", "a"), ("presence", "false"))
    assert pipe.written.startswith(b"101\x81")
    assert [frame["type"] for frame in pipe.frames] == ["welcome", "error", "subscribed"]


async def test_without_a_credential_only_the_preface_is_written_and_auth_has_its_deadline() -> None:
    bed = Bed(mode="jwt", limits=Limits(auth_s=5.0))
    pipe, _ = opened(bed, ("topic_id", "a"))
    bed.forward(4.75)
    assert pipe.written == b"101" and pipe.ended is None
    bed.forward(0.5)
    assert pipe.code == 4408


async def test_a_bad_credential_ends_a_websocket_session_and_is_counted() -> None:
    bed = Bed(mode="jwt")
    pipe, _ = opened(bed, authorization="Bearer junk")
    assert pipe.code == 4401 and bed.numbers.refusals == ["unauthenticated"]


@pytest.mark.parametrize(("topics", "answers"), [(3, 3), (4, 4), (500, 4)])
async def test_of_the_topics_above_the_limit_one_is_answered(topics: int, answers: int) -> None:
    bed = Bed(limits=Limits(topics=3))
    for n in range(topics):
        bed.owners.create(f"t{n}")
    pipe, _ = opened(bed, *(("topic_id", f"t{n}") for n in range(topics)), ("presence", "false"))
    codes = [frame.get("code") for frame in pipe.frames[1:]]
    assert codes == [None] * 3 + ["limit_reached"] * (answers - 3)


async def test_a_query_that_was_cut_is_told_behind_its_topics() -> None:
    bed = Bed()
    bed.owners.create("a")
    pipe = Pipe()
    session = bed.sessions.create(pipe, WEBSOCKET)
    cut = head(("topic_id", "a"), ("presence", "false"))._replace(complete=False)
    bed.sessions.start_websocket(session, cut, lambda: None)
    assert [frame.get("code") for frame in pipe.frames] == [None, None, "bad_request"]


# An SSE session begins


async def test_an_sse_session_writes_nothing_before_the_owner_answers() -> None:
    bed = Bed()
    bed.owners.create("a")
    bed.owners.slow = True
    identity = who(bed, head(("user", "ann")))
    assert identity is not None
    pipe = Pipe()
    session = bed.sessions.create(pipe, SSE, b"head:")
    bed.sessions.start_sse(session, identity, subscribe_from_query("a", {}))
    assert pipe.written == b""
    bed.owners.deliver()
    assert pipe.written.startswith(b"head:event: welcome\n") and b"event: subscribed\n" in pipe.written


# Whether a topic may be followed


class Strange:
    """An owner of a later version, whose code this one does not know."""

    def shard_of(self, topic_id: str) -> int:
        return 0

    def request(self, shard: int, build: Callable[[int], Request], on_answer: Callable[[Answer], None]) -> None:
        on_answer(Refused(build(1).req, "code_of_tomorrow", "no"))


def checked(bed: Bed, topic_id: str, caller: Caller = BOB) -> str | None:
    answers: list[Refusal | None] = []
    bed.sessions.check_topic(topic_id, caller, answers.append)
    (answer,) = answers
    return code_of(answer)


@pytest.mark.parametrize(
    ("topic_id", "creates", "code"),
    [
        ("open", False, None),
        ("closed", False, "topic_not_found"),
        ("missing", False, "topic_not_found"),
        ("missing", True, None),
        ("hg:missing", True, "topic_not_found"),
        ("closed", True, None),
    ],
)
async def test_a_topic_is_checked_without_a_subscription(topic_id: str, creates: bool, code: str | None) -> None:
    bed = Bed(auto_create=creates)
    bed.owners.create("open")
    if not creates:
        bed.owners.create("closed", permissions="PRIVATE")
    assert checked(bed, topic_id, Caller("bob")) == code
    assert all(topic.count == 0 for topic in bed.owners.topics.values())


async def test_a_topic_of_an_owner_that_is_away_or_not_known_is_not_ready() -> None:
    bed = Bed(auto_create=True)
    bed.owners.go()
    assert checked(bed, "a") == "not_ready"
    bed.owners.shards = 0
    with pytest.raises(Refusal, match="not_ready"):
        checked(bed, "a")


async def test_a_code_that_this_version_does_not_know_is_an_internal_error() -> None:
    bed = Bed()
    bed.sessions._directory = Strange()  # type: ignore[assignment]  # only these two are asked
    assert checked(bed, "a") == "internal"


# What a socket tells


async def test_every_byte_keeps_a_session_alive_and_silence_ends_it() -> None:
    bed = Bed(limits=Limits(heartbeat_s=10.0, heartbeat_missed=2))
    (quiet, _), (live, session) = opened(bed), opened(bed)
    bed.forward(15)
    bed.sessions.heard(session)
    bed.forward(15)
    assert quiet.code == 4602 and live.ended is None


@pytest.mark.parametrize(("queued", "paused", "code"), [(100, True, None), (101, True, 4508), (101, False, None)])
async def test_a_client_that_pings_and_does_not_read_is_cut_above_its_bound(
    queued: int, paused: bool, code: int | None
) -> None:
    bed = Bed(limits=Limits(queue_bytes=100))
    pipe, session = opened(bed)
    pipe.queue = queued
    if paused:
        bed.sessions.paused(session)
    bed.sessions.pong(session, b"pong")
    assert pipe.code == code and pipe.written.endswith(b"pong") is (code is None)


async def test_frames_that_are_no_message_have_a_rate() -> None:
    bed = Bed(limits=Limits(frames_burst=3, frames_per_s=2.0))
    _, session = opened(bed)
    assert [bed.sessions.counts_frame(session) for _ in range(4)] == [True, True, True, False]
    bed.forward(2)
    assert bed.sessions.counts_frame(session)


async def test_a_paused_session_gets_nothing_until_it_is_resumed() -> None:
    bed = Bed()
    bed.owners.create("a")
    pipe, session = opened(bed, ("topic_id", "a"))
    bed.sessions.paused(session)
    before = pipe.written
    bed.owners.publish("a", "x")
    bed.flush()
    assert pipe.written == before
    bed.sessions.resumed(session)
    assert pipe.frames[-1]["type"] == "message"


async def test_a_connection_that_is_gone_gets_no_word_more() -> None:
    bed = Bed()
    bed.owners.create("a")
    pipe, session = opened(bed, ("topic_id", "a"))
    before = pipe.written
    bed.sessions.lost(session)
    bed.sessions.leave(session)
    bed.owners.publish("a", "x")
    bed.flush()
    assert pipe.written == before and pipe.ended is None
    assert bed.hub.session_count == 0 and bed.owners.topics["a"].count == 0


@pytest.mark.parametrize(("chance", "retry_after_ms"), [(0.0, 0), (0.5, 500), (0.9999, 999)])
async def test_a_session_that_is_to_leave_waits_a_random_part_of_a_second(chance: float, retry_after_ms: int) -> None:
    bed = Bed()
    pipe, session = opened(bed)
    bed.chance.value = chance
    bed.sessions.leave(session)
    assert pipe.code == 4601 and pipe.frames[-1]["retry_after_ms"] == retry_after_ms


async def test_a_planned_visit_comes_in_its_time() -> None:
    bed = Bed()
    visits: list[float] = []

    class Visit:
        def visit(self, now: float) -> float | None:
            visits.append(now)
            return None

    begun = bed.clock.now()
    bed.sessions.plan(Visit(), 3.0)
    bed.forward(10)
    assert len(visits) == 1 and 3.0 <= visits[0] - begun <= 3.25
