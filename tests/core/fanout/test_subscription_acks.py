"""One acknowledged subscription: its entry in the wheel, and its cursor as it is reported."""

from headgate.core.fanout.subscription_acks import SubscriptionAcks
from headgate.core.fanout.wheel import Visited
from tests.core.fanout.acking import AckScene, got
from tests.core.scene import Pipe


def acks_of(pipe: Pipe) -> SubscriptionAcks:
    assert pipe.session is not None
    acks = pipe.session.subscriptions["a"].acks
    assert isinstance(acks, SubscriptionAcks)
    return acks


def test_a_thousand_messages_make_one_entry_in_the_wheel() -> None:
    scene = AckScene()
    planned: list[float] = []
    plan = scene.hub.deadlines.plan

    def noted(item: Visited, due: float) -> None:
        planned.append(due)
        plan(item, due)

    scene.hub.deadlines.plan = noted  # type: ignore[method-assign]
    bob = scene.acker()
    for n in range(1_000):
        scene.send(n)
        scene.ack(bob, n + 1)
    assert len(planned) == 1


def test_a_retry_far_beyond_the_turn_of_the_wheel_comes_at_its_time() -> None:
    scene = AckScene(retry={"first_ms": 200_000, "max_ms": 200_000})
    bob = scene.acker()
    scene.send(1)
    for _ in range(19):
        scene.pass_time(10.0)
        scene.say(bob, type="ping")
        assert bob.session is not None
        bob.session.hear(scene.now)
    assert got(bob) == [(1, 1)]
    scene.pass_time(10.5)
    assert got(bob) == [(1, 2)]


def test_a_retry_planned_after_a_pause_of_the_process_comes_at_its_time() -> None:
    scene = AckScene(retry={"first_ms": 90_000, "max_ms": 90_000})
    bob = scene.acker()
    assert bob.session is not None
    scene.now += 5  # seconds, after which messages are read before the wheel has turned
    scene.send(1)
    assert got(bob) == [(1, 1)]
    for _ in range(91):
        bob.session.hear(scene.now)
        scene.pass_time(1)
    assert got(bob) == [(1, 2)] and acks_of(bob).entries == 1


def test_an_earlier_time_counts_and_the_later_entry_does_nothing() -> None:
    scene = AckScene(retry={"first_ms": 20_000, "max_ms": 20_000})
    bob = scene.acker()
    scene.send(1, 2)
    scene.topic.settings["retry"]["first_ms"] = 1
    acks = acks_of(bob)
    assert acks.planned == scene.now + 20.0
    acks.planned = None
    assert acks.visit(scene.now + 30.0) is None
    assert acks.planned is None


def test_the_cursor_names_what_is_above_it() -> None:
    scene = AckScene()
    bob = scene.acker()
    scene.send(1, 2, 3)
    scene.nack(bob, 1)
    scene.ack(bob, 3)
    cursor = acks_of(bob).cursor()
    assert (cursor.seq, cursor.above, cursor.attempts) == (0, [2, 3], [(1, 1)])
    assert (cursor.user_id, cursor.device_id, cursor.topic_id) == ("bob", "default", "a")
