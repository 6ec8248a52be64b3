"""Digests tell nodes apart that decided differently, and go on after a restore."""

from headgate.core.sequencer.digest import Digest


def filled(code: int = 1, seq: int = 7) -> Digest:
    digest = Digest()
    for offset in range(100):
        digest.fold(offset, seq if offset == 7 else offset, bytes([code if offset == 7 else 1]))
    return digest


def test_one_other_verdict_number_or_place_is_seen_for_ever() -> None:
    assert filled().value == filled().value
    assert filled().value != filled(2).value
    assert filled().value != filled(1, 8).value
    other = Digest()
    for offset in range(1, 101):
        other.fold(offset, offset - 1, b"\x01")
    assert other.value != filled().value


def test_the_items_of_a_bundle_are_one_step_and_their_order_counts() -> None:
    digests = [Digest() for _ in range(3)]
    digests[0].fold(5, 1, bytes([1, 2]))
    digests[1].fold(5, 1, bytes([2, 1]))
    digests[2].fold(5, 1, bytes([1]))
    digests[2].fold(5, 1, bytes([2]))
    assert len({digest.value for digest in digests}) == 3


def test_a_digest_goes_on_where_it_was_and_is_16_bytes_whatever_it_took_in() -> None:
    a = filled()
    a.fold(1_000, 1_000, bytes([1]) * 1_000)
    b = Digest(a.value)
    for digest in (a, b):
        digest.fold(9_999, 1, b"\x01")
    assert a.value == b.value
    assert len(a.value) == 16
