"""Tickets: what they carry, and each attack on them as a test named by the rule (docs/protocol.md, section 1)."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_users import Revocation
from headgate.core.wire.rights import Caller, Identity
from headgate.runtime.tickets import MAX_BYTES, MAX_TOPICS, ONCE_MS, TYPE, TicketKeys
from headgate.runtime.tokens import Authenticator, TokenKey, mint
from tests.runtime.test_jwks import HandClock

SECRET = "0123456789abcdef0123456789abcdef"
SECOND = "fedcba9876543210fedcba9876543210"
NOW = 1_000_000
ANN = Identity(
    Caller("ann", ("p*",), ("s*",), admin=True, service=True), expires_at=5_000.0, issued_ms=900_000, jti="login-1"
)
ENTROPY = b"\x01" * 16


def keys(*secrets: str) -> TicketKeys:
    return TicketKeys([secret.encode() for secret in secrets or (SECRET,)])


def once(identity: Identity = ANN, **more: Any) -> str:
    return keys().sign_once(identity, more.pop("now_ms", NOW), more.pop("entropy", ENTROPY)).text


def stream(identity: Identity = ANN, topics: tuple[str, ...] = ("a", "b"), ttl_ms: int = 60_000) -> str:
    return keys().sign_stream(identity, topics, ttl_ms, NOW, ENTROPY).text


def refused(text: str, now_ms: int = NOW, reader: TicketKeys | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        (reader or keys()).read(text, now_ms)
    assert not text or text not in caught.value.detail
    return caught.value.code


def authenticator(**more: Any) -> Authenticator:
    return Authenticator("jwt", TokenKey(SECRET), HandClock(), **more)


class TestOnce:
    def test_it_stands_for_its_token_until_that_ends(self) -> None:
        ticket = keys().read(once(), NOW)
        assert ticket.identity == ANN
        assert (ticket.id, ticket.made_ms, ticket.expires_ms) == (ENTROPY.hex(), NOW, NOW + ONCE_MS)

    def test_a_token_that_never_ends_has_such_a_ticket(self) -> None:
        endless = ANN._replace(expires_at=None)
        assert keys().read(once(endless), NOW).identity == endless

    def test_it_has_to_be_used_within_30_seconds(self) -> None:
        assert keys().read(once(), NOW + 30_000)
        assert refused(once(), NOW + 30_001) == "token_expired"

    def test_it_cannot_be_used_after_its_token(self) -> None:
        signed = keys().sign_once(ANN._replace(expires_at=1_010.0), NOW, ENTROPY)
        assert signed.expires_ms == 1_010_000


class TestStream:
    def test_it_reads_its_topics_and_publishes_nothing(self) -> None:
        ticket = keys().read(stream(), NOW)
        caller = Caller("ann", (), ("s*",), admin=True, service=True)
        assert ticket.identity == Identity(caller, 1_060.0, b"", 900_000, "login-1", frozenset({"a", "b"}))
        assert ticket.id == "", "it may be used again and again"
        assert [ticket.identity.may_follow(topic) for topic in ("a", "c", "", "A", "a*")] == [True] + [False] * 4

    def test_only_stays_only(self) -> None:
        little = ANN._replace(caller=Caller("ann", ("x",), ("s",), only=True))
        assert keys().read(stream(little), NOW).identity.caller == Caller("ann", (), ("s",), only=True)

    def test_it_ends_at_its_time_and_never_after_its_token(self) -> None:
        assert keys().read(stream(), NOW + 60_000)
        assert refused(stream(), NOW + 60_001) == "token_expired"
        signed = keys().sign_stream(ANN._replace(expires_at=1_010.0), ["a"], 3_600_000, NOW, ENTROPY)
        assert signed.expires_ms == 1_010_000

    def test_the_largest_is_below_the_bound_of_what_is_read(self) -> None:
        wide = ANN._replace(caller=Caller("ann", ("x" * 128,) * 50, ("y" * 128,) * 50))
        text = keys().sign_stream(wide, [f"{n:0>128}" for n in range(MAX_TOPICS)], 60_000, NOW, ENTROPY).text
        assert keys().read(text, NOW) and len(text) < MAX_BYTES


class TestRules:
    def test_a_ticket_is_no_token(self) -> None:
        for text in (once(), stream()):
            with pytest.raises(Refusal, match="unauthenticated"):
                authenticator().authenticate(text)

    def test_a_token_is_no_ticket(self) -> None:
        token = mint(TokenKey(SECRET), Caller("ann", admin=True), now_s=1_000, ttl_s=60)
        assert refused(token) == "unauthenticated"

    def test_not_even_one_that_the_secret_of_tokens_signed_with_a_tickets_type_and_claims(self) -> None:
        """Who may sign tokens with another's key server, or has a token signed with chosen claims, makes no ticket."""
        claims = jwt.decode(once(), options={"verify_signature": False})
        forged = jwt.encode(claims, SECRET, "HS256", headers={"typ": TYPE})
        assert refused(forged) == "unauthenticated"

    def test_nor_a_token_signed_with_the_key_of_tickets(self) -> None:
        key = hmac.digest(SECRET.encode(), b"headgate tickets 1", "sha256")
        claims = jwt.decode(once(), options={"verify_signature": False})
        for kind in ("JWT", "at+jwt", None, TYPE.upper()):
            assert refused(jwt.encode(claims, key, "HS256", headers={"typ": kind})) == "unauthenticated"

    def test_none_and_other_algorithms_are_refused(self) -> None:
        _, body, signature = once().split(".")
        for algorithm in ("none", "None", "HS512", "RS256"):
            changed = (
                base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": TYPE}).encode()).decode().rstrip("=")
            )
            for end in ("", signature):
                assert refused(f"{changed}.{body}.{end}") == "unauthenticated"

    def test_a_changed_ticket_is_refused(self) -> None:
        head, _, signature = stream().split(".")
        claims = jwt.decode(stream(), options={"verify_signature": False})
        wider = base64.urlsafe_b64encode(json.dumps(claims | {"topics": ["secret"]}).encode()).decode().rstrip("=")
        assert refused(f"{head}.{wider}.{signature}") == "unauthenticated"

    @pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.é.é", "\ud800", "." * 100, "x" * (MAX_BYTES + 1)])
    def test_what_is_no_ticket(self, text: str) -> None:
        assert refused(text) == "unauthenticated"

    def test_a_ticket_of_another_cluster_is_refused(self) -> None:
        assert refused(once(), reader=keys(SECOND)) == "unauthenticated"

    def test_both_secrets_of_a_rotation_are_good_and_the_first_signs(self) -> None:
        both = keys(SECOND, SECRET)
        assert both.read(once(), NOW).identity == ANN
        new = both.sign_once(ANN, NOW, ENTROPY).text
        assert keys(SECOND).read(new, NOW).identity == ANN
        assert refused(new, reader=keys(SECRET)) == "unauthenticated"

    def test_without_a_secret_nothing_is_signed_and_nothing_read(self) -> None:
        """An empty key would be everybody's."""
        none = TicketKeys([])
        key = hmac.digest(b"", b"headgate tickets 1", hashlib.sha256)
        claims = jwt.decode(once(), options={"verify_signature": False})
        assert refused(jwt.encode(claims, key, "HS256", headers={"typ": TYPE}), reader=none) == "unauthenticated"
        with pytest.raises(Refusal, match="internal"):
            none.sign_once(ANN, NOW, ENTROPY)

    @pytest.mark.parametrize(
        "change",
        [
            *(
                {"exp_ms": None},
                {"exp_ms": "x"},
                {"exp_ms": 1e300},
                {"exp_ms": True},
                {"made_ms": []},
                {"token_ms": 1.5},
            ),
            *({"sub": ""}, {"sub": 5}, {"headgate": []}, {"tid": ""}, {"tid": 5}, {"until": "x"}, {"jti": 5}),
            *({"kind": "stream"}, {"kind": None, "topics": "a"}, {"kind": "stream", "topics": [5]}),
            {"kind": "stream", "topics": ["*"]},
        ],
    )
    def test_odd_claims_are_refused_whoever_signed_them(self, change: dict[str, Any]) -> None:
        key = hmac.digest(SECRET.encode(), b"headgate tickets 1", "sha256")
        claims = jwt.decode(once(), options={"verify_signature": False}) | change
        assert refused(jwt.encode(claims, key, "HS256", headers={"typ": TYPE})) == "unauthenticated"


