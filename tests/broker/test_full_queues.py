"""Back-pressure: each policy, with what it says and what it counts."""

import pytest

from headgate import Broker
from headgate.broker import (
    Backpressure,
    BatchedDeliveryStrategy,
    EventName,
    OnFull,
    Refusal,
    Status,
    fixed,
)
from headgate.core.delivery.lifecycle_events import Outcome
from tests.broker.recorder import Recorder, failing


def test_drop_oldest_drops_what_nobody_works_on_and_names_it(broker: Broker, heard: Recorder) -> None:
    broker.configure("orders", pressure=Backpressure(OnFull.DROP_OLDEST, max_queue_size=2), retry=fixed(2, 5.0))
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    broker.subscribe("orders", failing(1), name="flaky")
    for n in (1, 2):
        broker.publish("orders", n)
    broker.run_until_idle()  # recorder has both; flaky will try 1 again
    broker.publish("orders", 3)
    (event,) = heard.of(EventName.BACKPRESSURE)
    assert (event.id, event.subscriber, event.attempts, event.status) == (1, "flaky", 1, Status.RETRY_SCHEDULED)
    broker.advance(10.0)
    assert [e.id for e in heard.of(EventName.DELIVERED, "flaky")] == [2, 3]
    assert recorder.payloads == [1, 2, 3]
    metrics = broker.metrics("orders")
    assert (metrics.evicted_count, metrics.published_count, metrics.rejected_count) == (1, 3, 0)


def test_drop_oldest_rejects_while_everything_is_being_worked_on(heard: Recorder) -> None:
    broker = Broker(max_queue_size=1, on_full=OnFull.DROP_OLDEST, latency=1.0)
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    broker.publish("orders", 1)
    broker.run_until_idle()  # on its way to the handler
    with pytest.raises(Refusal, match="queue_full"):
        broker.publish("orders", 2)
    broker.advance(1.0)
    assert recorder.payloads == [1]


def test_drop_oldest_can_drop_what_the_strategy_holds(broker: Broker) -> None:
    broker.configure("orders", pressure=Backpressure(OnFull.DROP_OLDEST, max_queue_size=2))
    broker.swap_strategy(BatchedDeliveryStrategy(10), "orders")
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    for n in (1, 2, 3):
        broker.publish("orders", n)
    assert broker.flush() == 2
    broker.run_until_idle()
    assert recorder.payloads == [2, 3]


def test_overflow_keeps_the_order_and_has_a_bound_of_its_own(heard: Recorder) -> None:
    broker = Broker(max_queue_size=2, on_full=OnFull.OVERFLOW, overflow_size=2)
    broker.add_listener(heard.hear)
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    statuses = [broker.publish("orders", n).status for n in (1, 2, 3, 4)]
    assert statuses == [Status.QUEUED, Status.QUEUED, Status.CREATED, Status.CREATED]
    with pytest.raises(Refusal, match="queue_full"):
        broker.publish("orders", 5)
    metrics = broker.metrics("orders")
    assert (metrics.queue_length, metrics.overflow_length, metrics.lag) == (2, 2, {"recorder": 4})
    broker.run_until_idle()
    assert recorder.payloads == [1, 2, 3, 4]
    assert [e.outcome for e in heard.of(EventName.BACKPRESSURE)] == [
        Outcome.OVERFLOWED,
        Outcome.OVERFLOWED,
        Outcome.REJECTED,
    ]


def test_block_refuses_where_nobody_can_wait(broker: Broker) -> None:
    broker.configure("orders", pressure=Backpressure(OnFull.BLOCK, max_queue_size=1))
    broker.subscribe("orders", Recorder())
    broker.publish("orders", 1)
    with pytest.raises(Refusal, match="queue_full"):
        broker.publish("orders", 2)
