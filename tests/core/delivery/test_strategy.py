"""Delivery strategies as values: what they let go, and when they want to be asked again."""

import pytest

from headgate.core.delivery.strategy import (
    BatchedDeliveryStrategy,
    Held,
    ImmediateDeliveryStrategy,
    Release,
    strategy_of,
)


def held(size: int, since: float = 0.0) -> Held:
    return Held(size, since, "payload")


def test_immediate_lets_everything_go() -> None:
    strategy = ImmediateDeliveryStrategy()
    assert strategy.publish(held(1), 0.0) == Release(1)
    assert strategy.publish(held(7), 0.0) == Release(7)
    assert strategy.flush(held(2), 0.0) == Release(2)


def test_batched_waits_for_a_full_batch() -> None:
    strategy = BatchedDeliveryStrategy(batch_size=3)
    assert [strategy.publish(held(n), 100.0) for n in (1, 2)] == [Release(0), Release(0)]
    assert strategy.publish(held(3), 0.0) == Release(3)
    assert strategy.publish(held(8), 0.0) == Release(3), "one batch at a time; it is asked again for the rest"


def test_batched_with_a_time_limit_asks_to_be_woken_and_then_lets_the_rest_go() -> None:
    strategy = BatchedDeliveryStrategy(batch_size=3, max_delay=2.0)
    assert strategy.publish(held(1, since=5.0), 5.0) == Release(0, wake_at=7.0)
    assert strategy.publish(held(2, since=5.0), 6.999) == Release(0, wake_at=7.0)
    assert strategy.publish(held(2, since=5.0), 7.0) == Release(2)


def test_a_manual_flush_lets_the_rest_go() -> None:
    assert BatchedDeliveryStrategy(3).flush(held(2), 0.0) == Release(2)


def test_names() -> None:
    assert ImmediateDeliveryStrategy().name == "immediate"
    assert BatchedDeliveryStrategy(3).name == "batched(3)"


def test_the_smallest_batch_and_the_shortest_delays_are_taken() -> None:
    assert BatchedDeliveryStrategy(1).publish(held(2), 0.0) == Release(1)
    assert BatchedDeliveryStrategy(2, max_delay=0.0).publish(held(1), 0.0) == Release(1)
    assert BatchedDeliveryStrategy(2, max_delay=0.5).publish(held(1), 0.0) == Release(0, wake_at=0.5)


@pytest.mark.parametrize(("size", "delay"), [(0, None), (-1, None), (1, -0.1)])
def test_nonsense_is_refused(size: int, delay: float | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        BatchedDeliveryStrategy(size, delay)


def test_a_topic_s_setting_names_its_strategy() -> None:
    assert strategy_of({"kind": "immediate"}) == ImmediateDeliveryStrategy()
    batched = strategy_of({"kind": "batched", "max_messages": 7, "max_delay_ms": 250})
    assert batched == BatchedDeliveryStrategy(7, 0.25)
