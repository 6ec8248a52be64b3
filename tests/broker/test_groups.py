"""Consumer groups: one member gets a message, a key stays in order through joining and leaving, nothing is lost."""

from collections import Counter

from headgate.broker import Broker, Message, fixed
from headgate.broker.subscriber import as_subscriber
from tests.broker.recorder import Recorder, failing

KEYS = [f"customer-{n}" for n in range(40)]


def members(broker: Broker, *names: str) -> list[Recorder]:
    made = [Recorder(name) for name in names]
    for one in made:
        broker.subscribe("orders", one, group="workers")
    return made


def test_s2_ext_2_one_member_gets_each_message_and_the_rest_of_the_world_gets_all() -> None:
    broker, outside = Broker(), Recorder("outside")
    one, two = members(broker, "one", "two")
    broker.subscribe("orders", outside)
    receipts = [broker.publish("orders", n) for n in range(10)]
    broker.run_until_idle()
    assert receipts[0].delivered_to == 2, "a group counts as one"
    assert sorted([*one.payloads, *two.payloads], key=str) == sorted(range(10), key=str)
    assert len(one.payloads) == len(two.payloads) == 5, "the shortest queue gets the next"
    assert outside.payloads == list(range(10))


def test_s2_ext_3_messages_of_a_key_go_to_one_member_in_order_and_the_keys_are_spread() -> None:
    broker = Broker()
    group = members(broker, "one", "two", "three")
    for n in range(400):
        broker.publish("orders", n, key=KEYS[n % 40])
    broker.run_until_idle()
    owners = {message.key: recorder.name for recorder in group for message in recorder.messages}
    for recorder in group:
        assert recorder.payloads == sorted(recorder.payloads, key=lambda n: int(str(n)))
        assert all(owners[message.key] == recorder.name for message in recorder.messages)
    assert min(Counter(owners.values()).values()) >= 5


def test_s2_ext_5_a_member_that_comes_moves_its_own_keys_only() -> None:
    def owners(*names: str) -> dict[str | None, str]:
        broker = Broker()
        group = members(broker, *names)
        for key in KEYS:
            broker.publish("orders", 0, key=key)
        broker.run_until_idle()
        return {message.key: recorder.name for recorder in group for message in recorder.messages}

    before, after = owners("one", "two", "three"), owners("one", "two", "three", "four")
    moved = {key for key in KEYS if before[key] != after[key]}
    assert {after[key] for key in moved} == {"four"}
    assert 0 < len(moved) < 20


def test_a_member_that_comes_takes_no_key_whose_messages_still_wait_elsewhere() -> None:
    broker = Broker()
    (one,) = members(broker, "one")
    for n in range(40):
        broker.publish("orders", n, key=KEYS[n])
    (two,) = members(broker, "two")
    for n in range(40, 80):
        broker.publish("orders", n, key=KEYS[n - 40])
    broker.run_until_idle()
    assert two.payloads == []
    assert len(one.payloads) == 80
    for n in range(80, 120):
        broker.publish("orders", n, key=KEYS[n - 80])
    broker.run_until_idle()
    assert len(two.payloads) > 5


def test_a_member_that_leaves_hands_its_messages_over_and_a_failing_one_begins_anew() -> None:
    broker = Broker(retry=fixed(3, 5.0))
    leaving = broker.subscribe("orders", failing(1), name="leaving", group="workers")
    for n in range(6):
        broker.publish("orders", n, key=KEYS[n])
    broker.run_until_idle()  # the first is in RETRY_SCHEDULED
    (stays,) = members(broker, "stays")
    leaving.unsubscribe()
    broker.run_until_idle()
    assert stays.payloads == list(range(6))
    assert {message.attempts for message in stays.messages} == {1}
    assert broker.next_due() is None, "the retry of the one that left is cancelled"
    assert broker.metrics("orders").withdrawn_count == 0


def test_what_a_leaving_member_hands_over_comes_in_the_order_of_publishing() -> None:
    broker = Broker()
    (stays,) = members(broker, "stays")
    leaving = broker.subscribe("orders", Recorder("leaving"), group="workers")
    for n in range(6):
        broker.publish("orders", n)
    leaving.unsubscribe()
    broker.run_until_idle()
    assert stays.payloads == list(range(6))


def test_what_is_handed_over_comes_behind_a_message_that_is_being_retried() -> None:
    broker, seen = Broker(retry=fixed(3, 1.0)), Recorder()
    fail = failing(1)

    def flaky(message: Message) -> None:
        fail(message)
        seen.handle(message)

    leaving = broker.subscribe("orders", failing(9), name="leaving", group="workers")
    broker.subscribe("orders", flaky, name="stays", group="workers")
    broker.publish("orders", 1)
    broker.publish("orders", 2)
    broker.run_until_idle()  # both wait for their retries
    leaving.unsubscribe()
    broker.advance(5.0)
    assert [(message.payload, message.attempts) for message in seen.messages] == [(2, 2), (1, 1)]


def test_while_its_last_try_is_under_way_a_leaving_member_keeps_the_keys_in_order() -> None:
    broker = Broker(latency=lambda message, name: 5.0 if name == "leaving" else 0.0, retry=fixed(3, 1.0))
    leaving = broker.subscribe("orders", failing(1), name="leaving", group="workers")
    broker.publish("orders", 1, key="k")
    broker.run_until_idle()  # on its way
    (stays,) = members(broker, "stays")
    leaving.unsubscribe()
    broker.publish("orders", 2, key="k")
    broker.run_until_idle()
    assert stays.payloads == [], "2 must not overtake 1"
    broker.advance(5.0)  # 1 fails at the member that left
    assert stays.payloads == [1, 2]


def test_a_group_ends_with_its_last_member_and_counts_what_it_leaves() -> None:
    broker = Broker()
    one = broker.subscribe("orders", Recorder("one"), group="workers")
    broker.publish("orders", 1, key="k")
    one.unsubscribe()
    assert broker.metrics("orders").withdrawn_count == 1
    assert broker.publish("orders", 2).dropped


def test_a_dead_letter_of_a_group_goes_to_a_member_that_is_there() -> None:
    broker = Broker(retry=fixed(1))
    gone = broker.subscribe("orders", failing(9), name="gone", group="workers")
    broker.publish("orders", "m", key="k")
    broker.run_until_idle()
    (stays,) = members(broker, "stays")
    gone.unsubscribe()
    broker.replay_dead_letter(broker.dead_letters()[0])
    broker.run_until_idle()
    assert stays.payloads == ["m"]


def test_names_come_from_the_subscriber_unless_given() -> None:
    assert as_subscriber(print).name == "print"
    assert as_subscriber(Recorder("own")).name == "own"
    assert as_subscriber(Recorder("own"), "given").name == "given"
