"""Figures, listeners, duplicates, latency, pulling, traces."""

import logging

import pytest

from headgate import Broker
from headgate.broker import (
    Backpressure,
    Event,
    EventName,
    Refusal,
    fixed,
)
from headgate.core.wire.errors import HeadgateError
from tests.broker.recorder import Recorder, failing


def test_the_figures(broker: Broker) -> None:
    broker.configure("orders", retry=fixed(2, 1.0))
    broker.subscribe("orders", Recorder("quick"))
    broker.subscribe("orders", failing(1), name="slow")
    broker.publish("orders", 1)
    broker.publish("orders", 2)
    broker.run_until_idle()
    metrics = broker.metrics("orders")
    assert metrics.lag == {"quick": 0, "slow": 2}
    assert (metrics.subscriber_count, metrics.queue_length) == (2, 2)
    broker.advance(1.0)
    metrics = broker.metrics("orders")
    assert (metrics.delivered_count, metrics.failed_count, metrics.retried_count) == (4, 1, 1)
    assert metrics.average_latency_s == pytest.approx((0 + 0 + 1 + 1) / 4)
    assert [m.topic for m in broker.summary()] == ["orders"]


def test_a_listener_that_raises_harms_nothing(
    broker: Broker, heard: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(event: Event) -> None:
        raise RuntimeError("listener")

    recorder = Recorder()
    broker.add_listener(bad)
    last = Recorder("last")
    broker.add_listener(last.hear)
    broker.subscribe("orders", recorder)
    with caplog.at_level(logging.ERROR, "headgate.broker"):
        broker.publish("orders", 1)
        broker.run_until_idle()
    assert recorder.payloads == [1]
    assert heard.events == last.events
    assert broker.listener_errors == len(heard.events) == 4
    broker.remove_listener(bad)
    broker.remove_listener(bad)
    broker.publish("orders", 2)
    assert broker.listener_errors == 4


def test_a_listener_may_publish_and_the_events_come_in_the_order_of_what_happened(broker: Broker) -> None:
    order: list[tuple[str, object]] = []
    broker.subscribe("orders", Recorder())
    broker.subscribe("audit", Recorder())

    def echo(event: Event) -> None:
        if event.event is EventName.DELIVERED and event.topic == "orders":
            broker.publish("audit", event.id)

    broker.add_listener(echo)
    broker.add_listener(lambda event: order.append((event.topic, event.event)))
    broker.publish("orders", 1)
    broker.run_until_idle()
    assert order == [
        ("orders", "message_enqueued"),
        ("orders", "delivering"),
        ("orders", "delivered"),
        ("audit", "message_enqueued"),
        ("audit", "delivering"),
        ("audit", "delivered"),
    ]


def test_s2_ext_6_a_second_message_with_the_same_dedup_key_goes_nowhere(broker: Broker) -> None:
    recorder = Recorder()
    broker.configure("orders", pressure=Backpressure(max_queue_size=1))
    broker.subscribe("orders", recorder)
    assert broker.publish("orders", "a", dedup_key="k").id == 1
    with pytest.raises(Refusal):
        broker.publish("orders", "refused", dedup_key="k2")
    broker.run_until_idle()
    again = broker.publish("orders", "b", dedup_key="k")
    assert (again.duplicate, again.id) == (True, 1)
    assert not broker.publish("orders", "c", dedup_key="k2").duplicate, "a refused key was not used"
    assert not broker.publish("elsewhere", "d", dedup_key="k").duplicate, "keys are the topic's"
    broker.run_until_idle()
    assert recorder.payloads == ["a", "c"]
    metrics = broker.metrics("orders")
    assert (metrics.published_count, metrics.duplicate_count) == (2, 1)


def test_simulated_latency_passes_in_virtual_time(heard: Recorder) -> None:
    broker = Broker(latency=lambda message, name: 2.0 if name == "far" else 0.0)
    broker.add_listener(heard.hear)
    near, far = Recorder("near"), Recorder("far")
    broker.subscribe("orders", near)
    broker.subscribe("orders", far)
    broker.publish("orders", 1)
    broker.publish("orders", 2)
    broker.run_until_idle(now=2.0)
    assert (near.payloads, far.payloads) == ([1, 2], [1])
    broker.run_until_idle(now=4.0)
    assert [(e.id, e.at) for e in heard.of(EventName.DELIVERED, "far")] == [(1, 2.0), (2, 4.0)]


def test_unsubscribed_while_a_message_is_on_its_way_it_still_arrives_and_is_not_retried(heard: Recorder) -> None:
    broker = Broker(latency=1.0)
    broker.add_listener(heard.hear)
    subscription = broker.subscribe("orders", failing(9), name="flaky")
    broker.publish("orders", 1)
    broker.publish("orders", 2)
    broker.run_until_idle()
    subscription.unsubscribe()
    with pytest.raises(Refusal, match="already_subscribed"):
        broker.subscribe("orders", failing(0), name="flaky")
    broker.advance(60.0)
    assert [e.event for e in heard.events if e.id == 1][1:] == ["delivering", "failed"]
    metrics = broker.metrics("orders")
    assert (metrics.withdrawn_count, metrics.queue_length, metrics.lag) == (2, 0, {})
    broker.subscribe("orders", failing(0), name="flaky")


def test_s2_ext_4_a_pulled_subscriber_takes_when_it_wants_and_settles_itself(broker: Broker, heard: Recorder) -> None:
    pull = broker.subscribe_pull("orders", "worker")
    for n in (1, 2):
        broker.publish("orders", n)
    broker.run_until_idle()
    first = pull.take()
    assert first is not None
    assert (first.payload, pull.take()) == (1, None)
    pull.nack("later")
    assert pull.take() is None
    broker.advance(0.25)
    again = pull.take()
    assert again is not None
    assert (again.payload, again.attempts) == (1, 2)
    pull.ack()
    with pytest.raises(HeadgateError, match="settled"):
        pull.ack()
    second = pull.take()
    assert second is not None
    assert second.payload == 2
    assert (pull.name, pull.topic, pull.position) == ("worker", "orders", 1)


def test_traces_are_handed_on(broker: Broker, heard: Recorder) -> None:
    recorder = Recorder()
    broker.subscribe("orders", recorder)
    broker.publish("orders", 1, trace="00-aa-bb-01")
    broker.run_until_idle()
    assert recorder.messages[0].trace == "00-aa-bb-01"
    assert {e.trace for e in heard.events if e.id == 1} == {"00-aa-bb-01"}
