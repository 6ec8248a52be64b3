"""Attacks on tokens, each a test named by the rule that refuses it (docs/protocol.md, section 1; RFC 8725)."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Caller
from headgate.runtime.jwks import JwksKeys, UnknownKey
from headgate.runtime.tokens import MAX_TOKEN_BYTES, Authenticator, TokenKey, mint
from tests.runtime.key_pairs import key_set, public_pem, published, signed
from tests.runtime.test_jwks import HandClock, Server, served

SECRET = "0123456789abcdef0123456789abcdef"
SECOND = "fedcba9876543210fedcba9876543210"
CLAIMS = {"sub": "ann", "exp": 2_000}


def part(value: Any) -> str:
    return (
        base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode().rstrip("=")
    )


def hs256(secret: bytes, claims: Any = CLAIMS, **header: Any) -> str:
    """A token as an attacker makes it: no library's checks are in his way."""
    text = f"{part({'alg': 'HS256', 'typ': 'JWT'} | header)}.{part(claims)}"
    return f"{text}.{part(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def refused(subject: Authenticator, token: str) -> str:
    with pytest.raises(Refusal) as caught:
        subject.authenticate(token)
    assert token not in caught.value.detail
    return caught.value.code


async def checked(
    *documents: Any, secret: str | None = None, **settings: Any
) -> tuple[Authenticator, JwksKeys, Server, HandClock]:
    """An authenticator with a key server that publishes RSA, EC and Ed25519 keys."""
    keys, server, clock = await served(*(documents or (published("r", "RS256"), published("e", "ES256"))))
    return Authenticator("jwt", TokenKey(secret, **settings), clock, keys=keys), keys, server, clock


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_of_a_key_server_is_good_beside_those_of_the_secret(algorithm: str) -> None:
    subject, _, _, _ = await checked(published("k", algorithm), secret=SECRET)
    assert subject.authenticate(signed(CLAIMS, algorithm, kid="k")).caller == Caller("ann")
    assert subject.authenticate(mint(TokenKey(SECRET), Caller("bob"), now_s=1_000, ttl_s=60)).caller == Caller("bob")


