"""The checks that all endpoints have in common, in the order of docs/protocol.md, section 0; handlers make the rest."""

from typing import Final, NamedTuple

from starlette.types import Receive, Scope

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Identity
from headgate.runtime.http.bodies import Headers, announced_bytes, media_type, read_body
from headgate.runtime.http.call import NOBODY, Call, Reply
from headgate.runtime.http.callers import Users, text_of
from headgate.runtime.http.memory_budget import Share
from headgate.runtime.http.paths import Found, ServedEndpoint
from headgate.runtime.http.queries import read_query
from headgate.runtime.logging import REQUEST_ID

_SAFE: Final = frozenset({"GET", "HEAD"})  # methods that change nothing


class Incoming(NamedTuple):
    """A request before its checks. Header names are lower case; of a repeated header the last counts."""

    scope: Scope
    receive: Receive
    headers: Headers
    share: Share


class Checks:
    """Path and method, page, body size, authentication, media type, body. The first that fails answers."""

    def __init__(self, users: Users | None, deadline_s: float) -> None:
        """`users` is None where anyone may call and no page of another origin. `deadline_s`: for a body to come."""
        self._users = users
        self._deadline_s = deadline_s

    async def answer(self, request: Incoming, found: Found | None) -> Reply:
        """Returns the handler's answer. Raises Refusal, and ClientDisconnect when the client has gone away."""
        if found is None:
            raise Refusal("not_found", "nothing is served at this path")
        methods, parameters = found
        users, method, headers = self._users, request.scope["method"], request.headers
        if users is not None and method == "OPTIONS" and b"access-control-request-method" in headers:
            return Reply(204, b"", tuple(users.preflight(headers, methods.allow)))
        served = methods.by_name.get(method)
        if served is None or served.handler is None:
            raise methods.refusal()
        if users is not None and method not in _SAFE:
            users.check_page(headers)
        if users is None or served.is_for_anyone:
            call = Call(NOBODY, parameters, {}, request.scope["query_string"], "", None, b"", request.share)
            if b"openmetrics" in headers.get(b"accept", b""):
                call = call._replace(accepts_openmetrics=True)
        else:
            call = await self._call(request, users, served, parameters)
        return await served.handler(call)

    async def _call(self, request: Incoming, users: Users, served: ServedEndpoint, parameters: dict[str, str]) -> Call:
        scope, receive, headers, share = request
        limit, query_string = served.body_bytes, scope["query_string"]
        announced = announced_bytes(headers, limit)
        query = read_query(query_string)
        try:
            identity: Identity = await users.known_identity(headers, query, is_stream=served.endpoint.is_stream)
        except Refusal:
            if announced is None:  # it may be too large, and that comes before who sends it
                await read_body(scope, receive, limit, self._deadline_s, None)
            raise
        share.open(identity.caller.user_id, announced or 0)  # from here on the body is kept
        kind = media_type(headers, served.media_types) if limit else ""
        body = await read_body(scope, receive, limit, self._deadline_s, share) if limit else b""
        key = text_of(headers, b"idempotency-key")
        client, request_id = scope.get("client"), headers.get(b"x-request-id", b"")
        if request_id or REQUEST_ID.get():  # that of the request before it, in whose task this one's was started
            REQUEST_ID.set(request_id)
        peer = client[0] if client else ""
        caller, trace = identity.caller, headers.get(b"traceparent", b"")
        return Call(caller, parameters, query, query_string, kind, key, body, share, peer, request_id, identity, trace)
