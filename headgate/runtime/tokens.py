"""Bearer tokens: verifies and mints JWTs (HS256), as docs/protocol.md, section 1 has them. Only here is PyJWT used."""

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Literal

import jwt
from jwt.warnings import InsecureKeyLengthWarning

from headgate.core.wire.errors import HeadgateError, Refusal
from headgate.core.wire.ids import FOREIGN_PUBLISHER
from headgate.core.wire.rights import Caller, Identity, is_pattern
from headgate.runtime.ports import Clock
from headgate.runtime.settings import MIN_SECRET_BYTES

Mode = Literal["jwt", "open"]

ALGORITHM: Final = "HS256"
LEEWAY_S: Final = 5.0
MAX_CACHED: Final = 20_000  # verified tokens, about 1 KB each
MAX_USER_BYTES: Final = 128
MAX_TIME_S: Final = 1 << 53  # beyond it a float is no whole second; no NaN and no infinity is between the bounds
ANYBODY: Final = "anonymous"
NO_USER: Final = f"a user is 1 to {MAX_USER_BYTES} bytes of printable UTF-8, and not {FOREIGN_PUBLISHER!r}"
TOKEN_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})  # RFC 8725 section 3.11; none is fine too
_EVERYTHING: Final = ("*",)


@dataclass(frozen=True)
class TokenKey:
    """The secret that signs tokens, and the issuer and audience that they must name (None: none is asked for)."""

    secret: str | bytes | None = field(repr=False)
    issuer: str | None = None
    audience: str | None = None

    def signing_secret(self) -> bytes:
        """Returns the secret as bytes. Raises BadAuthSettings when it is missing."""
        raw = self.secret.encode() if isinstance(self.secret, str) else self.secret
        if not raw:
            raise BadAuthSettings("auth.mode is jwt and auth.secret is not set")
        return raw


class BadAuthSettings(HeadgateError):
    """The authentication settings cannot be served; the process must not start."""


