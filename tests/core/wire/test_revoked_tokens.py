"""Revocations: what they void, that their order does not matter, and their record in the log."""

import itertools

import pytest

from headgate.core.wire.errors import CorruptRecord
from headgate.core.wire.link_users import Revocation
from headgate.core.wire.revoked_tokens import CHUNK, FORGET_MS, RevokedTokens, read_record, record_of


def user(user_id: str, not_before: int) -> Revocation:
    return Revocation(user_id, "", not_before)


def token(jti: str, not_before: int) -> Revocation:
    return Revocation("", jti, not_before)


def test_a_user_is_revoked_up_to_a_time() -> None:
    revoked = RevokedTokens()
    assert revoked.add(user("ann", 1_000))
    assert revoked.voids("ann", "", 999)
    assert not revoked.voids("ann", "", 1_000)
    assert not revoked.voids("bob", "", 0)


def test_a_token_that_does_not_say_when_it_was_issued_is_void() -> None:
    revoked = RevokedTokens()
    revoked.add(user("ann", 1))
    assert revoked.voids("ann", "", 0)


def test_one_token_is_revoked_by_its_id_and_no_other_of_the_user() -> None:
    revoked = RevokedTokens()
    revoked.add(token("t1", 1_000))
    assert revoked.voids("ann", "t1", 500) and not revoked.voids("ann", "t2", 500)
    assert not revoked.voids("ann", "", 500), "a token without an id has not the id of another"
    assert not revoked.voids("t1", "", 500), "a user's name is no token's id"


def test_whatever_the_order_the_latest_time_counts() -> None:
    times = [5, 9, 7]
    for order in itertools.permutations(times):
        revoked = RevokedTokens()
        for at in order:
            revoked.add(user("ann", at))
        assert revoked.voids("ann", "", 8) and not revoked.voids("ann", "", 9)
        assert len(revoked) == 1


def test_only_what_voids_more_than_before_is_news() -> None:
    revoked = RevokedTokens()
    assert [revoked.add(user("ann", at)) for at in (5, 5, 4, 6)] == [True, False, False, True]


def test_a_weaker_revocation_does_not_replace_a_stronger_one_in_the_log() -> None:
    revoked = RevokedTokens()
    revoked.add(user("ann", 9))
    assert revoked.latest(user("ann", 5)) == user("ann", 9)
    assert revoked.latest(user("ann", 12)) == user("ann", 12)
    assert revoked.latest(token("ann", 5)) == token("ann", 5)
    assert revoked.is_known(user("ann", 5)) and not revoked.is_known(token("ann", 5))


def test_what_is_known_as_strong_or_stronger_is_there_already() -> None:
    revoked = RevokedTokens()
    assert not revoked.has(user("ann", 1))
    revoked.add(user("ann", 9))
    assert revoked.has(user("ann", 9)) and revoked.has(user("ann", 8))
    assert not revoked.has(user("ann", 10)) and not revoked.has(token("ann", 9))


def test_one_is_forgotten_once_all_tokens_that_it_voids_have_expired_and_not_before() -> None:
    revoked = RevokedTokens()
    revoked.add(Revocation("ann", "", 1_000, 5_000))
    revoked.add(Revocation("", "t1", 1_000, 9_000))
    revoked.add(user("bob", 1_000))
    revoked.forget(5_000)
    assert len(revoked) == 3
    revoked.forget(5_001)
    assert len(revoked) == 3, "it has looked a moment ago"
    revoked.forget(5_000 + FORGET_MS)
    assert len(revoked) == 1 and revoked.voids("bob", "", 999), "nobody knows how long bob's tokens are good"
    assert not revoked.voids("ann", "t1", 999)


def test_a_look_is_bounded_and_the_next_one_goes_on_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.core.wire.revoked_tokens.LOOKED_AT", 10)
    revoked = RevokedTokens()
    for n in range(25):
        revoked.add(Revocation(f"u{n}", "", 1, 0 if n < 15 else 2))
    left = []
    for look in range(4):
        revoked.forget(10 + look * FORGET_MS)
        left.append(len(revoked))
    assert left == [25, 20, 15, 15]
    assert all(revoked.voids(f"u{n}", "", 0) == (n < 15) for n in range(25))


def test_whatever_the_order_the_one_that_is_kept_longest_counts() -> None:
    known = [Revocation("ann", "", 5, 90), Revocation("ann", "", 9, 70), Revocation("ann", "", 7, 80)]
    for order in itertools.permutations(known):
        revoked = RevokedTokens()
        for each in order:
            revoked.add(each)
        assert list(revoked.chunks()) == [[Revocation("ann", "", 9, 90)]]
        assert revoked.add(user("ann", 1)), "kept for good is news"
        assert not revoked.add(Revocation("ann", "", 9, 1 << 50))
        assert list(revoked.chunks()) == [[user("ann", 9)]]


def test_all_of_them_come_in_chunks() -> None:
    revoked, more = RevokedTokens(), CHUNK + CHUNK // 2
    for n in range(more):
        revoked.add(user(f"u{n}", 1))
        revoked.add(token(f"t{n}", 2))
    chunks = list(revoked.chunks())
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, CHUNK]
    assert {r.user_id or r.jti for chunk in chunks for r in chunk} == {f"{k}{n}" for k in "ut" for n in range(more)}
    assert list(RevokedTokens().chunks()) == []


def test_a_record_has_a_key_for_each_name_and_is_read_back() -> None:
    for revocation in (user("ann", 5), token("ann", 5), user("Zoë ü", 1 << 52)):
        assert read_record(record_of(revocation)[1]) == revocation
    assert {record_of(r)[0] for r in (user("ann", 5), user("ann", 6), token("ann", 5))} == {b"user:ann", b"jti:ann"}


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"5", b"{}", b"\xff", b'{"not_before":5}', b'{"not_before":"5","user_id":"a"}'),
        *(b'{"not_before":5,"user_id":"a","jti":"b"}', b'{"not_before":5,"user_id":"a","v":2}'),
        b'{"not_before":5,"user_id":"\xff"}',
    ],
)
def test_a_record_that_cannot_be_read_says_so(value: bytes) -> None:
    with pytest.raises(CorruptRecord):
        read_record(value)
