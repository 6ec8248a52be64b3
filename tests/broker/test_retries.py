"""Retries, dead letters and the circuit breaker, from publish to the last event."""

import pytest

from headgate import Broker
from headgate.broker import (
    Backpressure,
    BreakerPolicy,
    EventName,
    Message,
    Refusal,
    SimpleRetryPolicy,
    Status,
    fixed,
)
from tests.broker.recorder import Recorder, failing


def test_fails_twice_then_succeeds_three_attempts_and_the_others_got_one_each(broker: Broker, heard: Recorder) -> None:
    broker.subscribe("orders", failing(2), name="flaky")
    one, two = Recorder("one"), Recorder("two")
    broker.subscribe("orders", one)
    broker.subscribe("orders", two)
    broker.publish("orders", "m")
    broker.run_until_idle(now=10.0)
    assert [e.attempts for e in heard.of(EventName.DELIVERING, "flaky")] == [1, 2, 3]
    assert [e.at for e in heard.of(EventName.DELIVERING, "flaky")] == [0.0, 0.25, 0.75]
    assert heard.of(EventName.DELIVERED, "flaky")[0].status is Status.DELIVERED
    assert [m.attempts for m in one.messages + two.messages] == [1, 1]
    assert broker.dead_letters() == []


def test_always_fails_one_dead_letter_and_others_untouched_replay_to_that_subscriber_only(
    broker: Broker, heard: Recorder
) -> None:
    other = Recorder("other")
    broker.subscribe("orders", failing(3), name="legacy")
    broker.subscribe("orders", other)
    broker.publish("orders", "m")
    broker.run_until_idle(now=10.0)
    (letter,) = broker.dead_letters()
    assert (letter.subscriber, letter.attempts, letter.reason, letter.last_error, letter.payload) == (
        "legacy",
        3,
        "max_attempts",
        "ValueError: not now",
        "m",
    )
    assert (other.payloads, broker.metrics("orders").dead_letter_count) == (["m"], 1)

    broker.replay_dead_letter(letter)
    broker.run_until_idle()
    replayed = heard.of(EventName.DELIVERED)[-1]
    assert (replayed.subscriber, replayed.id, replayed.attempts) == ("legacy", 1, 1)
    assert (other.payloads, broker.dead_letters()) == (["m"], [])
    with pytest.raises(Refusal, match="no dead letter"):
        broker.replay_dead_letter(letter)


def test_a_replay_is_refused_without_its_subscriber_or_without_room_and_the_letter_stays(
    broker: Broker, heard: Recorder
) -> None:
    broker.configure("orders", retry=fixed(1), pressure=Backpressure(max_queue_size=1))
    subscription = broker.subscribe("orders", failing(9), name="legacy")
    broker.publish("orders", "m")
    broker.run_until_idle()
    (letter,) = broker.dead_letters()
    broker.publish("orders", "in the way")
    with pytest.raises(Refusal, match="queue_full"):
        broker.replay_dead_letter(letter)
    assert heard.events[-1].event is EventName.BACKPRESSURE, "said at once"
    subscription.unsubscribe()
    with pytest.raises(Refusal, match="subscribe it first"):
        broker.replay_dead_letter(letter)
    assert broker.dead_letters() == [letter]
    assert (broker.purge_dead_letters("elsewhere"), broker.purge_dead_letters("orders")) == (0, 1)
    assert broker.dead_letters() == []


def test_a_retrying_message_holds_its_subscribers_later_ones_and_nobody_elses(broker: Broker) -> None:
    recorder = Recorder()
    fail = failing(2)

    def flaky(message: Message) -> None:
        if message.payload == 1:
            fail(message)
        recorder.handle(message)

    other = Recorder("other")
    broker.subscribe("orders", flaky)
    broker.subscribe("orders", other)
    for n in (1, 2, 3):
        broker.publish("orders", n)
    broker.run_until_idle()
    assert (recorder.payloads, other.payloads) == ([], [1, 2, 3])
    broker.advance(1.0)
    assert recorder.payloads == [1, 2, 3]


def test_the_breaker_keeps_messages_out_of_the_dead_letters_while_it_is_open(broker: Broker, heard: Recorder) -> None:
    broker.configure("orders", retry=SimpleRetryPolicy(max_attempts=3, backoff_factor=0.0))
    recorder, fail = Recorder(), failing(5)

    def down(message: Message) -> None:
        fail(message)
        recorder.handle(message)

    broker.subscribe("orders", down, breaker=BreakerPolicy(failures=4, open_s=10.0))
    for n in range(1, 5):
        broker.publish("orders", n)
    broker.run_until_idle()
    assert len(heard.of(EventName.DELIVERING)) == 4, "three for the first message, one for the second, then it opens"
    assert broker.metrics("orders").breakers == {"down": "open"}
    broker.run_until_idle(now=10.0)  # half open: one try, which fails
    assert len(heard.of(EventName.DELIVERING)) == 5
    broker.run_until_idle(now=20.0)  # half open: the try succeeds, it closes
    assert recorder.payloads == [2, 3, 4]
    assert broker.metrics("orders").breakers == {}
    assert [letter.message_id for letter in broker.dead_letters()] == [1]
