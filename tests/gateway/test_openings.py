"""The handshake, `welcome` and the first answer of a topic's owner: one write, and never out of order."""

import pytest

from tests.gateway.bed import UPGRADE, Bed, Wire, request


async def test_handshake_welcome_and_the_first_answer_of_an_owner_are_one_write() -> None:
    bed = Bed()
    bed.owners.create("a")
    wire = bed.asked(request("GET", "/connect?topic_id=a", *UPGRADE))
    assert wire.writes == 1 and wire.written.startswith(b"HTTP/1.1 101") and b'"subscribed"' in wire.written
    late = _asked_of_a_slow_owner(bed)
    bed.owners.deliver()
    assert late.writes == 1 and late.written.startswith(b"HTTP/1.1 101") and b'"welcome"' in late.written
    assert late.written.endswith(b'"caught_up","topic_id":"a","seq":0}')


def _asked_of_a_slow_owner(bed: Bed) -> Wire:
    bed.owners.create("a")
    bed.owners.slow = True
    wire = bed.asked(request("GET", "/connect?topic_id=a&from=earliest", *UPGRADE))
    assert wire.writes == 0, "welcome waits for the answer"
    return wire


async def test_welcome_waits_for_a_slow_owner_half_a_second_at_most() -> None:
    bed = Bed()
    wire = _asked_of_a_slow_owner(bed)
    bed.forward(0.5)
    assert wire.writes == 1 and wire.written.startswith(b"HTTP/1.1 101") and b'"welcome"' in wire.written
    bed.owners.deliver()
    assert wire.writes == 2 and wire.written.endswith(b'"caught_up","topic_id":"a","seq":0}')


async def test_welcome_does_not_wait_for_an_owner_that_is_away() -> None:
    bed = Bed()
    bed.owners.lose_owners()
    wire = bed.asked(request("GET", "/connect?topic_id=a", *UPGRADE))
    assert wire.written.startswith(b"HTTP/1.1 101") and b'"welcome"' in wire.written


@pytest.mark.parametrize(
    ("said", "answered"),
    [(b"\x89\x80abcd", b"\x8a\x00"), (b"\x88\x80abcd", b"\x88\x00"), (b"\x8f\x80abcd", b"\x88")],
    ids=["ping", "close", "no frame"],
)
async def test_bytes_of_the_client_s_are_answered_behind_the_handshake_and_welcome(
    said: bytes, answered: bytes
) -> None:
    bed = Bed()
    wire = _asked_of_a_slow_owner(bed)
    wire.say(said)
    hello, _, rest = wire.written.partition(b"reconnect_jitter")
    assert hello.startswith(b"HTTP/1.1 101") and b'"welcome"' in hello
    assert answered in rest


async def test_a_session_that_is_told_to_leave_before_the_owner_has_answered_hears_welcome_first() -> None:
    bed = Bed()
    wire = _asked_of_a_slow_owner(bed)
    await bed.service.drain(0)
    assert wire.written.startswith(b"HTTP/1.1 101")
    assert wire.written.index(b'"welcome"') < wire.written.index(b'"disconnect"')
