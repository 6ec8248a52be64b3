"""Reads the claims of a token whose signature is good (docs/protocol.md, section 1), and checks each of them."""

from typing import Any, Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import FOREIGN_PUBLISHER
from headgate.core.wire.rights import Caller, is_pattern

LEEWAY_S: Final = 5.0
MAX_USER_BYTES: Final = 128
MAX_JTI: Final = 256  # characters of a token's id: it is kept as long as the token's connection
MAX_TIME_S: Final = 1 << 53  # beyond it a float is no whole second; no NaN and no infinity is between the bounds
NO_USER: Final = f"a user is 1 to {MAX_USER_BYTES} bytes of printable UTF-8, and not {FOREIGN_PUBLISHER!r}"
NO_JTI: Final = f"a token's id is 1 to {MAX_JTI} printable characters"

Claims = dict[str, Any]


def unauthenticated(detail: str) -> Refusal:
    """Returns the refusal of a credential. `detail` never repeats the credential."""
    return Refusal("unauthenticated", detail)


def is_user_id(user: object) -> bool:
    """Returns whether this is 1 to 128 bytes of printable UTF-8, and not the publisher of foreign records."""
    if not isinstance(user, str) or not 1 <= len(user) <= MAX_USER_BYTES or not user.isprintable():
        return False  # a printable text has no lone surrogate
    return len(user.encode()) <= MAX_USER_BYTES and user != FOREIGN_PUBLISHER


def is_jti(jti: object) -> bool:
    """Returns whether this can be the id of a token."""
    return isinstance(jti, str) and 1 <= len(jti) <= MAX_JTI and jti.isprintable()


def caller_of(claims: Claims) -> Caller:
    """Returns the user and his further rights. Raises Refusal `unauthenticated`."""
    if not is_user_id(claims.get("sub")):
        raise unauthenticated(f"the token's sub is no user: {NO_USER}")
    rights = claims.get("headgate", {})
    if not isinstance(rights, dict):
        raise unauthenticated("the token's claim headgate must be an object")
    return Caller(
        claims["sub"],
        publish=_patterns(rights, "publish"),
        subscribe=_patterns(rights, "subscribe"),
        admin=_flag(rights, "admin"),
        only=_flag(rights, "only"),
        service=_flag(rights, "service"),
    )


def expiry_of(claims: Claims) -> float:
    """Returns the Unix second after which the token is refused, the leeway included. Raises Refusal."""
    if not _is_time(claims.get("exp")):
        raise unauthenticated("the token's exp must be a number of seconds")
    return float(claims["exp"]) + LEEWAY_S


def check_begun(claims: Claims, now_s: float) -> None:
    """Raises Refusal `unauthenticated` while the token's `nbf` lies in the future."""
    not_before = claims.get("nbf", 0)
    if not _is_time(not_before) or now_s + LEEWAY_S < not_before:
        raise unauthenticated("the token's nbf is no time, or lies in the future")


def issued_ms_of(claims: Claims) -> int:
    """Returns when the token was issued in Unix milliseconds; 0 where it does not say. Raises Refusal."""
    issued = claims.get("iat", 0)
    if not _is_time(issued):
        raise unauthenticated("the token's iat must be a number of seconds")
    return int(issued * 1_000)


def check_life(claims: Claims, most_s: float, now_s: float) -> None:
    """Raises Refusal `unauthenticated` for a token that is good for longer than `most_s`, or may be for all it says.

    A token that says it will be issued later is good from now on, and so counts from now.
    """
    if "iat" not in claims:
        raise unauthenticated("the token has no iat, and auth.token_life_s is set")
    if claims["exp"] - min(claims["iat"], now_s) > most_s + LEEWAY_S:
        raise unauthenticated(f"the token is good for more than {most_s:g} s (auth.token_life_s)")


def jti_of(claims: Claims) -> str:
    """Returns the token's id, "" where it has none. Raises Refusal."""
    if "jti" not in claims:
        return ""
    jti = claims["jti"]
    if not is_jti(jti):
        raise unauthenticated(f"the token's jti is none: {NO_JTI}")
    return str(jti)


def claims_of(caller: Caller) -> Claims:
    """Returns the claims that `caller_of` reads. Raises ValueError for a user id or a pattern that cannot be one."""
    if not is_user_id(caller.user_id):
        raise ValueError(f"sub: {NO_USER}")
    _check_patterns(publish=caller.publish, subscribe=caller.subscribe)
    rights: Claims = {"publish": list(caller.publish), "subscribe": list(caller.subscribe)}
    rights |= {"admin": caller.admin, "only": caller.only, "service": caller.service}
    kept = {name: value for name, value in rights.items() if value}
    return {"sub": caller.user_id} | ({"headgate": kept} if kept else {})


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and -MAX_TIME_S < value < MAX_TIME_S  # type: ignore[operator]  # narrowed by type()


def _patterns(rights: Claims, name: str) -> tuple[str, ...]:
    value = rights.get(name, [])
    if not isinstance(value, list) or not all(isinstance(p, str) and is_pattern(p) for p in value):
        raise unauthenticated(f"the token's claim headgate.{name} must list topic ids or prefixes that end in '*'")
    return tuple(value)


def _check_patterns(**lists: tuple[str, ...]) -> None:
    for name, patterns in lists.items():
        wrong = [pattern for pattern in patterns if not is_pattern(pattern)]
        if wrong:
            raise ValueError(f"{name}: {wrong[0]!r} is neither a topic id nor a prefix that ends in '*'")


def _flag(rights: Claims, name: str) -> bool:
    value = rights.get(name, False)
    if not isinstance(value, bool):
        raise unauthenticated(f"the token's claim headgate.{name} must be true or false")
    return value
