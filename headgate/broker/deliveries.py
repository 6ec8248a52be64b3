"""Tries: which one is next, and the consequence of its outcome (success, retry, dead letter, breaker)."""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from headgate.broker.lane import Attempt, Lane
from headgate.broker.listeners import EventListeners
from headgate.broker.message import Message
from headgate.broker.topic import Topic
from headgate.core.delivery.dead_letter_record import NO_ATTEMPTS_LEFT, DeadLetter, broker_letter_id
from headgate.core.delivery.delivery import Delivery
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.delivery.retry import Draw
from headgate.core.delivery.timers import Timers
from headgate.core.wire.event_names import EventName

Latency = Callable[[Message, str], float]  # (message, subscriber) -> seconds on the way to the handler


class Conclusion(NamedTuple):
    """The result of one try: `settled` when the message leaves the lane, and its dead letter if it got one."""

    settled: bool
    letter: DeadLetter | None = None


class Deliveries:
    """The line of lanes with a message to try: each lane gets one try and goes to the end of the line."""

    def __init__(
        self,
        topics: Mapping[str, Topic],
        events: EventListeners,
        timers: Timers[Callable[[float], None]],
        draw: Draw,
        latency: Latency | None,
    ) -> None:
        self._topics = topics
        self._events = events
        self._timers = timers
        self._draw = draw
        self._latency = latency
        self._line: deque[Lane] = deque()
        self._arrived: deque[Attempt] = deque()  # tries whose simulated latency is over

    def line_up(self, lane: Lane) -> None:
        """Puts a lane at the end of the line unless it is in it or has nothing to try."""
        if not lane.in_line and not lane.paused and lane.startable:
            lane.in_line = True
            self._line.append(lane)

    def next_attempt(self, now: float) -> Attempt | None:
        """Returns the next try to make now, or None. Call `conclude` with each."""
        while (timer := self._timers.pop(now)) is not None:
            timer(now)
        if self._arrived:
            return self._arrived.popleft()
        while self._line:
            lane = self._line.popleft()
            lane.in_line = False
            if lane.startable and not lane.paused:
                attempt = self.start(lane, now)
                if self._latency is None or not self._delay(attempt, self._latency, now):
                    return attempt
        return None

    def start(self, lane: Lane, now: float) -> Attempt:
        """Begins a try of a lane's first message. The lane must be startable."""
        entry = lane.queue[0]
        if lane.delivery is None:
            lane.delivery = Delivery()
            lane.delivery.enqueue()
        lane.delivery.start()
        lane.attempt = Attempt(lane, entry, lane.delivery, now)
        if self._events.listening:
            self._emit(EventName.DELIVERING, lane.attempt, now)
        return lane.attempt

    def conclude(self, attempt: Attempt, error: str | None, now: float) -> Conclusion:
        """Ends a try, with `error` None when it succeeded. Schedules the retry if there is one."""
        return self._succeeded(attempt, now) if error is None else self._failed(attempt, error, now)

    def record(self, attempt: Attempt, ok: bool, now: float) -> None:
        """Tells the subscriber's circuit breaker how a try ended."""
        lane = attempt.lane
        if lane.breaker is None:
            return
        probe_at = lane.breaker.record(ok, now - attempt.started, now)
        if probe_at is not None:
            self._timers.at(probe_at, partial(self._probe, lane))

    def _delay(self, attempt: Attempt, latency: Latency, now: float) -> bool:
        """Lets a try wait for its simulated latency; returns False when it has none."""
        delay = latency(attempt.message, attempt.lane.name)
        if delay <= 0:
            return False
        self._timers.at(now + delay, lambda _: self._arrived.append(attempt))
        return True

    def _succeeded(self, attempt: Attempt, now: float) -> Conclusion:
        attempt.delivery.succeed()
        counts = self._topics[attempt.lane.topic].counts
        counts.delivered += 1
        counts.latency_s += now - attempt.entry.created_ts
        if self._events.listening:
            self._emit(EventName.DELIVERED, attempt, now)
        return Conclusion(settled=True)

    def _failed(self, attempt: Attempt, error: str, now: float) -> Conclusion:
        lane, delivery, topic = attempt.lane, attempt.delivery, self._topics[attempt.lane.topic]
        delivery.fail(error)
        topic.counts.failed += 1
        if self._events.listening:
            self._emit(EventName.FAILED, attempt, now, error=delivery.last_error)
        if lane.closed and topic.retry.should_retry(delivery.attempts):
            return Conclusion(settled=False)  # the subscriber has left: its group gets the message, or it is withdrawn
        delay_s = delivery.resolve(topic.retry, now, self._draw)
        if delay_s is None or delivery.due is None:
            topic.counts.dead_lettered += 1
            if self._events.listening:
                self._emit(EventName.DEAD_LETTER, attempt, now, error=delivery.last_error, reason=NO_ATTEMPTS_LEFT)
            return Conclusion(settled=True, letter=_letter(attempt, now))
        topic.counts.retried += 1
        if self._events.listening:
            self._emit(EventName.RETRY_SCHEDULED, attempt, now, delay_s=delay_s)
        lane.timer = self._timers.at(delivery.due, partial(self._requeue, lane, delivery))
        return Conclusion(settled=False)

    def _requeue(self, lane: Lane, delivery: Delivery, now: float) -> None:
        lane.timer = None
        delivery.requeue(now)
        self.line_up(lane)

    def _probe(self, lane: Lane, now: float) -> None:
        if lane.breaker is not None:
            lane.breaker.probe()
            self.line_up(lane)

    def _emit(
        self,
        name: EventName,
        attempt: Attempt,
        now: float,
        *,
        error: str | None = None,
        delay_s: float | None = None,
        reason: str | None = None,
    ) -> None:
        lane, delivery = attempt.lane, attempt.delivery
        event = Event(
            name,
            now,
            lane.topic,
            attempt.entry.id,
            lane.subscriber.name,
            delivery.attempts,
            delivery.status,
            error=error,
            delay_s=delay_s,
            reason=reason,
            trace=attempt.entry.trace,
        )
        self._events.emit(event)


def _letter(attempt: Attempt, now: float) -> DeadLetter:
    lane, entry, delivery = attempt.lane, attempt.entry, attempt.delivery
    return DeadLetter(
        id=broker_letter_id(lane.topic, entry.id, lane.name),
        topic=lane.topic,
        message_id=entry.id,
        subscriber=lane.name,
        attempts=delivery.attempts,
        reason=NO_ATTEMPTS_LEFT,
        last_error=delivery.last_error,
        at=now,
        created_ts=entry.created_ts,
        payload=entry.payload,
        key=entry.key,
        group=None if lane.group is None else lane.group.name,
    )
