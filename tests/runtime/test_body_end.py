"""Where a body ends, and when its framing costs more than it carries."""

import pytest

from headgate.runtime.http.body_end import FRAMING_BYTES, PIECE_BYTES, PIECES, SLICE_BYTES, BodyEnd


def test_an_announced_body_ends_at_its_length_wherever_it_is_cut() -> None:
    body = BodyEnd(10)
    assert [body.find(b"head" + b"x" * 6, 4), body.is_malformed()] == [10, False]
    assert [body.find(b"xxxxGET /", 0), body.is_malformed()] == [4, True], "the parser should have ended it by now"


@pytest.mark.parametrize(
    ("data", "end"),
    [(b"0\r\n\r\nGET /", 5), (b"0\r\n\r", 1), (b"0\r\n", 1), (b"0\r", 1), (b"5\r\nhello", 8), (b"\r\n\r", 0)],
)
def test_a_chunked_body_is_given_up_to_what_may_end_it(data: bytes, end: int) -> None:
    assert BodyEnd(None).find(data, 0) == end


def test_a_chunked_body_is_given_in_slices() -> None:
    assert BodyEnd(None).find(b"x" * 3 * SLICE_BYTES, 0) == SLICE_BYTES
    assert BodyEnd(None).find(b"x" * SLICE_BYTES + b"\r\n\r\n", 0) == SLICE_BYTES


@pytest.mark.parametrize(
    ("pieces", "size", "malformed"), [(PIECES, 1, False), (PIECES * 3 // 2, 1, True), (10**5, 64, False)]
)
def test_pieces_beyond_some_thousand_are_large(pieces: int, size: int, *, malformed: bool) -> None:
    body = BodyEnd(None)
    for _ in range(pieces):
        body.count(b"x" * size)
    assert body.is_malformed() is malformed and PIECE_BYTES == 64


def test_a_chunked_body_is_more_body_than_framing() -> None:
    body = BodyEnd(None)
    for _ in range(FRAMING_BYTES // SLICE_BYTES):
        body.find(b"x" * SLICE_BYTES, 0)
    assert not body.is_malformed()
    body.find(b"x" * (SLICE_BYTES // 2), 0)
    assert body.is_malformed()
    body.count(b"x" * SLICE_BYTES)
    assert not body.is_malformed()
