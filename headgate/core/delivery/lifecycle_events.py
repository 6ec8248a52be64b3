"""The events in the life of a message, and of its topic, as listeners of the broker and of the network get them."""

import enum

import msgspec

from headgate.core.delivery.delivery import Status
from headgate.core.wire.event_names import EventName


class Outcome(enum.StrEnum):
    """What a full queue did to a message."""

    REJECTED = "rejected"
    EVICTED = "evicted"
    BLOCKED = "blocked"
    OVERFLOWED = "overflowed"


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One event. The first seven fields are always there; they are None where an event has no message or no subscriber.

    `at` is in seconds: on the broker's clock in process, Unix time on the network. `status` is that of the delivery
    (without a subscriber: of the message) after the event. `subscriber` is the name of one in process; on the network
    a user id, for a consumer group its name. A field behind them is set for the events in its comment only.
    """

    event: EventName
    at: float
    topic: str
    id: int | str | None
    subscriber: str | None
    attempts: int
    status: Status | None
    queue_length: int | None = None  # message_enqueued, backpressure: messages in the topic's queue
    # delivered: 0 when nobody was subscribed; message_enqueued: how many will get it; mode_switched: the topic's count
    subscribers: int | None = None
    delay_s: float | None = None  # retry_scheduled
    error: str | None = None  # failed, dead_letter
    reason: str | None = None  # dead_letter; batch_flush: size, delay, flush or swap
    outcome: Outcome | None = None  # backpressure
    size: int | None = None  # batch_flush; backpressure on the network: how many an ingest refused, where it did
    old: str | None = None  # strategy_swapped, mode_switched
    new: str | None = None  # strategy_swapped, mode_switched
    trace: str | None = None  # the publisher's W3C traceparent
    epoch: int | None = None  # network: of the topic
    seq: int | None = None  # network: of the message
    device_id: str | None = None  # network: of the subscriber, where it acknowledges
    group: str | None = None  # network: the consumer group, where the subscriber is one
