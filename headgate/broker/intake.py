"""The path of a message from its publisher into the lanes of the subscribers.

publish -> admit -> queue or overflow queue -> held -> the strategy releases it -> lanes
"""

from collections.abc import Callable
from functools import partial

from headgate.broker.deliveries import Deliveries
from headgate.broker.lane import Lane
from headgate.broker.listeners import EventListeners
from headgate.broker.message import QueuedMessage, Receipt
from headgate.broker.topic import Topic, status_in
from headgate.core.delivery.backpressure import Admittance
from headgate.core.delivery.delivery import Status
from headgate.core.delivery.lifecycle_events import Event, Outcome
from headgate.core.delivery.strategy import DeliveryStrategy, Release
from headgate.core.delivery.timers import Timers
from headgate.core.wire.errors import Refusal
from headgate.core.wire.event_names import EventName


class Intake:
    """Puts messages into topics and removes them, and emits the events of both. Lanes with a new message line up."""

    def __init__(
        self,
        events: EventListeners,
        timers: Timers[Callable[[float], None]],
        deliveries: Deliveries,
    ) -> None:
        self._events = events
        self._timers = timers
        self._deliveries = deliveries

    def admit(self, topic: Topic, now: float) -> Admittance:
        """Returns the verdict on a publish, never EVICT: with the policy `drop_oldest` it makes the room itself."""
        if not topic.audience:
            return Admittance.ADMIT
        verdict = topic.pressure.admit(topic.queued + topic.reserved, len(topic.overflow))
        if verdict is not Admittance.EVICT:
            return verdict
        return Admittance.ADMIT if self._evict(topic, now) else Admittance.REJECT

    def refuse(self, topic: Topic, now: float) -> Refusal:
        """Counts a refused publish and returns the refusal to raise."""
        topic.counts.rejected += 1
        self._emit_pressure(topic, now, Outcome.REJECTED)
        limit = topic.pressure.max_queue_size
        return Refusal("queue_full", f"{topic.queued} messages wait in topic {topic.name}, at most {limit} may")

    def count_blocked(self, topic: Topic, now: float) -> None:
        """Counts a publisher that starts to wait for room."""
        topic.counts.blocked += 1
        self._emit_pressure(topic, now, Outcome.BLOCKED)

    def accept(self, topic: Topic, entry: QueuedMessage, now: float, subscribed: bool) -> Receipt:
        """Takes an admitted message. `subscribed`: somebody was subscribed when it was admitted, and is now."""
        topic.counts.published += 1
        topic.last_id = entry.id
        if not subscribed:
            return self._drop(topic, entry, now)
        # A group counts as one. The whole audience subscribed before this id was given.
        receivers = len(topic.audience)
        if topic.pressure.admit(topic.queued, len(topic.overflow)) is Admittance.SPILL:
            topic.counts.overflowed += 1
            topic.overflow.append(entry)
            self._emit_pressure(topic, now, Outcome.OVERFLOWED, entry)
            return Receipt(entry.id, topic.name, Status.CREATED, receivers, topic.queued)
        self._enqueue(topic, entry, now)
        return Receipt(entry.id, topic.name, Status.QUEUED, receivers, topic.queued)

    def ask_strategy(self, topic: Topic, now: float, reason: str) -> None:
        """Asks the strategy until it releases nothing, and sets the timer for the next time."""
        release = Release(0)
        while topic.held:
            release = topic.strategy.publish(topic.view(), now)
            if release.size < 1:
                break
            self._release(topic, release.size, now, reason)
        self._set_timer(topic, release.wake_at if topic.held else None)

    def flush(self, topic: Topic, now: float) -> int:
        """Releases held messages by hand; returns how many."""
        if not topic.held:
            return 0
        size = min(topic.strategy.flush(topic.view(), now).size, len(topic.held))
        if size > 0:
            self._release(topic, size, now, "flush")
        self.ask_strategy(topic, now, "size")
        return max(size, 0)

    def swap(self, topic: Topic, strategy: DeliveryStrategy, now: float) -> None:
        """Swaps the strategy and asks the new one about the held messages."""
        old, topic.strategy = topic.strategy, strategy
        if self._events.listening:
            swapped = Event(
                EventName.STRATEGY_SWAPPED, now, topic.name, None, None, 0, None, old=old.name, new=strategy.name
            )
            self._events.emit(swapped)
        self.ask_strategy(topic, now, "swap")

    def entry_left(self, topic: Topic, lane: Lane, entry: QueuedMessage, now: float) -> None:
        """Counts a message that left a lane, and fills the room that it may have made."""
        if topic.forget(lane, entry):
            self.refill(topic, now)

    def refill(self, topic: Topic, now: float) -> None:
        """Moves messages from the overflow queue into the free room of the queue."""
        while topic.overflow and topic.queued < topic.pressure.max_queue_size:
            self._enqueue(topic, topic.overflow.popleft(), now)

    def enqueue_for(self, topic: Topic, lane: Lane, entry: QueuedMessage, now: float) -> None:
        """Puts a replayed message into the lane of one subscriber only."""
        topic.queued += 1
        lane.add(entry)
        if self._events.listening:
            self._emit_enqueued(topic, entry, now, 1, lane.name)
        self._deliveries.line_up(lane)

    def _enqueue(self, topic: Topic, entry: QueuedMessage, now: float) -> None:
        topic.queued += 1
        topic.held.append(entry)
        if self._events.listening:
            self._emit_enqueued(topic, entry, now, len(topic.audience), None)
        self.ask_strategy(topic, now, "size")

    def _release(self, topic: Topic, size: int, now: float, reason: str) -> None:
        size = min(size, len(topic.held))
        straight_through = size == 1 and reason == "size" and topic.held[0] is topic.held[-1]
        if self._events.listening and not straight_through:
            flushed = Event(EventName.BATCH_FLUSH, now, topic.name, None, None, 0, None, size=size, reason=reason)
            self._events.emit(flushed)
        for _ in range(size):
            entry = topic.held.popleft()
            for lane in topic.distribute(entry):
                self._deliveries.line_up(lane)

    def _set_timer(self, topic: Topic, due: float | None) -> None:
        if topic.release_timer is not None and topic.release_timer.due == due and topic.release_timer.live:
            return
        if topic.release_timer is not None:
            self._timers.cancel(topic.release_timer)
        topic.release_timer = None if due is None else self._timers.at(due, partial(self._on_timer, topic))

    def _on_timer(self, topic: Topic, now: float) -> None:
        topic.release_timer = None
        self.ask_strategy(topic, now, "delay")

    def _drop(self, topic: Topic, entry: QueuedMessage, now: float) -> Receipt:
        topic.counts.dropped += 1
        if self._events.listening:
            nobody = Event(
                EventName.DELIVERED,
                now,
                topic.name,
                entry.id,
                None,
                0,
                Status.CREATED,
                subscribers=0,
                trace=entry.trace,
            )
            self._events.emit(nobody)
        return Receipt(entry.id, topic.name, Status.CREATED, 0, topic.queued, dropped=True)

    def _evict(self, topic: Topic, now: float) -> bool:
        """Drops the oldest message that is not being tried, for all its subscribers; False when there is none."""
        entry = topic.oldest_idle()
        if entry is None:
            return False
        lanes = topic.holders(entry)
        if not lanes:
            topic.held.remove(entry)
            topic.queued -= 1
            topic.counts.evicted += 1
            self._emit_pressure(topic, now, Outcome.EVICTED, entry)
        for lane in lanes:
            topic.counts.evicted += 1
            self._emit_pressure(topic, now, Outcome.EVICTED, entry, lane)
            self._remove(lane, entry)
            topic.forget(lane, entry)
            self._deliveries.line_up(lane)
        return True

    def _remove(self, lane: Lane, entry: QueuedMessage) -> None:
        if lane.queue[0] is entry:
            if lane.timer is not None:
                self._timers.cancel(lane.timer)
            lane.remove_first()
        else:
            lane.queue.remove(entry)

    def _emit_pressure(
        self, topic: Topic, now: float, outcome: Outcome, entry: QueuedMessage | None = None, lane: Lane | None = None
    ) -> None:
        if not self._events.listening:
            return
        status, attempts = (Status.QUEUED, 0) if lane is None or entry is None else status_in(lane, entry)
        if outcome is not Outcome.EVICTED:
            status = Status.CREATED
        event = Event(
            EventName.BACKPRESSURE,
            now,
            topic.name,
            None if entry is None else entry.id,
            None if lane is None else lane.name,
            attempts,
            status,
            queue_length=topic.queued,
            outcome=outcome,
        )
        self._events.emit(event)

    def _emit_enqueued(
        self, topic: Topic, entry: QueuedMessage, now: float, receivers: int, subscriber: str | None
    ) -> None:
        event = Event(
            EventName.MESSAGE_ENQUEUED,
            now,
            topic.name,
            entry.id,
            subscriber,
            0,
            Status.QUEUED,
            queue_length=topic.queued,
            subscribers=receivers,
            trace=entry.trace,
        )
        self._events.emit(event)
