"""The broker as a value: calls in, verdicts, tries and events out; knows no clock, no loop, no handler and no log.

Both front ends drive it: `publish` and friends change state, `next_attempt` says what to do, `finish` takes the
outcome, `next_due` says when to come back. It is consistent after each call.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from headgate.broker.deliveries import Deliveries, Latency
from headgate.broker.intake import Intake
from headgate.broker.lane import Attempt, ConsumerGroup, Lane
from headgate.broker.listeners import EventListeners
from headgate.broker.message import Draft, QueuedMessage, Receipt
from headgate.broker.subscriber import Subscriber
from headgate.broker.topic import Topic
from headgate.core.delivery.backpressure import Admittance, Backpressure
from headgate.core.delivery.breaker import Breaker, BreakerPolicy
from headgate.core.delivery.dead_letters import Buried, DeadLetter, DeadLetterRecord, DeadLetterStore, LetterId, Removed
from headgate.core.delivery.delivery import Status
from headgate.core.delivery.lifecycle_events import Event, EventName
from headgate.core.delivery.retry import Draw, RetryPolicy, SimpleRetryPolicy, no_jitter
from headgate.core.delivery.strategy import DeliveryStrategy, ImmediateDeliveryStrategy
from headgate.core.delivery.timers import Timers
from headgate.core.sequencer.window import Window, window_key
from headgate.core.wire.control import Config
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import check_topic_id, keyed_id, topic_key
from headgate.core.wire.rights import unknown_topic

MAX_TOPICS: Final = 10_000  # a publisher that makes up topic names must not take all memory
MAX_SUBSCRIBERS: Final = 10_000  # a topic; publishing is linear in them
_DEDUP: Final = Config(cluster_id="broker", generation=0, shards=1, shard=0, dedup_max_ids=100_000)


class Rules(msgspec.Struct, frozen=True):
    """What a broker gives to each new topic and subscriber; without `breaker` a failing one is tried on and on."""

    strategy: DeliveryStrategy = msgspec.field(default_factory=ImmediateDeliveryStrategy)
    retry: RetryPolicy = msgspec.field(default_factory=SimpleRetryPolicy)
    pressure: Backpressure = msgspec.field(default_factory=Backpressure)
    breaker: BreakerPolicy | None = None
    latency: Latency | None = None
    max_dead_letters: int = 1_000


class Hooks(NamedTuple):
    """Whom an engine tells: of a queue that has a place again, and of each change of the dead letters."""

    on_room: Callable[[Topic], None]
    on_dead_letter: Callable[[DeadLetterRecord], None]


NO_HOOKS: Final = Hooks(lambda topic: None, lambda record: None)


class Engine:
    """All topics of one broker. One owner, no locks; `now` never goes back."""

    def __init__(self, rules: Rules, draw: Draw = no_jitter, hooks: Hooks = NO_HOOKS) -> None:
        self.events = EventListeners()
        self.topics: dict[str, Topic] = {}
        self.dead_letters = DeadLetterStore(rules.max_dead_letters)
        self._rules = rules
        self._timers: Timers[Callable[[float], None]] = Timers()
        self._on_dead_letter = hooks.on_dead_letter
        self._runner = Deliveries(self.topics, self.events, self._timers, draw, rules.latency)
        self.intake = Intake(self.events, self._timers, self._runner.poke, hooks.on_room)

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

    def publish(self, name: str, draft: Draft, now: float) -> Receipt:
        """Takes a message in, without calling anybody. Raises Refusal `queue_full` (and the topic's, see `topic`)."""
        topic = self.topic(name)
        repeat = self.find_repeat(topic, draft.dedup_key)
        if repeat is not None:
            return repeat
        if self.intake.admit(topic, now) in (Admittance.REJECT, Admittance.WAIT):
            raise self.intake.refuse(topic, now)
        return self.accept(topic, topic.last_id + 1, draft, now)

    def accept(self, topic: Topic, message_id: int, draft: Draft, now: float, *, heard: bool = True) -> Receipt:
        """Takes an admitted message in; `message_id` is above all earlier ones of the topic.

        `heard` False: nobody was subscribed when it was admitted, so it has no place in the queue and is dropped.
        """
        if draft.dedup_key is not None:
            self.remember(topic, draft.dedup_key, message_id, now)
        entry = QueuedMessage(message_id, draft.payload, draft.key, now, draft.trace)
        return self.intake.accept(topic, entry, now, heard and bool(topic.audience))

    def find_repeat(self, topic: Topic, dedup_key: str | None) -> Receipt | None:
        """Returns the receipt of a message that was taken before under the same key, and counts the repeat."""
        if dedup_key is None or topic.seen is None:
            return None
        first = topic.seen.find(_dedup_id(topic, dedup_key))
        if first is None:
            return None
        topic.counts.duplicates += 1
        return Receipt(first, topic.name, Status.QUEUED, 0, topic.queued, duplicate=True)

    def remember(self, topic: Topic, dedup_key: str, message_id: int, now: float) -> None:
        """Notes a key in the topic's duplicate window: at least 100,000 keys, at most a day."""
        if topic.seen is None:
            topic.seen = Window()
        now_ms = int(now * 1000)
        topic.seen.enter(now_ms, _DEDUP)
        topic.seen.add(_dedup_id(topic, dedup_key), message_id, True, message_id, now_ms)

    # Subscribing

    def subscribe(
        self, name: str, subscriber: Subscriber, now: float, group: str | None, breaker: BreakerPolicy | None
    ) -> Lane:
        """Adds a subscriber for what is published from now on. Raises Refusal `already_subscribed`, `limit_reached`."""
        topic = self.topic(name)
        if subscriber.name in topic.lanes:
            raise Refusal("already_subscribed", f"{subscriber.name} subscribes to {name}; give another name")
        if len(topic.lanes) >= MAX_SUBSCRIBERS:
            raise Refusal("limit_reached", f"a topic has at most {MAX_SUBSCRIBERS} subscribers")
        policy = breaker or self._rules.breaker
        share = None if group is None else topic.groups.get(group) or self._new_group(topic, group)
        lane = Lane(name, subscriber, topic.last_id, Breaker(policy) if policy else None, share)
        topic.lanes[subscriber.name] = lane
        if share is None:
            topic.audience.append(lane)
        else:
            share.members.append(lane)
        if self.events.listening:
            self.events.emit(Event(EventName.SUBSCRIBER_ADDED, now, name, None, subscriber.name, 0, None))
        return lane

    def unsubscribe(self, lane: Lane, now: float) -> None:
        """Removes a subscriber. A try under way is finished; what still waits goes to its group or is withdrawn."""
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
            self._depart(lane, now)
        elif group is None or not group.members:
            self._withdraw(lane, now)
        self.intake.refill(topic, now)

    # Trying

    def next_attempt(self, now: float) -> Attempt | None:
        """Returns the next try to make now, None when there is none; `finish` must be called with each."""
        return self._runner.next_attempt(now)

    def next_due(self) -> float | None:
        """Returns when to ask `next_attempt` again although nobody called; None when no timer is set."""
        return self._timers.next_due()

    def finish(self, attempt: Attempt, error: str | None, now: float) -> None:
        """Takes the outcome of a try: `error` is None where it succeeded."""
        lane = attempt.lane
        settled, letter = self._runner.conclude(attempt, error, now)
        if letter is not None:
            self._apply(Buried(letter))
        if settled:
            lane.finish_first()
        lane.attempt = None
        if settled:
            self.intake.left(self.topics[lane.topic], lane, attempt.entry, now)
        self._runner.record(attempt, error is None, now)
        if lane.closed:
            self._depart(lane, now)
        else:
            self._runner.poke(lane)

    def start(self, lane: Lane, now: float) -> Attempt | None:
        """Begins a try by hand (a pulled subscriber); None when nothing is there or the last is not settled."""
        return self._runner.start(lane, now) if lane.startable else None

    # Settings

    def configure(self, name: str, retry: RetryPolicy | None, pressure: Backpressure | None, now: float) -> None:
        """Changes a topic's settings while it runs; what is queued stays, scheduled retries keep their time."""
        topic = self.topic(name)
        topic.retry = retry or topic.retry
        topic.pressure = pressure or topic.pressure
        self.intake.refill(topic, now)

    def swap_strategy(self, strategy: DeliveryStrategy, now: float, name: str | None) -> None:
        """Swaps the strategy of one topic, or of all and of those to come."""
        if name is not None:
            self.intake.swap(self.topic(name), strategy, now)
            return
        self._rules = msgspec.structs.replace(self._rules, strategy=strategy)
        for topic in self.topics.values():
            self.intake.swap(topic, strategy, now)

    def flush(self, now: float, name: str | None) -> int:
        """Lets go what the strategy holds, of one topic or of all; returns how many messages went."""
        topics = list(self.topics.values()) if name is None else [self.find(name)]
        return sum(self.intake.flush(topic, now) for topic in topics)

    # Dead letters

    def replay(self, letter_id: LetterId, now: float) -> DeadLetter:
        """Queues a dead letter for its subscriber again, with attempts from 0; nobody else gets it.

        Raises Refusal `not_found` (no such letter, or nobody to get it) or `queue_full` (the letter stays).
        """
        letter = self.dead_letters.get(letter_id)
        if letter is None:
            raise Refusal("not_found", f"there is no dead letter {letter_id}")
        topic = self.topic(letter.topic)
        lane = self._receiver(topic, letter)
        if topic.queued + topic.reserved >= topic.pressure.max_queue_size:
            raise self.intake.refuse(topic, now)
        self._apply(Removed(*letter_id, why="replayed"))
        self.again(
            lane, QueuedMessage(int(letter.message_id), letter.payload, letter.key, letter.created_ts, None), now
        )
        return letter

    def again(self, lane: Lane, entry: QueuedMessage, now: float) -> None:
        """Queues a message for one subscriber only; in a group, for the member that its key belongs to."""
        topic, group = self.topics[lane.topic], lane.group
        if group is not None and entry.key is not None:
            lane = group.pick(entry)
        self.intake.enqueue_for(topic, lane, entry, now)

    def purge(self, topic: str | None, subscriber: str | None) -> int:
        """Removes dead letters; returns how many."""
        letters = self.dead_letters.find(topic, subscriber)
        for letter in letters:
            self._apply(Removed(*letter.id, why="purged"))
        return len(letters)

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

    def _depart(self, lane: Lane, now: float) -> None:
        """Ends a closed lane whose last try is over."""
        topic, group = self.topics[lane.topic], lane.group
        if group is None or not group.members:
            self._withdraw(lane, now)
        else:
            for receiver in group.hand_over(lane.empty()):
                self._runner.poke(receiver)
        del topic.lanes[lane.name]

    def _withdraw(self, lane: Lane, now: float) -> None:
        entries, topic = lane.empty(), self.topics[lane.topic]
        topic.counts.withdrawn += len(entries)
        for entry in entries:
            self.intake.left(topic, lane, entry, now)

    def _apply(self, record: DeadLetterRecord) -> None:
        if self.dead_letters.apply(record):
            self._on_dead_letter(record)


def _dedup_id(topic: Topic, dedup_key: str) -> int:
    return window_key(keyed_id(topic_key(topic.name), "", dedup_key), 0)
