"""One topic: its queues, its subscribers and its counters."""

from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Final

from headgate.broker.lane import ConsumerGroup, Lane
from headgate.broker.message import QueuedMessage
from headgate.broker.topic_metrics import TopicCounts, TopicMetrics
from headgate.core.delivery.backpressure import Backpressure
from headgate.core.delivery.breaker import BreakerState
from headgate.core.delivery.delivery import Status
from headgate.core.delivery.retry import RetryPolicy
from headgate.core.delivery.strategy import DeliveryStrategy, Held
from headgate.core.delivery.timers import Timer
from headgate.core.sequencer.window import Window

FIRST_ID: Final = 1


class Topic:
    """The queue of a topic is in two places: `held`, until the strategy releases a message, and then the lanes.

    `queued` counts the messages in both. `overflow` is behind the queue. `reserved` counts places that are promised to
    messages on their way into the log.
    """

    __slots__ = (
        "audience",
        "counts",
        "dedup_window",
        "groups",
        "held",
        "lanes",
        "last_id",
        "name",
        "overflow",
        "pressure",
        "queued",
        "release_timer",
        "reserved",
        "retry",
        "strategy",
    )

    def __init__(self, name: str, strategy: DeliveryStrategy, retry: RetryPolicy, pressure: Backpressure) -> None:
        self.name = name
        self.strategy = strategy
        self.retry = retry
        self.pressure = pressure
        self.counts = TopicCounts()
        self.lanes: dict[str, Lane] = {}
        self.groups: dict[str, ConsumerGroup] = {}
        self.audience: list[Lane | ConsumerGroup] = []  # the receivers of each message, in order of joining
        self.held: deque[QueuedMessage] = deque()
        self.overflow: deque[QueuedMessage] = deque()
        self.queued = 0
        self.reserved = 0
        self.last_id = FIRST_ID - 1
        self.dedup_window: Window | None = None  # made with the first dedup_key
        self.release_timer: Timer[Callable[[float], None]] | None = None  # the time at which to ask the strategy again

    def view(self) -> Held:
        """Returns `held` as the strategy sees it. There must be a message."""
        return Held(len(self.held), self.held[0].created_ts, self.held[-1].payload)

    def distribute(self, entry: QueuedMessage) -> list[Lane]:
        """Adds a message to the lane of each subscriber from before it was published; returns those lanes."""
        lanes = [one.pick(entry) for one in self.audience if one.after < entry.id]
        for lane in lanes:
            lane.add(entry)
        return lanes

    def forget(self, lane: Lane, entry: QueuedMessage) -> bool:
        """Counts a message that left a lane; returns whether that made room in the topic's queue."""
        if lane.group is not None:
            lane.group.forget(entry)
        entry.pending -= 1
        if entry.pending:
            return False
        self.queued -= 1
        return True

    def prune(self) -> None:
        """Drops the messages whose subscribers have all left before a lane got them."""
        oldest = min((one.after for one in self.audience), default=self.last_id)
        while self.held and self.held[0].id <= oldest:
            self.held.popleft()
            self.queued -= 1
        while self.overflow and self.overflow[0].id <= oldest:
            self.overflow.popleft()

    def oldest_idle(self) -> QueuedMessage | None:
        """Returns the oldest queued message that is not being tried now, or None."""
        busy = {id(lane.queue[0]) for lane in self.lanes.values() if lane.attempt is not None}
        idle = [entry for lane in self.lanes.values() if (entry := _first_not(busy, lane)) is not None]
        if idle:
            return min(idle, key=lambda entry: entry.id)
        return self.held[0] if self.held else None

    def holders(self, entry: QueuedMessage) -> list[Lane]:
        """Returns the lanes in which a message waits."""
        return [lane for lane in self.lanes.values() if entry in lane.queue] if entry.pending else []

    def upcoming(self, after: int) -> int:
        """Counts the messages newer than `after` that are in no lane yet."""
        return sum(1 for entry in chain(self.held, self.overflow) if entry.id > after)

    def settled_up_to(self, lane: Lane) -> int:
        """Returns the newest message id up to which a subscriber has everything: delivered or given up."""
        to_come = (entry for entry in chain(self.held, self.overflow) if entry.id > lane.after)
        return min((entry.id - 1 for entry in chain(lane.queue, to_come)), default=self.last_id)

    def metrics(self) -> TopicMetrics:
        """Returns the topic's figures."""
        counts = self.counts
        open_breakers = {
            name: str(lane.breaker.state)
            for name, lane in self.lanes.items()
            if lane.breaker is not None and lane.breaker.state is not BreakerState.CLOSED
        }
        return TopicMetrics(
            topic=self.name,
            published_count=counts.published,
            rejected_count=counts.rejected,
            duplicate_count=counts.duplicates,
            dropped_count=counts.dropped,
            evicted_count=counts.evicted,
            overflowed_count=counts.overflowed,
            blocked_count=counts.blocked,
            withdrawn_count=counts.withdrawn,
            delivered_count=counts.delivered,
            failed_count=counts.failed,
            retried_count=counts.retried,
            dead_letter_count=counts.dead_lettered,
            subscriber_count=sum(1 for lane in self.lanes.values() if not lane.closed),
            queue_length=self.queued,
            overflow_length=len(self.overflow),
            average_latency_s=counts.latency_s / counts.delivered if counts.delivered else 0.0,
            lag={name: self._lag(lane) for name, lane in self.lanes.items()},
            breakers=open_breakers,
        )

    def _lag(self, lane: Lane) -> int:
        return len(lane.queue) + (self.upcoming(lane.after) if lane.group is None else 0)


def status_in(lane: Lane, entry: QueuedMessage) -> tuple[Status, int]:
    """Returns the status and the attempts of a message in a lane."""
    if lane.delivery is not None and lane.queue[0] is entry:
        return lane.delivery.status, lane.delivery.attempts
    return Status.QUEUED, 0


def _first_not(busy: set[int], lane: Lane) -> QueuedMessage | None:
    return next((entry for entry in lane.queue if id(entry) not in busy), None)
