"""The base of Broker and AsyncBroker: subscribing, listeners, strategies, dead letters and figures."""

import inspect
from typing import Any, Protocol, TypedDict

from headgate.broker.deliveries import Latency
from headgate.broker.engine import Engine, Rules
from headgate.broker.lane import Attempt, Lane
from headgate.broker.listeners import Listener
from headgate.broker.message import Message
from headgate.broker.subscriber import FunctionSubscriber, Handler, Subscriber, as_subscriber
from headgate.broker.topic_metrics import TopicMetrics
from headgate.core.delivery.backpressure import Backpressure, OnFull
from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.dead_letter_record import DeadLetter, DeadLetterRecord
from headgate.core.delivery.retry import RetryPolicy
from headgate.core.delivery.strategy import DeliveryStrategy
from headgate.core.wire.errors import HeadgateError


class Randomness(Protocol):
    """The source of jitter: `random.Random(seed)`, or the port `headgate.runtime.ports.Rng`."""

    def random(self) -> float:
        """Returns a float in [0, 1)."""


class TopicOptions(TypedDict, total=False):
    """The keyword arguments of a broker. `configure` gives a topic its own `retry` and bounds.

    `latency` (seconds, or a function of message and subscriber name) simulates the way to the handlers. The sizes and
    the policy `on_full` are those of Backpressure.
    """

    strategy: DeliveryStrategy
    retry: RetryPolicy
    max_queue_size: int
    on_full: OnFull
    overflow_size: int
    block_timeout_s: float
    breaker: BreakerPolicy
    latency: float | Latency
    max_dead_letters: int


class Subscription:
    """One subscriber of one topic."""

    __slots__ = ("_broker", "_lane")

    def __init__(self, broker: "BaseBroker", lane: Lane) -> None:
        self._broker = broker
        self._lane = lane

    @property
    def name(self) -> str:
        """The subscriber's name, unique in its topic."""
        return self._lane.name

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._lane.topic

    @property
    def position(self) -> int:
        """The newest message id up to which all is delivered or given up. With a log: replay from the next one."""
        return self._broker.position(self._lane)

    def unsubscribe(self) -> None:
        """Ends the subscription. A running try is finished.

        The waiting messages go to the rest of the group, or are withdrawn. Raises Refusal `not_found` when it has ended
        already.
        """
        self._broker.unsubscribe(self)


