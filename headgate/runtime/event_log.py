"""Lifecycle events as log lines: one in so many, and never more than a few a second."""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from headgate.core.delivery.lifecycle_events import Event

logger = structlog.get_logger("events")

LINES_PER_S: Final = 20  # of one process: a log is read by people


def event_log(one_in: int | None, now: Callable[[], float]) -> "EventLog | None":
    """Returns a listener that logs one in so many events, None for none."""
    return None if one_in is None else EventLog(one_in, now)


class EventLog:
    """A listener of events that logs the first, and then one in `one_in`. `left_out` says how many others there were.

    The count is of the process since its last line, so that a reader can tell how much is not shown.
    """

    def __init__(self, one_in: int, now: Callable[[], float]) -> None:
        """`now` returns monotonic seconds."""
        self._one_in = one_in
        self._now = now
        self._until_next = 0  # events before the next that is sampled
        self._left_out = 0
        self._second = float("-inf")  # when the present second began
        self._lines = 0  # in it

    def __call__(self, event: Event) -> None:
        """Takes an event."""
        if self._until_next or not self._has_room():
            self._until_next = max(self._until_next - 1, 0)
            self._left_out += 1
            return
        self._until_next = self._one_in - 1
        members = msgspec.to_builtins(event)
        logger.info("lifecycle event", name=members.pop("event"), left_out=self._left_out, **members)
        self._left_out = 0

    def _has_room(self) -> bool:
        now = self._now()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        if self._lines >= LINES_PER_S:
            return False
        self._lines += 1
        return True
