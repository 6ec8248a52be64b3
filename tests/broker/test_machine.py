"""The broker against its model, and the model against three planted faults that it must catch."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from headgate.broker.deliveries import Deliveries
from headgate.broker.intake import Intake
from headgate.broker.lane import Lane
from headgate.broker.topic import Topic
from headgate.core.delivery.delivery import Delivery
from headgate.core.delivery.strategy import DeliveryStrategy
from headgate.core.wire.errors import Refusal
from tests.broker.machine import BrokerMachine

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def run(examples: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink), fixed_seed: bool = True) -> None:
    run_state_machine_as_test(
        BrokerMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=fixed_seed,
            database=None,
            phases=phases,
            suppress_health_check=QUIET,
        ),
    )


def test_the_broker_keeps_what_the_model_says() -> None:
    run(250)


def retry_at_the_tail(self: Deliveries, lane: Lane, delivery: Delivery, now: float) -> None:
    lane.timer = None
    delivery.requeue(now)
    lane.delivery = None
    lane.queue.rotate(-1)
    self.line_up(lane)


def swap_that_loses_the_partial_batch(self: Intake, topic: Topic, strategy: DeliveryStrategy, now: float) -> None:
    topic.queued -= len(topic.held)
    topic.held.clear()
    topic.strategy = strategy


def rejected_counted_as_published(self: Intake, topic: Topic, now: float) -> Refusal:
    topic.counts.published += 1
    return refuse(self, topic, now)


refuse = Intake.refuse


@pytest.mark.parametrize(
    ("owner", "method", "fault", "invariant"),
    [
        (Deliveries, "_requeue", retry_at_the_tail, "order:"),
        (Intake, "swap", swap_that_loses_the_partial_batch, "lost:"),
        (Intake, "refuse", rejected_counted_as_published, "counters: refused is not published"),
    ],
)
def test_a_planted_fault_is_caught(
    monkeypatch: pytest.MonkeyPatch, owner: type, method: str, fault: Callable[..., object], invariant: str
) -> None:
    monkeypatch.setattr(owner, method, fault)
    with pytest.raises(AssertionError, match=invariant):
        run(200, (Phase.generate,))
