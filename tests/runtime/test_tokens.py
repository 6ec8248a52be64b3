"""Security rules of tokens, each a test named by its rule (docs/protocol.md, section 1)."""

import base64
import json
from typing import Any

import jwt
import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller, Identity
from headgate.runtime.tokens import Authenticator, BadAuthSettings, TokenKey, hash_of, mint, weakness

SECRET = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return int(self.seconds * 1_000)


CLOCK = Clock()
KEY = TokenKey(SECRET)


def authenticator(**settings: Any) -> Authenticator:
    key = TokenKey(settings.pop("secret", SECRET), settings.pop("issuer", None), settings.pop("audience", None))
    return Authenticator(settings.pop("mode", "jwt"), key, settings.pop("clock", None) or Clock(), **settings)


def token(claims: dict[str, Any] | None = None, secret: str = SECRET, algorithm: str = "HS256", **more: Any) -> str:
    full = {"sub": "ana", "exp": CLOCK.seconds + 60} | (claims or {}) | more
    return jwt.encode({name: value for name, value in full.items() if value is not ...}, secret, algorithm=algorithm)


def refused(text: str, **settings: Any) -> str:
    with pytest.raises(Refusal) as caught:
        authenticator(**settings).authenticate(text)
    assert text not in caught.value.detail
    return caught.value.code


def test_a_token_says_who_asks_and_until_when() -> None:
    rights = {"publish": ["a", "b*"], "subscribe": [], "admin": True, "only": False, "service": True, "later": 1}
    text = token(headgate=rights)
    caller = Caller("ana", publish=("a", "b*"), admin=True, service=True)
    assert authenticator().authenticate(text) == Identity(caller, CLOCK.seconds + 65, hash_of(text))


@pytest.mark.parametrize("missing", ["sub", "exp"])
def test_sub_and_exp_are_required(missing: str) -> None:
    assert refused(token({missing: ...})) == "unauthenticated"
    assert refused(token({missing: None})) == "unauthenticated"


def test_another_signature_is_unauthenticated_even_when_expired() -> None:
    assert refused(token(secret=OTHER)) == "unauthenticated"
    assert refused(token(secret=OTHER, exp=1)) == "unauthenticated"


def test_alg_none_is_refused() -> None:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    body = part({"sub": "ana", "exp": CLOCK.seconds + 60})
    for alg in ("none", "None", "NONE", ""):
        for signature in ("", "x"):
            assert refused(f"{part({'alg': alg, 'typ': 'JWT'})}.{body}.{signature}") == "unauthenticated"


def test_only_hs256_is_taken() -> None:
    for algorithm in ("HS384", "HS512"):
        assert refused(token(secret=SECRET * 2, algorithm=algorithm), secret=SECRET * 2) == "unauthenticated"


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "a.b", "\ud800", "é.é.é", ".." * 50, "eyJhbGciOiJIUzI1NiJ9.W10.x"])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        authenticator().authenticate(text)
    assert caught.value.code == "unauthenticated"


def test_leeway_is_five_seconds_and_expiry_ends_a_cached_token_too() -> None:
    clock = Clock()
    subject = authenticator(clock=clock)
    text = token(exp=clock.seconds + 10)
    for seconds in (0, 9, 15):
        clock.seconds = CLOCK.seconds + seconds
        assert subject.authenticate(text).caller.user_id == "ana"
    clock.seconds = CLOCK.seconds + 15.1
    for _ in range(2):
        with pytest.raises(Refusal) as caught:
            subject.authenticate(text)
        assert caught.value.code == "token_expired"


