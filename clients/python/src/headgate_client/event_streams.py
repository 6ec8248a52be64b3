"""Event streams as a transport, where WebSockets are blocked: one request a topic, answered in frames."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import httpx

from headgate_client.api import problem_of, retry_after_ms
from headgate_client.credentials import Credential
from headgate_client.errors import CredentialsFailed
from headgate_client.event_parser import EventParser
from headgate_client.frames import Frame, encode, read
from headgate_client.position import form_of
from headgate_client.reconnection import LOST, TOKEN_EXPIRED, UNAUTHENTICATED, after_close
from headgate_client.transport import MAX_FRAME, OPEN_S, NotOpened, TransportEnded

DEAD_S: Final = 45.0  # the server sends a comment every 15 s
LOST_STREAM: Final = "connection_lost"  # of one topic; the others go on
BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FRAMES: Final = 16  # read and not taken: as many as in the buffer of a WebSocket
NEEDS_WEBSOCKET: Final = "needs_websocket"
Who = Callable[[], Awaitable[Credential | None]]
_PATH: Final = "/sse/subscribe"
_TICKET: Final = re.compile(r"(?<=[?&]ticket=)[^&]+")
_log = logging.getLogger("headgate_client")


def _hide_tickets(record: logging.LogRecord) -> bool:
    """`httpx` writes the URL of each request into its log."""
    if isinstance(record.args, tuple):
        record.args = tuple(_TICKET.sub("***", str(arg)) if isinstance(arg, httpx.URL) else arg for arg in record.args)
    return True


logging.getLogger("httpx").addFilter(_hide_tickets)


class _Taken(NamedTuple):
    """A frame for `recv`; `counts`: it was read, and takes one of FRAMES places."""

    text: bytes
    counts: bool = False


@dataclass(slots=True, kw_only=True)
class _EventStream:
    """The request of one topic. `live`: an event came; `ended`: the server ended the subscription.

    `asked` is the id of the `subscribe` frame, which a refusal repeats.
    """

    topic_id: str
    asked: Any = None
    live: bool = False
    ended: bool = False
    task: "asyncio.Task[None] | None" = None


class EventStreams:
    """Opens a stream for each `subscribe` frame. It ends with the last of its streams.

    A frame that event streams cannot carry is answered with the error `needs_websocket`. At most FRAMES wait for
    `recv`; then the responses are not read.
    """

    two_way = False

    def __init__(self, base: str, headers: Mapping[str, str], who: Who, *, trust_env: bool) -> None:
        """`who` returns what a request presents; each asks for itself: a ticket may be good for one."""
        self.close_code = LOST
        self._url = base.rstrip("/") + _PATH
        self._headers = dict(headers)
        self._who = who
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(OPEN_S, read=DEAD_S, pool=None), limits=httpx.Limits(max_connections=None),
            trust_env=trust_env, follow_redirects=False,
        )  # fmt: skip
        self._streams: dict[str, _EventStream] = {}
        self._frames: asyncio.Queue[_Taken | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(FRAMES)
        self._over = False

    @classmethod
    async def open(cls, base: str, headers: Mapping[str, str], who: Who, *, trust_env: bool) -> Self:
        """Asks once whether the server answers HTTP at all. Raises NotOpened."""
        streams = cls(base, headers, who, trust_env=trust_env)
        try:
            answer = await streams._http.get(streams._url, headers=streams._headers)
        except httpx.HTTPError as error:
            await streams.abort()
            raise NotOpened(f"{type(error).__name__} {error}".rstrip()) from error
        if answer.status_code not in (BAD_REQUEST, UNAUTHORIZED):  # no topic was named, and maybe no token
            await streams.abort()
            problem = problem_of(answer)
            raise NotOpened(f"event streams: {problem}", answer.status_code, retry_after_ms(problem))
        return streams

    async def recv(self) -> bytes:
        """Returns the next frame. Raises TransportEnded."""
        found = await self._frames.get()
        if found is None:
            self._frames.put_nowait(None)
            raise TransportEnded
        if found.counts:
            self._room.release()
        return found.text

    async def send(self, frame: Frame) -> None:
        """Opens or ends a stream, or refuses the frame. Raises TransportEnded."""
        if self._over:
            raise TransportEnded
        kind, topic_id = frame["type"], frame.get("topic_id", "")
        if kind == "subscribe" and not frame.get("ack"):
            stream = self._streams[topic_id] = _EventStream(topic_id=topic_id, asked=frame.get("id"))
            stream.task = asyncio.create_task(self._follow(stream, frame), name=f"headgate-stream-{topic_id}")
        elif kind == "unsubscribe":
            self._left(topic_id)
            self._say("unsubscribed", topic_id, id=frame.get("id"), reason="requested")
        elif "id" in frame or kind == "subscribe":
            message = (
                "acknowledgements and groups need a WebSocket" if frame.get("ack") else f"{kind} needs a WebSocket"
            )
            self._refuse(topic_id, NEEDS_WEBSOCKET, message, retryable=False, id=frame.get("id"))

    async def ping(self) -> "asyncio.Future[float]":
        """Nothing to ask: each stream has its own deadline."""
        raise TransportEnded

    async def pong(self) -> None:
        """Nothing to tell: the server looks at each stream."""

    async def close(self) -> None:
        """Ends all streams."""
        await self.abort()

    async def abort(self) -> None:
        """Ends all streams."""
        self._end(self.close_code)
        tasks = [stream.task for stream in self._streams.values() if stream.task is not None]
        self._streams.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    async def _follow(self, stream: _EventStream, frame: Frame) -> None:
        try:
            used = await self._who()
            query, headers = _query(frame, used), self._with(used)
            async with self._http.stream("GET", self._url, params=query, headers=headers) as answer:
                if answer.status_code == 200:
                    await self._read(stream, answer)
                else:
                    await answer.aread()
                    self._refused(stream, answer)
        except (httpx.HTTPError, ValueError, CredentialsFailed) as error:
            _log.info("%s: the event stream ended: %s", stream.topic_id, error)
        if self._streams.get(stream.topic_id) is not stream:
            return
        del self._streams[stream.topic_id]
        if not stream.ended:
            self._lost(stream, LOST)

    async def _read(self, stream: _EventStream, answer: httpx.Response) -> None:
        parser = EventParser(MAX_FRAME)
        async for piece in answer.aiter_bytes():
            for text in parser.push(piece):
                await self._event(stream, text)
                if self._streams.get(stream.topic_id) is not stream:
                    return

    async def _event(self, stream: _EventStream, text: bytes) -> None:
        frame = read(text)
        if frame["type"] == "disconnect":
            self._disconnected(stream, frame, text)
            return
        stream.live = True
        stream.ended = stream.ended or frame["type"] == "unsubscribed"
        await self._room.acquire()
        self._frames.put_nowait(_Taken(text, counts=True))

    def _disconnected(self, stream: _EventStream, frame: Frame, text: bytes) -> None:
        """The server ended this stream: all of them where the reason holds for all, or where it was the last."""
        code = int(frame.get("code") or LOST)
        del self._streams[stream.topic_id]
        if code == TOKEN_EXPIRED or after_close(code) == "stop":
            self._frames.put_nowait(_Taken(text))
            self._end(code)
        else:
            self._lost(stream, code, frame.get("retry_after_ms"))

    def _refused(self, stream: _EventStream, answer: httpx.Response) -> None:
        problem = problem_of(answer)
        stream.ended = True
        if problem.status == UNAUTHORIZED:
            self._end(UNAUTHENTICATED)
            return
        self._refuse(
            stream.topic_id, problem.code, problem.detail, retryable=problem.retryable,
            retry_after_ms=retry_after_ms(problem), id=stream.asked,
        )  # fmt: skip

    def _lost(self, stream: _EventStream, code: int, after_ms: int | None = None) -> None:
        if any(other.live for other in self._streams.values()):
            self._refuse(stream.topic_id, LOST_STREAM, "the stream ended", retryable=True, retry_after_ms=after_ms)
            return
        if after_ms:
            self._say("disconnect", "", code=code, retry_after_ms=after_ms)
        self._end(code)

    def _end(self, code: int) -> None:
        if not self._over:
            self._over = True
            self.close_code = code
            self._frames.put_nowait(None)

    def _left(self, topic_id: str) -> None:
        stream = self._streams.pop(topic_id, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()

    def _refuse(self, topic_id: str, code: str, message: str, **more: Any) -> None:
        self._say("error", topic_id, code=code, message=message, **more)

    def _say(self, kind: str, topic_id: str, **more: Any) -> None:
        given = {name: value for name, value in more.items() if value is not None}
        self._frames.put_nowait(_Taken(encode({"type": kind, "topic_id": topic_id, **given}).encode()))

    def _with(self, used: Credential | None) -> dict[str, str]:
        bearer = {} if used is None or used.is_ticket else {"Authorization": f"Bearer {used.text}"}
        return {**self._headers, **bearer}


def _query(frame: Frame, used: Credential | None) -> dict[str, str]:
    """Returns the query of a stream that answers a `subscribe` frame."""
    query = {"topic_id": str(frame["topic_id"]), "from": form_of(frame.get("from", "live"))}
    if frame.get("presence") is False:
        query["presence"] = "false"
    if "device_id" in frame:
        query["device_id"] = str(frame["device_id"])
    if used is not None and used.is_ticket:
        query["ticket"] = used.text
    return query
