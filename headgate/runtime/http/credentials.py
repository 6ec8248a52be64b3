"""Reads the credentials of a request, in their order (docs/protocol.md, section 1). Verifies none."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from headgate.core.wire.errors import Refusal

PROTOCOL: Final = "headgate.v1"  # the WebSocket subprotocol that the server selects
TOKEN_PREFIX: Final = "bearer."  # noqa: S105 - begins the subprotocol that carries a token
USER_HEADER: Final = "x-headgate-user"


class Credential(NamedTuple):
    """The one credential that decides: a token, or a ticket."""

    kind: Literal["token", "ticket"]
    text: str


def bearer(authorization: str | None) -> str | None:
    """Returns the token of an `Authorization` header; None without one. Raises Refusal `unauthenticated`."""
    if authorization is None:
        return None
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or " " in token:
        raise Refusal("unauthenticated", "the Authorization header must be 'Bearer <token>'")
    return token


def of_request(authorization: str | None) -> str:
    """Returns the token of a request to the HTTP API, which takes the header only. Raises Refusal `unauthenticated`."""
    token = bearer(authorization)
    if token is None:
        raise Refusal("unauthenticated", "this needs a header 'Authorization: Bearer <token>'")
    return token


def of_stream(
    authorization: str | None, subprotocols: Iterable[str], query: Mapping[str, str], *, query_token: bool
) -> Credential | None:
    """Returns the first credential of a WebSocket or SSE request; None when there is none.

    `subprotocols` are the offered ones in order; `query_token`: whether `?token=` counts.
    Raises Refusal `unauthenticated` for a header that is no bearer token: a bad credential is not followed by another.
    """
    token = bearer(authorization)
    if token is None:
        token = _of_subprotocols(tuple(subprotocols))
    if token is not None:
        return Credential("token", token)
    if "ticket" in query:
        return Credential("ticket", query["ticket"])
    if query_token and "token" in query:
        return Credential("token", query["token"])
    return None


def open_user(query: Mapping[str, str], header: str | None) -> str | None:
    """Returns the user that a request names where `auth.mode` is open: `?user=`, else the header X-Headgate-User."""
    return query.get("user") or header or None


def _of_subprotocols(offered: tuple[str, ...]) -> str | None:
    if PROTOCOL not in offered:
        return None
    return next((name[len(TOKEN_PREFIX) :] for name in offered if name.startswith(TOKEN_PREFIX)), None)