def test_expired_means_valid_but_for_exp() -> None:
    assert refused(token(exp=CLOCK.seconds - 5.1)) == "token_expired"
    assert refused(token(exp=1, headgate=3)) == "unauthenticated"
    assert refused(token(exp=1, aud="x"), audience="y") == "unauthenticated"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": []},
        {"nbf": CLOCK.seconds + 60},
        {"nbf": "x"},
        {"sub": 5},
        {"sub": ""},
        {"sub": "x" * 129},
        {"sub": "a\nb"},
        {"sub": "a\u0000"},
        {"headgate": []},
        {"headgate": None},
        {"headgate": {"publish": "a"}},
        {"headgate": {"publish": [1]}},
        {"headgate": {"subscribe": {}}},
        {"headgate": {"admin": 1}},
        {"headgate": {"only": "false"}},
        {"headgate": {"service": None}},
        {"exp": 10**400},
        {"exp": -(10**400)},
        {"nbf": 10**400},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"nbf": float("-inf")},
        {"sub": "\ud83d"},
        {"sub": "a\u2028b"},
        {"sub": "\u202eevil"},
        {"sub": "ä" * 65},
    ],
)
def test_claims_of_a_wrong_type_are_refused(claims: dict[str, Any]) -> None:
    assert refused(token(claims)) == "unauthenticated"


NO_PATTERNS = (
    "\ud83d*", "\udc80", "é", "a b", "a*b", "**", "*a", "", "-a", "a\n", "a/b*", "x" * 129, "x" * 129 + "*", "a\u0000*",
)  # fmt: skip


