"""A model of what the broker owes to whom, written from the requirements, and a Hypothesis machine that compares."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.broker import Backpressure, Broker, Event, EventName, Message, OnFull, Refusal, SimpleRetryPolicy, Status
from headgate.broker.base_broker import Subscription
from headgate.core.delivery.lifecycle_events import Outcome
from headgate.core.delivery.strategy import BatchedDeliveryStrategy, DeliveryStrategy, ImmediateDeliveryStrategy
from tests.delivery_ledger import DeliveryLedger

QUEUE, OVERFLOW, CAP = 4, 2, 3
TOPICS = ("orders", "refunds")
NAMES = ("ann", "bob", "cy", "dee")
LATENCY = {"ann": 0.0, "bob": 0.3, "cy": 0.0, "dee": 1.1}
STRATEGIES: tuple[DeliveryStrategy, ...] = (
    ImmediateDeliveryStrategy(),
    BatchedDeliveryStrategy(3),
    BatchedDeliveryStrategy(2, max_delay=0.7),
)
TOPIC = st.sampled_from([TOPICS[0]] * 5 + [TOPICS[1]])


@dataclass
class Audience:
    """A plain subscription, or a group for as long as it has members."""

    topic: str
    group: str | None
    members: set[str]
    ledger: DeliveryLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = DeliveryLedger(f"{self.topic} {self.group or sorted(self.members)}", holds_line=not self.group)

    @property
    def open(self) -> bool:
        return bool(self.members)


@dataclass
class Head:
    """What the events say of the message at the head of a subscriber's queue."""

    id: int = 0
    status: Status = Status.DELIVERED
    attempts: int = 0
    due: float = 0.0


