"""The ten events, each from the run that causes it: what a listener is told."""

import pytest

from headgate.broker import (
    Backpressure,
    BatchedDeliveryStrategy,
    Broker,
    EventName,
    ImmediateDeliveryStrategy,
    Refusal,
    Status,
    fixed,
)
from headgate.core.delivery.lifecycle_events import Outcome
from tests.broker.recorder import Recorder, failing


@pytest.fixture
def run(broker: Broker, heard: Recorder) -> Recorder:
    """One message fails, is retried, fails for good; then a refused publish, and a batch by hand."""
    broker.configure("orders", retry=fixed(2, 1.0), pressure=Backpressure(max_queue_size=1))
    broker.subscribe("orders", failing(2), name="flaky")
    broker.publish("orders", 1, trace="00-a-b-01")
    with pytest.raises(Refusal):
        broker.publish("orders", 2)
    broker.advance(5.0)
    broker.publish("orders", 3)
    broker.run_until_idle()
    broker.swap_strategy(BatchedDeliveryStrategy(10), "orders")
    broker.publish("orders", 4)
    broker.flush("orders")
    broker.swap_strategy(ImmediateDeliveryStrategy(), "orders")
    return heard


def test_s2_evt_1_to_10_every_event_is_caused_and_heard(run: Recorder) -> None:
    assert {event.event for event in run.events} == set(EventName) - {EventName.MODE_SWITCHED}


def test_the_events_of_a_message_in_their_order(run: Recorder) -> None:
    seen = [(str(event.event), event.at, event.attempts, event.status) for event in run.events if event.id == 1]
    assert seen == [
        ("message_enqueued", 0.0, 0, Status.QUEUED),
        ("delivering", 0.0, 1, Status.DELIVERING),
        ("failed", 0.0, 1, Status.FAILED),
        ("retry_scheduled", 0.0, 1, Status.RETRY_SCHEDULED),
        ("delivering", 1.0, 2, Status.DELIVERING),
        ("failed", 1.0, 2, Status.FAILED),
        ("dead_letter", 1.0, 2, Status.DEAD_LETTER),
    ]
    assert {event.trace for event in run.events if event.id == 1} == {"00-a-b-01"}


def test_the_details_of_each(run: Recorder) -> None:
    first = {event.event: event for event in reversed(run.events)}
    assert (first[EventName.SUBSCRIBER_ADDED].subscriber, first[EventName.SUBSCRIBER_ADDED].id) == ("flaky", None)
    enqueued = first[EventName.MESSAGE_ENQUEUED]
    assert (enqueued.subscribers, enqueued.queue_length) == (1, 1)
    assert first[EventName.FAILED].error == first[EventName.DEAD_LETTER].error == "ValueError: not now"
    assert first[EventName.RETRY_SCHEDULED].delay_s == 1.0
    assert first[EventName.DEAD_LETTER].reason == "max_attempts"
    refused = first[EventName.BACKPRESSURE]
    assert (refused.outcome, refused.queue_length, refused.id) == (Outcome.REJECTED, 1, None)
    swapped = first[EventName.STRATEGY_SWAPPED]
    assert (swapped.old, swapped.new) == ("immediate", "batched(10)")
    flushed = first[EventName.BATCH_FLUSH]
    assert (flushed.size, flushed.reason) == (1, "flush")
