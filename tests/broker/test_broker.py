"""Broker as its user sees it: publishing, subscribing, time, the default broker."""

import logging
from collections.abc import Callable

import pytest

from headgate import Broker
from headgate.broker import (
    BatchedDeliveryStrategy,
    Message,
    NotIdle,
    Publisher,
    Refusal,
    Status,
    Subscriber,
    default_broker,
    fixed,
)
from headgate.broker import broker as broker_module
from tests.broker.recorder import Recorder, failing


def test_publish_queues_and_never_calls_a_handler(broker: Broker) -> None:
    subscriber: Subscriber = Recorder()
    broker.subscribe("orders", subscriber)
    receipt = broker.publish("orders", {"n": 1})
    assert (receipt.id, receipt.status, receipt.delivered_to, receipt.queue_length) == (1, Status.QUEUED, 1, 1)
    assert isinstance(subscriber, Recorder)
    assert subscriber.messages == []
    assert broker.run_until_idle() == 1
    assert subscriber.messages == [Message(1, "orders", {"n": 1}, Status.DELIVERING, 1, 0.0, 0.0)]
    assert subscriber.messages[0].timestamp == 0.0


def test_a_publisher_is_a_facade_for_one_topic(broker: Broker) -> None:
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    assert Publisher(broker, "orders").publish("x", key="k").id == 1
    broker.run_until_idle()
    assert recorder.messages[0].key == "k"


def test_a_late_subscriber_gets_what_is_published_after_it_came(broker: Broker) -> None:
    broker.swap_strategy(BatchedDeliveryStrategy(10), "orders")
    early, late = Recorder("early"), Recorder("late")
    broker.subscribe("orders", early)
    broker.publish("orders", 1)
    broker.subscribe("orders", late)
    broker.publish("orders", 2)
    broker.flush()
    broker.run_until_idle()
    assert (early.payloads, late.payloads) == ([1, 2], [2])


def test_unsubscribing_withdraws_what_waits_and_frees_the_queue(broker: Broker) -> None:
    subscription = broker.subscribe("orders", Recorder())
    broker.publish("orders", 1)
    subscription.unsubscribe()
    metrics = broker.metrics("orders")
    assert (metrics.withdrawn_count, metrics.queue_length, metrics.subscriber_count) == (1, 0, 0)
    with pytest.raises(Refusal, match="not_found"):
        subscription.unsubscribe()


def test_a_handler_may_publish_subscribe_and_unsubscribe(broker: Broker) -> None:
    recorder = Recorder()

    def once(message: Message) -> None:
        broker.subscribe("next", recorder)
        broker.publish("next", message.payload)
        subscription.unsubscribe()

    subscription = broker.subscribe("orders", once)
    broker.publish("orders", 1)
    broker.publish("orders", 2)
    broker.run_until_idle()
    assert recorder.payloads == [1]
    assert broker.metrics("orders").lag == {}


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda b: b.publish("no/slash", 1), "invalid_topic_id"),
        (lambda b: (b.subscribe("t", print, name="x"), b.subscribe("t", print, name="x")), "already_subscribed"),
        (lambda b: b.metrics("nowhere"), "topic_not_found"),
        (lambda b: b.flush("nowhere"), "topic_not_found"),
    ],
)
def test_refusals_have_the_codes_of_the_protocol(broker: Broker, act: Callable[[Broker], object], code: str) -> None:
    with pytest.raises(Refusal) as caught:
        act(broker)
    assert caught.value.code == code


def test_an_async_handler_is_refused_or_fails_loudly(broker: Broker) -> None:
    async def handle(message: Message) -> None: ...

    class Awaitable:
        def __await__(self) -> None: ...

    with pytest.raises(TypeError, match="AsyncBroker"):
        broker.subscribe("orders", handle)
    with pytest.raises(TypeError, match="handle"):
        broker.subscribe("orders", 42)  # type: ignore[arg-type]
    broker.subscribe("orders", lambda message: Awaitable(), name="hidden")
    broker.publish("orders", 1)
    broker.advance(10)
    assert "AsyncBroker" in broker.dead_letters()[0].last_error


def test_the_default_broker_is_one_and_can_be_made_anew() -> None:
    first = broker_module.reset_default_broker(max_queue_size=1)
    assert default_broker() is default_broker() is first
    assert broker_module.reset_default_broker() is not first


def test_a_run_that_never_ends_says_so_and_running_inside_a_run_is_refused(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "MAX_TRIES", 100)
    broker.subscribe("loop", lambda message: broker.publish("loop", 1), name="loop")
    broker.publish("loop", 1)
    with pytest.raises(NotIdle, match="its own topic"):
        broker.run_until_idle()
    broker.subscribe("orders", lambda message: broker.run_until_idle(), name="nested")
    broker.configure("orders", retry=fixed(1))
    broker.publish("orders", 1)
    with pytest.raises(NotIdle):
        broker.run_until_idle()
    assert "just publish" in broker.dead_letters("orders")[0].last_error


def test_time_is_the_injected_clock_and_never_goes_back() -> None:
    class Clock:
        time = 100.0

        def now(self) -> float:
            return self.time

        def wall_ms(self) -> int:
            return 0

    clock = Clock()
    broker = Broker(clock=clock)
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    broker.publish("orders", 1)
    clock.time = 105.0
    broker.run_until_idle()
    assert (recorder.messages[0].created_ts, recorder.messages[0].last_ts) == (100.0, 105.0)
    clock.time = 50.0
    assert broker.now == 105.0
    broker.run_until_idle(now=1.0)
    assert broker.now == 105.0


def test_a_handlers_exception_is_in_the_log_for_its_author(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    broker.subscribe("orders", failing(1), name="flaky")
    broker.publish("orders", 1)
    with caplog.at_level(logging.INFO, "headgate.broker"):
        broker.run_until_idle()
    assert "flaky failed on message 1" in caplog.text
    assert "ValueError: not now" in caplog.text


def test_bad_settings_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="sometimes"):
        Broker(on_full="sometimes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="typo"):
        Broker(typo=1)  # type: ignore[call-arg]
