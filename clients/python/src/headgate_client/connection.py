"""The connection of a client: opens one transport after the other, and hands the frames of each topic to its feed."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final, Literal

from headgate_client.connection_state import State, Step, after
from headgate_client.credentials import Credential, Credentials
from headgate_client.errors import (
    ClientError,
    ConnectionStopped,
    CredentialsFailed,
    RequestFailed,
    SubscribeRefused,
    SubscriptionEnded,
    Unreachable,
)
from headgate_client.event_streams import LOST_STREAM, EventStreams
from headgate_client.feed import Feed
from headgate_client.frames import Frame
from headgate_client.outbox import Outbox
from headgate_client.reconnection import (
    AT_ONCE_AFTER_S,
    STABLE_S,
    TOKEN_EXPIRED,
    UNAUTHENTICATED,
    Action,
    Backoff,
    after_close,
)
from headgate_client.session import Room, Session
from headgate_client.transport import OPEN_S, NotOpened, Transport, TransportChoice, Wanted, Way
from headgate_client.websocket import WebSocketTransport

CLOSE_S: Final = 5.0
NEWS: Final = frozenset({"inbox", "read"})
_log = logging.getLogger("headgate_client")


class Stream:
    """Follows topics over one connection at a time, from the first subscribe to `close`. For one event loop."""

    def __init__(
        self,
        urls: Sequence[str],
        credentials: Credentials,
        headers: dict[str, str],
        *,
        retry_first: bool = True,
        trust_env: bool = True,
        transport: Wanted = "auto",
        on_state: Callable[[State], None] | None = None,
        on_frame: Callable[[Frame, bytes], None] | None = None,
        on_news: Callable[[Frame], None] | None = None,
    ) -> None:
        """`urls` are base URLs (http or https), tried in turn. Without `retry_first` the first connection must succeed.
        `trust_env`: a proxy that the environment names is used."""
        self._urls = list(urls)
        self.state = State.IDLE
        self.error: ClientError | None = None
        self.feeds: dict[str, Feed] = {}
        self.session: Session | None = None
        self._credentials = credentials
        self._headers = headers
        self._retry_first = retry_first
        self._proxy: Literal[True] | None = True if trust_env else None
        self._choice = TransportChoice(transport)
        self._on_state = on_state
        self._on_frame = on_frame
        self._on_news = on_news  # frames about topics whether they are followed or not
        self._at = 0  # the place in `_urls`, counted on
        self._outbox = Outbox()
        self._room = Room()
        self._room.ask(lambda: any(feed.queue.is_full for feed in self.feeds.values()))
        self._backoff = Backoff(random.random, tries=len(self._urls))
        self._presented: Credential | None = None  # last, on the present connection
        self._unauthenticated = 0  # in a row
        self._reached = False
        self._in_trouble = False  # a failure since a topic was last granted: the first one is a warning
        self._closing = False  # no further connection is opened
        self._task: asyncio.Task[None] | None = None
        self._leaving: dict[str, int] = {}  # `unsubscribe` frames that are not answered on this connection, by topic
        self._timers: dict[str, asyncio.TimerHandle] = {}  # topics whose owner was away, to ask again

    def follow(self, feed: Feed) -> None:
        """Begins to follow a topic. Raises ClientError for one that is followed, or after the end."""
        if self._is_over():
            raise self.error or ClientError("the client is closed")
        if feed.topic_id in self.feeds:
            raise SubscribeRefused(feed.topic_id, "already_subscribed", "this client follows it; use another client")
        self.feeds[feed.topic_id] = feed
        feed.queue.on_room = self._room.look
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="headgate-client")
            self._task.add_done_callback(self._crashed)
        else:
            self._ask_for(feed)

    def leave(self, feed: Feed) -> None:
        """Ends following a topic; nothing happens when it is not followed, or by a newer feed."""
        if self.feeds.get(feed.topic_id) is feed:
            del self.feeds[feed.topic_id]
            feed.end()
            self._unsubscribe(feed.topic_id)
        self._room.look()

    def send(self, frame: Frame) -> bool:
        """Sends a frame when its turn comes. Returns False when there is no connection, or it is about a topic that is
        not granted on this one: the server would answer with an error. Raises OutboxFull."""
        if self.session is None or not self._is_granted(frame):
            return False
        self.session.put(frame)
        return True

    def tell(self, frame: Frame, then: Callable[[], None]) -> None:
        """Sends a frame and calls `then` when the server says that it has it; nothing where `send` returns False."""
        if self.session is not None and self._is_granted(frame):
            self.session.tell(frame, then)

    async def ask(self, frame: Frame, timeout_s: float = OPEN_S) -> Frame:
        """Sends a frame and waits for its answer; one about a topic waits until that is granted.

        Raises RequestFailed, also when there is no connection, and TimeoutError.
        """
        feed = self.feeds.get(frame["topic_id"])
        if self.session is not None and feed is not None:
            async with asyncio.timeout(timeout_s):
                await feed.live.wait()
        if self.session is None:
            raise RequestFailed("not_connected", "there is no connection at the moment")
        return await self.session.ask(frame, timeout_s)

    async def close(self) -> None:
        """Sends what waits, closes the connection and ends every feed, also where it is cancelled meanwhile."""
        if self.state is State.CLOSED:
            return
        self._closing = True
        try:
            if self.session is not None:
                await self.session.close(CLOSE_S)
        finally:
            self._step(Step.CLOSE)
            if self._task is not None:
                self._task.cancel()
            self._end_all(None)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        self._step(Step.START)
        while not self._is_over():
            step = await self._attempt()
            if self._is_over():
                return
            self._step(step)
            if step is Step.FAILED:
                await asyncio.sleep(self._wait_s)
                self._step(Step.WAITED)
        self._end_all(self.error)

    async def _attempt(self) -> Step:
        """Serves one connection to its end, if it opens. Returns what happened last."""
        self._wait_s = 0.0
        try:
            used = await self._credentials.get(streams=True)
        except CredentialsFailed as error:
            return self._failed(error)
        self._step(Step.FETCHED)
        url = self._urls[self._at % len(self._urls)]
        way = self._choice.next(needs_websocket=self._needs_websocket())
        try:
            transport = await self._open(way, url, used)
        except Unreachable as error:
            return self._refused(error)
        except NotOpened as error:
            return self._not_opened(way, url, error)
        self._reached = True
        self._choice.opened(way)
        self._step(Step.OPENED)
        return self._ended(await self._serve(transport, used))

    async def _open(self, way: Way, url: str, used: Credential | None) -> Transport:
        self._presented = used
        if way == "websocket":
            return await WebSocketTransport.open(url, self._headers, used, self._proxy)
        first = iter([used])  # what was fetched already

        async def who() -> Credential | None:
            self._presented = next(first, None) or await self._credentials.get(streams=True)
            return self._presented

        return await EventStreams.open(url, self._headers, who, trust_env=self._proxy is not None)

    def _needs_websocket(self) -> bool:
        return any(feed.acks is not None for feed in self.feeds.values())

    async def _serve(self, transport: Transport, used: Credential | None) -> int:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._outbox.opened(began)
        session = self.session = Session(transport, self._outbox, self._room, self._credentials, used, self._take)
        for feed in self.feeds.values():
            self._ask_for(feed)
        try:
            # A task of its own: the task of a TaskGroup that ends by a fault counts as cancelled afterwards, and before
            # Python 3.11.3 a later asyncio.timeout raises CancelledError then (python/cpython#102780).
            return await asyncio.create_task(session.run(), name="headgate-session")
        finally:
            self.session = None
            if session.used is not used:
                self._presented = session.used  # it was renewed
            self._leaving.clear()
            self._last, self._served, self._lasted_s = session.last, session.served, loop.time() - began
            self._backoff.spread(session.jitter)
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            for feed in self.feeds.values():
                feed.lost()
            await transport.abort()

    def _ended(self, code: int) -> Step:
        """Decides by the close code and the `disconnect` frame."""
        last = self._last
        code = int(last.get("code") or code)
        if self._lasted_s >= STABLE_S:
            self._backoff.reset()
        if self._served:
            self._unauthenticated, self._in_trouble = 0, False
        action: Action = after_close(code, reconnect=last.get("reconnect"))
        if code in (UNAUTHENTICATED, TOKEN_EXPIRED):
            self._unauthenticated += 1
            renewed = self._credentials.refused(self._presented) and self._unauthenticated == 1
            action = "now" if renewed else "stop"
        reason = str(last.get("reason") or "")
        _log.info("the connection ended: %s %s", code, reason)
        if action == "stop":
            return self._refused(ConnectionStopped(code, reason))
        self._at += 1
        if action == "now" and (self._lasted_s >= AT_ONCE_AFTER_S or code in (UNAUTHENTICATED, TOKEN_EXPIRED)):
            return Step.MOVED
        return self._failed(Unreachable(f"the connection was lost: {code} {reason}"), last.get("retry_after_ms"))

    def _not_opened(self, way: Way, url: str, error: NotOpened) -> Step:
        """Decides where there was no answer, or an HTTP answer in place of the connection."""
        self._reached = self._reached or error.status is not None
        if self._choice.not_opened(way, error, needs_websocket=self._needs_websocket()):
            _log.info("%s; event streams are tried", error)
            return Step.FAILED
        if error.is_final and error.status is not None:
            more = " (acknowledgements need a WebSocket)" if self._needs_websocket() else ""
            return self._refused(ConnectionStopped(error.status, f"{error}{more}"))
        self._at += 1
        return self._failed(Unreachable(f"cannot reach {url}: {error}"), error.retry_after_ms)

    def _failed(self, error: ClientError, at_least_ms: int | None = None) -> Step:
        if not (self._retry_first or self._reached):
            return self._refused(error)
        self._wait_s = self._backoff.next_s(at_least_ms)
        level = logging.INFO if self._in_trouble or self._closing else logging.WARNING
        self._in_trouble = True
        _log.log(level, "%s; next attempt in %.1f s", error, self._wait_s)
        return Step.FAILED

    def _refused(self, error: ClientError) -> Step:
        self.error = error
        return Step.REFUSED

    def _take(self, frame: Frame, text: bytes) -> None:
        _call(self._on_frame, frame, text)
        if frame["type"] in NEWS:
            _call(self._on_news if "id" not in frame else None, frame)
            return
        topic_id = frame.get("topic_id", "")
        feed = self.feeds.get(topic_id)
        if feed is None or topic_id in self._leaving:
            return  # until the answer to `unsubscribe` every frame is of the subscription that was left
        if frame["type"] == "unsubscribed":
            self._end(feed, SubscriptionEnded(feed.topic_id, str(frame.get("reason"))))
        elif frame["type"] == "error":
            self._error(feed, frame)
        elif frame["type"] == "subscribed" and feed.wish.group is not None and frame.get("group") != feed.wish.group:
            self._end(feed, SubscribeRefused(feed.topic_id, "not_built", "this server has no consumer groups"))
            self._unsubscribe(feed.topic_id)
        else:
            for seq, order in feed.take(frame, text):
                self.send({"type": "ack", "topic_id": feed.topic_id, "seq": seq, "order": order})

    def _error(self, feed: Feed, frame: Frame) -> None:
        if frame.get("code") == LOST_STREAM:
            feed.lost()
        elif not feed.is_refused_by(frame):
            _log.warning("%s: %s", feed.topic_id, _of(frame))
            return  # of an ack or a request: the subscription stays
        if not frame.get("retryable"):
            error = SubscribeRefused(feed.topic_id, str(frame.get("code")), str(frame.get("message", "")))
            self._end(feed, error)
            return
        wait = feed.again_in_s(frame.get("retry_after_ms"))
        _log.warning("%s: %s; it is asked for again in %.1f s", feed.topic_id, _of(frame), wait)
        self._timers[feed.topic_id] = asyncio.get_running_loop().call_later(wait, self._subscribe_again, feed)

    def _is_granted(self, frame: Frame) -> bool:
        """Whether a frame is about no topic, or about one that is granted on this connection."""
        if "topic_id" not in frame:
            return True
        feed = self.feeds.get(frame["topic_id"])
        return feed is not None and feed.is_granted

    def _ask_for(self, feed: Feed) -> None:
        if self.session is not None:
            feed.asked(self.session.number(feed.subscribe()))

    def _unsubscribe(self, topic_id: str) -> None:
        if self.session is not None:
            self.session.tell({"type": "unsubscribe", "topic_id": topic_id}, lambda: self._has_left(topic_id))
            self._leaving[topic_id] = self._leaving.get(topic_id, 0) + 1

    def _has_left(self, topic_id: str) -> None:
        self._leaving[topic_id] -= 1
        if not self._leaving[topic_id]:
            del self._leaving[topic_id]

    def _subscribe_again(self, feed: Feed) -> None:
        self._timers.pop(feed.topic_id, None)
        if self.feeds.get(feed.topic_id) is feed and not feed.live.is_set():
            self._ask_for(feed)

    def _end(self, feed: Feed, error: ClientError) -> None:
        self.feeds.pop(feed.topic_id, None)
        feed.end(error)

    def _end_all(self, error: ClientError | None) -> None:
        for feed in list(self.feeds.values()):
            feed.end(error)
        self.feeds.clear()

    def _is_over(self) -> bool:
        return self._closing or self.state in (State.STOPPED, State.CLOSED)

    def _step(self, step: Step) -> None:
        self.state = after(self.state, step)
        _call(self._on_state, self.state)

    def _crashed(self, task: "asyncio.Task[None]") -> None:
        """A defect must not leave readers waiting for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the connection failed", exc_info=error)
            self.error = ClientError(f"the connection failed: {type(error).__name__}: {error}")
            with contextlib.suppress(Exception):
                self._step(Step.CLOSE)
            self._end_all(self.error)


def _call(told: Callable[..., None] | None, *what: object) -> None:
    """Calls a function of the application; what it raises must not end the connection, nor lose a message."""
    try:
        if told is not None:
            told(*what)
    except Exception as error:
        _log.error("a function of the application failed: %r", told, exc_info=error)


def _of(frame: Frame) -> str:
    return f"{frame.get('code')}: {frame.get('message')}"
