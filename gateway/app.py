"""The gateway's HTTP application (ASGI): ending subscriptions by request, refusals for the rest; no stream passes here.

Streams are taken by `gateway.protocol` before uvicorn sees them.
"""

import asyncio
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.head import SSE_PATH, WEBSOCKET_PATHS, segments_of, topic_of
from gateway.sessions import Sessions
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id
from headgate.core.wire.link import AskTopic
from headgate.core.wire.rights import Identity
from headgate.runtime.http.bodies import media_type
from headgate.runtime.http.cors import cors_headers, preflight_headers
from headgate.runtime.http.credentials import USER_HEADER, of_request, open_user
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.problem import problem_of
from headgate.runtime.links.port import Directory
from headgate.runtime.tokens import Authenticator

_MAX_BODY: Final = 256 * 1024  # PROTOCOL section 0
_ANSWER_S: Final = 5.0  # how long the owner may take to say whether there is such a topic


class GatewayApp:
    """Serves the gateway's paths; others go to `fallback`, or are 404."""

    def __init__(
        self,
        sessions: Sessions,
        origins: Origins,
        authenticator: Authenticator,
        directory: Directory,
        fallback: ASGIApp | None = None,
    ) -> None:
        self._sessions = sessions
        self._origins = origins
        self._authenticator = authenticator
        self._directory = directory
        self._fallback = _nothing if fallback is None else fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection scope of ASGI 3."""
        methods = _methods_of(scope)
        if not methods:
            await self._fallback(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request, methods)
        except ClientDisconnect:
            return
        except Refusal as refusal:
            self._sessions.refused(refusal)
            response = _problem(refusal)
        headers = request.headers
        response.raw_headers += cors_headers(self._origins, headers.get("origin"), headers.get("host"))
        if response.status_code == 408:
            response.headers["connection"] = "close"  # the rest of the body may still come
        if request.method == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, request: Request, methods: tuple[str, ...]) -> Response:
        if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
            return self._preflight(request, methods)
        if request.method == "DELETE" and "DELETE" in methods:
            return await self._end(request)
        raise Refusal("method_not_allowed", f"this path takes {', '.join(methods)}", allow=list(methods))

    def _preflight(self, request: Request, methods: tuple[str, ...]) -> Response:
        headers = request.headers
        asked = headers.get("access-control-request-headers")
        response = Response(status_code=204)
        response.raw_headers += preflight_headers(
            self._origins, headers.get("origin"), headers.get("host"), list(methods), asked
        )
        return response

    async def _end(self, request: Request) -> Response:
        """DELETE of a topic's `subscribe`: ends the caller's live subscriptions on this gateway."""
        body = await _read(request, self._sessions.limits.head_s)
        identity = self._identify(request)
        headers = request.headers
        media_type(headers.get("content-type", ""), headers.get("content-encoding", ""))
        topic_id = check_topic_id(topic_of(segments_of(request.scope["raw_path"])))
        ended = self._sessions.unsubscribe_user(identity.caller.user_id, topic_id, _connection_id(request, body))
        if not ended:
            await self._exists(topic_id, identity)
        content = msgspec.json.encode({"success": True, "ended": ended})
        return Response(content, media_type="application/json")

    async def _exists(self, topic_id: str, identity: Identity) -> None:
        directory = self._directory
        shard = directory.shard_of(topic_id)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await directory.ask(shard, lambda req: AskTopic(req, topic_id, identity.caller))
        except TimeoutError:
            raise Refusal("not_ready", "the topic's owner does not answer; try again") from None

    def _identify(self, request: Request) -> Identity:
        authenticator = self._authenticator
        if authenticator.open:
            query = dict(parse_qsl(request.url.query, keep_blank_values=True))
            user = request.headers.get(USER_HEADER, "").encode("latin-1").decode("utf-8", "replace")
            return authenticator.anonymous_caller(open_user(query, user))
        return authenticator.authenticate(of_request(request.headers.get("authorization")))


def _methods_of(scope: Scope) -> tuple[str, ...]:
    """Returns what a path takes, nothing for a path that is not ours."""
    if scope["type"] != "http":
        return ()
    segments = segments_of(scope["raw_path"])
    if segments in WEBSOCKET_PATHS:
        return ("GET",)
    if segments == SSE_PATH:
        return ("GET", "HEAD")
    return ("DELETE", "GET", "HEAD") if topic_of(segments) is not None else ()


def _connection_id(request: Request, body: bytes) -> str | None:
    found = request.query_params.get("connection_id")
    if body:
        try:
            members = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            members = None
        if not isinstance(members, dict):
            raise Refusal("bad_request", "the body is not a JSON object")
        found = members.get("connection_id", found)
        if "connection_id" in members and not isinstance(found, str):
            raise Refusal("bad_request", "connection_id is a string")
    return found


async def _read(request: Request, deadline_s: float) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > _MAX_BODY:
        raise Refusal("too_large", f"a body of {int(announced)} bytes; at most {_MAX_BODY} are taken")
    body = bytearray()
    try:
        async with asyncio.timeout(deadline_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY:
                    raise Refusal("too_large", f"the body has more than {_MAX_BODY} bytes")
    except TimeoutError:
        raise Refusal("request_timeout", f"the body was not whole after {deadline_s:g} s") from None
    return bytes(body)


def _problem(refusal: Refusal) -> Response:
    status, headers, body = problem_of(refusal)
    response = Response(body, status_code=status)
    response.raw_headers = list(headers)
    return response


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The application behind the gateway's where there is no other."""
    if scope["type"] == "http":
        response = _problem(Refusal("not_found", "nothing is served at this path"))
        await response(scope, receive, send)
        return
    while scope["type"] == "lifespan":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
