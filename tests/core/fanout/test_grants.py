"""What an owner's grant means, on values: the feed, where the subscription begins, the first frames."""

from typing import Any

import msgspec
import pytest

from headgate.core.client import outbound
from headgate.core.client.framing import ClientFrame
from headgate.core.client.inbound import Subscribe
from headgate.core.fanout.grants import begin_of, first_frames, new_feed
from headgate.core.fanout.pace import DEFAULT_PACE
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.session import TopicFeed
from headgate.core.wire.link import Subscribed
from headgate.core.wire.position import Position
from tests.core.scene import Scene
from tests.numbers_twin import Numbers

LIVE, SEQ = None, Position("seq", 7, 3)


def pending(position: Position | None = LIVE, *, presence: bool = True) -> PendingSubscribe:
    session = Scene().open().session
    assert session is not None
    made = PendingSubscribe(session, Subscribe("a", position, presence), "id", 0.0, 30.0)
    made.place(2)
    return made


def granted(cursor: int = 9, reason: str | None = None, **settings: Any) -> Subscribed:
    return Subscribed(1, "a", 7, 9, 2, cursor, 5, None, reason, {"profile": "durable", **settings})


def _feed(answer: Subscribed | None = None) -> TopicFeed:
    return new_feed(pending(), answer or granted(), DEFAULT_PACE)


@pytest.mark.parametrize(("heat", "known"), [("direct", "direct"), ("inbox", "inbox"), ("tepid", "direct")])
def test_a_feed_begins_with_the_topic_s_heat(heat: str, known: str) -> None:
    feed = _feed(msgspec.structs.replace(granted(), heat=heat))
    assert feed.heat == known and (feed.blocks is None) == (known == "direct")


def test_a_durable_feed_begins_at_the_head_and_an_ephemeral_one_is_counted_from_one() -> None:
    durable, ephemeral = _feed(), _feed(granted(profile="ephemeral"))
    assert (durable.head, durable.shard, durable.epoch, durable.ring.first) == (9, 2, 7, 10)
    assert (ephemeral.head, ephemeral.ring.first) == (0, 1)
    unnamed = _feed(msgspec.structs.replace(granted(), settings={}, fence=6))
    assert (unnamed.head, unnamed.durable, unnamed.fence) == (9, True, 6)


@pytest.mark.parametrize(
    ("position", "profile", "expected"),
    [
        (LIVE, "durable", (4, None)),
        (SEQ, "durable", (4, 9)),
        (LIVE, "ephemeral", (20, None)),
        (SEQ, "ephemeral", (20, 20)),
    ],
)
def test_where_a_subscription_begins(position: Position | None, profile: str, expected: tuple[int, int | None]) -> None:
    one = pending(position)
    answer = granted(cursor=4, profile=profile)
    feed = new_feed(one, answer, DEFAULT_PACE)
    feed.head = 20
    assert begin_of(one, answer, feed) == expected


@pytest.mark.parametrize(
    ("presence", "names"),
    [(outbound.presence("a", 1), ["subscribed", "presence"]), (None, ["subscribed"])],
)
def test_presence_follows_subscribed_where_there_is_one(presence: ClientFrame | None, names: list[str]) -> None:
    frames = first_frames(pending(), granted(), Numbers(), presence)
    assert [frame.name for frame in frames] == names
    assert all(b'"topic_id":"a"' in frame.data for frame in frames) and b'"id":"id"' in frames[0].data


@pytest.mark.parametrize(
    ("position", "reason", "cursor", "lost"),
    [
        (SEQ, "expired", 8, 5),
        (SEQ, "expired", 3, 0),
        (SEQ, "epoch_changed", 8, 0),
        (LIVE, "expired", 8, 0),
    ],
)
def test_a_position_too_old_is_a_gap_up_to_the_cursor(
    position: Position | None, reason: str, cursor: int, lost: int
) -> None:
    numbers = Numbers()
    frames = first_frames(pending(position, presence=False), granted(cursor, reason), numbers, None)
    assert [frame.name for frame in frames] == ["subscribed", "gap"][: 1 + (lost > 0)]
    assert numbers.gaps.get("retention", 0) == lost
    if lost:
        assert frames[1].mark == "7:8", "the id of an SSE event"
        assert b'"from_seq":4,"to_seq":8,' in frames[1].data and b'"recoverable":false' in frames[1].data
