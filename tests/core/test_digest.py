"""Digests tell nodes apart that decided differently, and go on after a restore."""

from headgate.core.digest import BLOCK_OFFSETS, Digest


def filled(code: int = 1) -> Digest:
    digest = Digest()
    for offset in range(3 * BLOCK_OFFSETS // 2):
        digest.add(offset, 0, code if offset == 7 else 1, offset)
    return digest


def test_one_other_verdict_is_seen_for_ever() -> None:
    assert filled().value != filled(2).value
    assert filled().now != filled(2).now


def test_a_digest_goes_on_where_it_was() -> None:
    a = filled()
    b = Digest(*a.state())
    for digest in (a, b):
        digest.add(9_999, 0, 1, 1)
    assert (a.now, a.value, a.block) == (b.now, b.value, b.block)