class TestAlgorithmConfusion:
    @pytest.mark.parametrize("secret", [None, SECRET])
    async def test_a_public_key_is_no_secret(self, secret: str | None) -> None:
        subject, _, _, _ = await checked(secret=secret)
        document = published("r", "RS256")
        modulus = base64.urlsafe_b64decode(document["n"] + "==")
        for key in (public_pem("RS256"), public_pem("RS256").strip(), json.dumps(document).encode(), modulus, b""):
            for kid in ("r", "e", "unknown"):
                assert refused(subject, hs256(key, kid=kid)) == "unauthenticated"

    async def test_the_secret_signs_nothing_in_the_name_of_a_public_key(self) -> None:
        subject, _, _, _ = await checked(secret=SECRET)
        for algorithm in ("RS256", "ES256", "EdDSA"):
            assert refused(subject, hs256(SECRET.encode(), alg=algorithm, kid="r")) == "unauthenticated"

    async def test_none_is_no_algorithm_whatever_the_key(self) -> None:
        subject, _, _, _ = await checked(secret=SECRET)
        algorithms: list[Any] = ["none", "None", "nOnE", "", None, ["none"], 0, {}]
        for algorithm in algorithms:
            for kid in ("r", None):
                header = {"alg": algorithm, "typ": "JWT"} | ({"kid": kid} if kid else {})
                assert refused(subject, f"{part(header)}.{part(CLAIMS)}.") == "unauthenticated"

    async def test_a_key_is_used_with_its_own_algorithm_only(self) -> None:
        subject, _, _, _ = await checked(published("r", "RS256"), published("e", "ES256"))
        assert refused(subject, signed(CLAIMS, "RS256", kid="e")) == "unauthenticated"
        for algorithm in ("RS384", "RS512", "PS256"):
            header = {"alg": algorithm, "kid": "r"}
            assert refused(subject, f"{part(header)}.{part(CLAIMS)}.{part(b'x' * 256)}") == "unauthenticated"

    async def test_a_key_inside_the_token_is_not_looked_at(self) -> None:
        subject, _, _, _ = await checked()
        own = published("evil", "ES256", 7)
        for header in ({"jwk": own}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/c"}):
            assert refused(subject, signed(CLAIMS, "ES256", 7, kid="e", **header)) == "unauthenticated"

    async def test_a_signature_of_another_key_or_none_is_refused(self) -> None:
        subject, _, _, _ = await checked()
        good = signed(CLAIMS, "ES256", kid="e")
        head, body, signature = good.split(".")
        changed = part({"sub": "root", "exp": 2_000, "headgate": {"admin": True}})
        for bad in (
            f"{head}.{changed}.{signature}",
            f"{head}.{body}.",
            f"{head}.{body}",
            f"{head}.{body}.{part(b'0' * 64)}",
        ):
            assert refused(subject, bad) == "unauthenticated"
        assert refused(subject, signed(CLAIMS, "ES256", 3, kid="e")) == "unauthenticated"


class TestKid:
    @pytest.mark.parametrize("kid", [5, ["r"], {"r": 1}, True, "k" * 300])
    async def test_of_a_wrong_type_or_size_is_refused(self, kid: Any) -> None:
        subject, keys, _, _ = await checked()
        header = {"alg": "ES256", "typ": "JWT", "kid": kid}
        assert refused(subject, f"{part(header)}.{part(CLAIMS)}.{part(b'0' * 64)}") == "unauthenticated"
        assert not keys._wanted.is_set()

    @pytest.mark.parametrize(
        "kid", ["../../dev/null", "/etc/passwd", "https://evil.example/keys", "x' UNION SELECT 'y"]
    )
    async def test_a_path_or_url_is_an_unknown_key_and_nothing_else(self, kid: str) -> None:
        subject, keys, server, _ = await checked()
        token = signed(CLAIMS, "ES256", kid=kid)
        with pytest.raises(UnknownKey):
            subject.authenticate(token)
        await keys.refresh()
        assert refused(subject, token) == "unauthenticated" and server.asked == 2

    async def test_of_a_token_signed_with_the_secret_means_nothing(self) -> None:
        subject, _, _, _ = await checked(secret=SECRET)
        assert subject.authenticate(hs256(SECRET.encode(), kid="../../etc/passwd")).caller == Caller("ann")


class TestIssuerAndAudience:
    async def test_of_somebody_else_are_refused_with_either_kind_of_key(self) -> None:
        subject, _, _, _ = await checked(secret=SECRET, issuer="us", audience="headgate")
        good = CLAIMS | {"iss": "us", "aud": "headgate"}
        for claims, code in (
            (good, ""),
            (good | {"iss": "them"}, "no"),
            (good | {"aud": "them"}, "no"),
            (CLAIMS, "no"),
        ):
            for token in (signed(claims, "ES256", kid="e"), hs256(SECRET.encode(), claims)):
                if code:
                    assert refused(subject, token) == "unauthenticated"
                else:
                    assert subject.authenticate(token).caller == Caller("ann")

    async def test_an_audience_that_nobody_configured_is_refused_of_a_key_server_too(self) -> None:
        subject, _, _, _ = await checked()
        assert refused(subject, signed(CLAIMS | {"aud": "x"}, "ES256", kid="e")) == "unauthenticated"


class TestRotation:
    def test_of_the_secret_costs_no_token_in_three_steps(self) -> None:
        """First the new secret is accepted everywhere, then it signs, then the old one goes."""
        old, new = (mint(TokenKey(s), Caller("ann"), now_s=1_000, ttl_s=60) for s in (SECRET, SECOND))
        before = TokenKey(SECRET, second=SECOND)
        after = TokenKey(SECOND, second=SECRET)
        for key in (before, after):
            subject = Authenticator("jwt", key, HandClock())
            for token in (old, new):
                assert subject.authenticate(token).caller == Caller("ann")
        only_new = Authenticator("jwt", TokenKey(SECOND), HandClock())
        assert only_new.authenticate(new).caller == Caller("ann")
        assert refused(only_new, old) == "unauthenticated"
        assert jwt.decode(
            mint(after, Caller("bob"), now_s=1, ttl_s=1), SECOND, ["HS256"], options={"verify_exp": False}
        )

    async def test_of_a_key_servers_key_costs_one_wait_and_no_token(self) -> None:
        subject, keys, server, _ = await checked(published("old", "ES256"))
        old, new = signed(CLAIMS, "ES256", kid="old"), signed(CLAIMS, "ES256", 1, kid="new")
        assert subject.authenticate(old)
        server.answer = key_set(published("old", "ES256"), published("new", "ES256", 1))
        with pytest.raises(UnknownKey):
            subject.authenticate(new)
        await keys.refresh()
        assert subject.authenticate(new) and subject.authenticate(old)

    async def test_a_withdrawn_key_ends_what_was_remembered_of_its_tokens(self) -> None:
        subject, keys, server, _ = await checked(published("old", "ES256"))
        token = signed(CLAIMS, "ES256", kid="old")
        assert subject.authenticate(token)
        server.answer = key_set(published("new", "ES256", 1))
        await keys.refresh()
        with pytest.raises(UnknownKey):
            subject.authenticate(token)

    async def test_a_key_server_that_is_away_refuses_no_token_of_the_secret(self) -> None:
        clock = HandClock()
        keys = JwksKeys(Server(), clock)
        subject = Authenticator("jwt", TokenKey(SECRET), clock, keys=keys)
        assert subject.authenticate(hs256(SECRET.encode())).caller == Caller("ann")


class TestClaims:
    @pytest.mark.parametrize(
        "more",
        [
            {"jti": 5},
            {"jti": ""},
            {"jti": "j" * 257},
            {"jti": "a\n"},
            {"jti": None},
            {"iat": "now"},
            {"iat": True},
            {"iat": 10**400},
            {"iat": [1]},
            {"iat": float("nan")},
            {"sub": "a" * 200},
            {"sub": ["ann"]},
            {"exp": {}},
            {"headgate": {"publish": ["x" * 200]}},
            {"headgate": [["a"] * 10]},
        ],
    )
    async def test_that_are_malformed_or_oversized_are_refused(self, more: dict[str, Any]) -> None:
        subject, _, _, _ = await checked(secret=SECRET)
        for token in (hs256(SECRET.encode(), CLAIMS | more), signed(CLAIMS | more, "ES256", kid="e")):
            assert refused(subject, token) == "unauthenticated"

    @pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b'"ann"', b"\xff\xfe", b"[" * 10_000, b'{"sub":"a",'])
    async def test_that_are_no_object_are_refused(self, body: bytes) -> None:
        subject, _, _, _ = await checked(secret=SECRET)
        text = f"{part({'alg': 'HS256'})}.{part(body)}"
        token = f"{text}.{part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"
        assert refused(subject, token) == "unauthenticated"

    async def test_a_token_above_its_bound_is_not_read(self) -> None:
        subject, _, _, _ = await checked(secret=SECRET)
        filler = 3 * MAX_TOKEN_BYTES // 4 - 200
        assert subject.authenticate(hs256(SECRET.encode(), CLAIMS | {"x": "y" * filler}))
        assert refused(subject, hs256(SECRET.encode(), CLAIMS | {"x": "y" * (filler + 400)})) == "unauthenticated"

    async def test_a_long_token_is_checked_each_time_and_fills_no_memory(self) -> None:
        subject, _, _, _ = await checked(secret=SECRET)
        for n in range(10):
            subject.authenticate(hs256(SECRET.encode(), CLAIMS | {"x": "y" * 10_000, "n": n}))
        assert len(subject._verified) == 0

    async def test_when_and_under_which_id_a_token_was_issued_is_known(self) -> None:
        subject, _, _, _ = await checked(secret=SECRET)
        identity = subject.authenticate(hs256(SECRET.encode(), CLAIMS | {"iat": 900.5, "jti": "j1"}))
        assert (identity.issued_ms, identity.jti) == (900_500, "j1")
        without = subject.authenticate(hs256(SECRET.encode()))
        assert (without.issued_ms, without.jti) == (0, "")
