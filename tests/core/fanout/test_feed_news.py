"""What an owner tells of a topic reaches the part that it is for, and only for the topic's epoch."""

import pytest

from headgate.core.wire.link_members import TopicSettings
from tests.core.fanout.sweeping import SweepScene


@pytest.mark.parametrize(("heat", "expected"), [("paced", "paced"), ("inbox", "inbox"), ("unheard of", "direct")])
def test_heat_is_the_feed_s(heat: str, expected: str) -> None:
    scene = SweepScene()
    scene.crowd(1)
    scene.heat(heat)
    assert scene.feed().heat == expected


def test_heat_of_an_older_epoch_is_left_alone() -> None:
    scene = SweepScene()
    scene.crowd(1)
    scene.heat("inbox", epoch=scene.feed().epoch - 1)
    assert scene.feed().heat == "direct"


def test_settings_are_the_feed_s() -> None:
    scene = SweepScene()
    scene.crowd(1)
    feed = scene.feed()
    scene.hub.on_push(1, TopicSettings("a", feed.epoch, {"profile": "durable", "on_slow": "drop_oldest"}, "PUBLIC"))
    assert feed.on_slow == "drop_oldest"
