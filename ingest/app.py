"""The HTTP application (ASGI): the path table, the order of checks, what every answer has; knows no handler's inside.

Its own table instead of Starlette's router, because the page is exact about three things: a segment is percent-decoded
once and then matched (`%2F` is part of it), 405 names every method of a path, and what is checked before what.
"""

import asyncio
import logging
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from starlette.types import Message, Receive, Scope, Send

from headgate.core.wire.errors import Refusal
from headgate.core.wire.rights import Identity
from headgate.runtime.http import credentials
from headgate.runtime.http.bodies import JSON, media_type
from headgate.runtime.http.cors import cors_headers, preflight_headers
from headgate.runtime.http.origins import Origins
from headgate.runtime.http.problem import problem_of
from headgate.runtime.tokens import Authenticator
from ingest.exchange import Call, Handler, Query, Reply
from ingest.memory_budget import MemoryBudget, Share
from ingest.ports import IngestMetrics

MAX_QUERY_FIELDS: Final = 1_000
PIECE_BYTES: Final = 256 * 1024  # of an answer that is handed to the socket at a time
_CONTENT_TYPE: Final = (b"content-type", JSON.encode())
_log = logging.getLogger("headgate.ingest")

Headers = dict[bytes, bytes]
RawHeaders = list[tuple[bytes, bytes]]


class Endpoint(NamedTuple):
    """What serves one method of a path. `body_bytes` is the largest body, 0 where none is read.

    Without a `handler` the path is a gateway's: the answer is a redirect to its equivalent.
    """

    handler: Handler | None
    body_bytes: int = 0
    media_types: frozenset[str] = frozenset({JSON})


Methods = dict[str, Endpoint]
Paths = dict[tuple[str, ...], Methods]  # the segments of a path; "*" is a parameter


class _Gone(Exception):
    """The client went away before its request was whole: nobody waits for an answer."""


class IngestApp:
    """The ASGI application."""

    def __init__(
        self,
        paths: Paths,
        authenticator: Authenticator,
        origins: Origins,
        held: MemoryBudget,
        metrics: IngestMetrics,
        deadline_s: float,
    ) -> None:
        """`deadline_s`: for a body to come, and for each piece of an answer to be taken."""
        self._by_length: dict[int, list[tuple[tuple[str, ...], Methods]]] = {}
        for pattern, methods in paths.items():
            full = {"HEAD": methods["GET"], **methods} if "GET" in methods else methods
            self._by_length.setdefault(len(pattern), []).append((pattern, full))
        self._authenticator = authenticator
        self._origins = origins
        self._held = held
        self._metrics = metrics
        self._deadline_s = deadline_s
        self._active = 0
        self._idle: asyncio.Future[None] | None = None  # while somebody waits for the last answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection scope of ASGI 3."""
        if scope["type"] == "http":
            self._active += 1
            try:
                await self._http(scope, receive, send)
            finally:
                self._active -= 1
                if self._idle is not None and not self._active and not self._idle.done():
                    self._idle.set_result(None)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})  # before the handshake: 403
        else:
            await _lifespan(receive, send)

    async def idle(self) -> None:
        """Waits until no request is being answered."""
        if self._active:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
            self._idle = None

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        with self._held.share() as share:
            try:
                status, raw, body = await self._outcome(scope, headers, receive, share)
            except _Gone:
                return
            raw += cors_headers(self._origins, _text(headers, b"origin"), _text(headers, b"host"))
            await send({"type": "http.response.start", "status": status, "headers": raw})
            await self._send_body(send, b"" if scope["method"] == "HEAD" else body)

    async def _outcome(
        self, scope: Scope, headers: Headers, receive: Receive, share: Share
    ) -> tuple[int, RawHeaders, bytes]:
        try:
            answer = await self._answer(scope, headers, receive, share)
        except Refusal as refusal:
            self._metrics.refused(refusal.code, refusal.detail)
            status, raw, body = problem_of(refusal)
            if status == 408:
                raw.append((b"connection", b"close"))  # the rest of the body may still come
            return status, raw, body
        except _Gone:
            raise
        except Exception:
            _log.exception("a request failed")
            return problem_of(Refusal("internal", "something went wrong here; it is in the log"))
        return answer.status, _headers_of(answer), answer.body

    async def _send_body(self, send: Send, body: bytes) -> None:
        """Hands the socket a large answer piece by piece, so that one who does not read it is found."""
        at = 0
        while len(body) - at > PIECE_BYTES:
            piece = {"type": "http.response.body", "body": body[at : at + PIECE_BYTES], "more_body": True}
            at += PIECE_BYTES
            async with asyncio.timeout(self._deadline_s):
                await send(piece)
        await send({"type": "http.response.body", "body": body[at:] if at else body})

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, share: Share) -> Reply:
        """The order of checks (PROTOCOL section 0), as far as it is the same everywhere; handlers do the rest."""
        methods, parameters = self._match(_segments(scope))
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            return self._preflight(methods, headers)
        endpoint = methods.get(scope["method"])
        if endpoint is None:
            raise Refusal("method_not_allowed", f"this path takes {', '.join(sorted(methods))}", allow=sorted(methods))
        if scope["method"] not in ("GET", "HEAD"):
            self._check_page(headers)
        if endpoint.handler is None:
            return _redirect(parameters[0], scope["query_string"])
        announced = _announced(headers, endpoint.body_bytes)
        query = _query(scope["query_string"])
        try:
            caller = self._authenticate(headers, query).caller
        except Refusal:
            if announced is None:  # it may be too large, and that comes before who sends it
                await self._read(receive, endpoint.body_bytes, None)
            raise
        share.open(caller.user_id, announced or 0)
        kind = _media_type(headers, endpoint)
        body = await self._read(receive, endpoint.body_bytes, share)
        return await endpoint.handler(
            Call(caller, parameters, query, kind, _text(headers, b"idempotency-key"), body, share)
        )

    def _check_page(self, headers: Headers) -> None:
        """Where nobody needs a token, a page of a foreign origin must not act: a POST needs no preflight.

        What it reads its browser keeps from it: the answer names no allowed origin.
        """
        if not self._authenticator.open:
            return
        origin = _text(headers, b"origin")
        if origin is not None and not self._origins.allows(origin, _text(headers, b"host")):
            raise Refusal("forbidden", "pages of this origin may not call; see http.origins")

    def _match(self, segments: tuple[str, ...]) -> tuple[Methods, tuple[str, ...]]:
        for pattern, methods in self._by_length.get(len(segments), ()):
            if all(want in (got, "*") for want, got in zip(pattern, segments, strict=True)) and "" not in segments:
                return methods, tuple(got for want, got in zip(pattern, segments, strict=True) if want == "*")
        raise Refusal("not_found", "nothing is served at this path")

    def _authenticate(self, headers: Headers, query: Query) -> Identity:
        if self._authenticator.open:
            user = headers.get(credentials.USER_HEADER.encode())
            return self._authenticator.anonymous_caller(
                credentials.open_user(query, None if user is None else user.decode("utf-8", "replace"))
            )
        return self._authenticator.authenticate(credentials.of_request(_text(headers, b"authorization")))

    async def _read(self, receive: Receive, limit: int, share: Share | None) -> bytes:
        """Returns the body; without a `share` it is waited for and thrown away."""
        if not limit:
            return b""
        try:
            async with asyncio.timeout(self._deadline_s):
                return await _read_all(receive, limit, share)
        except TimeoutError:
            raise Refusal("request_timeout", f"the body was not whole after {self._deadline_s:g} s") from None

    def _preflight(self, methods: Methods, headers: Headers) -> Reply:
        asked = _text(headers, b"access-control-request-headers")
        origin, host = _text(headers, b"origin"), _text(headers, b"host")
        return Reply(204, b"", tuple(preflight_headers(self._origins, origin, host, sorted(methods), asked)))


