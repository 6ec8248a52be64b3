"""ingest.publish_reader: what a publish request may ask for, and whose client_msg_id it carries."""

import pytest

from headgate.core.publish.body import PublishBody
from headgate.core.wire.errors import Refusal
from headgate.runtime.http.call import Call
from headgate.runtime.http.memory_budget import MemoryBudget
from headgate.runtime.system import SystemRng
from ingest.publish_reader import MAX_TIMEOUT_MS, PublishReader, client_msg_id_of
from ingest.rates import FREE_BYTES, RateLimits
from tests.ingest.parts import ANA, Parts, play


def call(query: dict[str, str], body: bytes = b"") -> Call:
    return Call(ANA, {}, query, b"", "application/json", None, body, MemoryBudget().share())


def reader_of(parts: Parts) -> PublishReader:
    return PublishReader(parts.rates, parts.clock, parts.shell.rng, 10)


@pytest.mark.parametrize(
    ("query", "sequenced"), [({}, False), ({"wait": "accepted"}, False), ({"wait": "sequenced"}, True)]
)
def test_a_wait_ends_seven_seconds_after_the_request(query: dict[str, str], sequenced: bool) -> None:
    async def scene(parts: Parts) -> None:
        wait = reader_of(parts).begin(call(query))
        assert (wait.sequenced, wait.deadline) == (sequenced, parts.clock.now() + 7)

    play(scene)


@pytest.mark.parametrize(
    "query",
    [{"wait": "Delivered"}, {"wait": "x"}, {"wait": ""}, {"timeout_ms": "x"}, {"timeout_ms": str(MAX_TIMEOUT_MS + 1)}],
)
def test_a_query_that_asks_for_something_else_is_refused_before_any_rate(query: dict[str, str]) -> None:
    async def scene(parts: Parts) -> None:
        for _ in range(3):
            with pytest.raises(Refusal, match="bad_request"):
                reader_of(parts).begin(call(query, b"x" * 2 * FREE_BYTES))
        reader_of(parts).begin(call({"timeout_ms": str(MAX_TIMEOUT_MS)}, b"x" * 2 * FREE_BYTES))
        with pytest.raises(Refusal, match="rate_limited"):
            reader_of(parts).begin(call({}, b"x" * 2 * FREE_BYTES))

    play(scene, RateLimits(publish_per_user_per_min=1, body_bytes=FREE_BYTES))


def test_a_body_is_bounded_by_the_payload_bytes() -> None:
    async def scene(parts: Parts) -> None:
        assert reader_of(parts).body(b'{"payload":"12345678"}').payload == b'"12345678"'
        with pytest.raises(Refusal, match="too_large"):
            reader_of(parts).body(b'{"payload":"123456789"}')

    play(scene)


@pytest.mark.parametrize(
    ("query", "sequenced", "delivered_s"),
    [
        ({}, False, None),
        ({"wait": "accepted", "timeout_ms": "5"}, False, None),
        ({"wait": "sequenced"}, True, None),
        ({"wait": "delivered"}, True, 1.0),
        ({"wait": "delivered", "timeout_ms": "0"}, True, 0.0),
        ({"wait": "delivered", "timeout_ms": "10000"}, True, 10.0),
    ],
)
def test_what_the_publisher_waits_for(query: dict[str, str], sequenced: bool, delivered_s: float | None) -> None:
    async def scene(parts: Parts) -> None:
        wait = reader_of(parts).begin(call(query))
        assert (wait.sequenced, wait.delivered_s, wait.deadline) == (sequenced, delivered_s, parts.clock.now() + 7)

    play(scene)


@pytest.mark.parametrize(
    ("of_body", "of_header", "found"), [(None, None, None), ("a", None, "a"), (None, "a", "a"), ("a", "a", "a")]
)
def test_the_client_msg_id_is_the_body_s_or_the_header_s(
    of_body: str | None, of_header: str | None, found: str | None
) -> None:
    assert client_msg_id_of(PublishBody(b"1", of_body, False, b""), of_header) == found


@pytest.mark.parametrize(("of_body", "of_header"), [("a", "b"), (None, ""), (None, "é"), ("a", "x" * 129)])
def test_two_ids_that_differ_and_a_header_that_is_none_are_refused(of_body: str | None, of_header: str) -> None:
    with pytest.raises(Refusal, match="bad_request"):
        client_msg_id_of(PublishBody(b"1", of_body, False, b""), of_header)


@pytest.mark.parametrize(
    ("of_body", "of_request", "is_given"), [("a", None, True), (None, "a", True), ("b", "a", True), (None, None, False)]
)
def test_an_id_is_made_where_none_is_given(of_body: str | None, of_request: str | None, is_given: bool) -> None:
    async def scene(parts: Parts) -> None:
        info, reader = await parts.topic("t"), reader_of(parts)
        body = PublishBody(b"1", of_body, False, b"")
        one, two = (reader.publish(info, ANA, body, of_request, is_paid=True) for _ in range(2))
        assert (one.is_given, one.is_paid) == (is_given, True)
        assert (one.id == two.id) == is_given
        assert one.client_msg_id == (of_request or of_body or one.client_msg_id)
        assert is_given or len(one.client_msg_id) == 24

    play(scene)


def test_each_publish_without_an_id_gets_one_of_its_own() -> None:
    async def scene(parts: Parts) -> None:
        reader = PublishReader(parts.rates, parts.clock, SystemRng(), 10)
        body, info = reader.body(b'{"payload":1}'), await parts.topic("t")
        made = {reader.publish(info, ANA, body).client_msg_id for _ in range(300)}
        assert len(made) == 300
        assert all(len(bytes.fromhex(each)) == 12 for each in made)

    play(scene)
