"""A topic broker in the user's process: to test handlers without a server, and to learn the life of a message.

`Broker` is driven by hand, `AsyncBroker` runs on asyncio. Start with docs/broker/quickstart.md.
"""

from headgate.broker.base_broker import PullSubscription, Subscription
from headgate.broker.broker import Broker, NotIdle, default_broker
from headgate.broker.message import Message, Receipt
from headgate.broker.publisher import Publisher
from headgate.broker.service import AsyncBroker
from headgate.broker.spans import Span, Spans
from headgate.broker.subscriber import Subscriber, idempotent
from headgate.broker.topic_metrics import TopicMetrics
from headgate.core.delivery.backpressure import Backpressure, OnFull
from headgate.core.delivery.breaker import BreakerPolicy
from headgate.core.delivery.dead_letter_record import DeadLetter
from headgate.core.delivery.dead_letter_store import DeadLetterStore
from headgate.core.delivery.delivery import Status
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.delivery.retry import RetryPolicy, SimpleRetryPolicy, exponential, fixed, linear
from headgate.core.delivery.strategy import (
    BatchedDeliveryStrategy,
    DeliveryStrategy,
    Held,
    ImmediateDeliveryStrategy,
    Release,
)
from headgate.core.wire.errors import IllegalTransition, Refusal
from headgate.core.wire.event_names import EventName

__all__ = [
    "AsyncBroker",
    "Backpressure",
    "BatchedDeliveryStrategy",
    "BreakerPolicy",
    "Broker",
    "DeadLetter",
    "DeadLetterStore",
    "DeliveryStrategy",
    "Event",
    "EventName",
    "Held",
    "IllegalTransition",
    "ImmediateDeliveryStrategy",
    "Message",
    "NotIdle",
    "OnFull",
    "Publisher",
    "PullSubscription",
    "Receipt",
    "Refusal",
    "Release",
    "RetryPolicy",
    "SimpleRetryPolicy",
    "Span",
    "Spans",
    "Status",
    "Subscriber",
    "Subscription",
    "TopicMetrics",
    "default_broker",
    "exponential",
    "fixed",
    "idempotent",
    "linear",
]
