"""The listeners of a broker, and the events that wait for them."""

import logging
from collections import deque
from collections.abc import Callable

from headgate.core.delivery.lifecycle_events import Event

Listener = Callable[[Event], object]
_log = logging.getLogger("headgate.broker")


class EventListeners:
    """Collects events while the broker changes its state, and calls the listeners when the state is consistent again.

    So a listener may publish, subscribe and unsubscribe; the events of that come later. A listener that raises is
    logged and counted in `errors`; the other listeners and the message are not affected.
    """

    def __init__(self) -> None:
        self.errors = 0
        self._listeners: list[Listener] = []
        self._waiting: deque[Event] = deque()
        self._handing_out = False

    @property
    def listening(self) -> bool:
        """Whether there is a listener; without one no event is built."""
        return bool(self._listeners)

    def add(self, listener: Listener) -> None:
        """Adds a listener; it is called synchronously and should be quick."""
        self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        """Removes a listener; nothing happens when it is not there."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def emit(self, event: Event) -> None:
        """Adds an event. The caller checks `listening` first."""
        self._waiting.append(event)

    def hand_out(self) -> None:
        """Calls the listeners with the collected events, in order."""
        if self._handing_out:
            return
        self._handing_out = True
        try:
            while self._waiting:
                self._call(self._waiting.popleft())
        finally:
            self._handing_out = False

    def _call(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:  # foreign code: its fault must not become a fault of the message
                self.errors += 1
                _log.exception("a listener failed on %s", event.event)
