"""The ten events in the life of a message (document S2, S2-EVT-1 to 11); knows nobody who listens."""

import enum

import msgspec

from headgate.core.delivery.delivery import Status


class EventName(enum.StrEnum):
    """What can happen."""

    SUBSCRIBER_ADDED = "subscriber_added"
    MESSAGE_ENQUEUED = "message_enqueued"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    FAILED = "failed"
    RETRY_SCHEDULED = "retry_scheduled"
    DEAD_LETTER = "dead_letter"
    STRATEGY_SWAPPED = "strategy_swapped"
    BACKPRESSURE = "backpressure"
    BATCH_FLUSH = "batch_flush"


class Outcome(enum.StrEnum):
    """What backpressure did to a message."""

    REJECTED = "rejected"
    EVICTED = "evicted"
    BLOCKED = "blocked"
    OVERFLOWED = "overflowed"


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One event. The first seven fields are always there; None says that it has no message or no subscriber.

    `at` is in seconds. `status` is that of the delivery (or, without a subscriber, of the message) after what happened.
    """

    event: EventName
    at: float
    topic: str
    id: int | str | None
    subscriber: str | None
    attempts: int
    status: Status | None
    queue_length: int | None = None  # message_enqueued, backpressure: messages that wait in the topic
    subscribers: int | None = None  # delivered: 0 where nobody was there; message_enqueued: how many will get it
    delay_s: float | None = None  # retry_scheduled
    error: str | None = None  # failed, dead_letter
    reason: str | None = None  # dead_letter; batch_flush: size, delay, flush or swap
    outcome: Outcome | None = None  # backpressure
    size: int | None = None  # batch_flush
    old: str | None = None  # strategy_swapped
    new: str | None = None  # strategy_swapped
    trace: str | None = None  # the publisher's W3C traceparent
