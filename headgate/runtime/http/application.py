"""The HTTP application (ASGI) of every port: finds the endpoint, and gives each answer what all answers have.

Starlette answers lifespan and WebSocket scopes, reads bodies, and writes streams until the client is gone. Its router
and headers are not used: docs/adr/0013-one-http-layer.md says why.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from headgate.core.wire.errors import Refusal
from headgate.runtime.http.answers import Header
from headgate.runtime.http.bounded import ABORT, IS_BLOCKED
from headgate.runtime.http.call import Reply
from headgate.runtime.http.callers import Users
from headgate.runtime.http.checks import Checks, Incoming
from headgate.runtime.http.memory_budget import MemoryBudget
from headgate.runtime.http.paths import Found, Paths
from headgate.runtime.http.problem import problem_of

DEADLINE_S: Final = 10.0
PIECE_BYTES: Final = 256 * 1024  # of an answer that is handed to the socket at a time
_NO_ROUTES: Final = Router()
_log = logging.getLogger("headgate.http")

CountRefusal = Callable[[str, str], None]


class HttpApp:
    """The endpoints of one role. A path that it does not have goes to `fallback`, or is 404 `not_found`."""

    def __init__(
        self,
        paths: Paths,
        users: Users | None,
        *,
        budget: MemoryBudget | None = None,
        count_refusal: CountRefusal | None = None,
        deadline_s: float = DEADLINE_S,
        fallback: ASGIApp | None = None,
    ) -> None:
        """`users` is None where all endpoints are for anyone and no page of another origin may call.

        `count_refusal` takes the code and the detail of each refusal. `deadline_s`: for a body to come, and for each
        piece of an answer to be taken. Raises ValueError where an endpoint needs users and there are none.
        """
        if users is None and paths.needs_users:
            raise ValueError("an endpoint is for users only, and there are no users")
        self._paths = paths
        self._users = users
        self._checks = Checks(users, deadline_s)
        self._budget = MemoryBudget() if budget is None else budget
        self._count_refusal = count_refusal
        self._deadline_s = deadline_s
        self._fallback = fallback
        self._active = 0
        self._idle: asyncio.Future[None] | None = None  # while somebody waits for the last answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one scope of ASGI 3."""
        if scope["type"] != "http":
            await _answer_other(scope, receive, send)
            return
        found = self._paths.find(scope["raw_path"])
        if found is None and self._fallback is not None:
            await self._fallback(scope, receive, send)
            return
        self._active += 1
        try:
            await self._serve(scope, receive, send, found)
        finally:
            self._active -= 1
            if self._idle is not None and not self._active and not self._idle.done():
                self._idle.set_result(None)

    async def idle(self) -> None:
        """Waits until no request is being answered."""
        if self._active:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
            self._idle = None

    async def _serve(self, scope: Scope, receive: Receive, send: Send, found: Found | None) -> None:
        with self._budget.share() as share:
            request = Incoming(scope, receive, dict(scope["headers"]), share)
            try:
                answer = await self._outcome(request, found)
            except ClientDisconnect:
                return  # nobody waits for an answer
            headers = [*answer.headers, *(() if self._users is None else self._users.cors(request.headers))]
            if answer.stream is not None and scope["method"] != "HEAD":
                response = StreamingResponse(answer.stream, answer.status)
                response.raw_headers = headers
                await response(scope, receive, send)
                return
            calls = scope.get("extensions", {})
            is_blocked = calls.get(IS_BLOCKED, _always)
            try:
                start = {"type": "http.response.start", "status": answer.status, "headers": headers}
                await self._hand(send, start, is_blocked)
                await self._send_body(send, b"" if scope["method"] == "HEAD" else answer.body, is_blocked)
            except TimeoutError:
                abort = calls.get(ABORT)
                if abort is None:  # another server: it ends the connection of an application that failed
                    raise
                abort()
                await _gone(receive)

    async def _outcome(self, request: Incoming, found: Found | None) -> Reply:
        """Returns the answer with all its headers, whatever it is."""
        try:
            answer = await self._checks.answer(request, found)
        except Refusal as refusal:
            refusal.__traceback__ = refusal.__context__ = None  # their frames have the refusal: work for the collector
            if self._count_refusal is not None:
                self._count_refusal(refusal.code, refusal.detail)
            status, headers, body = problem_of(refusal)
            if status == 408:
                headers.append((b"connection", b"close"))  # the rest of the body may still come
            return Reply(status, body, tuple(headers))
        except ClientDisconnect:
            raise
        except Exception:
            _log.exception("a request failed")
            status, headers, body = problem_of(Refusal("internal", "something went wrong here; it is in the log"))
            return Reply(status, body, tuple(headers))
        return _told_of(answer)

    async def _send_body(self, send: Send, body: bytes, is_blocked: Callable[[], bool]) -> None:
        """Hands the socket a large answer piece by piece. Raises TimeoutError as `_hand` does.

        The last piece has no deadline: whoever reads at all may read a page of some 100 KB as slowly as he must.
        """
        at = 0
        while len(body) - at > PIECE_BYTES:
            piece = {"type": "http.response.body", "body": body[at : at + PIECE_BYTES], "more_body": True}
            at += PIECE_BYTES
            await self._hand(send, piece, is_blocked)
        await send({"type": "http.response.body", "body": body[at:] if at else body})

    async def _hand(self, send: Send, message: Message, is_blocked: Callable[[], bool]) -> None:
        """Hands the server a part of an answer. Raises TimeoutError where the client does not read what is before it.

        The head too: what a request holds must not wait for a client that reads the answers before it a little now and
        then.
        """
        if not is_blocked():
            await send(message)
            return
        async with asyncio.timeout(self._deadline_s):
            await send(message)


def _always() -> bool:
    return True


async def _gone(receive: Receive) -> None:
    """Returns when the connection is gone, so that the server misses no answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _told_of(answer: Reply) -> Reply:
    """Returns the answer with the headers that tell of its body before its own."""
    status, body, headers, content_type, stream = answer
    if status == 204:
        return answer
    about: tuple[Header, ...] = ((b"content-type", content_type),)
    if stream is None:
        about = (*about, (b"content-length", b"%d" % len(body)))
    return Reply(status, body, about + headers, content_type, stream)


async def _answer_other(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a server's lifespan, and refuses a WebSocket (403): the gateway's protocol takes them, no application."""
    if scope["type"] == "lifespan":
        await _NO_ROUTES.lifespan(scope, receive, send)
    else:
        await WebSocketClose()(scope, receive, send)
