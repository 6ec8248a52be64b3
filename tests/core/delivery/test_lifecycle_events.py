"""The events of document S2: ten names, and what each line always has."""

import msgspec

from headgate.core.delivery.delivery import Status
from headgate.core.delivery.lifecycle_events import Event, EventName


def test_s2_evt_1_to_10_the_names() -> None:
    assert [str(name) for name in EventName] == [
        "subscriber_added",
        "message_enqueued",
        "delivering",
        "delivered",
        "failed",
        "retry_scheduled",
        "dead_letter",
        "strategy_swapped",
        "backpressure",
        "batch_flush",
    ]


def test_s2_evt_11_ids_topic_attempts_and_status_are_always_there_and_the_rest_only_when_it_says_something() -> None:
    event = Event(EventName.DELIVERED, 1.5, "orders", 7, "billing", 3, Status.DELIVERED)
    assert msgspec.json.encode(event) == (
        b'{"event":"delivered","at":1.5,"topic":"orders","id":7,"subscriber":"billing","attempts":3,"status":"DELIVERED"}'
    )
    bare = Event(EventName.STRATEGY_SWAPPED, 0.0, "orders", None, None, 0, None, old="immediate", new="batched(3)")
    assert msgspec.json.decode(msgspec.json.encode(bare)) == {
        "event": "strategy_swapped",
        "at": 0.0,
        "topic": "orders",
        "id": None,
        "subscriber": None,
        "attempts": 0,
        "status": None,
        "old": "immediate",
        "new": "batched(3)",
    }