def _headers_of(answer: Reply) -> RawHeaders:
    if answer.status == 204:
        return [*answer.headers]
    return [_CONTENT_TYPE, (b"content-length", b"%d" % len(answer.body)), *answer.headers]


def _segments(scope: Scope) -> tuple[str, ...]:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    parts = raw.split(b"/")[1:]
    if b"%" in raw:
        return tuple(unquote_to_bytes(part).decode("utf-8", "replace") for part in parts)
    return tuple(part.decode("utf-8", "replace") for part in parts)


def _query(raw: bytes) -> Query:
    if not raw:
        return {}
    try:
        fields = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise Refusal("bad_request", f"the query string has more than {MAX_QUERY_FIELDS} fields") from None
    return dict(fields)


def _announced(headers: Headers, limit: int) -> int | None:
    """Returns the length of the body to read; None while nobody can know. Raises Refusal `too_large`."""
    length = headers.get(b"content-length", b"" if b"transfer-encoding" in headers else b"0")
    if not limit:
        return 0
    if not length.isdigit():
        return None
    if int(length) > limit:
        raise Refusal("too_large", f"a body of {int(length)} bytes; at most {limit} are taken")
    return int(length)


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _media_type(headers: Headers, endpoint: Endpoint) -> str:
    if not endpoint.body_bytes:
        return ""
    content_type, encoding = headers.get(b"content-type", b""), headers.get(b"content-encoding", b"")
    return media_type(content_type.decode("latin-1"), encoding.decode("latin-1"), endpoint.media_types)


def _chunk(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise _Gone
    body: bytes = message.get("body", b"")
    return body


async def _read_all(receive: Receive, limit: int, share: Share | None) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        chunk = _chunk(message)
        size += len(chunk)
        if size > limit:
            raise Refusal("too_large", f"the body has more than {limit} bytes")
        if share is not None:
            share.hold(size)
            chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _redirect(topic_id: str, query_string: bytes) -> Reply:
    location = b"/sse/subscribe?topic_id=" + quote(topic_id, safe=":").encode()
    if query_string:
        location += b"&" + query_string
    return Reply(307, b"{}", ((b"location", location),))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