class PullSubscription(Subscription):
    """A subscriber that takes one message at a time and reports its outcome itself."""

    __slots__ = ("_attempt",)

    def __init__(self, broker: "BaseBroker", lane: Lane) -> None:
        super().__init__(broker, lane)
        self._attempt: Attempt | None = None

    def take(self) -> Message | None:
        """Returns the next message; None when there is none now, or the last one has no ack or nack yet."""
        attempt = self._broker.start_by_hand(self._lane)
        self._attempt = attempt or self._attempt
        return None if attempt is None else attempt.message

    def ack(self) -> None:
        """Reports success for the message that was taken. Raises HeadgateError when none is."""
        self._settle(None)

    def nack(self, error: str = "nack") -> None:
        """Reports failure for the message that was taken: a retry or a dead letter follows. Raises as `ack`."""
        self._settle(error)

    def _settle(self, error: str | None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            raise HeadgateError("nothing was taken that is not settled yet")
        self._broker.finish_by_hand(attempt, error)


class BaseBroker:
    """Everything but publishing and calling handlers. A broker overrides `_now`, `_changed` and `_store`."""

    _calls_async_handlers = False

    def __init__(self, rules: Rules, rng: Randomness) -> None:
        self._engine = Engine(rules, rng.random)

    def subscribe(
        self,
        topic: str,
        handler: Handler | Subscriber,
        *,
        name: str | None = None,
        group: str | None = None,
        breaker: BreakerPolicy | None = None,
    ) -> Subscription:
        """Subscribes a function, or an object with `handle`, to the messages that are published from now on.

        `name` (default: the function's) is unique in the topic. Members of a `group` share its messages. Raises Refusal
        `already_subscribed`, `invalid_topic_id` or `limit_reached`, and TypeError for a handler that this broker cannot
        call.
        """
        if inspect.iscoroutinefunction(getattr(handler, "handle", handler)) and not self._calls_async_handlers:
            raise TypeError("an async handler needs AsyncBroker; Broker calls plain functions")
        subscriber = as_subscriber(handler, name)
        lane = self._engine.subscribe(topic, subscriber, self._now(), group=group, breaker=breaker)
        self._changed()
        return Subscription(self, lane)

    def subscribe_pull(self, topic: str, name: str, *, group: str | None = None) -> PullSubscription:
        """Adds a subscriber that takes its messages itself. Raises the same Refusals as `subscribe`."""
        lane = self._engine.subscribe(topic, FunctionSubscriber(_unused, name), self._now(), group=group, pulls=True)
        self._changed()
        return PullSubscription(self, lane)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription. Raises Refusal `not_found` when it has ended."""
        self._engine.unsubscribe(subscription._lane, self._now())
        self._changed(subscription.topic)

    def add_listener(self, listener: Listener) -> None:
        """Calls `listener(event)` with each event from now on. A listener that raises is logged and changes nothing."""
        self._engine.events.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Ends the calls of a listener; nothing happens when it is not there."""
        self._engine.events.remove(listener)

    def configure(self, topic: str, *, retry: RetryPolicy | None = None, pressure: Backpressure | None = None) -> None:
        """Gives one topic its own retry policy or bounds; queued messages stay."""
        self._engine.configure(topic, retry, pressure, self._now())
        self._changed(topic)

    def swap_strategy(self, strategy: DeliveryStrategy, topic: str | None = None) -> None:
        """Swaps the delivery strategy of one topic, or of all. Held messages stay; the new one is asked at once."""
        self._engine.swap_strategy(strategy, self._now(), topic)
        self._changed()

    def flush(self, topic: str | None = None) -> int:
        """Releases the messages that the strategy holds; returns how many. Raises Refusal `topic_not_found`."""
        released = self._engine.flush(self._now(), topic)
        self._changed()
        return released

    def dead_letters(self, topic: str | None = None, subscriber: str | None = None) -> list[DeadLetter]:
        """Returns the deliveries that were given up, oldest first."""
        return self._engine.dead_letters.find(topic, subscriber)

    def replay_dead_letter(self, letter: DeadLetter) -> None:
        """Delivers a dead letter again, to its subscriber only, with attempts from 0.

        Raises Refusal `not_found` (no such letter or subscriber) or `queue_full`; the letter then stays.
        """
        try:
            self._store(self._engine.replay(letter.id, self._now()))
        finally:
            self._changed()

    def purge_dead_letters(self, topic: str | None = None, subscriber: str | None = None) -> int:
        """Removes dead letters; returns how many."""
        records = self._engine.purge(topic, subscriber)
        for record in records:
            self._store(record)
        return len(records)

    def metrics(self, topic: str) -> TopicMetrics:
        """Returns a topic's figures. Raises Refusal `topic_not_found`."""
        return self._engine.find(topic).metrics()

    def summary(self) -> list[TopicMetrics]:
        """Returns the figures of all topics, in the order of their first use."""
        return [topic.metrics() for topic in self._engine.topics.values()]

    @property
    def listener_errors(self) -> int:
        """How often a listener raised."""
        return self._engine.events.errors

    def position(self, lane: Lane) -> int:
        """Returns the newest message id up to which a subscriber has everything; see Subscription."""
        return self._engine.topic(lane.topic).settled_up_to(lane)

    def start_by_hand(self, lane: Lane) -> Attempt | None:
        """Begins a try of a subscriber that pulls; see PullSubscription."""
        attempt = self._engine.start(lane, self._now())
        self._changed()
        return attempt

    def finish_by_hand(self, attempt: Attempt, error: str | None) -> None:
        """Ends a try of a subscriber that pulls; see PullSubscription."""
        self._finish(attempt, error)

    def _finish(self, attempt: Attempt, error: str | None) -> None:
        record = self._engine.finish(attempt, error, self._now())
        if record is not None:
            self._store(record)
        self._changed(attempt.lane.topic)

    def _now(self) -> float:
        raise NotImplementedError

    def _changed(self, freed: str | None = None) -> None:
        """Follows each call to the engine. `freed` is the topic in which the call may have made room."""
        self._engine.events.hand_out()

    def _store(self, record: DeadLetterRecord) -> None:
        """Follows each change of the dead letters. Here they are in memory only."""


def make_rules(settings: TopicOptions) -> Rules:
    """Returns the rules for a broker's keyword arguments. Raises ValueError."""
    given: dict[str, Any] = dict(settings)
    bounds = {key: given.pop(key) for key in Backpressure.__struct_fields__ if key in given}
    if "on_full" in bounds:
        bounds["on_full"] = OnFull(bounds["on_full"])
    latency = given.pop("latency", 0.0)
    given["latency"] = latency if callable(latency) else _constant(latency)
    return Rules(pressure=Backpressure(**bounds), **given)


def describe(error: BaseException) -> str:
    """Returns the text of an error in events and dead letters: its type and its message."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _constant(latency_s: float) -> Latency | None:
    return (lambda message, subscriber: latency_s) if latency_s else None


def _unused(message: Message) -> None:
    raise HeadgateError(f"message {message.id} was pushed to a subscriber that pulls")
