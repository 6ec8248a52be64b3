"""Who may call an API: which users, and pages of which origins."""

from typing import Final

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Identity
from headgate.runtime.http.answers import Header
from headgate.runtime.http.bodies import Headers
from headgate.runtime.http.cors import cors_headers, preflight_headers
from headgate.runtime.http.credentials import USER_HEADER, of_request, of_stream, open_user
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.queries import Query
from headgate.runtime.http.request_text import decoded
from headgate.runtime.jwks import UnknownKey
from headgate.runtime.tokens import Authenticator

KEY_FETCHES: Final = 2  # the first may have begun before the key was published
_USER: Final = USER_HEADER.encode()


class Users:
    """The callers of an API: users of one authenticator, from pages of these origins."""

    def __init__(self, authenticator: Authenticator, origins: Origins, *, query_token: bool = False) -> None:
        """`query_token`: whether a stream's token may come in the query string."""
        self._query_token = query_token
        self._authenticator = authenticator
        self._origins = origins

    def identity(self, headers: Headers, query: Query, *, is_stream: bool = False) -> Identity:
        """Returns who asks; for a stream its token may be in the query, as an EventSource sends no headers.

        Raises Refusal `unauthenticated` or `token_expired`, in open mode `bad_request`, and UnknownKey.
        """
        if self._authenticator.open:
            user = headers.get(_USER)
            named = open_user(query, None if user is None else decoded(user))
            return self._authenticator.anonymous_caller(named)
        authorization = text_of(headers, b"authorization")
        if is_stream and authorization is None:
            found = of_stream(None, (), query, query_token=self._query_token)
            if found is not None and found.kind == "token":
                return self._authenticator.authenticate(found.text)
        return self._authenticator.authenticate(of_request(authorization))

    async def known_identity(self, headers: Headers, query: Query, *, is_stream: bool = False) -> Identity:
        """Like `identity`; waits at most KEY_FETCHES times for the key of a token, where it is being fetched."""
        for _ in range(KEY_FETCHES):
            try:
                return self.identity(headers, query, is_stream=is_stream)
            except UnknownKey:
                await self._authenticator.keys_fetched()
        return self.identity(headers, query, is_stream=is_stream)

    def check_page(self, headers: Headers) -> None:
        """Raises Refusal `forbidden` for a foreign origin in open mode, where a page needs no token to act.

        A POST needs no preflight. A GET changes nothing, and its answer names no allowed origin.
        """
        if not self._authenticator.open:
            return
        origin = text_of(headers, b"origin")
        if origin is not None and not self._origins.allows(origin, text_of(headers, b"host")):
            raise Refusal("forbidden", "pages of this origin may not call; see http.origins")

    def preflight(self, headers: Headers, methods: list[str]) -> list[Header]:
        """Returns the headers of the answer to a preflight. Raises Refusal `forbidden` or `bad_request`."""
        asked = text_of(headers, b"access-control-request-headers")
        origin, host = text_of(headers, b"origin"), text_of(headers, b"host")
        return preflight_headers(self._origins, origin, host, methods, asked)

    def cors(self, headers: Headers) -> list[Header]:
        """Returns the headers that let a page of another origin read an answer; `Vary` always."""
        origin = text_of(headers, b"origin")
        return cors_headers(self._origins, origin, None if origin is None else text_of(headers, b"host"))


def text_of(headers: Headers, name: bytes) -> str | None:
    """Returns the value of a header."""
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
