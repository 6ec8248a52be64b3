"""Listeners and the events on their way to them; knows nothing of what the events mean."""

import logging
from collections import deque
from collections.abc import Callable

from headgate.core.delivery.lifecycle_events import Event

Listener = Callable[[Event], object]
_log = logging.getLogger("headgate.broker")


class EventListeners:
    """Collects events while the broker changes its state and hands them out when it is consistent again.

    So a listener may publish, subscribe and unsubscribe; what that causes comes after what caused it. A listener that
    raises is logged, counted in `errors`, and harms nobody.
    """

    def __init__(self) -> None:
        self.errors = 0
        self._listeners: list[Listener] = []
        self._waiting: deque[Event] = deque()
        self._handing_out = False

    @property
    def listening(self) -> bool:
        """Whether anybody listens; nobody builds an event when not."""
        return bool(self._listeners)

    def add(self, listener: Listener) -> None:
        """Adds a listener; it is called synchronously and should be quick."""
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """Removes a listener; nothing happens when it is not there."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def emit(self, event: Event) -> None:
        """Notes an event. Whoever calls asks `listening` first."""
        self._waiting.append(event)

    def hand_out(self) -> None:
        """Calls the listeners with what was noted, in order."""
        if self._handing_out:
            return
        self._handing_out = True
        try:
            while self._waiting:
                self._tell(self._waiting.popleft())
        finally:
            self._handing_out = False

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:  # somebody else's code: its fault must not become a message's
                self.errors += 1
                _log.exception("a listener failed on %s", event.event)
