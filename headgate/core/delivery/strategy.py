"""Delivery strategies: how many of a topic's held messages to release now, and when to ask again.

The in-process broker and the gateway's feeds use the same classes. A topic holds published messages until its strategy
releases them. A strategy has no state and owns no message, so a swap while running loses nothing: the new strategy is
asked about the same held messages.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec


class Held(NamedTuple):
    """The messages that a topic holds: how many (at least one), since when (seconds), and the newest one's payload."""

    size: int
    since: float
    newest: Any


class Release(NamedTuple):
    """A strategy's answer: release the oldest `size` messages now, and ask about the rest at `wake_at` (seconds)."""

    size: int
    wake_at: float | None = None


class DeliveryStrategy(Protocol):
    """A topic asks its strategy, and asks again after each release until nothing is released. It must not raise."""

    @property
    def name(self) -> str:
        """The name that events show."""

    def publish(self, held: Held, now: float) -> Release:
        """Returns what to release after a publish, at `wake_at`, or after a swap."""

    def flush(self, held: Held, now: float) -> Release:
        """Returns what to release when somebody flushes by hand."""


class ImmediateDeliveryStrategy(msgspec.Struct, frozen=True):
    """Releases each message at once."""

    @property
    def name(self) -> str:
        """The name that events show."""
        return "immediate"

    def publish(self, held: Held, now: float) -> Release:
        """Releases all messages."""
        return Release(held.size)

    def flush(self, held: Held, now: float) -> Release:
        """Releases all messages."""
        return Release(held.size)


class BatchedDeliveryStrategy(msgspec.Struct, frozen=True):
    """Collects `batch_size` messages, or those within `max_delay` seconds of the oldest, and releases them together.

    Without `max_delay` a part of a batch waits until it is full or flushed by hand. Raises ValueError for a
    `batch_size` below 1 or a negative `max_delay`. (A server's topic has a narrower range:
    `headgate/core/wire/topic_settings.py`.)
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
        """Releases a full batch, or the rest when its time is up."""
        if held.size >= self.batch_size:
            return Release(self.batch_size)
        if self.max_delay is None:
            return Release(0)
        wake_at = held.since + self.max_delay
        return Release(held.size) if now >= wake_at else Release(0, wake_at)

    def flush(self, held: Held, now: float) -> Release:
        """Releases all messages."""
        return Release(held.size)


def strategy_of(setting: Mapping[str, Any]) -> DeliveryStrategy:
    """Returns the strategy of a topic's setting `strategy`, which `headgate.core.wire.topic_settings` has checked."""
    if setting["kind"] == "immediate":
        return ImmediateDeliveryStrategy()
    return BatchedDeliveryStrategy(setting["max_messages"], setting["max_delay_ms"] / 1_000)
