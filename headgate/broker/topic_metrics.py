"""Counters of a topic and the snapshot a user reads; knows nothing of how they come about."""

import msgspec


class TopicCounts(msgspec.Struct):
    """What a topic counted. Messages: the first five. (Message, subscriber) pairs: the rest.

    Each equals a number of events: `published` message_enqueued without a subscriber plus what was dropped,
    `delivered`, `failed`, `retried` and `dead_lettered` their namesakes, `rejected`, `evicted`, `blocked` and
    `overflowed` the backpressure events of that outcome, `dropped` the delivered events with 0 subscribers.
    """

    published: int = 0
    rejected: int = 0
    duplicates: int = 0
    dropped: int = 0
    overflowed: int = 0
    blocked: int = 0
    evicted: int = 0
    withdrawn: int = 0  # their subscriber left before they were tried
    delivered: int = 0
    failed: int = 0  # tries
    retried: int = 0
    dead_lettered: int = 0
    latency_s: float = 0.0  # sum over delivered, from publish to the end of the successful try


class TopicMetrics(msgspec.Struct, frozen=True):
    """A topic's figures now (document S2, S2-MET-1 to 8).

    A refused publish is in `rejected_count` only. `lag` is by subscriber: messages accepted for it and not yet settled.
    `breakers` names the subscribers whose circuit breaker is not closed.
    """

    topic: str
    published_count: int
    rejected_count: int
    duplicate_count: int
    dropped_count: int
    evicted_count: int
    overflowed_count: int
    blocked_count: int
    withdrawn_count: int
    delivered_count: int
    failed_count: int
    retried_count: int
    dead_letter_count: int
    subscriber_count: int
    queue_length: int
    overflow_length: int
    average_latency_s: float
    lag: dict[str, int]
    breakers: dict[str, str]
