"""Pumping: pages are asked for, slow sessions end, and one subscription of a sweep is brought up."""

from headgate.core.client.limits import Limits
from headgate.core.wire.link import Fetch
from tests.core.fanout.sweeping import SweepScene, served, subscription
from tests.core.scene import Scene


def test_what_the_ring_has_forgotten_is_asked_of_the_owner() -> None:
    scene = Scene(Limits(ring_frames=2))
    scene.owners.create("a")
    scene.socket("a")
    for n in range(10):
        scene.publish("a", n)
        scene.turn()
    late = scene.socket("a", form="seq:0")
    assert late.seqs() == list(range(1, 11)) and any(isinstance(asked, Fetch) for asked in scene.owners.asked)


def test_a_session_that_is_too_slow_is_ended() -> None:
    scene = Scene(Limits(slow_messages=5))
    scene.owners.create("a")
    pipe = scene.socket("a")
    assert pipe.session is not None
    scene.hub.catchup.park(pipe.session, scene.now)
    scene.publish("a", *range(10))
    scene.turn()
    scene.hub.resume(pipe.session, scene.moment)
    assert pipe.code == 4508


def test_one_subscription_is_brought_up_before_its_turn_and_gets_nothing_twice() -> None:
    scene = SweepScene()
    pipes = scene.crowd(6)
    scene.turn()
    scene.publish("a", 1)
    scene.slice()
    one = next(pipe for pipe in pipes if not pipe.frames("message"))
    for _ in range(2):
        scene.hub._pumping.bring_up(subscription(one))
        assert one.seqs() == [1] and subscription(one).in_step
    scene.turn()
    assert served(pipes) == [1] * 6
