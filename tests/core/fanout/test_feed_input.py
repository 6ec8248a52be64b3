"""What the owners send into a feed: repeats are dropped, what is missing is asked for, what is lost is said."""

from headgate.core.wire.link import Fetch, Messages
from tests.core.scene import Scene


def test_a_hole_is_filled_before_the_feed_goes_on_and_repeats_are_dropped() -> None:
    scene = Scene()
    topic = scene.owners.create("a")
    socket = scene.socket("a")
    scene.publish("a", 1)
    scene.owners.lose = True
    scene.publish("a", *range(2, 1_200))
    scene.owners.lose = False
    scene.publish("a", "after")
    scene.hub.on_push(1, Messages("a", topic.epoch, 1, topic.ts[:5], topic.frames[:5]))
    scene.turn()
    assert socket.seqs() == list(range(1, 1_201))


def test_nothing_is_asked_for_a_topic_that_ended() -> None:
    scene = Scene()
    topic = scene.owners.create("a")
    scene.socket("a")
    scene.owners.up = False  # the hole stays open
    scene.hub.on_push(1, Messages("a", topic.epoch, 2, [0], [b"{}"]))
    scene.owners.up = True
    scene.owners.delete("a")
    scene.pass_time(3)
    assert scene.hub.feeds == {} and not any(isinstance(message, Fetch) for message in scene.owners.asked)


def test_a_hole_that_cannot_be_filled_is_said() -> None:
    scene = Scene()
    scene.owners.create("a")
    socket = scene.socket("a")
    scene.publish("a", 1)
    scene.owners.lose = True
    scene.publish("a", 2, 3, 4)
    scene.owners.forget("a", 4)
    scene.owners.lose = False
    scene.publish("a", 5)
    scene.turn()
    (gap,) = socket.frames("gap")
    assert (gap["from_seq"], gap["to_seq"], gap["reason"], gap["recoverable"]) == (2, 3, "retention", False)
    assert socket.seqs() == [1, 4, 5]


def test_while_the_owner_is_away_nothing_is_asked_and_its_return_fills_the_hole() -> None:
    scene = Scene()
    scene.owners.create("a")
    socket = scene.socket("a")
    scene.owners.lose = True
    scene.publish("a", 1)
    scene.owners.lose = False
    scene.owners.up = False
    topic = scene.owners.topics["a"]
    scene.hub.on_push(1, Messages("a", topic.epoch, 2, [0], [b"{}"]))
    scene.pass_time(2)
    assert not any(isinstance(message, Fetch) for message in scene.owners.asked)
    scene.owners.come()
    scene.turn()
    assert socket.seqs() == [1]
    scene.publish("a", 2)
    scene.turn()
    assert socket.seqs() == [1, 2]
