"""The names of the lifecycle events: ten of a message and one of a topic; and which of them somebody asks for."""

import enum
from typing import Final

from headgate.core.wire.link_struct import LinkStruct

MAX_TOPICS: Final = 100  # of one filter; the union of several that name more asks for every topic


class EventName(enum.StrEnum):
    """The kinds of event."""

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
    MODE_SWITCHED = "mode_switched"  # of a topic, on the network only


class EventFilter(LinkStruct):
    """Which events are wanted: those of these topics and these names, ascending. No topics: of all; no names: all."""

    topics: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    def takes(self, topic_id: str, event: str) -> bool:
        """Returns whether an event is wanted."""
        return (not self.topics or topic_id in self.topics) and (not self.events or event in self.events)

    def merged(self, other: "EventFilter") -> "EventFilter":
        """Returns a filter that takes at least what either takes; it may take more."""
        topics = _union(self.topics, other.topics)
        return EventFilter(topics if len(topics) <= MAX_TOPICS else (), _union(self.events, other.events))


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*first, *second})) if first and second else ()
