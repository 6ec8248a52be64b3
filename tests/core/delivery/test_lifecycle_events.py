"""The event as a listener writes it down: which members are always there, and which only when they have a value."""

import msgspec
import pytest

from headgate.core.delivery.delivery import Status
from headgate.core.delivery.lifecycle_events import Event, Outcome
from headgate.core.wire.event_names import EventName

ALWAYS = ["event", "at", "topic", "id", "subscriber", "attempts", "status"]


def test_s2_evt_11_ids_topic_attempts_and_status_are_always_there_and_the_rest_only_when_it_says_something() -> None:
    event = Event(EventName.DELIVERED, 1.5, "orders", 7, "billing", 3, Status.DELIVERED)
    assert msgspec.json.encode(event) == (
        b'{"event":"delivered","at":1.5,"topic":"orders","id":7,"subscriber":"billing","attempts":3,"status":"DELIVERED"}'
    )
    bare = Event(EventName.STRATEGY_SWAPPED, 0.0, "orders", None, None, 0, None, old="immediate", new="batched(3)")
    members = msgspec.to_builtins(bare)
    assert list(members) == [*ALWAYS, "old", "new"]
    assert [members[name] for name in ("id", "subscriber", "status")] == [None, None, None]


@pytest.mark.parametrize("name", list(EventName))
def test_an_event_read_back_is_the_same_one(name: EventName) -> None:
    event = Event(name, 0.25, "orders", "m-1", None, 0, None, outcome=Outcome.EVICTED, size=0, trace="00-a-b-01")
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event


def test_an_event_cannot_be_changed_by_a_listener() -> None:
    event = Event(EventName.FAILED, 0.0, "orders", 1, "billing", 1, Status.FAILED)
    with pytest.raises(AttributeError):
        event.attempts = 2  # type: ignore[misc]  # that is the point
