"""The counters of a topic, and the figures that a user reads."""

import msgspec


class TopicCounts(msgspec.Struct):
    """A topic's counters. `published` to `blocked` count messages, the rest (message, subscriber) pairs.

    Each equals a number of events. `published`: message_enqueued events without a subscriber, plus `dropped`.
    `delivered`, `failed`, `retried` and `dead_lettered`: the events of that name. `rejected`, `evicted`, `blocked` and
    `overflowed`: the backpressure events of that outcome. `dropped`: the delivered events with 0 subscribers.
    """

    published: int = 0
    rejected: int = 0
    duplicates: int = 0
    dropped: int = 0
    overflowed: int = 0
    blocked: int = 0
    evicted: int = 0
    withdrawn: int = 0  # their subscriber left before it had them
    delivered: int = 0
    failed: int = 0  # tries
    retried: int = 0
    dead_lettered: int = 0
    latency_s: float = 0.0  # sum over `delivered`: from the publish to the end of the successful try


class TopicMetrics(msgspec.Struct, frozen=True):
    """A topic's figures at the time of the call.

    A refused publish is in `rejected_count` only. `lag` is by subscriber: messages that were accepted for it and are
    neither delivered nor given up. `breakers` has the state of each circuit breaker that is not closed, by subscriber.
    `average_latency_s` is from publish to success, in seconds.
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
