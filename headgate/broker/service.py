"""The broker on asyncio: handlers run as tasks, retries on one real timer; decides nothing about delivery.

One task a try, in one task group; a subscriber has at most one at a time, so there are never more tasks than
subscribers. State is consistent before every await.
"""

import asyncio
import inspect
import logging
import os
import random
import time
from collections import deque
from collections.abc import Awaitable
from typing import Any, Final, Self, Unpack

from headgate.broker.engine import NO_HOOKS, Hooks
from headgate.broker.front import Front, Randomness, Subscription, TopicOptions, describe, make_rules
from headgate.broker.journal import Journal
from headgate.broker.lane import Attempt
from headgate.broker.message import Draft, QueuedMessage, Receipt
from headgate.broker.topic import Topic
from headgate.core.delivery.backpressure import Admittance
from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.records import Appended
from headgate.runtime.ports import AppendUnknown, Clock, Log

MAX_BLOCKED: Final = 1_000  # publishers of a topic that may wait for room; the next one is refused
_log = logging.getLogger("headgate.broker")


class AsyncBroker(Front):
    """A topic broker on the running loop; use it as `async with AsyncBroker() as broker`.

    Handlers may be plain or async. A try longer than `handler_timeout_s` seconds is cancelled and has failed. With a
    `log` (opened and closed by the broker) `publish` returns once the log holds the message, ids are its offsets, dead
    letters survive a restart and `replay` reads back; `keep_records` bounds what a shard keeps of messages (None on
    a log that a server uses!). Leaving the block waits `grace_s` for tries under way.
    """

    _calls_async_handlers = True

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        rng: Randomness | None = None,
        log: Log | None = None,
        keep_records: int | None = None,
        handler_timeout_s: float | None = None,
        grace_s: float = 5.0,
        **settings: Unpack[TopicOptions],
    ) -> None:
        self._journal = journal = Journal(log, os.urandom, keep_records) if log is not None else None
        hooks = Hooks(self._on_room, NO_HOOKS.on_dead_letter if journal is None else journal.note)
        super().__init__(make_rules(settings), rng or random.Random(), hooks)  # noqa: S311 - jitter is no secret
        self._clock = clock
        self._handler_timeout_s = handler_timeout_s
        self._grace_s = grace_s
        self._loop: asyncio.AbstractEventLoop | None = None  # set while the broker is open
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._pump_soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._blocked: dict[str, deque[asyncio.Future[None]]] = {}
        self._idle: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Self:
        """Opens the log, if there is one, and begins. Raises LogUnavailable."""
        if self._journal is not None:
            await self._journal.log.open()
            await self._recover(self._journal)
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._loop = asyncio.get_running_loop()
        self._changed()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Begins no further try, waits for those under way, cancels what takes longer, closes the log."""
        self._loop = None
        for handle in (self._timer, self._pump_soon):
            if handle is not None:
                handle.cancel()
        self._timer = self._pump_soon = None
        try:
            if self._running:
                await asyncio.wait(self._running, timeout=self._grace_s)
        finally:
            await self._end()

    async def publish(
        self,
        topic: str,
        payload: Any,
        *,
        key: str | None = None,
        dedup_key: str | None = None,
        trace: str | None = None,
    ) -> Receipt:
        """Queues a message; waits for the log and, with `block`, for room, but never for a handler.

        Raises Refusal `queue_full` (with `block` after `block_timeout_s`), LogUnavailable, AppendUnknown.
        """
        if self._loop is None:
            raise HeadgateError("the broker is not open; use `async with`")
        found = self._engine.topic(topic)
        draft = Draft(payload, key, dedup_key, trace)
        repeat = self._engine.find_repeat(found, dedup_key)
        if repeat is not None:
            return repeat
        try:
            heard = await self._admit(found)
        finally:
            self._changed()
        if self._journal is None:
            return self._accept(found, found.last_id + 1, draft, heard)
        return await self._append(self._journal, found, draft, heard)

    async def replay(self, subscription: Subscription, since: int | None = None) -> int:
        """Delivers what the log holds from offset `since` (None: the oldest) again, to this subscriber only.

        Ends at what the log held when it was called, waits for room in the queue, and returns how many were queued.
        After a restart: subscribe, `replay(subscription, position + 1)`, then publish; what is published meanwhile may
        come between. In a group the members share. Raises OffsetGone when the log no longer holds `since`.
        """
        if self._journal is None:
            raise HeadgateError("there is no log to replay from; give the broker one")
        lane = subscription._lane
        topic = self._engine.topic(lane.topic)
        count = 0
        async for stored in self._journal.messages(subscription.topic, since):
            await self._room(topic)
            topic.reserved -= 1
            if lane.closed:
                self._on_room(topic)
                break
            draft = stored.draft
            entry = QueuedMessage(stored.offset, draft.payload, draft.key, self._now(), draft.trace)
            self._engine.again(lane, entry, self._now())
            self._changed()
            count += 1
        return count

    async def drained(self) -> None:
        """Waits until every queue is empty: all is delivered or given up (a partial batch waits for its flush)."""
        if not self._is_idle():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    @property
    def journal_errors(self) -> int:
        """Dead letters that the log did not take and that are in memory only."""
        return 0 if self._journal is None else self._journal.errors

    # Admission

    async def _admit(self, topic: Topic) -> bool:
        """Reserves a place for a message; False where nobody is subscribed, and it needs none."""
        if not topic.audience:
            return False
        waiting = len(self._blocked.get(topic.name, ()))  # while anybody waits, the queue is full: nobody overtakes
        verdict = self._engine.intake.admit(topic, self._now())
        if verdict is Admittance.REJECT or (verdict is Admittance.WAIT and waiting >= MAX_BLOCKED):
            raise self._engine.intake.refuse(topic, self._now())
        if verdict is not Admittance.WAIT:
            topic.reserved += 1
            return True
        self._engine.intake.note_blocked(topic, self._now())
        self._changed()
        try:
            async with asyncio.timeout(topic.pressure.block_timeout_s):
                await self._room(topic)
        except TimeoutError:
            raise self._engine.intake.refuse(topic, self._now()) from None
        return True

    async def _room(self, topic: Topic) -> None:
        """Waits for a place in the queue, behind who already waits, and reserves it."""
        waiters = self._blocked.setdefault(topic.name, deque())
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        self._on_room(topic)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # it got its place in the very moment it gave up
                topic.reserved -= 1
            elif waiter in waiters:
                waiters.remove(waiter)
            self._on_room(topic)
            raise

    def _on_room(self, topic: Topic) -> None:
        waiters = self._blocked.get(topic.name)
        while waiters and topic.queued + topic.reserved < topic.pressure.max_queue_size:
            waiter = waiters.popleft()
            if not waiter.done():
                topic.reserved += 1
                waiter.set_result(None)
        if waiters is not None and not waiters:
            del self._blocked[topic.name]

    def _accept(self, topic: Topic, message_id: int, draft: Draft, heard: bool) -> Receipt:
        topic.reserved -= heard
        receipt = self._engine.find_repeat(topic, draft.dedup_key)  # another publisher may have been quicker
        if receipt is None:
            receipt = self._engine.accept(topic, message_id, draft, self._now(), heard=heard)
        self._on_room(topic)
        self._changed()
        return receipt

    def _give_back(self, topic: Topic, heard: bool) -> None:
        topic.reserved -= heard
        self._on_room(topic)

    # The log

    def _append(self, journal: Journal, topic: Topic, draft: Draft, heard: bool) -> Awaitable[Receipt]:
        """Hands a message to the log; it is delivered when the log has it, whether or not its publisher still waits."""
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

        def appended(future: asyncio.Future[Appended]) -> None:
            error = AppendUnknown("the log was closed") if future.cancelled() else future.exception()
            if error is None:
                receipt = self._accept(topic, future.result().offset, draft, heard)
                self._trim(journal, topic)
                if not answer.done():
                    answer.set_result(receipt)
                return
            self._give_back(topic, heard)
            if not answer.done():
                answer.set_exception(error)

        try:
            journal.append(topic.name, draft).add_done_callback(appended)
        except BaseException:
            self._give_back(topic, heard)
            raise
        return answer

    def _trim(self, journal: Journal, topic: Topic) -> None:
        if self._loop is not None and journal.needs_trim(topic.name, topic.last_id):
            self._begin(journal.trim(topic.name, topic.last_id))

    async def _recover(self, journal: Journal) -> None:
        async for record in journal.dead_letters():
            self._engine.dead_letters.apply(record)
        async for stored in journal.keyed():
            if stored.draft.dedup_key is not None:
                topic = self._engine.topic(stored.topic)
                self._engine.remember(topic, stored.draft.dedup_key, stored.offset, self._now())

    # The loop

    def _now(self) -> float:
        if self._clock is not None:
            return self._clock.now()
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:  # subscribing before the loop runs
            return time.monotonic()

    def _changed(self) -> None:
        super()._changed()
        if self._loop is not None and self._pump_soon is None:
            self._pump_soon = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_soon = None
        while (attempt := self._engine.next_attempt(self._now())) is not None:
            self._begin(self._try(attempt))
        super()._changed()
        self._set_timer()
        if self._idle and self._is_idle():
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._engine.next_due()
        if due is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, due - self._now()), self._pump)

    async def _end(self) -> None:
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        for waiter in [*self._idle, *(one for waiters in self._blocked.values() for one in waiters)]:
            if not waiter.done():
                waiter.set_exception(HeadgateError("the broker was closed"))
        self._idle.clear()
        self._blocked.clear()
        if self._journal is not None:
            await self._journal.log.close()

    def _begin(self, work: Any) -> None:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _try(self, attempt: Attempt) -> None:
        error: str | None = "CancelledError: the try was cancelled"
        limit = asyncio.timeout(self._handler_timeout_s)
        try:
            async with limit:
                result = attempt.lane.subscriber.handle(attempt.message)
                if inspect.isawaitable(result):
                    await result
            error = None
        except Exception as problem:  # a handler's fault is an outcome
            error = f"TimeoutError: no answer in {self._handler_timeout_s} s" if limit.expired() else describe(problem)
            _log.info("%s failed on message %d", attempt.lane.name, attempt.message.id, exc_info=True)
        finally:
            self._engine.finish(attempt, error, self._now())
            self._changed()

    def _is_idle(self) -> bool:
        return not self._running_tries() and all(
            topic.queued + topic.reserved + len(topic.overflow) == 0 for topic in self._engine.topics.values()
        )

    def _running_tries(self) -> bool:
        return any(lane.attempt is not None for topic in self._engine.topics.values() for lane in topic.lanes.values())
