"""The client: one connection for streams, and requests over HTTP."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from headgate_client import inbox, reading
from headgate_client.api import PATIENCE_S, Api
from headgate_client.connection import Stream
from headgate_client.connection_state import State
from headgate_client.credentials import Credentials, Fetch
from headgate_client.errors import Problem
from headgate_client.feed import QUEUE_BYTES, QUEUE_MESSAGES, Feed, Queue, Wish, wish_of
from headgate_client.frames import Frame, Gap, Message
from headgate_client.inbox import InboxHint, InboxPage, InboxTopic, MarkKind, MissedMessages, ReadReceipt
from headgate_client.position import From, check_from
from headgate_client.publishing import Outgoing, Published, Wait, publish, publish_batch
from headgate_client.subscription import HeldSubscription, OnEvent, OnGap, Subscription
from headgate_client.transport import Wanted
from headgate_client.worker import DRAIN_S, Handler, Worker

USER_AGENT = "headgate-client-python"


class Client:
    """Subscriptions, publishing, history and workers of one user. Use it in `async with`, in one event loop.

    All topics share one WebSocket. A reader that is slow holds up the others of its client: when its queue is full
    (`queue_messages` or `queue_bytes`) the socket is not read until half of it is gone, and the server waits. Give a
    slow reader a client of its own.
    """

    def __init__(
        self,
        url: str | Sequence[str] = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        ticket: str | None = None,
        credentials: Fetch | None = None,
        stream_url: str | Sequence[str] | None = None,
        user: str | None = None,
        device_id: str | None = None,
        queue_messages: int = QUEUE_MESSAGES,
        queue_bytes: int = QUEUE_BYTES,
        patience_s: float = PATIENCE_S,
        retry_first: bool = True,
        trust_env: bool = True,
        transport: Wanted = "auto",
        on_state: Callable[[State], None] | None = None,
        on_frame: Callable[[Frame, bytes], None] | None = None,
        on_inbox: Callable[[list[InboxHint]], None] | None = None,
        on_read: Callable[[ReadReceipt], None] | None = None,
    ) -> None:
        """`url` is where HTTP is served, `stream_url` where WebSockets are, by default the same; of several the next is
        tried when one does not answer.

        One of `token`, `ticket` (for streams only) and `credentials`, an async function that returns a token or a
        `Ticket` and is asked again before the token expires. `user` is for a server in open mode. `device_id` names the
        cursor of subscriptions with `ack`. `patience_s`: how long a request over HTTP is repeated. Without
        `retry_first` the first connection must succeed. `trust_env`: use a proxy that the environment names.
        `transport`: "websocket" or "sse" only, or event streams where no WebSocket can be opened (`auto`).

        `on_state` is called when the connection's state changes, `on_frame` for each frame as it came, `on_inbox` with
        topics that are not followed and have new messages, `on_read` when somebody has read what this user published,
        or this user on another device; none may block. Raises ValueError.
        """
        urls = _urls(url)
        headers = {"User-Agent": USER_AGENT} | ({} if user is None else {"X-Headgate-User": user})
        given = Credentials(credentials, token=token, ticket=ticket)
        self._api = Api(urls, given, headers, patience_s=patience_s, trust_env=trust_env)
        self._stream = Stream(
            urls if stream_url is None else _urls(stream_url),
            given,
            {} if user is None else {"X-Headgate-User": user},
            retry_first=retry_first,
            trust_env=trust_env,
            transport=transport,
            on_state=on_state,
            on_frame=on_frame,
            on_news=self._news,
        )
        self._on_inbox = on_inbox
        self._on_read = on_read
        self._device_id = device_id
        self._bounds = (queue_messages, queue_bytes)
        self._patience_s = patience_s
        Queue(*self._bounds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def state(self) -> State:
        """Where the connection for streams is."""
        return self._stream.state

    async def close(self) -> None:
        """Sends the acknowledgements that wait, closes the connections; iterators end behind what they have."""
        try:
            await self._stream.close()
        finally:
            await self._api.close()

    def subscribe(
        self,
        *topics: str,
        from_: From | None = None,
        ack: bool | Literal["auto", "manual"] = False,
        presence: bool | None = None,
        device_id: str | None = None,
        group: str | None = None,
        on_gap: OnGap | None = None,
        on_event: OnEvent | None = None,
    ) -> Subscription:
        """Follows topics; iterate over what it returns. Connects at the first call.

        `from_`: "live", "earliest", "cursor", {"epoch": e, "seq": n} (such as `message.position`), {"seq": n},
        {"ts": ms} or {"last": n}; by default "cursor" with `ack`, else "live". It is used once, after a lost connection
        the client goes on where it was. `ack`: True or "auto" acknowledges a message when the body of the loop is over
        and asks for the next one; "manual" leaves it to `ack` and `nack`. `presence` as in the protocol. `group` shares
        the messages among its members; it needs `ack`.

        `on_gap` is called with each Gap in its place between two messages. What it returns, messages or an async
        iterator of them such as `client.refetch(gap)`, is delivered there. Without it a gap is logged. `on_event` is
        called with what else the server says of the topics, in its place too. Raises ValueError, and ClientError for a
        topic that is followed already.
        """
        wish = self._wish(from_, ack, presence, device_id, group)._replace(events=on_event is not None)
        feeds, queue = self._follow(topics, wish)
        return Subscription(self._stream, feeds, queue, on_gap, on_event)

    def worker(
        self,
        topic_id: str,
        handler: Handler,
        *,
        group: str | None = None,
        device_id: str | None = None,
        from_: From = "cursor",
        concurrency: int = 1,
        drain_s: float = DRAIN_S,
        on_gap: OnGap | None = None,
    ) -> Worker:
        """Returns a worker that calls `handler` for each message and acknowledges it; use it in `async with`.

        Raises what `subscribe` and `Worker` raise.
        """
        wish = self._wish(from_, "manual", False, device_id, group)._replace(each=True)
        feeds, queue = self._follow([topic_id], wish)
        messages = HeldSubscription(self._stream, feeds, queue, on_gap, None)
        return Worker(messages, handler, concurrency=concurrency, drain_s=drain_s)

    async def publish(
        self,
        topic_id: str,
        payload: Any,
        *,
        client_msg_id: str | None = None,
        wait: Wait = "accepted",
        timeout_ms: int | None = None,
        **more: Any,
    ) -> Published:
        """Publishes any JSON value. It is repeated under one `client_msg_id` while that may help: it comes once.

        `more`: the other members of Outgoing (`key`, `priority`, `parent_message_id`, `parent_version`, `attachments`).
        Raises Problem, Unreachable, CredentialsFailed, each with the `client_msg_id`; ValueError for what is not JSON.
        """
        message = Outgoing(payload=payload, client_msg_id=client_msg_id, **more)
        return await publish(self._api, topic_id, message, wait, timeout_ms)

    async def publish_batch(
        self, messages: Iterable[Outgoing], *, topic_id: str | None = None, wait: Wait = "accepted"
    ) -> list[Published | Problem]:
        """Publishes in order, 1,000 at a time. Returns an answer or a Problem for each message.

        Each message names its topic, or all are of `topic_id`. A message that is refused harms no other. Raises as
        `publish` does, where a whole batch is refused or the server cannot be reached.
        """
        return await publish_batch(self._api, topic_id, messages, wait, self._patience_s)

    async def history(
        self,
        topic_id: str,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        since_ts: int | None = None,
        parent_message_id: str | None = None,
        messages_only: bool = False,
        limit: int | None = None,
    ) -> reading.Page:
        """Reads one page: the oldest above `after_seq` or `since_ts`, else the newest. Raises Problem, Unreachable."""
        params = {
            "after_seq": after_seq,
            "before_seq": before_seq,
            "since_ts": since_ts,
            "parent_message_id": parent_message_id,
            "kinds": "message" if messages_only else None,
            "limit": limit,
        }
        return await reading.page(self._api, topic_id, params)

    def messages(self, topic_id: str, *, after_seq: int = 0, to_seq: int | None = None) -> AsyncIterator[Message]:
        """Iterates over what a topic keeps, above `after_seq` and up to `to_seq`, in order."""
        return reading.everything(self._api, topic_id, after_seq, to_seq)

    def refetch(self, gap: Gap) -> AsyncIterator[Message]:
        """Iterates over what history still has of a gap: `on_gap=client.refetch`."""
        return reading.refetch(self._api, gap)

    async def inbox(self, *, limit: int | None = None, page: str | None = None) -> InboxPage:
        """Reads one page of the topics of which the user is a member, with what this device and this user have missed.

        Raises Problem, Unreachable.
        """
        return await inbox.page(self._api, {"device_id": self._device_id, "limit": limit, "page": page})

    def inbox_topics(self) -> AsyncIterator[InboxTopic]:
        """Iterates over all pages of the inbox."""
        return inbox.topics(self._api, self._device_id)

    async def inbox_messages(self, *, limit: int | None = None) -> MissedMessages:
        """Reads messages that this device has missed, topic by topic. Raises Problem, Unreachable."""
        return await inbox.missed(self._api, {"device_id": self._device_id, "limit": limit})

    async def ack_inbox(self, topic_id: str, seq: int, kind: MarkKind = "delivered") -> None:
        """Moves the cursor of this device (`delivered`), or what the user has read (`read`), up to `seq`; never back.

        Returns when it is stored. Raises Problem (`topic_not_found` for one who is no member), Unreachable.
        """
        await inbox.move(self._api, self._device_id, topic_id, seq, kind)

    async def mark_read(self, topic_id: str, seq: int) -> None:
        """Says that the user has read a topic up to `seq`, on all of his devices. Raises as `ack_inbox` does."""
        await self.ack_inbox(topic_id, seq, "read")

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> Any:
        """Does any other request of the HTTP API, `/api/v1/topics` for example; returns the decoded body.

        GET, PUT and DELETE are repeated while that may help; POST and PATCH too with `key`, their `Idempotency-Key`.
        Raises Problem, Unreachable.
        """
        return await self._api.request(method, path, body=body, params=params, key=key)

    def set_status(self, state: Literal["online", "away"]) -> None:
        """Shows the user as online or away in presence lists; nothing is sent without a connection."""
        self._stream.send({"type": "status", "state": state})

    def _news(self, frame: Frame) -> None:
        if frame["type"] == "inbox" and self._on_inbox is not None:
            self._on_inbox(InboxHint.of_frame(frame))
        if frame["type"] == "read" and self._on_read is not None:
            self._on_read(ReadReceipt.of_frame(frame))

    def _wish(
        self, start: From | None, ack: bool | str, presence: bool | None, device_id: str | None, group: str | None
    ) -> Wish:
        if group is not None and not ack:
            raise ValueError("a group needs ack")
        if start is None:
            start = "cursor" if ack else "live"
        return wish_of(check_from(start), ack, presence=presence, device_id=device_id or self._device_id, group=group)

    def _follow(self, topics: Sequence[str], wish: Wish) -> tuple[list[Feed], Queue]:
        if not topics or len(set(topics)) != len(topics):
            raise ValueError("subscribe needs topics, each once")
        queue = Queue(*self._bounds)
        feeds = [Feed(topic_id, wish, queue) for topic_id in topics]
        followed: list[Feed] = []
        try:
            for feed in feeds:
                self._stream.follow(feed)
                followed.append(feed)
        except Exception:
            for feed in followed:
                self._stream.leave(feed)
            raise
        return feeds, queue


def _urls(url: str | Sequence[str]) -> list[str]:
    urls = [url] if isinstance(url, str) else list(url)
    if not urls or not all(each.startswith(("http://", "https://")) for each in urls):
        raise ValueError("a URL begins with http:// or https://")
    return urls
