"""The lifecycle events of one process: counted always, built and kept only while somebody watches."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from headgate.core.delivery.lifecycle_events import Event
from headgate.core.wire.event_names import EventFilter, EventName
from headgate.core.wire.link_events import MAX_BYTES, MAX_EVENTS, EventsHappened, HappenedEvent

_encode = msgspec.json.Encoder().encode
Listener = Callable[[Event], None]


class DeliveryEvents:
    """Whoever changes a delivery says so here. Two calls, in this order:

        events.count(EventName.FAILED, 1)           # always: an addition, once for many
        if events.on:                               # somebody watches: only now an event is built
            events.emit(shard, Event(EventName.FAILED, wall_ms / 1_000, topic_id, ...))

    Between two `take`s at most MAX_EVENTS events of MAX_BYTES together are kept; the others are dropped and counted.
    `count` adds to a metric, by name.
    """

    def __init__(self, count: Callable[[str, int], None]) -> None:
        self.on = False
        self.count = count
        self._listener: Listener | None = None
        self._filters: Mapping[int, EventFilter] = MappingProxyType({})  # by shard
        self._batches: dict[int, EventsHappened] = {}  # by shard
        self._events = 0
        self._bytes = 0

    def listen(self, listener: Listener | None) -> None:
        """Has `listener` called with every event of the process; None: no longer."""
        self._listener = listener
        self._switch()

    def watch(self, shard: int, wanted: EventFilter | None) -> None:
        """Keeps the events of a shard's topics that somebody wants from now on; None: no longer any."""
        filters = dict(self._filters)
        if wanted is not None:
            filters[shard] = wanted
        elif filters.pop(shard, None) is not None:
            self._forget(shard)
        self._filters = filters
        self._switch()

    def wants(self, shard: int, topic_id: str, name: EventName) -> bool:
        """Returns whether `emit` would do anything with such an event."""
        wanted = self._filters.get(shard)
        return self._listener is not None or (wanted is not None and wanted.takes(topic_id, name))

    def emit(self, shard: int, event: Event) -> None:
        """Takes an event of a topic of the shard. The caller checks `on` before he builds it."""
        if self._listener is not None:
            self._listener(event)
        wanted = self._filters.get(shard)
        if wanted is None or not wanted.takes(event.topic, event.event):
            return
        batch = self._batches.get(shard)
        if batch is None:
            batch = self._batches[shard] = EventsHappened(shard, [])
        data = b"" if self._events >= MAX_EVENTS else _encode(event)
        if not data or self._bytes + len(data) > MAX_BYTES:
            batch.dropped += 1
            return
        batch.events.append(HappenedEvent(event.topic, event.event, data))
        self._events += 1
        self._bytes += len(data)

    def take(self) -> list[EventsHappened]:
        """Returns what was kept since the last call, one batch a shard."""
        if not self._batches:
            return []
        batches, self._batches = self._batches, {}
        self._events = self._bytes = 0
        return list(batches.values())

    def _forget(self, shard: int) -> None:
        batch = self._batches.pop(shard, None)
        if batch is not None:
            self._events -= len(batch.events)
            self._bytes -= sum(len(event.data) for event in batch.events)

    def _switch(self) -> None:
        self.on = bool(self._filters) or self._listener is not None
