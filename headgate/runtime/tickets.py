"""Tickets: short credentials that a stream carries in its URL (docs/protocol.md, section 1).

A ticket is a JWT of its own type, signed with a key that is made for tickets alone: no ticket is a token, and no token
a ticket. It carries the rights, the time of issue and the id of the token it was made with: whatever revokes the token
revokes the ticket.
"""

import hmac
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import jwt

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import TOPIC_ID
from headgate.core.wire.rights import Caller, Identity
from headgate.runtime import token_claims as claim
from headgate.runtime.token_claims import Claims, unauthenticated

TYPE: Final = "hg-ticket+jwt"
ALGORITHM: Final = "HS256"
ONCE_MS: Final = 30_000
MAX_STREAM_S: Final = 3_600
MAX_TOPICS: Final = 128  # of a stream ticket: as many as a connection follows by default
MAX_BYTES: Final = 48 * 1024  # 128 topic ids and a token's rights; a head has at most 64 KiB
_PURPOSE: Final = b"headgate tickets 1"


class SignedTicket(NamedTuple):
    """A new ticket, good until the Unix millisecond `expires_ms`."""

    text: str
    expires_ms: int


class Ticket(NamedTuple):
    """A ticket that was read. `id` is the number under which it is used up, "" for one that may be used again.

    It was made at `made_ms` and is good until `expires_ms` (Unix milliseconds). `identity` is what it stands for.
    """

    identity: Identity
    id: str
    made_ms: int
    expires_ms: int


class TicketKeys:
    """Signs tickets with the first of several secrets and takes those of all of them."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keys = [hmac.digest(secret, _PURPOSE, "sha256") for secret in secrets]

    def sign_once(self, identity: Identity, now_ms: int, entropy: bytes) -> SignedTicket:
        """Returns a ticket for one stream, to be begun within 30 s; its stream may last as long as the token."""
        claims: Claims = {"kind": "once", "tid": entropy.hex()}
        if identity.expires_at is not None:
            claims["until"] = identity.expires_at
        return self._sign(claims, identity, now_ms, ONCE_MS, entropy)

    def sign_stream(
        self, identity: Identity, topic_ids: Sequence[str], ttl_ms: int, now_ms: int, entropy: bytes
    ) -> SignedTicket:
        """Returns a ticket for streams of these topics, good for `ttl_ms`, and no longer than the token."""
        return self._sign({"kind": "stream", "topics": list(topic_ids)}, identity, now_ms, ttl_ms, entropy)

    def read(self, text: str, now_ms: int) -> Ticket:
        """Returns a good ticket. Raises Refusal `unauthenticated` or `token_expired`."""
        claims = self._verified(text)
        made_ms, expires_ms, issued_ms = (claims.get(name) for name in ("made_ms", "exp_ms", "token_ms"))
        if type(made_ms) is not int or type(expires_ms) is not int or type(issued_ms) is not int:
            raise unauthenticated("the ticket has no times")
        if now_ms > expires_ms:
            raise Refusal("token_expired", "the ticket has expired; get another")
        identity = Identity(claim.caller_of(claims), issued_ms=issued_ms, jti=claim.jti_of(claims))
        if claims.get("kind") == "once":
            return _once(claims, identity, made_ms, expires_ms)
        return _stream(claims, identity, made_ms, expires_ms)

    def _sign(self, claims: Claims, identity: Identity, now_ms: int, ttl_ms: int, entropy: bytes) -> SignedTicket:
        if not self._keys:
            raise Refusal("internal", "there is no key to sign a ticket with")
        expires_ms = now_ms + ttl_ms
        if identity.expires_at is not None:
            expires_ms = min(expires_ms, int(identity.expires_at * 1_000))
        claims |= claim.claims_of(identity.caller)
        claims |= {"made_ms": now_ms, "exp_ms": expires_ms, "jti": identity.jti or entropy.hex()}
        claims["token_ms"] = identity.issued_ms
        return SignedTicket(jwt.encode(claims, self._keys[0], ALGORITHM, headers={"typ": TYPE}), expires_ms)

    def _verified(self, text: str) -> Claims:
        if len(text) > MAX_BYTES:
            raise unauthenticated(f"the ticket has more than {MAX_BYTES} bytes")
        why = "there is no key for it"
        for key in self._keys:
            try:
                decoded = jwt.decode_complete(text, key, algorithms=[ALGORITHM], options=_ONLY_THE_SIGNATURE)
            except (jwt.PyJWTError, ValueError, RecursionError) as error:
                why = str(error)
                continue
            if decoded["header"].get("typ") != TYPE:
                raise unauthenticated("this is no ticket")
            return dict(decoded["payload"])
        raise unauthenticated(f"the ticket is not valid: {why}")


_ONLY_THE_SIGNATURE: Final[Any] = dict.fromkeys(
    ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti"), False
)


def _once(claims: Claims, identity: Identity, made_ms: int, expires_ms: int) -> Ticket:
    ticket_id, until = claims.get("tid"), claims.get("until")
    if not isinstance(ticket_id, str) or not ticket_id or not isinstance(until, float | int | None):
        raise unauthenticated("the ticket cannot be read")
    return Ticket(identity._replace(expires_at=until), ticket_id, made_ms, expires_ms)


def _stream(claims: Claims, identity: Identity, made_ms: int, expires_ms: int) -> Ticket:
    topics = claims.get("topics")
    if not isinstance(topics, list) or not all(isinstance(t, str) and TOPIC_ID.fullmatch(t) for t in topics):
        raise unauthenticated("the ticket cannot be read")
    who = identity.caller
    reader = Caller(who.user_id, (), who.subscribe, admin=who.admin, only=who.only, service=who.service)
    narrowed = identity._replace(caller=reader, expires_at=expires_ms / 1_000, topics=frozenset(topics))
    return Ticket(narrowed, "", made_ms, expires_ms)