class Authenticator:
    """Turns a token into an identity. Remembers verified tokens: a check costs 27 us."""

    def __init__(self, mode: Mode, key: TokenKey, clock: Clock, *, max_cached: int = MAX_CACHED) -> None:
        """Raises BadAuthSettings for an unknown mode, and for a missing secret in mode `jwt`."""
        if mode not in ("jwt", "open"):
            raise BadAuthSettings(f"auth.mode is {mode!r}; it must be jwt or open")
        self.open = mode == "open"
        self._secret = b"" if self.open else key.signing_secret()
        self._issuer = key.issuer
        self._audience = key.audience
        self._clock = clock
        self._max_cached = max_cached
        self._verified: dict[bytes, Identity] = {}  # oldest first

    def authenticate(self, token: str) -> Identity:
        """Returns the identity of a token. Raises Refusal `unauthenticated` or `token_expired`."""
        token_hash = hash_of(token)
        found = self._verified.get(token_hash)
        if found is None:
            found = self._verify(token, token_hash)
        if found.expires_at is not None and self._clock.wall_ms() > found.expires_at * 1_000:
            self._verified.pop(token_hash, None)
            raise Refusal("token_expired", "the token's exp lies in the past; get a new token")
        return found

    def anonymous_caller(self, user: str | None) -> Identity:
        """Returns the identity of a request in open mode, with every right and no rate limits.

        Raises Refusal `bad_request` for a name that cannot be a user id.
        """
        user_id = user or ANYBODY
        if not is_user_id(user_id):
            raise Refusal("bad_request", NO_USER)
        caller = Caller(user_id, publish=_EVERYTHING, subscribe=_EVERYTHING, admin=True, service=True)
        return Identity(caller, None, b"")

    def _verify(self, token: str, token_hash: bytes) -> Identity:
        claims = self._decode(token)
        identity = Identity(_caller(claims), _expiry(claims), token_hash)
        not_before = claims.get("nbf", 0)
        if not _is_time(not_before) or self._clock.wall_ms() / 1_000 + LEEWAY_S < not_before:
            raise _unauthenticated("the token's nbf is no time, or lies in the future")
        while len(self._verified) >= self._max_cached:
            del self._verified[next(iter(self._verified))]
        self._verified[token_hash] = identity
        return identity

    def _decode(self, token: str) -> dict[str, Any]:
        # We check times ourselves: with the port's clock, and exp last, so that "expired" means "valid but for exp".
        unchecked = ("verify_exp", "verify_nbf", "verify_iat")
        options: dict[str, Any] = {"require": ["sub", "exp"], "verify_aud": self._audience is not None}
        options |= dict.fromkeys(unchecked, False)
        try:
            with _any_key_length():
                decoded = jwt.decode_complete(
                    token,
                    self._secret,
                    algorithms=[ALGORITHM],
                    issuer=self._issuer,
                    audience=self._audience,
                    options=options,  # type: ignore[arg-type]  # a TypedDict, filled by name here
                )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            # PyJWT's messages name claims and algorithms, never the token.
            raise _unauthenticated(f"the token is not valid: {error}") from None
        self._check_purpose(decoded["header"], decoded["payload"])
        claims: dict[str, Any] = decoded["payload"]
        return claims

    def _check_purpose(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        """Refuses tokens that the issuer made for another audience or purpose (RFC 7519 4.1.3, RFC 8725 3.11)."""
        if self._audience is None and "aud" in claims:
            raise _unauthenticated("the token names an audience (aud) and auth.audience is not set")
        if str(header.get("typ", "jwt")).lower() not in TOKEN_TYPES:
            raise _unauthenticated("the token's header says that it is no access token (typ)")


@contextlib.contextmanager
def _any_key_length() -> Iterator[None]:
    """Silences PyJWT's warning at each token: a short secret is reported once, at startup (`weakness`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        yield


def weakness(secret: str | bytes) -> str | None:
    """Returns a sentence about a secret that is shorter than it should be, None for a good one."""
    size = len(secret.encode() if isinstance(secret, str) else secret)
    if size >= MIN_SECRET_BYTES:
        return None
    return f"auth.secret has {size} bytes; RFC 7518 asks for {MIN_SECRET_BYTES} with {ALGORITHM}: it can be guessed"


def mint(key: TokenKey, caller: Caller, *, now_s: float, ttl_s: float) -> str:
    """Returns a token for a caller that is good for `ttl_s` seconds from the Unix second `now_s`.

    Raises BadAuthSettings for a missing secret, and ValueError for a user id or pattern that cannot be one.
    """
    if not is_user_id(caller.user_id):
        raise ValueError(f"sub: {NO_USER}")
    _check_patterns(publish=caller.publish, subscribe=caller.subscribe)
    rights: dict[str, Any] = {"publish": list(caller.publish), "subscribe": list(caller.subscribe)}
    rights |= {"admin": caller.admin, "only": caller.only, "service": caller.service}
    claims: dict[str, Any] = {"sub": caller.user_id, "iat": int(now_s), "exp": math.ceil(now_s + ttl_s)}
    claims |= {"iss": key.issuer} if key.issuer else {}
    claims |= {"aud": key.audience} if key.audience else {}
    kept = {name: value for name, value in rights.items() if value}
    claims |= {"headgate": kept} if kept else {}
    with _any_key_length():
        return jwt.encode(claims, key.signing_secret(), algorithm=ALGORITHM)


def hash_of(token: str) -> bytes:
    """Returns the 16-byte hash under which a token is remembered."""
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_user_id(user: object) -> bool:
    """Returns whether this is 1 to 128 bytes of printable UTF-8, and not the publisher of foreign records."""
    if not isinstance(user, str) or not 1 <= len(user) <= MAX_USER_BYTES or not user.isprintable():
        return False  # a printable text has no lone surrogate
    return len(user.encode()) <= MAX_USER_BYTES and user != FOREIGN_PUBLISHER


def _unauthenticated(detail: str) -> Refusal:
    return Refusal("unauthenticated", detail)


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and -MAX_TIME_S < value < MAX_TIME_S  # type: ignore[operator]  # narrowed by type()


def _expiry(claims: dict[str, Any]) -> float:
    if not _is_time(claims["exp"]):
        raise _unauthenticated("the token's exp must be a number of seconds")
    return float(claims["exp"]) + LEEWAY_S


def _caller(claims: dict[str, Any]) -> Caller:
    if not is_user_id(claims["sub"]):
        raise _unauthenticated(f"the token's sub is no user: {NO_USER}")
    rights = claims.get("headgate", {})
    if not isinstance(rights, dict):
        raise _unauthenticated("the token's claim headgate must be an object")
    return Caller(
        claims["sub"],
        publish=_patterns(rights, "publish"),
        subscribe=_patterns(rights, "subscribe"),
        admin=_flag(rights, "admin"),
        only=_flag(rights, "only"),
        service=_flag(rights, "service"),
    )


def _patterns(rights: dict[str, Any], name: str) -> tuple[str, ...]:
    value = rights.get(name, [])
    if not isinstance(value, list) or not all(isinstance(p, str) and is_pattern(p) for p in value):
        raise _unauthenticated(f"the token's claim headgate.{name} must list topic ids or prefixes that end in '*'")
    return tuple(value)


def _check_patterns(**lists: tuple[str, ...]) -> None:
    for name, patterns in lists.items():
        wrong = [pattern for pattern in patterns if not is_pattern(pattern)]
        if wrong:
            raise ValueError(f"{name}: {wrong[0]!r} is neither a topic id nor a prefix that ends in '*'")


def _flag(rights: dict[str, Any], name: str) -> bool:
    value = rights.get(name, False)
    if not isinstance(value, bool):
        raise _unauthenticated(f"the token's claim headgate.{name} must be true or false")
    return value
