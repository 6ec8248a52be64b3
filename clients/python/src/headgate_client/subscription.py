"""A reader's side of a subscription: an async iterator over the messages of its topics."""

import inspect
import logging
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from headgate_client.acks import Acks
from headgate_client.connection import Stream
from headgate_client.errors import ClientError
from headgate_client.feed import AckMode, Closed, Feed, Queue
from headgate_client.frames import Event, Gap, Message

Refetched = Iterable[Message] | AsyncIterable[Message] | None
OnGap = Callable[[Gap], "Refetched | Awaitable[Refetched]"]
OnEvent = Callable[[Event], "Awaitable[None] | None"]
_log = logging.getLogger("headgate_client")


class Subscription:
    """Iterate over it: `async for message in subscription`. It goes on over lost connections.

    It ends when its topics were left (`close`, or the client's). It raises SubscribeRefused, SubscriptionEnded for one
    topic, after which the others may be read on, and ConnectionStopped for all. `async with` closes it at the end of
    the block; without it, it is closed when nothing refers to it any more.
    """

    def __init__(
        self, stream: Stream, feeds: list[Feed], queue: Queue, on_gap: OnGap | None, on_event: OnEvent | None
    ) -> None:
        self._stream = stream
        self._feeds = {feed.topic_id: feed for feed in feeds}
        self._queue = queue
        self._on_gap = on_gap
        self._on_event = on_event
        self._mode: AckMode = feeds[0].wish.ack
        self._left = len(feeds)
        self._current: Message | None = None
        self._refetched: AsyncIterator[Message] | None = None
        self._finalizer = weakref.finalize(self, _leave, stream, feeds)
        self._finalizer.atexit = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._current is not None and self._mode == "auto":
            self.ack(self._current)
        self._current = None
        while True:
            if self._refetched is not None:
                message = await anext(self._refetched, None)
                if message is not None:
                    return message
                self._refetched = None
            item = await self._next_item()
            if isinstance(item, Message):
                self._handed_out(item)
                return item
            await self._tell(item)

    def ack(self, message: Message) -> None:
        """Acknowledges a message and all before it that were not refused. Raises ValueError without `ack`."""
        acks, seq = self._acks_of(message)
        exact = acks.is_replay(seq)
        due = acks.acknowledge(seq)
        if due is not None:
            self._stream.send({"type": "ack", "topic_id": message.topic_id, "seq": due, "exact": exact})
        if self._current is not None and self._current.seq == seq:
            self._current = None

    def nack(self, message: Message, reason: str = "") -> None:
        """Refuses a message: it comes again, with a higher `attempt`, until the topic's retry policy gives it up.

        What was sent behind it comes before it. Acknowledgements of messages above it are kept back until it is settled
        or given up, so the server sends at most 256 messages meanwhile. Raises ValueError without `ack`.
        """
        acks, seq = self._acks_of(message)
        acks.refuse(seq)
        frame = {"type": "nack", "topic_id": message.topic_id, "seq": seq, "reason": reason[:256]}
        self._stream.tell(frame, lambda: acks.heard(seq))
        self._current = None

    async def confirm(self) -> None:
        """Waits until the server has stored what was acknowledged. Raises RequestFailed, TimeoutError."""
        for feed in self._feeds.values():
            last = feed.acks.repeated() if feed.acks is not None else None
            if last is not None:
                await self._stream.ask({"type": "ack", "topic_id": feed.topic_id, "seq": last})

    async def ready(self) -> None:
        """Waits until every topic is subscribed on the present connection, or has ended."""
        for feed in self._feeds.values():
            await feed.live.wait()

    async def presence(self, topic_id: str | None = None) -> dict[str, Any]:
        """Asks who is there; returns the `presence` frame. Raises RequestFailed, TimeoutError."""
        return await self._stream.ask({"type": "presence", "topic_id": topic_id or next(iter(self._feeds))})

    def typing(self, topic_id: str | None = None) -> None:
        """Tells the others that this user is writing; lost when there is no connection."""
        self._stream.send({"type": "typing", "topic_id": topic_id or next(iter(self._feeds))})

    async def mark_read(self, seq: int, topic_id: str | None = None) -> None:
        """Says that the user has read a topic up to `seq`, on all of his devices; returns when it is stored.

        Raises RequestFailed, also when there is no connection; `Client.mark_read` repeats it over HTTP.
        """
        await self._stream.ask({"type": "read", "topic_id": topic_id or next(iter(self._feeds)), "seq": seq})

    @property
    def missed(self) -> int:
        """How many messages gaps named so far."""
        return sum(feed.missed for feed in self._feeds.values())

    def is_apart(self, message: Message) -> bool:
        """Whether a message was refused before, or is a replayed dead letter: an `ack` of it settles no other."""
        acks, seq = self._acks_of(message)
        return acks.is_apart(seq)

    def close(self) -> None:
        """Leaves the topics. The iterator ends behind what has arrived already."""
        self._finalizer()

    async def _next_item(self) -> Message | Event:
        while self._left:
            item = await self._queue.get()
            if not isinstance(item, ClientError):
                return item
            self._left -= 1
            if not isinstance(item, Closed):
                raise item
        raise StopAsyncIteration

    def _handed_out(self, message: Message) -> None:
        if self._mode == "auto":
            self._current = message
        acks = self._feeds[message.topic_id].acks
        if self._mode == "manual" and acks is not None and message.seq is not None:
            acks.handed_out(message.seq)

    async def _tell(self, event: Event) -> None:
        if not isinstance(event, Gap):
            if self._on_event is not None and inspect.isawaitable(told := self._on_event(event)):
                await told
            return
        if self._on_gap is None:
            _log.warning("%s: %d messages are missing (%s)", event.topic_id, event.count, event.reason)
            return
        found = self._on_gap(event)
        messages: Any = await found if inspect.isawaitable(found) else found
        if messages is not None:
            self._refetched = aiter(messages) if isinstance(messages, AsyncIterable) else _each(messages)

    def _acks_of(self, message: Message) -> tuple[Acks, int]:
        acks = self._feeds[message.topic_id].acks
        if acks is None or message.seq is None:
            raise ValueError(f"{message.topic_id} is followed without ack")
        return acks, message.seq


class HeldSubscription(Subscription):
    """A subscription whose reader settles every message itself, in any order: a worker's."""

    def _handed_out(self, message: Message) -> None:
        """It stays in hand until it is settled: a second delivery meanwhile is dropped."""


def _leave(stream: Stream, feeds: list[Feed]) -> None:
    for feed in feeds:
        stream.leave(feed)


async def _each(messages: Iterable[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message
