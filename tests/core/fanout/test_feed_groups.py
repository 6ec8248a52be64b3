"""Who is in step with a topic: what the feed counts and the flush lists of them is right after every change."""

from random import Random
from typing import Any

import pytest

from headgate.core.fanout.blocks import Group
from headgate.core.fanout.feed import Feed
from headgate.core.fanout.pace import DIRECT, PACED, Pace
from headgate.core.wire.link import Messages
from tests.core.scene import Scene


def ignore(_data: bytes) -> None:
    """Writes nothing."""


@pytest.mark.parametrize("seed", range(20))
def test_the_count_and_the_list_follow_every_change(seed: int) -> None:
    rng = Random(seed)
    feed: Feed[Any] = Feed("a", 0, 7, 0, {"profile": "durable"}, pace=Pace(plain_sockets=12, block_sockets=3))
    names = [f"s{n}" for n in range(30)]
    in_step: dict[str, Group] = {}
    begun: set[str] = set()

    def change(name: str) -> None:
        if name not in begun:
            feed.begin(name)
            begun.add(name)
        elif name not in in_step:
            in_step[name] = rng.choice(list(Group))
            feed.step_in(name, in_step[name], ignore)
        else:
            how = rng.choice((feed.share, feed.step_out, feed.remove))
            how(name)
            if how == feed.remove:
                begun.discard(name)
            if how != feed.share:
                del in_step[name]
            elif in_step[name] is Group.SOCKETS:
                in_step[name] = Group.SHARED

    for _ in range(400):
        feed.joined = [*feed.shared, *feed.acked]  # as a flush lists them
        rng.choice((change, change, change, lambda _name: feed.warm(rng.choice((DIRECT, PACED))), _gather(feed)))(
            rng.choice(names)
        )
        assert feed.in_step == len(in_step) and set(feed.live()) == set(in_step)
        assert feed.count == len(begun)
        assert feed.joined is None or feed.joined == [*feed.shared, *feed.acked]


def _gather(feed: Feed[Any]) -> Any:
    return lambda _name: feed.gather()


def test_who_comes_leaves_or_follows_more_between_flushes_gets_what_is_his() -> None:
    scene = Scene()
    for topic in "abc":
        scene.owners.create(topic)
    stays, leaves, more = scene.socket("a", "b"), scene.socket("a", "b"), scene.socket("a")

    def publish_all() -> None:
        for topic in "abc":
            scene.publish(topic, "x")
        scene.turn()

    publish_all()
    scene.say(leaves, type="unsubscribe", topic_id="a")
    scene.follow(more, "b")
    comes = scene.socket("a", "b", "c")
    scene.turn()
    publish_all()
    scene.hub.lost(_session(leaves))
    publish_all()
    assert _got(stays) == {"a": [1, 2, 3], "b": [1, 2, 3]}
    assert _got(leaves) == {"a": [1], "b": [1, 2]}
    assert _got(more) == {"a": [1, 2, 3], "b": [2, 3]}
    assert _got(comes) == {"a": [2, 3], "b": [2, 3], "c": [2, 3]}


def test_messages_of_links_are_counted_once_a_flush_and_those_of_unknown_topics_with_the_tick() -> None:
    scene = Scene()
    scene.owners.create("a")
    scene.socket("a")
    scene.publish("a", 1, 2)
    scene.turn()
    assert scene.numbers.links == 2
    scene.hub.on_push(1, Messages("unknown", 1, 1, [0], [b"{}"]))
    assert scene.numbers.links == 2
    scene.pass_time(0.25)
    assert scene.numbers.links == 3


def _session(pipe: Any) -> Any:
    assert pipe.session is not None
    return pipe.session


def _got(pipe: Any) -> dict[str, list[int]]:
    got: dict[str, list[int]] = {}
    for frame in pipe.frames("message"):
        got.setdefault(frame["topic_id"], []).append(frame["seq"])
    return got
