"""Delivery strategies: how many of a topic's held messages go now, and when to ask again; knows no subscriber.

A topic holds what was published until its strategy lets it go. A strategy has no state and owns no message, so swapping
one for another while running can lose nothing: the new one is asked about the same held messages.
"""

from typing import Any, NamedTuple, Protocol

import msgspec


class Held(NamedTuple):
    """What a topic holds: how many messages (at least one), since when (seconds), and the newest one's payload."""

    size: int
    since: float
    newest: Any


class Release(NamedTuple):
    """A strategy's answer: let the oldest `size` go now; `wake_at` (seconds): ask me about the rest then."""

    size: int
    wake_at: float | None = None


class DeliveryStrategy(Protocol):
    """What a topic asks. Must not raise; asked again at once after a release, until it releases nothing."""

    @property
    def name(self) -> str:
        """The name that events show."""

    def publish(self, held: Held, now: float) -> Release:
        """Asked after each publish, at `wake_at`, and right after a swap."""

    def flush(self, held: Held, now: float) -> Release:
        """Asked when somebody flushes by hand."""


class ImmediateDeliveryStrategy(msgspec.Struct, frozen=True):
    """Everything goes at once."""

    @property
    def name(self) -> str:
        """The name that events show."""
        return "immediate"

    def publish(self, held: Held, now: float) -> Release:
        """Lets all of it go."""
        return Release(held.size)

    def flush(self, held: Held, now: float) -> Release:
        """Lets all of it go."""
        return Release(held.size)


class BatchedDeliveryStrategy(msgspec.Struct, frozen=True):
    """Collects `batch_size` messages, or what came within `max_delay` seconds of the oldest, and lets them go together.

    Without `max_delay` a part of a batch waits until it is full or flushed by hand.
    """

    batch_size: int = 10
    max_delay: float | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, expected at least 1")
        if self.max_delay is not None and self.max_delay < 0:
            raise ValueError(f"max_delay is {self.max_delay}, expected 0 or more seconds")

    @property
    def name(self) -> str:
        """The name that events show."""
        return f"batched({self.batch_size})"

    def publish(self, held: Held, now: float) -> Release:
        """Lets a full batch go, or the rest when its time is up."""
        if held.size >= self.batch_size:
            return Release(self.batch_size)
        if self.max_delay is None:
            return Release(0)
        wake_at = held.since + self.max_delay
        return Release(held.size) if now >= wake_at else Release(0, wake_at)

    def flush(self, held: Held, now: float) -> Release:
        """Lets all of it go."""
        return Release(held.size)
