"""Bearer tokens (docs/protocol.md, section 1): verifies those that a secret or a key server signed, and mints them."""

import contextlib
import json
import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Literal

import jwt
from jwt.utils import base64url_decode
from jwt.warnings import InsecureKeyLengthWarning

from headgate.core.wire.errors import HeadgateError, Refusal
from headgate.core.wire.link_users import Revocation
from headgate.core.wire.revoked_tokens import MAX_REVOCATIONS, RevokedTokens
from headgate.core.wire.rights import ANYBODY, Caller, Identity
from headgate.runtime import token_claims as claim
from headgate.runtime.jwks import JwksKeys
from headgate.runtime.ports import Clock
from headgate.runtime.settings import MIN_SECRET_BYTES
from headgate.runtime.tickets import Ticket, TicketKeys
from headgate.runtime.token_claims import Claims, unauthenticated

Mode = Literal["jwt", "open"]

ALGORITHM: Final = "HS256"
MAX_TOKEN_BYTES: Final = 32 * 1024  # longer ones are refused before they are read
MAX_CACHED: Final = 20_000  # verified tokens, about 1 KB each
MAX_CACHED_BYTES: Final = 4 * 1024  # of one token: a longer one is verified each time
FORGET_S: Final = 60.0  # how much longer a revocation is kept than its tokens are good: two leeways, and other clocks
TOKEN_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})  # RFC 8725 section 3.11; none is fine too
_EVERYTHING: Final = ("*",)
_UNREADABLE: Final = (jwt.PyJWTError, ValueError, RecursionError)


@dataclass(frozen=True)
class TokenKey:
    """The secret that signs tokens, and the issuer and audience that they must name (None: none is asked for).

    Tokens that `second` signed are good too, so that the secret can be replaced while both are in use. A token must not
    be good for more than `life_s` seconds.
    """

    secret: str | bytes | None = field(repr=False)
    issuer: str | None = None
    audience: str | None = None
    second: str | bytes | None = field(default=None, repr=False)
    life_s: float | None = None

    def signing_secret(self) -> bytes:
        """Returns the secret as bytes. Raises BadAuthSettings when it is missing."""
        if not self.secret:
            raise BadAuthSettings("auth.mode is jwt and auth.secret is not set")
        return _bytes(self.secret)

    def secrets(self) -> tuple[bytes, ...]:
        """Returns the secrets that a token may be signed with, the first first."""
        return tuple(_bytes(secret) for secret in (self.secret, self.second) if secret)


class BadAuthSettings(HeadgateError):
    """The authentication settings cannot be served; the process must not start."""


