"""Events are kept only while somebody watches, within their bounds, and what does not fit is counted."""

import msgspec

from headgate.core.delivery.delivery import Status
from headgate.core.delivery.delivery_events import DeliveryEvents
from headgate.core.delivery.lifecycle_events import Event
from headgate.core.wire.event_names import EventFilter, EventName
from headgate.core.wire.link_events import MAX_BYTES, MAX_EVENTS, EventsHappened, HappenedEvent


def _events(counted: dict[str, int] | None = None) -> DeliveryEvents:
    counts = {} if counted is None else counted
    return DeliveryEvents(lambda name, count: counts.update({name: counts.get(name, 0) + count}))


def _failed(topic: str = "orders", error: str | None = None) -> Event:
    return Event(EventName.FAILED, 1.5, topic, "m-1", "ann", 2, Status.FAILED, error=error, epoch=7, seq=4)


def test_it_counts_without_anybody_who_watches() -> None:
    counted: dict[str, int] = {}
    events = _events(counted)
    events.count(EventName.DELIVERING, 3)
    events.count(EventName.DELIVERING, 2)
    assert counted == {"delivering": 5}
    assert not events.on


def test_it_is_on_while_a_shard_is_watched_and_keeps_what_is_wanted_there() -> None:
    events = _events()
    events.watch(2, EventFilter(("orders",)))
    assert events.on
    for shard, topic in ((2, "orders"), (2, "bills"), (3, "orders")):
        events.emit(shard, _failed(topic))
    kept = HappenedEvent("orders", "failed", msgspec.json.encode(_failed()))
    assert events.take() == [EventsHappened(2, [kept])]
    assert events.take() == []
    assert events.wants(2, "orders", EventName.FAILED)
    assert not events.wants(2, "bills", EventName.FAILED)
    events.emit(2, _failed())
    events.watch(2, None)
    assert not events.on
    assert events.take() == []


def test_a_listener_gets_the_events_of_all_shards() -> None:
    events, heard = _events(), list[Event]()
    events.listen(heard.append)
    assert events.on
    assert events.wants(9, "any", EventName.DELIVERED)
    events.emit(9, _failed())
    assert heard == [_failed()]
    events.listen(None)
    assert not events.on


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    events = _events()
    events.watch(1, EventFilter())
    events.watch(2, EventFilter())
    for _ in range(MAX_EVENTS + 1):
        events.emit(1, _failed())
    events.emit(2, _failed())
    first, second = events.take()
    assert (len(first.events), first.dropped) == (MAX_EVENTS, 1)
    assert (second.events, second.dropped) == ([], 1)
    events.emit(2, _failed())
    assert len(events.take()[0].events) == 1


def test_bytes_are_bounded_too_and_free_again_when_a_shard_is_no_longer_watched() -> None:
    events, large = _events(), _failed(error="x" * 10_000)
    events.watch(1, EventFilter())
    events.watch(2, EventFilter())
    size = len(msgspec.json.encode(large))
    for _ in range(MAX_BYTES // size + 5):
        events.emit(1, large)
    events.emit(2, large)
    events.watch(1, None)
    events.emit(2, large)
    (batch,) = events.take()
    assert (len(batch.events), batch.dropped) == (1, 1)
