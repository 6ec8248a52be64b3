"""Marks of what a shard has decided: the same places for every node, whatever the order in which they hear."""

import pytest

from headgate.core.sequencer.claims import Claim, decode_claim, encode_claim
from headgate.core.sequencer.marks import KEPT, MARK_OFFSETS, Disagreement, Mark, Marks, decode_mark, encode_mark


def mark(offset: int, digest: bytes) -> Mark:
    return Mark("other", "run", offset, digest)


def walked(start: int, offsets: list[int]) -> list[int]:
    """Returns the places at which a node that begins at `start` marks."""
    marks, places = Marks(start), []
    for offset in offsets:
        if offset >= start and offset >= marks.due:
            marks.add(offset + 1, b"d")
            places.append(offset + 1)
    return places


def test_nodes_that_began_at_different_offsets_mark_the_same_places() -> None:
    offsets = [n for n in range(1_000_000, 1_020_000, 3) if n % 2_048 > 300]  # with gaps over the blocks' beginnings
    whole = walked(1_000_000, offsets)
    assert len(whole) > 10
    assert len({(place - 1) // MARK_OFFSETS for place in whole}) == len(whole), "one in a block"
    for start in (1_000_001, 1_003_000, 1_005_312, 1_010_000):
        later = walked(start, offsets)
        assert later == [place for place in whole if place > later[0] - 1]
        assert later[0] - start < 3 * MARK_OFFSETS


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_difference_shows_whoever_comes_first(first: str) -> None:
    marks = Marks(0)
    if first == "ours":
        assert marks.add(1_025, b"a") is None
        found = marks.heard(mark(1_025, b"b"))
    else:
        assert marks.heard(mark(1_025, b"b")) is None
        found = marks.add(1_025, b"a")
    assert found == Disagreement(1_025, b"a", mark(1_025, b"b"))


def test_agreement_and_places_that_are_not_ours_say_nothing() -> None:
    marks = Marks(0)
    marks.add(1_025, b"a")
    assert marks.heard(mark(1_025, b"a")) is None
    assert marks.heard(mark(999, b"b")) is None


def test_what_is_kept_is_bounded() -> None:
    marks = Marks(0)
    assert marks.newest is None
    for block in range(3 * KEPT):
        marks.add(block * MARK_OFFSETS + 1, b"a")
        marks.heard(mark(block * MARK_OFFSETS + 7, b"b"))
    assert len(marks._ours) == len(marks._theirs) == KEPT
    assert marks.newest == ((3 * KEPT - 1) * MARK_OFFSETS + 1, b"a")
    oldest, newest = ((3 * KEPT - back) * MARK_OFFSETS + 1 for back in (KEPT, 1))
    assert marks.heard(mark(oldest - MARK_OFFSETS, b"b")) is None, "the older ones are gone"
    for offset in (oldest, newest):
        assert marks.heard(mark(offset, b"b")) == Disagreement(offset, b"a", mark(offset, b"b"))


def test_marks_and_claims_are_told_apart() -> None:
    written = encode_mark(mark(5, b"\x00\xff" * 8))
    assert decode_mark(written) == mark(5, b"\x00\xff" * 8)
    assert decode_claim(written) is None
    assert decode_mark(encode_claim(Claim("n", "run", "a:1"))) is None
    assert decode_mark(None) is None