class Authenticator:
    """Turns a token into an identity. Remembers verified tokens: a check costs 27 us."""

    def __init__(
        self,
        mode: Mode,
        key: TokenKey,
        clock: Clock,
        *,
        keys: JwksKeys | None = None,
        ticket_secret: bytes | None = None,
        max_cached: int = MAX_CACHED,
    ) -> None:
        """`keys` are those of a key server. `ticket_secret` signs tickets where there is no secret of tokens.

        Raises BadAuthSettings for an unknown mode, and in mode `jwt` where there is neither a secret nor a key server.
        """
        if mode not in ("jwt", "open"):
            raise BadAuthSettings(f"auth.mode is {mode!r}; it must be jwt or open")
        self.open = mode == "open"
        self._secrets = () if self.open else key.secrets()
        if not self.open and not self._secrets and keys is None:
            raise BadAuthSettings("auth.mode is jwt and neither auth.secret nor auth.jwks_url is set")
        self._issuer = key.issuer
        self._audience = key.audience
        self._life_s = key.life_s
        self._keys = keys
        self.tickets = TicketKeys(key.secrets() or ((ticket_secret,) if ticket_secret else ()))
        self.revoked = RevokedTokens()
        self._generation = 0  # of the keys with which the remembered tokens were verified
        self._clock = clock
        self._max_cached = max_cached
        self._verified: OrderedDict[bytes, Identity] = OrderedDict()  # oldest first
        self._anybody = _of_open_mode(ANYBODY)  # one object for all connections without a name

    def authenticate(self, token: str) -> Identity:
        """Returns the identity of a token.

        Raises Refusal `unauthenticated` or `token_expired`, and UnknownKey while the token's key is being fetched.
        """
        if self._keys is not None and self._keys.generation != self._generation:
            self._generation = self._keys.generation
            self._verified.clear()  # one of them may be signed by a key that was withdrawn
        token_hash = hash_of(token)
        found = self._verified.get(token_hash)
        if found is None:
            found = self._verify(token, token_hash)
        if found.expires_at is not None and self._clock.wall_ms() > found.expires_at * 1_000:
            self._verified.pop(token_hash, None)
            raise Refusal("token_expired", "the token's exp lies in the past; get a new token")
        self._check_not_revoked(found)  # a token that is remembered may have been revoked since
        return found

    def read_ticket(self, ticket: str) -> Ticket:
        """Returns a good ticket. Raises Refusal `unauthenticated` or `token_expired`."""
        found = self.tickets.read(ticket, self._clock.wall_ms())
        self._check_not_revoked(found.identity)
        return found

    def revoke(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Refuses what these void from now on; returns those that were not known."""
        if len(self.revoked) >= MAX_REVOCATIONS:
            self.revoked.forget(self._clock.wall_ms())
        return [revocation for revocation in revocations if self.revoked.add(revocation)]

    def void_until(self, not_before: int) -> int:
        """Returns when all tokens that were issued before a time have expired, in Unix milliseconds; 0: unknown."""
        return 0 if self._life_s is None else not_before + int((self._life_s + FORGET_S) * 1_000)

    def _check_not_revoked(self, identity: Identity) -> None:
        if self.revoked and self.revoked.voids(identity.caller.user_id, identity.jti, identity.issued_ms):
            raise unauthenticated("the token was revoked; get a new one")

    def when_keys_fetched(self, then: Callable[[], None]) -> None:
        """After an UnknownKey: calls `then` when it makes sense to authenticate again, a few seconds later at most."""
        assert self._keys is not None
        self._keys.when_fetched(then)

    async def keys_fetched(self) -> None:
        """After an UnknownKey: waits until it makes sense to authenticate again, a few seconds at most."""
        assert self._keys is not None
        await self._keys.fetched()

    def anonymous_caller(self, user: str | None) -> Identity:
        """Returns the identity of a request in open mode, with every right and no rate limits.

        Raises Refusal `bad_request` for a name that cannot be a user id.
        """
        if not user:
            return self._anybody
        if not claim.is_user_id(user):
            raise Refusal("bad_request", claim.NO_USER)
        return _of_open_mode(user)

    def _verify(self, token: str, token_hash: bytes) -> Identity:
        claims = self._decode(token)
        caller, expires_at = claim.caller_of(claims), claim.expiry_of(claims)
        identity = Identity(caller, expires_at, token_hash, claim.issued_ms_of(claims), claim.jti_of(claims))
        now_s = self._clock.wall_ms() / 1_000
        claim.check_begun(claims, now_s)
        if self._life_s is not None:
            claim.check_life(claims, self._life_s, now_s)
        if len(token) <= MAX_CACHED_BYTES:
            while len(self._verified) >= self._max_cached:
                self._verified.popitem(last=False)
            self._verified[token_hash] = identity
        return identity

    def _decode(self, token: str) -> Claims:
        """Returns the claims of a token with a good signature."""
        if len(token) > MAX_TOKEN_BYTES:
            raise unauthenticated(f"the token has more than {MAX_TOKEN_BYTES} bytes")
        try:
            decoded = self._checked(token)
        except _UNREADABLE as error:
            # PyJWT's messages name claims and algorithms, never the token.
            raise unauthenticated(f"the token is not valid: {error}") from None
        self._check_purpose(decoded["header"], decoded["payload"])
        claims: Claims = decoded["payload"]
        return claims

    def _checked(self, token: str) -> dict[str, Any]:
        """Checks the signature with the key that is meant: a public key never serves as a secret, nor the reverse."""
        if self._keys is not None:
            header = _header_of(token)
            if header.get("alg") != ALGORITHM:
                key = self._keys.find(header.get("kid"), header.get("alg"))
                return self._read(token, key.key, key.algorithm_name)
        if not self._secrets:
            raise unauthenticated(f"tokens of {ALGORITHM} are not accepted: auth.secret is not set")
        for secret in self._secrets[:-1]:
            with contextlib.suppress(jwt.InvalidSignatureError):
                return self._read(token, secret, ALGORITHM)
        return self._read(token, self._secrets[-1], ALGORITHM)

    def _read(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        # We check times ourselves: with the port's clock, and exp last, so that "expired" means "valid but for exp".
        unchecked = ("verify_exp", "verify_nbf", "verify_iat")
        options: dict[str, Any] = {"require": ["sub", "exp"], "verify_aud": self._audience is not None}
        options |= dict.fromkeys(unchecked, False)
        with _any_key_length():
            return jwt.decode_complete(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options=options,  # type: ignore[arg-type]  # a TypedDict, filled by name here
            )

    def _check_purpose(self, header: dict[str, Any], claims: Claims) -> None:
        """Refuses tokens that the issuer made for another audience or purpose (RFC 7519 4.1.3, RFC 8725 3.11)."""
        if self._audience is None and "aud" in claims:
            raise unauthenticated("the token names an audience (aud) and auth.audience is not set")
        if str(header.get("typ", "jwt")).lower() not in TOKEN_TYPES:
            raise unauthenticated("the token's header says that it is no access token (typ)")


def _of_open_mode(user_id: str) -> Identity:
    return Identity(Caller(user_id, publish=_EVERYTHING, subscribe=_EVERYTHING, admin=True, service=True))


def _header_of(token: str) -> dict[str, Any]:
    """Returns the header of a token, nothing of which is checked. Raises ValueError, RecursionError."""
    header = json.loads(base64url_decode(token.partition(".")[0]))  # as PyJWT reads it, without the rest of the token
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header


@contextlib.contextmanager
def _any_key_length() -> Iterator[None]:
    """Silences PyJWT's warning at each token: a short secret is reported once, at startup (`weakness`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        yield


def weakness(secret: str | bytes) -> str | None:
    """Returns a sentence about a secret that is shorter than it should be, None for a good one."""
    size = len(_bytes(secret))
    if size >= MIN_SECRET_BYTES:
        return None
    return f"it has {size} bytes; RFC 7518 asks for {MIN_SECRET_BYTES} with {ALGORITHM}: it can be guessed"


def mint(key: TokenKey, caller: Caller, *, now_s: float, ttl_s: float, jti: str | None = None) -> str:
    """Returns a token for a caller that is good for `ttl_s` seconds from the Unix second `now_s`.

    Raises BadAuthSettings for a missing secret, and ValueError for a user id, pattern or `jti` that cannot be one.
    """
    if jti is not None and not claim.is_jti(jti):
        raise ValueError(f"jti: {claim.NO_JTI}")
    claims: Claims = claim.claims_of(caller) | {"iat": int(now_s), "exp": math.ceil(now_s + ttl_s)}
    claims |= {"iss": key.issuer} if key.issuer else {}
    claims |= {"aud": key.audience} if key.audience else {}
    claims |= {"jti": jti} if jti else {}
    with _any_key_length():
        return jwt.encode(claims, key.signing_secret(), algorithm=ALGORITHM)


def hash_of(token: str) -> bytes:
    """Returns the 16-byte hash under which a token is remembered."""
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _bytes(secret: str | bytes) -> bytes:
    return secret.encode() if isinstance(secret, str) else secret
