"""A worker: calls a function for each message of a topic, and acknowledges or refuses it by how the call ends."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from headgate_client.errors import ClientError
from headgate_client.frames import Message
from headgate_client.subscription import HeldSubscription

DRAIN_S: Final = 20.0
MAX_CONCURRENCY: Final = 256  # what the server has in flight for one subscription
Handler = Callable[[Message], Awaitable[Any]]
_log = logging.getLogger("headgate_client")


class Worker:
    """Handles messages from `async with` to the end of the block, `concurrency` at a time.

    A handler that returns acknowledges its message; one that raises refuses it, and the message comes again after the
    topic's retry delay with a higher `attempt`. With a concurrency of 1 messages are handled in order, but for those
    that come again. At the end of the block handlers that run may end within `drain_s`; the others are cancelled and
    their messages come again, to this or another worker of the device or group.
    """

    def __init__(
        self, messages: HeldSubscription, handler: Handler, *, concurrency: int = 1, drain_s: float = DRAIN_S
    ) -> None:
        """Raises ValueError for a concurrency that is not 1 to 256, TypeError for a handler that is not async."""
        if not 1 <= concurrency <= MAX_CONCURRENCY:
            raise ValueError(f"concurrency is {concurrency}, not 1 to {MAX_CONCURRENCY}")
        if not inspect.iscoroutinefunction(handler) and not inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object whose call is async
        ):
            raise TypeError("the handler is no async function")
        self.handled = 0
        self.failed = 0
        self._messages = messages
        self._handler = handler
        self._gate = asyncio.Semaphore(concurrency)
        self._drain_s = drain_s
        self._running: set[asyncio.Task[None]] = set()
        self._leaving = False  # handlers that still run are cancelled by us
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="headgate-worker")
        self._task.add_done_callback(_told)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        try:
            await asyncio.gather(self._task, return_exceptions=True)
            if self._running:
                await asyncio.wait(self._running, timeout=self._drain_s)
            self._cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            with contextlib.suppress(ClientError, TimeoutError):  # then they come again
                await self._messages.confirm()
        finally:
            self._cancel()  # no handler outlives the block, however it ends
            self._messages.close()

    async def done(self) -> None:
        """Waits until the subscription ends. Raises what it ended with, such as SubscriptionEnded `replaced`."""
        assert self._task is not None, "a worker runs in `async with`"
        await asyncio.shield(self._task)

    async def ready(self) -> None:
        """Waits until the topic is subscribed."""
        await self._messages.ready()

    async def _run(self) -> None:
        await self._gate.acquire()
        async for message in self._messages:
            task = asyncio.create_task(self._one(message))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await self._gate.acquire()

    async def _one(self, message: Message) -> None:
        try:
            await self._handler(message)
        except asyncio.CancelledError as error:
            if self._leaving:
                raise
            self._refuse(message, error)  # the handler waited for what others have cancelled
        except Exception as error:
            self._refuse(message, error)
        else:
            self.handled += 1
            self._messages.ack(message)
        finally:
            self._gate.release()

    def _refuse(self, message: Message, error: BaseException) -> None:
        self.failed += 1
        _log.warning("%s: message %s failed", message.topic_id, message.seq, exc_info=error)
        self._messages.nack(message, f"{type(error).__name__}: {error}")

    def _cancel(self) -> None:
        self._leaving = True
        for task in self._running:
            task.cancel()


def _told(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the worker has ended: %s", error)
