"""A reader's side of a subscription: an async iterator over the messages of its topics."""

import asyncio
import inspect
import logging
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Self

from headgate_client.acks import Acks, Due
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
        self._work: asyncio.Task[Message | None] | None = None  # of the application: it survives a cancelled `anext`
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
            if self._work is None and self._refetched is not None:
                self._work = _begun(self._next_refetched(self._refetched))
            if self._work is None:
                item = await self._next_item()
                if isinstance(item, Message):
                    self._handed_out(item)
                    return item
                self._tell(item)
                continue
            await asyncio.wait([self._work])
            work, self._work = self._work, None
            if work.cancelled():
                continue  # by `close`
            if (message := work.result()) is not None:
                return message

    def ack(self, message: Message) -> None:
        """Acknowledges a message and all before it that were not refused. Nothing happens for one of a topic that was
        created again since. Raises ValueError without `ack`."""
        acks, seq = self._acks_of(message)
        if acks is not None:
            self._send(message.topic_id, acks.acknowledge(seq))
        if self._current is not None and self._current.seq == seq:
            self._current = None

    def nack(self, message: Message, reason: str = "") -> None:
        """Refuses a message: it comes again, with a higher `attempt`, until the topic's retry policy gives it up.

        What was sent behind it comes before it. Acknowledgements of messages above it are kept back until it is settled
        or given up, so the server sends at most 256 messages meanwhile. Raises ValueError without `ack`.
        """
        acks, seq = self._acks_of(message)
        self._current = None
        if acks is None:
            return
        due = acks.refuse(seq)
        frame = {"type": "nack", "topic_id": message.topic_id, "seq": seq, "reason": reason[:256]}
        self._stream.tell(frame, lambda: acks.heard(seq))
        self._send(message.topic_id, due)

    async def confirm(self) -> None:
        """Waits until the server has stored what was acknowledged; of a group, until it has taken it, which it stores
        within a second. Raises RequestFailed, TimeoutError."""
        for feed in self._feeds.values():
            if feed.acks is None:
                continue
            last = 0 if feed.wish.group is not None else feed.acks.repeated()  # 0: no message, but an answer
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

    def close(self) -> None:
        """Leaves the topics. The iterator ends behind what has arrived already."""
        if self._work is not None:
            self._work.cancel()
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
        feed = self._feeds[message.topic_id]
        if self._mode == "manual" and feed.acks is not None and message.seq is not None and _is_present(message, feed):
            feed.acks.handed_out(message.seq)

    def _tell(self, event: Event) -> None:
        """Calls the application's function; where it is async it goes on as `_work`."""
        if not isinstance(event, Gap):
            if self._on_event is not None and inspect.isawaitable(told := self._on_event(event)):
                self._work = _begun(_ended(told))
            return
        if self._on_gap is None:
            _log.warning("%s: %d messages are missing (%s)", event.topic_id, event.count, event.reason)
            return
        found: Any = self._on_gap(event)
        if inspect.isawaitable(found):
            self._work = _begun(self._found_later(found))
        else:
            self._found(found)

    def _found(self, messages: Any) -> None:
        if messages is not None:
            self._refetched = aiter(messages) if isinstance(messages, AsyncIterable) else _each(messages)

    async def _found_later(self, messages: Awaitable[Any]) -> None:
        self._found(await messages)

    async def _next_refetched(self, messages: AsyncIterator[Message]) -> Message | None:
        try:
            return await anext(messages)
        except BaseException as error:
            self._refetched = None  # its end, or what the application gets for it
            if isinstance(error, StopAsyncIteration):
                return None
            raise

    def _send(self, topic_id: str, due: list[Due]) -> None:
        for seq, order in due:
            self._stream.send({"type": "ack", "topic_id": topic_id, "seq": seq, "order": order})

    def _acks_of(self, message: Message) -> tuple[Acks | None, int]:
        """Returns where a message is settled, None where its number means another message now."""
        feed = self._feeds[message.topic_id]
        if feed.acks is None or message.seq is None:
            raise ValueError(f"{message.topic_id} is followed without ack")
        if message.epoch is None:
            raise ValueError(f"message {message.seq} of {message.topic_id} has no epoch: no subscription gave it")
        return feed.acks if _is_present(message, feed) else None, message.seq


class HeldSubscription(Subscription):
    """A subscription whose reader settles every message itself, in any order: a worker's."""

    def _handed_out(self, message: Message) -> None:
        """It stays in hand until it is settled: a second delivery meanwhile is dropped."""


def _leave(stream: Stream, feeds: list[Feed]) -> None:
    for feed in feeds:
        stream.leave(feed)


def _is_present(message: Message, feed: Feed) -> bool:
    """Whether a message is of the topic as it is now: one that was created again begins anew at 1."""
    return message.epoch == feed.position.epoch


def _begun(work: Coroutine[Any, Any, Message | None]) -> "asyncio.Task[Message | None]":
    task = asyncio.create_task(work, name="headgate-gap")
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may ask for it any more
    return task


async def _ended(told: Awaitable[None]) -> None:
    await told


async def _each(messages: Iterable[Message]) -> AsyncIterator[Message]:
    for message in messages:
        yield message