class BrokerMachine(RuleBasedStateMachine):
    """Each assertion begins with the name of the invariant that it is about."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker(
            retry=SimpleRetryPolicy(CAP, 0.25), latency=lambda message, name: LATENCY[name], max_dead_letters=10_000
        )
        self.events: list[Event] = []
        self.broken: list[AssertionError] = []
        self.broker.add_listener(self.listen)
        self.failures: Counter[str] = Counter()
        self.subscriptions: dict[tuple[str, str], Subscription] = {}
        self.audience_of: dict[tuple[str, str], Audience] = {}
        self.audiences: list[Audience] = []
        self.heads: dict[tuple[str, str], Head] = {}
        self.keys: dict[tuple[str, int], str | None] = {}
        self.published: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()

    # What happens

    @initialize(
        on_full=st.sampled_from([OnFull.REJECT, OnFull.DROP_OLDEST, OnFull.OVERFLOW]),
        strategy=st.sampled_from(STRATEGIES),
        failures=st.integers(0, 5),
    )
    def begin(self, on_full: OnFull, strategy: DeliveryStrategy, failures: int) -> None:
        for topic in TOPICS:
            self.broker.configure(topic, pressure=Backpressure(on_full, QUEUE, OVERFLOW))
        self.broker.swap_strategy(strategy)
        for name, group in (("ann", None), ("bob", None), ("cy", "g")):
            self.subscribe(TOPICS[0], name, group)
        self.failures["ann"] = failures

    def handle(self, name: str, message: Message) -> None:
        if self.failures[name] > 0:
            self.failures[name] -= 1
            raise ValueError("planned")

    @rule(topic=TOPIC, name=st.sampled_from(NAMES), group=st.sampled_from([None, None, "g"]))
    def subscribe(self, topic: str, name: str, group: str | None) -> None:
        try:
            subscription = self.broker.subscribe(topic, lambda m: self.handle(name, m), name=name, group=group)
        except Refusal:
            return
        self.subscriptions[topic, name] = subscription
        shared = [a for a in self.audiences if a.topic == topic and a.group == group and a.open]
        if group is not None and shared:
            audience = shared[0]
        else:
            audience = Audience(topic, group, set())
            self.audiences.append(audience)
        audience.members.add(name)
        self.audience_of[topic, name] = audience
        self.heads[topic, name] = Head()

    @rule(index=st.integers(0, 20))
    @precondition(lambda self: self.subscriptions)
    def unsubscribe(self, index: int) -> None:
        at = sorted(self.subscriptions)[index % len(self.subscriptions)]
        self.subscriptions.pop(at).unsubscribe()
        self.audience_of[at].members.discard(at[1])

    @rule(topic=TOPIC, key=st.sampled_from([None, "k1", "k2"]), count=st.integers(1, 3))
    def publish(self, topic: str, key: str | None, count: int) -> None:
        for _ in range(count):
            listening = [a for a in self.audiences if a.topic == topic and a.open]
            try:
                receipt = self.broker.publish(topic, "payload", key=key)
            except Refusal as refusal:
                assert refusal.code == "queue_full"
                self.rejected[topic] += 1
                continue
            self.published[topic] += 1
            self.keys[topic, receipt.id] = key
            assert receipt.delivered_to == len(listening), "receipt: as many as listen"
            assert receipt.dropped == (not listening), "receipt: dropped where nobody listens"
            for audience in listening:
                audience.ledger.owe(receipt.id)

    @rule(name=st.sampled_from(NAMES), times=st.integers(1, 4))
    def fail(self, name: str, times: int) -> None:
        self.failures[name] = times

    @rule(topic=TOPIC, count=st.integers(1, 3), seconds=st.sampled_from([0.0, 0.25, 1.0]))
    def publish_and_go_on(self, topic: str, count: int, seconds: float) -> None:
        self.publish(topic, None, count)
        self.broker.advance(seconds)

    @rule(name=st.sampled_from(NAMES))
    def succeed(self, name: str) -> None:
        self.failures[name] = 0

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.25, 0.5, 2.0]))
    def time(self, seconds: float) -> None:
        self.broker.advance(seconds)

    @rule(strategy=st.sampled_from(STRATEGIES), topic=TOPIC)
    def swap(self, strategy: DeliveryStrategy, topic: str) -> None:
        self.broker.swap_strategy(strategy, topic)

    @rule(topic=TOPIC)
    def flush(self, topic: str) -> None:
        self.broker.flush(topic)

    @rule(index=st.integers(0, 20))
    @precondition(lambda self: self.broker.dead_letters())
    def replay(self, index: int) -> None:
        letters = self.broker.dead_letters()
        letter = letters[index % len(letters)]
        audience = self.audience_of[letter.topic, letter.subscriber]
        if letter.subscriber not in audience.members:
            groups = [a for a in self.audiences if a.topic == letter.topic and a.open and a.group]
            audience = groups[0] if groups and letter.group else Audience("", None, set())
        try:
            self.broker.replay_dead_letter(letter)
        except Refusal as refusal:
            if refusal.code == "queue_full":
                self.rejected[letter.topic] += 1
            else:
                assert not audience.open, "replay: its subscriber is there"
            assert letter in self.broker.dead_letters(), "replay: a refused letter stays"
            return
        assert isinstance(letter.message_id, int)
        audience.ledger.replay(letter.message_id)

    # What is heard

    def listen(self, event: Event) -> None:
        try:
            self.hear(event)
        except AssertionError as error:  # the broker forgives a listener, we do not
            self.broken.append(error)

    @invariant()
    def nothing_wrong_was_heard(self) -> None:
        if self.broken:
            raise self.broken[0]
        assert self.broker.listener_errors == 0

    def hear(self, event: Event) -> None:
        self.events.append(event)
        if event.subscriber is None:
            if event.outcome is Outcome.EVICTED and isinstance(event.id, int):
                for audience in self.audiences:
                    if audience.topic == event.topic and audience.open:  # for one that left, it was withdrawn then
                        audience.ledger.settle(event.id, only_if_owed=True)
            return
        if not isinstance(event.id, int) or event.event is EventName.MESSAGE_ENQUEUED:
            return
        audience = self.audience_of[event.topic, event.subscriber]
        self.follow(self.heads[event.topic, event.subscriber], event)
        self.note(audience, event, event.id)

    def note(self, audience: Audience, event: Event, message_id: int) -> None:
        ledger, key = audience.ledger, self.keys[event.topic, message_id]
        if event.event is EventName.DELIVERING:
            ledger.tried(message_id, event.attempts)
        elif event.event is EventName.FAILED:
            ledger.failed(message_id)
        elif event.event is EventName.DEAD_LETTER:
            ledger.given_up(message_id, event.attempts, CAP)
        elif event.event is EventName.DELIVERED:
            ordered = not audience.group or key is not None  # in a group those of one key are in order
            ledger.succeeded(message_id, key if audience.group else None, in_order=ordered)
        elif event.event is EventName.BACKPRESSURE:
            ledger.settle(message_id)

    def follow(self, head: Head, event: Event) -> None:
        """Walks the table with the events of one subscriber."""
        if event.event is EventName.BACKPRESSURE:
            if event.id == head.id:
                assert event.status in (head.status, Status.QUEUED), "states: evicted"
                head.status = Status.DELIVERED
            return
        expected = {
            EventName.DELIVERING: (Status.DELIVERING, None),
            EventName.DELIVERED: (Status.DELIVERED, Status.DELIVERING),
            EventName.FAILED: (Status.FAILED, Status.DELIVERING),
            EventName.RETRY_SCHEDULED: (Status.RETRY_SCHEDULED, Status.FAILED),
            EventName.DEAD_LETTER: (Status.DEAD_LETTER, Status.FAILED),
        }
        status, before = expected[event.event]
        assert event.status is status, f"states: {event}"
        if event.event is not EventName.DELIVERING:
            assert (head.id, head.attempts, head.status) == (event.id, event.attempts, before), (
                f"states: {event} {head}"
            )
        elif event.attempts == 1:
            settled = (Status.DELIVERED, Status.DEAD_LETTER)
            assert head.status in settled, f"order: {event.id} is tried while {head} is not settled"
        else:
            assert (head.id, head.attempts + 1) == (event.id, event.attempts), f"order: {event} after {head}"
            assert head.status is Status.RETRY_SCHEDULED, f"states: {event} {head}"
            assert event.at >= head.due, "time: no retry before it is due"
        head.id, head.attempts, head.status = int(event.id or 0), event.attempts, status
        head.due = event.at + (event.delay_s or 0.0)

    # What must always be true

    @invariant()
    def nothing_is_lost(self) -> None:
        for (topic, name), subscription in self.subscriptions.items():
            audience = self.audience_of[topic, name]
            if audience.group is None:
                lag = self.broker.metrics(topic).lag[name]
                assert lag == audience.ledger.owed.total(), f"lost: {name} waits for {audience.ledger.owed}, has {lag}"
                assert subscription.position < min(+audience.ledger.owed, default=1 << 60), (
                    "position: not beyond what is due"
                )

    @invariant()
    def queues_are_within_their_bounds(self) -> None:
        for metrics in self.broker.summary():
            assert 0 <= metrics.queue_length <= QUEUE, "bound: the queue"
            assert metrics.overflow_length <= OVERFLOW, "bound: the overflow queue"

    @invariant()
    def counters_equal_the_events(self) -> None:
        for metrics in self.broker.summary():
            mine = [event for event in self.events if event.topic == metrics.topic]
            names = Counter(event.event for event in mine)
            outcomes = Counter(event.outcome for event in mine)
            dropped = sum(1 for e in mine if e.subscribers == 0)
            assert metrics.rejected_count == outcomes[Outcome.REJECTED] == self.rejected[metrics.topic], "counters"
            assert metrics.published_count == self.published[metrics.topic], "counters: refused is not published"
            assert metrics.published_count == len(accepted_ids(mine)), "counters: published"
            assert metrics.dropped_count == dropped, "counters: dropped"
            assert metrics.delivered_count == names[EventName.DELIVERED] - dropped, "counters: delivered"
            assert metrics.failed_count == names[EventName.FAILED], "counters: failed"
            assert metrics.retried_count == names[EventName.RETRY_SCHEDULED], "counters: retried"
            assert metrics.dead_letter_count == names[EventName.DEAD_LETTER], "counters: dead letters"
            assert metrics.evicted_count == outcomes[Outcome.EVICTED], "counters: evicted"
            assert metrics.overflowed_count == outcomes[Outcome.OVERFLOWED], "counters: overflowed"

    @invariant()
    def events_equal_the_states(self) -> None:
        for topic in self.broker._engine.topics.values():
            for name, lane in topic.lanes.items():
                if lane.delivery is None or lane.delivery.attempts == 0:
                    continue
                head = self.heads[topic.name, name]
                said = Status.QUEUED if lane.delivery.status is Status.QUEUED else head.status
                assert (lane.delivery.status, lane.delivery.attempts) == (said, head.attempts), (
                    "states: the broker's own"
                )

    def teardown(self) -> None:
        """In the end everybody succeeds and time goes on: all that was accepted is settled, for all who stayed."""
        self.failures.clear()
        self.nothing_wrong_was_heard()
        for _ in range(8):
            self.broker.flush()
            self.broker.advance(100.0)
        unsettled: Counter[str] = Counter()
        for audience in self.audiences:
            if audience.open:
                audience.ledger.nothing_is_due()
            unsettled[audience.topic] += audience.ledger.owed.total()
        for metrics in self.broker.summary():
            assert metrics.queue_length == metrics.overflow_length == 0, "lost: something stayed in a queue"
            assert metrics.withdrawn_count == unsettled[metrics.topic], "lost: what left with its subscriber is counted"
        self.counters_equal_the_events()
        self.nothing_wrong_was_heard()


def accepted_ids(events: list[Event]) -> set[int | str | None]:
    """The ids that entered a queue or the overflow queue, or found nobody."""
    return {
        event.id
        for event in events
        if (event.event is EventName.MESSAGE_ENQUEUED and event.subscriber is None)
        or event.outcome is Outcome.OVERFLOWED
        or event.subscribers == 0
    }