class TestRevocation:
    @pytest.mark.parametrize("revocation", [Revocation("ann", "", 900_001), Revocation("", "login-1", 900_001)])
    def test_what_revokes_a_token_revokes_its_tickets(self, revocation: Revocation) -> None:
        subject = authenticator()
        for text in (once(), stream()):
            assert subject.read_ticket(text)
        subject.revoke([revocation])
        for text in (once(), stream()):
            with pytest.raises(Refusal, match="unauthenticated"):
                subject.read_ticket(text)

    def test_the_time_of_the_token_counts_not_that_of_the_ticket(self) -> None:
        """Else whoever is revoked could go on with a ticket that he got a moment later."""
        subject = authenticator()
        subject.revoke([Revocation("ann", "", NOW - 1)])
        with pytest.raises(Refusal, match="revoked"):
            subject.read_ticket(once())

    def test_a_ticket_of_a_token_without_an_id_has_its_own(self) -> None:
        identity = keys().read(stream(ANN._replace(jti="")), NOW).identity
        assert identity.jti == ENTROPY.hex()

    def test_a_token_that_is_remembered_is_refused_at_once(self) -> None:
        subject = authenticator()
        token = mint(TokenKey(SECRET), Caller("ann"), now_s=999, ttl_s=60, jti="t1")
        other = mint(TokenKey(SECRET), Caller("ann"), now_s=999, ttl_s=60, jti="t2")
        assert subject.authenticate(token) and subject.authenticate(other)
        assert subject.revoke([Revocation("", "t1", NOW)]) and not subject.revoke([Revocation("", "t1", NOW)])
        with pytest.raises(Refusal, match="revoked"):
            subject.authenticate(token)
        assert subject.authenticate(other)
        subject.revoke([Revocation("ann", "", NOW)])
        with pytest.raises(Refusal, match="revoked"):
            subject.authenticate(other)
        again = mint(TokenKey(SECRET), Caller("ann"), now_s=1_000, ttl_s=60)
        assert subject.authenticate(again), "a token issued since is good"
