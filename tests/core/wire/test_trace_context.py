"""Headers `traceparent` as the W3C recommendation has them."""

import pytest

from headgate.core.wire.trace_context import ids_of, sampled, traceparent

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
GOOD = b"00-" + TRACE + b"-" + SPAN + b"-01"


def test_a_sampled_context_is_kept_and_its_ids_come_back() -> None:
    assert sampled(GOOD) == GOOD
    assert traceparent(*ids_of(GOOD)) == GOOD
    assert ids_of(GOOD) == (int(TRACE, 16), int(SPAN, 16))


def test_another_flag_beside_sampled_and_a_higher_version_are_read_as_version_00() -> None:
    assert sampled(GOOD[:-2] + b"03") == GOOD
    assert sampled(b"01" + GOOD[2:] + b"-more") == GOOD


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"token",
        GOOD[:-2] + b"00",  # its caller records nothing
        GOOD[:-2] + b"02",
        b"ff" + GOOD[2:],
        GOOD + b"-more",  # version 00 has four parts
        GOOD.upper(),
        GOOD + b"\n",
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        GOOD.replace(b"-", b"_"),
        GOOD + b"x" * 10_000,
    ],
)
def test_what_is_no_sampled_context_is_no_trace(header: bytes) -> None:
    assert sampled(header) is None
