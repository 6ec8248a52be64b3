"""What the strategy of one topic holds back on this gateway."""

from typing import Any

from headgate.core.delivery.strategy import DeliveryStrategy
from headgate.core.delivery.timers import Timer


class Hold:
    """What a feed holds: the newest `count` of its pending messages, `size` bytes, the oldest `since` (seconds).

    `is_open` lets all of it go the next time the strategy is asked, `is_swapped` says that it is another one since it
    was asked. `timer` is the time at which to ask it again.
    """

    __slots__ = ("count", "is_open", "is_swapped", "since", "size", "strategy", "timer")

    def __init__(self, strategy: DeliveryStrategy) -> None:
        self.strategy = strategy
        self.count = 0
        self.size = 0
        self.since = 0.0
        self.is_open = False
        self.is_swapped = False
        self.timer: Timer[Any] | None = None

    def swap(self, strategy: DeliveryStrategy) -> None:
        """Takes another strategy; it is asked about the same messages."""
        self.is_swapped = self.is_swapped or strategy != self.strategy
        self.strategy = strategy
