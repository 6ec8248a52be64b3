"""The broker on asyncio: handlers run as tasks, retries by one timer of the loop.

Each try is one task in one task group. A subscriber has at most one try at a time, so there are never more tasks than
subscribers. The state is consistent before every await.
"""

import asyncio
import inspect
import logging
import os
import random
import time
from collections.abc import Awaitable, Coroutine
from typing import Any, Self, Unpack

from headgate.broker.base_broker import BaseBroker, Randomness, Subscription, TopicOptions, describe, make_rules
from headgate.broker.journal import Journal
from headgate.broker.lane import Attempt
from headgate.broker.message import NewMessage, PublishOptions, QueuedMessage, Receipt
from headgate.broker.topic import Topic
from headgate.broker.waiting_publishers import WaitingPublishers
from headgate.core.delivery.backpressure import Admittance
from headgate.core.delivery.dead_letter_record import DeadLetterRecord
from headgate.core.wire.errors import HeadgateError
from headgate.core.wire.records import Appended
from headgate.runtime.ports import AppendUnknown, Clock, Log

_log = logging.getLogger("headgate.broker")


class AsyncBroker(BaseBroker):
    """A topic broker on the running loop; use it as `async with AsyncBroker() as broker`.

    Handlers may be plain or async. A try longer than `handler_timeout_s` seconds is cancelled and has failed. With a
    `log` (which the broker opens and closes) `publish` returns when the log has the message, ids are its offsets, dead
    letters survive a restart and `replay` delivers old messages again. `keep_records` is the number of messages that a
    shard of the log keeps; it must be None on a log that a server uses. The end of the block waits `grace_s` seconds
    for running tries.
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
        super().__init__(make_rules(settings), rng or random.Random())  # noqa: S311 - jitter is no secret
        self._journal = Journal(log, os.urandom, keep_records) if log is not None else None
        self._clock = clock
        self._handler_timeout_s = handler_timeout_s
        self._grace_s = grace_s
        self._loop: asyncio.AbstractEventLoop | None = None  # set while the broker is open
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self._next_round: asyncio.Handle | None = None  # of `_start_tries`, in the next turn of the loop
        self._timer: asyncio.TimerHandle | None = None  # of `_start_tries`, when the engine's next timer is due
        self._waiting = WaitingPublishers()
        self._draining: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Self:
        """Opens the log, if there is one, reads its dead letters and keys, and starts. Raises LogUnavailable."""
        if self._journal is not None:
            await self._journal.log.open()
            await self._recover(self._journal)
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._loop = asyncio.get_running_loop()
        self._changed()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Starts no more tries, waits for the running ones, cancels those that take longer, and closes the log."""
        self._loop = None
        for handle in (self._timer, self._next_round):
            if handle is not None:
                handle.cancel()
        self._timer = self._next_round = None
        try:
            if self._running:
                await asyncio.wait(self._running, timeout=self._grace_s)
        finally:
            await self._close()

    async def publish(self, topic: str, payload: Any, **options: Unpack[PublishOptions]) -> Receipt:
        """Queues a message. It waits for the log and, with the policy `block`, for room, but never for a handler.

        The options are those of Broker.publish. Raises Refusal `queue_full` (with `block` after `block_timeout_s`),
        `invalid_topic_id` and `limit_reached`; LogUnavailable when the log did not take the message, and AppendUnknown
        when it may have taken it.
        """
        if self._loop is None:
            raise HeadgateError("the broker is not open; use `async with`")
        found = self._engine.topic(topic)
        message = NewMessage(payload, **options)
        repeat = self._engine.find_repeat(found, message.dedup_key)
        if repeat is not None:
            return repeat
        try:
            reserved = await self._admit(found)
        finally:
            self._changed()
        if self._journal is None:
            return self._accept(found, found.last_id + 1, message, reserved)
        return await self._append(self._journal, found, message, reserved)

    async def replay(self, subscription: Subscription, since: int | None = None) -> int:
        """Delivers the messages of the log from offset `since` (None: the oldest) again, to this subscriber only.

        It ends at the newest message at the time of the call, waits for room in the queue, and returns the number of
        messages that it queued. After a restart: subscribe, `replay(subscription, position + 1)`, then publish;
        messages published meanwhile may come between. In a group the members share. Raises OffsetGone when the log no
        longer has `since`, and LogUnavailable.
        """
        if self._journal is None:
            raise HeadgateError("there is no log to replay from; give the broker one")
        lane = subscription._lane
        topic = self._engine.topic(lane.topic)
        count = 0
        async for stored in self._journal.messages(subscription.topic, since):
            await self._waiting.wait(topic)
            topic.reserved -= 1
            if lane.closed:
                self._waiting.let_in(topic)
                break
            message = stored.message
            entry = QueuedMessage(stored.offset, message.payload, message.key, self._now(), message.trace)
            self._engine.redeliver(lane, entry, self._now())
            self._changed()
            count += 1
        return count

    async def drained(self) -> None:
        """Waits until every queue is empty: all is delivered or given up. (A partial batch waits for its flush.)"""
        if not self._is_idle():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._draining.append(waiter)
            await waiter

    @property
    def journal_errors(self) -> int:
        """The number of dead-letter records that the log did not take: their changes are in memory only."""
        return 0 if self._journal is None else self._journal.errors

    # Admission

    async def _admit(self, topic: Topic) -> bool:
        """Reserves a place for a message. Returns False when nobody is subscribed: it needs none."""
        if not topic.audience:
            return False
        verdict = self._engine.intake.admit(topic, self._now())
        if verdict is Admittance.REJECT or (verdict is Admittance.WAIT and self._waiting.is_full(topic)):
            raise self._engine.intake.refuse(topic, self._now())
        if verdict is not Admittance.WAIT:
            topic.reserved += 1
            return True
        self._engine.intake.count_blocked(topic, self._now())
        self._changed()
        try:
            async with asyncio.timeout(topic.pressure.block_timeout_s):
                await self._waiting.wait(topic)
        except TimeoutError:
            raise self._engine.intake.refuse(topic, self._now()) from None
        return True

    def _accept(self, topic: Topic, message_id: int, message: NewMessage, reserved: bool) -> Receipt:
        topic.reserved -= reserved
        receipt = self._engine.find_repeat(topic, message.dedup_key)  # another publisher may have been quicker
        if receipt is None:
            receipt = self._engine.accept(topic, message_id, message, self._now(), subscribed=reserved)
        self._changed(topic.name)
        return receipt

    def _give_back(self, topic: Topic, reserved: bool) -> None:
        topic.reserved -= reserved
        self._waiting.let_in(topic)

    # The log

    def _append(self, journal: Journal, topic: Topic, message: NewMessage, reserved: bool) -> Awaitable[Receipt]:
        """Hands a message to the log. It is delivered when the log has it, whether or not its publisher still waits."""
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

        def appended(future: asyncio.Future[Appended]) -> None:
            error = AppendUnknown("the log was closed") if future.cancelled() else future.exception()
            if error is None:
                receipt = self._accept(topic, future.result().offset, message, reserved)
                self._trim(journal, topic)
                if not answer.done():
                    answer.set_result(receipt)
                return
            self._give_back(topic, reserved)
            if not answer.done():
                answer.set_exception(error)

        try:
            journal.append(topic.name, message).add_done_callback(appended)
        except BaseException:
            self._give_back(topic, reserved)
            raise
        return answer

    def _trim(self, journal: Journal, topic: Topic) -> None:
        if self._loop is not None and journal.needs_trim(topic.name, topic.last_id):
            self._run(journal.trim(topic.name, topic.last_id))

    async def _recover(self, journal: Journal) -> None:
        async for record in journal.dead_letters():
            self._engine.dead_letters.apply(record)
        async for stored in journal.keyed_messages():
            if stored.message.dedup_key is not None:
                topic = self._engine.topic(stored.topic)
                self._engine.remember(topic, stored.message.dedup_key, stored.offset, self._now())

    # The loop

    def _now(self) -> float:
        if self._clock is not None:
            return self._clock.now()
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:  # subscribing before the loop runs
            return time.monotonic()

    def _changed(self, freed: str | None = None) -> None:
        if freed is not None:
            self._waiting.let_in(self._engine.topics[freed])
        super()._changed()
        if self._loop is not None and self._next_round is None:
            self._next_round = self._loop.call_soon(self._start_tries)

    def _store(self, record: DeadLetterRecord) -> None:
        if self._journal is not None:
            self._journal.append_dead_letter(record)

    def _start_tries(self) -> None:
        """Starts a task for each try that is due now, and sets the timer for the next one."""
        self._next_round = None
        while (attempt := self._engine.next_attempt(self._now())) is not None:
            self._run(self._try(attempt))
        super()._changed()
        self._set_timer()
        if self._draining and self._is_idle():
            for waiter in self._draining:
                if not waiter.done():
                    waiter.set_result(None)
            self._draining.clear()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._engine.next_due()
        if due is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, due - self._now()), self._start_tries)

    async def _close(self) -> None:
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        for waiter in self._draining:
            if not waiter.done():
                waiter.set_exception(HeadgateError("the broker was closed"))
        self._draining.clear()
        self._waiting.close()
        if self._journal is not None:
            await self._journal.log.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
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
            self._finish(attempt, error)

    def _is_idle(self) -> bool:
        return not self._running_tries() and all(
            topic.queued + topic.reserved + len(topic.overflow) == 0 for topic in self._engine.topics.values()
        )

    def _running_tries(self) -> bool:
        return any(lane.attempt is not None for topic in self._engine.topics.values() for lane in topic.lanes.values())
