"""Strategies on a running broker: swaps both ways, flush, time limit, one of ones own."""

from headgate import Broker
from headgate.broker import (
    BatchedDeliveryStrategy,
    EventName,
    Held,
    ImmediateDeliveryStrategy,
    Release,
)
from tests.broker.recorder import Recorder


def test_swaps_both_ways_keep_what_is_held_and_flush_lets_the_rest_go(broker: Broker, heard: Recorder) -> None:
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    broker.publish("orders", 1)
    broker.swap_strategy(BatchedDeliveryStrategy(3))
    broker.publish("orders", 2)
    broker.publish("orders", 3)
    broker.run_until_idle()
    assert recorder.payloads == [1]
    broker.swap_strategy(ImmediateDeliveryStrategy())
    broker.run_until_idle()
    assert recorder.payloads == [1, 2, 3]
    broker.swap_strategy(BatchedDeliveryStrategy(2))
    for n in (4, 5, 6):
        broker.publish("orders", n)
    assert (broker.flush("orders"), broker.flush("orders")) == (1, 0)
    broker.run_until_idle()
    assert recorder.payloads == [1, 2, 3, 4, 5, 6]
    assert [(e.size, e.reason) for e in heard.of(EventName.BATCH_FLUSH)] == [(2, "swap"), (2, "size"), (1, "flush")]
    assert next((e.old, e.new) for e in heard.of(EventName.STRATEGY_SWAPPED)) == ("immediate", "batched(3)")


def test_a_batch_goes_when_its_time_is_up_and_the_timer_follows_the_oldest(broker: Broker, heard: Recorder) -> None:
    broker.swap_strategy(BatchedDeliveryStrategy(3, max_delay=2.0), "orders")
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    broker.publish("orders", 1)
    broker.advance(1.0)
    broker.publish("orders", 2)
    assert broker.next_due() == 2.0
    broker.advance(1.0)
    assert recorder.payloads == [1, 2]
    broker.publish("orders", 3)
    assert broker.next_due() == 4.0
    broker.flush()
    assert broker.next_due() is None
    assert [e.reason for e in heard.of(EventName.BATCH_FLUSH)] == ["delay", "flush"]


def test_a_strategy_of_ones_own(broker: Broker) -> None:
    class UrgentFirst:
        name = "urgent first"

        def publish(self, held: Held, now: float) -> Release:
            return Release(held.size if held.newest == "urgent" else 0)

        def flush(self, held: Held, now: float) -> Release:
            return Release(held.size + 100)  # more than there is does no harm

    broker.swap_strategy(UrgentFirst(), "orders")
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    broker.publish("orders", "slow")
    broker.run_until_idle()
    assert recorder.payloads == []
    broker.publish("orders", "urgent")
    broker.publish("orders", "later")
    broker.run_until_idle()
    assert recorder.payloads == ["slow", "urgent"]
    assert broker.flush() == 1