@pytest.mark.parametrize("pattern", NO_PATTERNS)
@pytest.mark.parametrize("claim", ["publish", "subscribe"])
def test_a_pattern_is_a_topic_id_or_a_prefix_ending_in_a_star(claim: str, pattern: str) -> None:
    """What goes over a link is checked where it enters: one lone surrogate took the link down for everybody."""
    assert refused(token(headgate={claim: ["good", pattern]})) == "unauthenticated"
    with pytest.raises(ValueError, match=f"^{claim}: "):
        mint(KEY, Caller("ana", **{claim: (pattern,)}), now_s=0, ttl_s=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", ["*", "a", "a*", "A.b_c:d-9*", "x" * 128, "x" * 128 + "*", "hg:*"])
def test_every_topic_id_and_prefix_is_a_pattern(pattern: str) -> None:
    assert authenticator().authenticate(token(headgate={"publish": [pattern]})).caller.publish == (pattern,)


def test_nobody_is_called_like_the_foreign_producer() -> None:
    assert refused(token(sub="kafka")) == "unauthenticated"
    with pytest.raises(Refusal, match="bad_request"):
        authenticator(mode="open", secret=None).anonymous_caller("kafka")
    assert authenticator().authenticate(token(sub="Kafka")).caller.user_id == "Kafka"


@pytest.mark.parametrize("audience", ["x", ["x", "y"], "", [], None, 5])
def test_an_audience_that_nobody_configured_is_refused(audience: Any) -> None:
    assert refused(token(aud=audience)) == "unauthenticated"


@pytest.mark.parametrize("kind", ["refresh+jwt", "id+jwt", "logout+jwt", 5])
def test_a_token_of_another_type_is_refused(kind: Any) -> None:
    claims = {"sub": "ana", "exp": CLOCK.seconds + 60}
    assert refused(jwt.encode(claims, SECRET, headers={"typ": kind})) == "unauthenticated"
    for good in ("JWT", "at+jwt", "application/at+jwt"):
        assert authenticator().authenticate(jwt.encode(claims, SECRET, headers={"typ": good}))


def test_a_user_id_is_printable_utf8() -> None:
    assert authenticator().authenticate(token(sub="Ána 42")).caller.user_id == "Ána 42"


def test_issuer_and_audience_are_checked_where_they_are_set() -> None:
    assert authenticator().authenticate(token(iss="x"))
    assert authenticator(issuer="x", audience="y").authenticate(token(iss="x", aud=["y", "z"]))
    assert refused(token(), issuer="x") == "unauthenticated"
    assert refused(token(iss="x"), issuer="x", audience="y") == "unauthenticated"
    assert refused(token(iss="z"), issuer="x") == "unauthenticated"


def test_a_token_that_is_good_for_longer_than_the_longest_life_or_does_not_say_is_refused() -> None:
    def of_life(text: str) -> Identity:
        return Authenticator("jwt", TokenKey(SECRET, life_s=600), CLOCK).authenticate(text)

    now = CLOCK.seconds
    assert of_life(token(iat=now, exp=now + 605)).issued_ms == now * 1_000
    assert of_life(token(iat=now - 599, exp=now + 1)).caller.user_id == "ana"
    for claims in (
        {"iat": now, "exp": now + 606},
        {"exp": now + 1},
        {"iat": now - 10_000, "exp": now + 1},
        {"iat": now + 9_000, "exp": now + 9_001},
    ):
        with pytest.raises(Refusal, match="token_life_s"):
            of_life(token(claims))
    assert authenticator().authenticate(token(exp=now + 1e9)), "without the setting any is good"
    key = TokenKey(SECRET, life_s=600)
    assert of_life(mint(key, Caller("ana"), now_s=now, ttl_s=600)).caller.user_id == "ana"
    assert Authenticator("jwt", key, CLOCK).void_until(5_000) == 665_000
    assert authenticator().void_until(5_000) == 0


def test_verified_tokens_are_remembered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0
    original = jwt.decode_complete

    def counting(*args: Any, **named: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return original(*args, **named)

    monkeypatch.setattr(jwt, "decode_complete", counting)
    subject = authenticator(max_cached=3)
    texts = [token(sub=f"u{at}") for at in range(4)]
    for text in texts:
        for _ in range(3):
            subject.authenticate(text)
    assert decoded == 4
    subject.authenticate(texts[0])
    assert decoded == 5


@pytest.mark.parametrize("secret", [None, ""])
def test_a_missing_secret_is_refused_at_start(secret: Any) -> None:
    with pytest.raises(BadAuthSettings, match=r"auth\.secret"):
        authenticator(secret=secret)
    with pytest.raises(BadAuthSettings):
        mint(TokenKey(secret), Caller("ana"), now_s=0, ttl_s=1)
    assert authenticator(secret=secret, mode="open").open


def test_a_short_secret_works_and_is_said() -> None:
    token = mint(TokenKey("short"), Caller("ana"), now_s=0, ttl_s=10**10)
    assert authenticator(secret="short").authenticate(token).caller.user_id == "ana"
    assert "RFC 7518" in (weakness("short") or "")
    assert weakness("x" * 32) is None


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(BadAuthSettings, match=r"auth\.mode"):
        authenticator(mode="none")


def test_open_mode_gives_every_right_to_whoever_one_says() -> None:
    subject = authenticator(mode="open", secret=None)
    caller = Caller("bo", publish=("*",), subscribe=("*",), admin=True, service=True)
    assert subject.anonymous_caller("bo") == Identity(caller, None, b"")
    assert subject.anonymous_caller(None).caller.user_id == "anonymous"
    with pytest.raises(Refusal, match="bad_request"):
        subject.anonymous_caller("a\nb")


def test_what_is_minted_is_taken() -> None:
    rights: dict[str, Any] = {"publish": ("p*",), "subscribe": ("s",), "admin": True, "only": True, "service": True}
    text = mint(TokenKey(SECRET, "i", "a"), Caller("ana", **rights), now_s=CLOCK.seconds, ttl_s=60)
    identity = authenticator(issuer="i", audience="a").authenticate(text)
    assert identity.caller == Caller("ana", **rights)
    assert identity.expires_at == CLOCK.seconds + 65
    plain = jwt.decode(mint(KEY, Caller("ana"), now_s=CLOCK.seconds, ttl_s=60), options={"verify_signature": False})
    assert plain == {"sub": "ana", "iat": 1_000_000, "exp": 1_000_060}
    with pytest.raises(ValueError, match="user"):
        mint(KEY, Caller(""), now_s=0, ttl_s=1)


def test_the_secret_is_in_no_representation_of_its_key() -> None:
    assert SECRET not in repr(TokenKey(SECRET, "i", "a"))
