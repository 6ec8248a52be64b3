"""The broker as a value: calls in; receipts, tries, events and dead-letter records out. No clock, loop, handler or log.

Broker and AsyncBroker drive it: `publish` and the like change its state, `next_attempt` returns the next try, `finish`
takes the outcome, `next_due` tells when to call again. Its state is consistent after each call.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from headgate.broker.deliveries import Deliveries, Latency
from headgate.broker.intake import Intake
from headgate.broker.lane import Attempt, ConsumerGroup, Lane
from headgate.broker.listeners import EventListeners
from headgate.broker.message import NewMessage, QueuedMessage, Receipt
from headgate.broker.subscriber import Subscriber
from headgate.broker.topic import Topic
from headgate.core.delivery.backpressure import Admittance, Backpressure
from headgate.core.delivery.breaker import Breaker, BreakerPolicy
from headgate.core.delivery.dead_letter_record import PURGED, REPLAYED, DeadLetter, LetterAdded, LetterEnded
from headgate.core.delivery.dead_letter_store import DeadLetterStore
from headgate.core.delivery.delivery import Status
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.delivery.retry import Draw, RetryPolicy, SimpleRetryPolicy, no_jitter
from headgate.core.delivery.strategy import DeliveryStrategy, ImmediateDeliveryStrategy
from headgate.core.delivery.timers import Timers
from headgate.core.sequencer.window import Window, window_key
from headgate.core.wire.control import Config
from headgate.core.wire.errors import Refusal
from headgate.core.wire.event_names import EventName
from headgate.core.wire.ids import check_topic_id, keyed_id, topic_key
from headgate.core.wire.rights import unknown_topic

MAX_TOPICS: Final = 10_000  # a publisher that invents topic names must not take all memory
MAX_SUBSCRIBERS: Final = 10_000  # of a topic; a publish takes time linear in them
_DEDUP: Final = Config(cluster_id="broker", generation=0, shards=1, shard=0, dedup_max_ids=100_000)


class Rules(msgspec.Struct, frozen=True):
    """The settings for each new topic and subscriber. Without `breaker` subscribers have no circuit breaker."""

    strategy: DeliveryStrategy = msgspec.field(default_factory=ImmediateDeliveryStrategy)
    retry: RetryPolicy = msgspec.field(default_factory=SimpleRetryPolicy)
    pressure: Backpressure = msgspec.field(default_factory=Backpressure)
    breaker: BreakerPolicy | None = None
    latency: Latency | None = None
    max_dead_letters: int = 1_000


class Engine:
    """All topics of one broker. It has one owner and no locks; `now`, in seconds, never goes back.

    The calls that change the dead letters return the records of the change, for a log.
    """

    def __init__(self, rules: Rules, draw: Draw = no_jitter) -> None:
        self.events = EventListeners()
        self.topics: dict[str, Topic] = {}
        self.dead_letters = DeadLetterStore(rules.max_dead_letters)
        self._rules = rules
        self._timers: Timers[Callable[[float], None]] = Timers()
        self._deliveries = Deliveries(self.topics, self.events, self._timers, draw, rules.latency)
        self.intake = Intake(self.events, self._timers, self._deliveries)

    # Publishing

    def topic(self, name: str) -> Topic:
        """Returns a topic, made on first use. Raises Refusal `invalid_topic_id` or `limit_reached`."""
        topic = self.topics.get(name)
        if topic is None:
            check_topic_id(name)
            if len(self.topics) >= MAX_TOPICS:
                raise Refusal("limit_reached", f"a broker has at most {MAX_TOPICS} topics")
            topic = Topic(name, self._rules.strategy, self._rules.retry, self._rules.pressure)
            self.topics[name] = topic
        return topic

    def find(self, name: str) -> Topic:
        """Returns a topic that exists. Raises Refusal `topic_not_found`."""
        topic = self.topics.get(name)
        if topic is None:
            raise unknown_topic(name)
        return topic

    def publish(self, name: str, message: NewMessage, now: float) -> Receipt:
        """Queues a message. Raises Refusal `queue_full`, and those of `topic`."""
        topic = self.topic(name)
        repeat = self.find_repeat(topic, message.dedup_key)
        if repeat is not None:
            return repeat
        if self.intake.admit(topic, now) in (Admittance.REJECT, Admittance.WAIT):
            raise self.intake.refuse(topic, now)
        return self.accept(topic, topic.last_id + 1, message, now)

    def accept(
        self, topic: Topic, message_id: int, message: NewMessage, now: float, *, subscribed: bool = True
    ) -> Receipt:
        """Queues an admitted message; `message_id` is above all earlier ones of the topic.

        `subscribed` False: nobody was subscribed when it was admitted, so it has no place in the queue and is dropped.
        """
        if message.dedup_key is not None:
            self.remember(topic, message.dedup_key, message_id, now)
        entry = QueuedMessage(message_id, message.payload, message.key, now, message.trace)
        return self.intake.accept(topic, entry, now, subscribed and bool(topic.audience))

    def find_repeat(self, topic: Topic, dedup_key: str | None) -> Receipt | None:
        """Returns the receipt of an earlier message with the same key and counts the duplicate, or returns None."""
        if dedup_key is None or topic.dedup_window is None:
            return None
        first = topic.dedup_window.find(_dedup_id(topic, dedup_key))
        if first is None:
            return None
        topic.counts.duplicates += 1
        return Receipt(first, topic.name, Status.QUEUED, 0, topic.queued, duplicate=True)

    def remember(self, topic: Topic, dedup_key: str, message_id: int, now: float) -> None:
        """Notes a key in the topic's duplicate window: at least 100,000 keys, at most a day."""
        if topic.dedup_window is None:
            topic.dedup_window = Window()
        now_ms = int(now * 1000)
        topic.dedup_window.enter(now_ms, _DEDUP)
        topic.dedup_window.add(_dedup_id(topic, dedup_key), message_id, True, message_id, now_ms)

    # Subscribing

    def subscribe(
        self,
        name: str,
        subscriber: Subscriber,
        now: float,
        *,
        group: str | None = None,
        breaker: BreakerPolicy | None = None,
        pulls: bool = False,
    ) -> Lane:
        """Adds a subscriber for the messages from now on; one that `pulls` gets its tries by `start` only.

        Raises Refusal `already_subscribed` or `limit_reached`, and those of `topic`.
        """
        topic = self.topic(name)
        if subscriber.name in topic.lanes:
            raise Refusal("already_subscribed", f"{subscriber.name} subscribes to {name}; give another name")
        if len(topic.lanes) >= MAX_SUBSCRIBERS:
            raise Refusal("limit_reached", f"a topic has at most {MAX_SUBSCRIBERS} subscribers")
        policy = breaker or self._rules.breaker
        shared = None if group is None else topic.groups.get(group) or self._new_group(topic, group)
        own = Breaker(policy) if policy else None
        lane = Lane(name, subscriber, topic.last_id, own, group=shared, paused=pulls)
        topic.lanes[subscriber.name] = lane
        if shared is None:
            topic.audience.append(lane)
        else:
            shared.members.append(lane)
        if self.events.listening:
            self.events.emit(Event(EventName.SUBSCRIBER_ADDED, now, name, None, subscriber.name, 0, None))
        return lane

    def unsubscribe(self, lane: Lane, now: float) -> None:
        """Removes a subscriber. A running try is finished; the waiting messages go to its group or are withdrawn.

        Raises Refusal `not_found` when it has left already.
        """
        topic, group = self.topics[lane.topic], lane.group
        if lane.closed or topic.lanes.get(lane.name) is not lane:
            raise Refusal("not_found", f"{lane.name} does not subscribe to {topic.name}")
        if group is None:
            topic.counts.withdrawn += topic.upcoming(lane.after)
            topic.audience.remove(lane)
        else:
            group.members.remove(lane)
            if not group.members:
                topic.counts.withdrawn += topic.upcoming(group.after)
                topic.audience.remove(group)
                del topic.groups[group.name]
        topic.prune()
        lane.closed = True
        if lane.timer is not None:
            self._timers.cancel(lane.timer)
        if lane.attempt is None:
            self._remove_lane(lane, now)
        elif group is None or not group.members:
            self._withdraw(lane, now)
        self.intake.refill(topic, now)

    # Trying

    def next_attempt(self, now: float) -> Attempt | None:
        """Returns the next try to make now, or None. Call `finish` with each."""
        return self._deliveries.next_attempt(now)

    def next_due(self) -> float | None:
        """Returns the time of the next timer, at which to call `next_attempt` again; None when no timer is set."""
        return self._timers.next_due()

    def finish(self, attempt: Attempt, error: str | None, now: float) -> LetterAdded | None:
        """Ends a try, with `error` None when it succeeded. Returns the record of its dead letter if it got one."""
        lane = attempt.lane
        settled, letter = self._deliveries.conclude(attempt, error, now)
        record = None if letter is None else LetterAdded(letter)
        if record is not None and not self.dead_letters.apply(record):
            record = None  # the store has a letter of this message already
        if settled:
            lane.remove_first()
        lane.attempt = None
        if settled:
            self.intake.entry_left(self.topics[lane.topic], lane, attempt.entry, now)
        self._deliveries.record(attempt, error is None, now)
        if lane.closed:
            self._remove_lane(lane, now)
        else:
            self._deliveries.line_up(lane)
        return record

    def start(self, lane: Lane, now: float) -> Attempt | None:
        """Begins a try of a subscriber that pulls; None when it has no message or its last try has not ended."""
        return self._deliveries.start(lane, now) if lane.startable else None

    # Settings

    def configure(self, name: str, retry: RetryPolicy | None, pressure: Backpressure | None, now: float) -> None:
        """Changes a topic's settings. Queued messages stay, scheduled retries keep their time."""
        topic = self.topic(name)
        topic.retry = retry or topic.retry
        topic.pressure = pressure or topic.pressure
        self.intake.refill(topic, now)

    def swap_strategy(self, strategy: DeliveryStrategy, now: float, name: str | None) -> None:
        """Swaps the strategy of one topic, or of all topics and all new ones."""
        if name is not None:
            self.intake.swap(self.topic(name), strategy, now)
            return
        self._rules = msgspec.structs.replace(self._rules, strategy=strategy)
        for topic in self.topics.values():
            self.intake.swap(topic, strategy, now)

    def flush(self, now: float, name: str | None) -> int:
        """Releases the held messages of one topic, or of all; returns how many.

        Raises Refusal `topic_not_found`.
        """
        topics = list(self.topics.values()) if name is None else [self.find(name)]
        return sum(self.intake.flush(topic, now) for topic in topics)

    # Dead letters

    def replay(self, letter_id: str, now: float) -> LetterEnded:
        """Queues a dead letter for its subscriber again, with attempts from 0; no other subscriber gets it.

        Raises Refusal `not_found` (no such letter, or nobody to get it) or `queue_full` (the letter stays).
        """
        letter = self.dead_letters.get(letter_id)
        if letter is None:
            raise Refusal("not_found", f"there is no dead letter {letter_id}")
        topic = self.topic(letter.topic)
        lane = self._receiver(topic, letter)
        if topic.queued + topic.reserved >= topic.pressure.max_queue_size:
            raise self.intake.refuse(topic, now)
        record = LetterEnded(letter_id, letter.topic, REPLAYED)
        self.dead_letters.apply(record)
        entry = QueuedMessage(int(letter.message_id), letter.payload, letter.key, letter.created_ts, None)
        self.redeliver(lane, entry, now)
        return record

    def redeliver(self, lane: Lane, entry: QueuedMessage, now: float) -> None:
        """Queues a message for one subscriber only; in a group, for the member that has its key."""
        topic, group = self.topics[lane.topic], lane.group
        if group is not None and entry.key is not None:
            lane = group.pick(entry)
        self.intake.enqueue_for(topic, lane, entry, now)

    def purge(self, topic: str | None, subscriber: str | None) -> list[LetterEnded]:
        """Removes dead letters; returns the record of each."""
        records = [LetterEnded(letter.id, letter.topic, PURGED) for letter in self.dead_letters.find(topic, subscriber)]
        for record in records:
            self.dead_letters.apply(record)
        return records

    def _receiver(self, topic: Topic, letter: DeadLetter) -> Lane:
        lane = topic.lanes.get(letter.subscriber)
        if lane is not None and not lane.closed:
            return lane
        group = topic.groups.get(letter.group or "")
        if group is None:
            raise Refusal("not_found", f"{letter.subscriber} does not subscribe to {letter.topic}; subscribe it first")
        return min(group.members, key=lambda member: len(member.queue))

    def _new_group(self, topic: Topic, name: str) -> ConsumerGroup:
        group = ConsumerGroup(name, topic.last_id)
        topic.groups[name] = group
        topic.audience.append(group)
        return group

    def _remove_lane(self, lane: Lane, now: float) -> None:
        """Removes a closed lane whose last try has ended."""
        topic, group = self.topics[lane.topic], lane.group
        if group is None or not group.members:
            self._withdraw(lane, now)
        else:
            for receiver in group.hand_over(lane.take_all()):
                self._deliveries.line_up(receiver)
        del topic.lanes[lane.name]

    def _withdraw(self, lane: Lane, now: float) -> None:
        entries, topic = lane.take_all(), self.topics[lane.topic]
        topic.counts.withdrawn += len(entries)
        for entry in entries:
            self.intake.entry_left(topic, lane, entry, now)


def _dedup_id(topic: Topic, dedup_key: str) -> int:
    return window_key(keyed_id(topic_key(topic.name), "", dedup_key), 0)
