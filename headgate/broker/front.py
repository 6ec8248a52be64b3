"""What both front ends offer: subscribing, listening, strategies, dead letters, figures; calls no handler."""

import inspect
from typing import Any, Protocol, TypedDict

from headgate.broker.deliveries import Latency
from headgate.broker.engine import NO_HOOKS, Engine, Hooks, Rules
from headgate.broker.lane import Attempt, Lane
from headgate.broker.listeners import Listener
from headgate.broker.message import Message
from headgate.broker.subscriber import FunctionSubscriber, Handler, Subscriber, as_subscriber
from headgate.broker.topic_metrics import TopicMetrics
from headgate.core.delivery.backpressure import Backpressure, OnFull
from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.dead_letters import DeadLetter
from headgate.core.delivery.retry import RetryPolicy, SimpleRetryPolicy
from headgate.core.delivery.strategy import DeliveryStrategy, ImmediateDeliveryStrategy
from headgate.core.wire.errors import HeadgateError


class Randomness(Protocol):
    """The source of jitter: `random.Random(seed)`, or the port `headgate.runtime.ports.Rng`."""

    def random(self) -> float:
        """Returns a float in [0, 1)."""


class TopicOptions(TypedDict, total=False):
    """The keyword arguments of a broker; each topic can have its own `retry` and bounds by `configure`.

    `latency` (seconds, or a function of message and subscriber name) simulates the way to the handlers.
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
    """A handle on one subscriber of one topic."""

    __slots__ = ("_front", "_lane")

    def __init__(self, front: "Front", lane: Lane) -> None:
        self._front = front
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
        """The newest message id up to which everything is delivered or given up; with a log, where to replay from."""
        return self._front.position(self._lane)

    def unsubscribe(self) -> None:
        """Leaves. A try under way is finished; what waits goes to the rest of the group, or is withdrawn."""
        self._front.unsubscribe(self)


class PullSubscription(Subscription):
    """A subscriber that takes messages when it wants one, and says itself what became of it."""

    __slots__ = ("_attempt",)

    def __init__(self, front: "Front", lane: Lane) -> None:
        super().__init__(front, lane)
        self._attempt: Attempt | None = None

    def take(self) -> Message | None:
        """Returns the next message; None when there is none now, or the last one is not yet acked or nacked."""
        attempt = self._front.start_by_hand(self._lane)
        self._attempt = attempt or self._attempt
        return None if attempt is None else attempt.message

    def ack(self) -> None:
        """The message that was taken is done."""
        self._settle(None)

    def nack(self, error: str = "nack") -> None:
        """The message that was taken has failed: retry or dead letter, as the policy says."""
        self._settle(error)

    def _settle(self, error: str | None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            raise HeadgateError("nothing was taken that is not settled yet")
        self._front.finish_by_hand(attempt, error)


class Front:
    """Base of Broker and AsyncBroker. `_now` and `_changed` are what differs."""

    _calls_async_handlers = False

    def __init__(self, rules: Rules, rng: Randomness, hooks: Hooks = NO_HOOKS) -> None:
        self._engine = Engine(rules, rng.random, hooks)

    def subscribe(
        self,
        topic: str,
        handler: Handler | Subscriber,
        *,
        name: str | None = None,
        group: str | None = None,
        breaker: BreakerPolicy | None = None,
    ) -> Subscription:
        """Subscribes a function, or an object with `handle`, to what is published from now on.

        `name` (default: the function's) is unique in the topic. Members of a `group` share its messages. Raises
        Refusal `already_subscribed`, `invalid_topic_id`, `limit_reached`, and TypeError for what is no handler here.
        """
        if inspect.iscoroutinefunction(getattr(handler, "handle", handler)) and not self._calls_async_handlers:
            raise TypeError("an async handler needs AsyncBroker; Broker calls plain functions")
        subscriber = as_subscriber(handler, name)
        lane = self._engine.subscribe(topic, subscriber, self._now(), group, breaker)
        self._changed()
        return Subscription(self, lane)

    def subscribe_pull(self, topic: str, name: str, *, group: str | None = None) -> PullSubscription:
        """Subscribes somebody who takes each message by hand. Raises as `subscribe`."""
        lane = self._engine.subscribe(topic, FunctionSubscriber(_unused, name), self._now(), group, None)
        lane.paused = True
        self._changed()
        return PullSubscription(self, lane)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription. Raises Refusal `not_found` when it has ended."""
        self._engine.unsubscribe(subscription._lane, self._now())
        self._changed()

    def add_listener(self, listener: Listener) -> None:
        """Calls `listener(event)` with each event from now on; one that raises is logged and harms nobody."""
        self._engine.events.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Calls it no more."""
        self._engine.events.remove(listener)

    def configure(self, topic: str, *, retry: RetryPolicy | None = None, pressure: Backpressure | None = None) -> None:
        """Gives one topic its own retry policy or bounds; what is queued stays."""
        self._engine.configure(topic, retry, pressure, self._now())
        self._changed()

    def swap_strategy(self, strategy: DeliveryStrategy, topic: str | None = None) -> None:
        """Swaps the delivery strategy of one topic, or of all; held messages are kept and the new one asked at once."""
        self._engine.swap_strategy(strategy, self._now(), topic)
        self._changed()

    def flush(self, topic: str | None = None) -> int:
        """Lets go what the strategy holds; returns how many messages went."""
        went = self._engine.flush(self._now(), topic)
        self._changed()
        return went

    def dead_letters(self, topic: str | None = None, subscriber: str | None = None) -> list[DeadLetter]:
        """Returns the deliveries that were given up, oldest first."""
        return self._engine.dead_letters.find(topic, subscriber)

    def replay_dead_letter(self, letter: DeadLetter) -> None:
        """Delivers it again, to its subscriber only, with attempts from 0.

        Raises Refusal `not_found` (no such letter or subscriber) or `queue_full`; the letter then stays.
        """
        try:
            self._engine.replay(letter.id, self._now())
        finally:
            self._changed()

    def purge_dead_letters(self, topic: str | None = None, subscriber: str | None = None) -> int:
        """Forgets dead letters; returns how many."""
        return self._engine.purge(topic, subscriber)

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
        """Returns the newest message id up to which everything of a subscriber is settled; see Subscription."""
        return self._engine.topic(lane.topic).settled_up_to(lane)

    def start_by_hand(self, lane: Lane) -> Attempt | None:
        """Begins a try of a pulled subscription; see PullSubscription."""
        attempt = self._engine.start(lane, self._now())
        self._changed()
        return attempt

    def finish_by_hand(self, attempt: Attempt, error: str | None) -> None:
        """Ends a try of a pulled subscription; see PullSubscription."""
        self._engine.finish(attempt, error, self._now())
        self._changed()

    def _now(self) -> float:
        raise NotImplementedError

    def _changed(self) -> None:
        self._engine.events.hand_out()


def make_rules(settings: TopicOptions) -> Rules:
    """Returns the rules for a broker's keyword arguments. Raises ValueError."""
    given: dict[str, Any] = dict(settings)
    bounds = {key: given.pop(key) for key in Backpressure.__struct_fields__ if key in given}
    if "on_full" in bounds:
        bounds["on_full"] = OnFull(bounds["on_full"])
    latency = given.pop("latency", 0.0)
    given["latency"] = latency if callable(latency) else _constant(latency)
    given.setdefault("strategy", ImmediateDeliveryStrategy())
    given.setdefault("retry", SimpleRetryPolicy())
    return Rules(pressure=Backpressure(**bounds), **given)


def describe(error: BaseException) -> str:
    """Returns an error as events and dead letters show it: its type and its words."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _constant(latency_s: float) -> Latency | None:
    return (lambda message, subscriber: latency_s) if latency_s else None


def _unused(message: Message) -> None:
    raise HeadgateError(f"message {message.id} was pushed to a pulled subscription")
