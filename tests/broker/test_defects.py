"""Four defects of earlier brokers, each as the test of what is right instead."""

import pytest

from headgate import Broker
from headgate.broker import (
    Backpressure,
    EventName,
    Message,
    Refusal,
    Status,
)
from headgate.core.delivery.lifecycle_events import Outcome
from tests.broker.recorder import Recorder, failing


def test_s2_edge_1_attempts_and_status_are_per_message_and_subscriber(broker: Broker, heard: Recorder) -> None:
    """Broadcasting to n subscribers burned n attempts, and a retry went to those that had succeeded."""
    calm = [Recorder(f"calm-{n}") for n in range(4)]
    for subscriber in calm:
        broker.subscribe("orders", subscriber)
    broker.subscribe("orders", failing(2), name="flaky")
    broker.publish("orders", "m")
    broker.advance(5.0)
    assert [len(subscriber.messages) for subscriber in calm] == [1, 1, 1, 1]
    assert {e.attempts for e in heard.of(EventName.DELIVERED) if e.subscriber != "flaky"} == {1}
    assert heard.of(EventName.DELIVERED, "flaky")[0].attempts == 3


def test_s2_edge_2_a_refused_publish_is_raised_counted_as_rejected_and_never_as_published(
    broker: Broker, heard: Recorder
) -> None:
    recorder = Recorder()
    broker.configure("orders", pressure=Backpressure(max_queue_size=2))
    broker.subscribe("orders", recorder)
    broker.publish("orders", 1)
    broker.publish("orders", 2)
    with pytest.raises(Refusal) as caught:
        broker.publish("orders", 3)
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("queue_full", 429, True)
    metrics = broker.metrics("orders")
    assert (metrics.published_count, metrics.rejected_count) == (2, 1)
    (event,) = heard.of(EventName.BACKPRESSURE)
    assert (event.outcome, event.queue_length) == (Outcome.REJECTED, 2)
    broker.run_until_idle()
    broker.publish("orders", 4)
    broker.run_until_idle()
    assert recorder.payloads == [1, 2, 4], "what was refused never appears"


def test_s2_edge_3_nobody_there_is_delivered_to_0_and_dropped_not_delivered(broker: Broker, heard: Recorder) -> None:
    receipt = broker.publish("orders", "m")
    assert (receipt.delivered_to, receipt.dropped, receipt.status) == (0, True, Status.CREATED)
    (event,) = heard.of(EventName.DELIVERED)
    assert (event.subscribers, event.subscriber, event.status) == (0, None, Status.CREATED)
    metrics = broker.metrics("orders")
    assert (metrics.published_count, metrics.delivered_count, metrics.dropped_count) == (1, 0, 1)


def test_s2_edge_4_a_retry_waits_for_its_time_keeps_its_place_and_the_bound(broker: Broker, heard: Recorder) -> None:
    """The document queued a failed message again at once, at the tail and past the bound."""
    recorder = Recorder()
    fail = failing(1)

    def flaky(message: Message) -> None:
        fail(message)
        recorder.handle(message)

    broker.configure("orders", pressure=Backpressure(max_queue_size=2))
    broker.subscribe("orders", flaky)
    broker.publish("orders", 1)
    broker.publish("orders", 2)
    broker.run_until_idle()
    assert (broker.next_due(), recorder.payloads) == (0.25, [])
    with pytest.raises(Refusal):
        broker.publish("orders", 3)
    assert broker.metrics("orders").queue_length == 2
    broker.run_until_idle(now=0.2499)
    assert recorder.payloads == []
    broker.run_until_idle(now=0.25)
    assert recorder.payloads == [1, 2]
    assert [e.at for e in heard.of(EventName.DELIVERING)] == [0.0, 0.25, 0.25]
