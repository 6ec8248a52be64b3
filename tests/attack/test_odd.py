"""The generator itself: it reaches what it is there for, and a seed repeats it."""

from headgate.core.wire import link, linkcodec
from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.runtime.system import SystemClock
from headgate.runtime.tokens import Authenticator, TokenKey
from tests.attack.odd import Odd

SECRET = "0123456789abcdef0123456789abcdef"
TRIES = 1_000


def test_equal_seeds_give_equal_things() -> None:
    one, other = Odd(1), Odd(1)
    for _ in range(50):
        assert (one.text(), one.octets(), one.json(), one.percent()) == (
            other.text(), other.octets(), other.json(), other.percent(),
        )  # fmt: skip


def test_tokens_are_often_good_and_never_let_through_what_a_link_cannot_carry() -> None:
    reader, odd, good = Authenticator("jwt", TokenKey(SECRET), SystemClock()), Odd(2), 0
    for _ in range(TRIES):
        try:
            caller = reader.authenticate(odd.token(SECRET)).caller
        except Refusal as refusal:
            assert refusal.code in ("unauthenticated", "token_expired")
            continue
        linkcodec.encode(link.AskTopic(1, "t", caller))
        good += 1
    assert TRIES // 20 < good < TRIES


def test_many_claims_would_poison_a_link_if_nobody_looked_at_them() -> None:
    odd, poison = Odd(3), 0
    for _ in range(TRIES):
        rights = odd.claims().get("headgate")
        patterns = rights.get("subscribe") if isinstance(rights, dict) else None
        if isinstance(patterns, list) and all(isinstance(p, str) for p in patterns):
            try:
                linkcodec.encode(link.AskTopic(1, "t", Caller("x", subscribe=tuple(patterns))))
            except linkcodec.Unsendable:
                poison += 1
    assert poison > TRIES // 20
