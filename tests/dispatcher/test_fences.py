"""Fences go out after what came before them, and before anything that came after."""

import pytest

from headgate.core.wire import link
from headgate.core.wire.control import UpdateTopic
from headgate.core.wire.link_members import Fence, TopicSettings
from headgate.core.wire.topic_settings import effective
from tests.dispatcher.members_bed import KEY, ROOT, Far, MembersBed


def seqs(messages: list[link.Message]) -> list[object]:
    """Messages as their seqs, fences as their users, all else as it is."""
    found: list[object] = []
    for message in messages:
        if isinstance(message, link.Messages):
            found += range(message.seq, message.seq + len(message.frames))
        else:
            found.append(message.user_id if isinstance(message, Fence) else message)
    return found


async def test_a_fence_stands_between_the_last_frames_before_it_and_the_first_after_it() -> None:
    bed = MembersBed()
    bed.feed(bed.join("bob"))
    gateways = [bed.hosting(), bed.hosting("bob")]
    bed.feed(bed.message(), bed.message(), bed.remove("bob"), bed.message())
    for gateway in gateways:
        sent = gateway.taken()
        assert seqs(sent) == [1, 2, "bob", 3]
        assert Fence("t", bed.row.epoch, 1, "bob", True) in sent


async def test_a_role_without_the_right_to_subscribe_is_fenced_and_asked_about() -> None:
    bed = MembersBed()
    bed.feed(bed.join("bob"))
    gateway = bed.hosting("bob")
    bed.feed(bed.join("bob", "publisher"), bed.join("eve"), bed.join("bob", "subscriber"), bed.remove("nobody"))
    assert gateway.taken() == [Fence("t", bed.row.epoch, 1, "bob", False)]


async def test_public_to_private_fences_everybody_and_settings_follow() -> None:
    bed = MembersBed("PUBLIC")
    gateway, old = bed.hosting(), bed.hosting(version=1)
    bed.feed(bed.message(), bed.control(UpdateTopic("t", 0, ROOT, permissions="PRIVATE")), bed.message())
    first, settings, fence, second = gateway.taken()
    assert isinstance(first, link.Messages)
    assert isinstance(second, link.Messages)
    assert (first.seq, len(first.frames), second.seq) == (1, 1, 2)
    assert settings == TopicSettings("t", bed.row.epoch, effective({}), "PRIVATE")
    assert fence == Fence("t", bed.row.epoch, 1)
    assert bed.changes == [("t", "")]
    bed.feed(bed.control(UpdateTopic("t", 1, ROOT, settings={"on_slow": "close"})))
    assert gateway.taken() == [TopicSettings("t", bed.row.epoch, effective({"on_slow": "close"}), "PRIVATE")]
    assert [type(m) for m in old.taken()] == [link.Messages, link.Ended]


async def test_an_older_link_is_told_that_its_subscriptions_ended_and_gets_nothing_more() -> None:
    bed = MembersBed()
    bed.feed(bed.join("bob"))
    old = bed.hosting("bob", version=1)
    bed.feed(bed.message(), bed.remove("bob"), bed.message())
    sent = old.taken()
    assert seqs(sent) == [1, link.Ended("t", bed.row.epoch, "forbidden")]
    assert bed.owner.routes.get(old, "t") is None


def attach(bed: MembersBed, gateway: Far, fence: int, cursor: int) -> list[link.Message]:
    topic = link.AttachTopic("t", bed.row.epoch, cursor, 1, fence)
    bed.api.handle(gateway, link.Attach(0, True, True, [topic]))
    return gateway.taken()


async def test_an_attaching_gateway_gets_the_fence_that_it_missed_before_anything_else_of_the_topic() -> None:
    bed = MembersBed()
    bed.feed(bed.join("bob"), bed.remove("bob"), bed.message())
    gateway = Far()
    sent = attach(bed, gateway, 0, 0)
    assert sent == [Fence("t", bed.row.epoch, 1), link.Attached(0, 1)]
    assert len(gateway.behind) == 1, "its messages follow"
    knows = Far()
    assert attach(bed, knows, 1, 1) == [link.Attached(0, 1)]
    old = Far(1)
    assert attach(bed, old, 0, 1) == [link.Ended("t", bed.row.epoch, "forbidden"), link.Attached(0, 1)]
    assert bed.owner.routes.get(old, "t") is None
    bed.feed(bed.message())
    assert seqs(knows.taken()) == [2]
    assert old.taken() == []


async def test_an_attaching_gateway_gets_settings_that_were_ever_changed_before_anything_else_of_the_topic() -> None:
    bed = MembersBed("PUBLIC")
    assert attach(bed, Far(), 0, 0) == [link.Attached(0, 1)]
    bed.feed(bed.control(UpdateTopic("t", 0, ROOT, settings={"on_slow": "drop_oldest"})), bed.message())
    now = TopicSettings("t", bed.row.epoch, effective({"on_slow": "drop_oldest"}), "PUBLIC")
    assert attach(bed, Far(), 0, 1) == [now, link.Attached(0, 1)]
    bed.feed(bed.control(UpdateTopic("t", 1, ROOT, permissions="PRIVATE", settings={})))
    restored = TopicSettings("t", bed.row.epoch, effective({}), "PRIVATE")
    assert attach(bed, Far(), 0, 1) == [restored, Fence("t", bed.row.epoch, 1), link.Attached(0, 1)]
    assert attach(bed, Far(1), 1, 1) == [link.Attached(0, 1)], "an older link does not know them"


async def test_members_are_changes_of_one_user_for_ingests_and_touch_the_rows_of_user_and_creator() -> None:
    bed = MembersBed()
    bed.feed(bed.join("bob"))
    assert bed.changes == [("t", "bob")]
    members = bed.owner.shard.members[KEY]
    assert [user for user, _ in members] == ["ann", "bob"]
    chunks = [value for value in bed.owner.writer.base(bed.owner.shard, bed.owner.rows, 0) if value]
    assert chunks
    bed.feed(bed.join("eve"))
    (delta,) = [value for value in bed.owner.writer.delta(bed.owner.shard, bed.owner.rows) if value]
    assert b"eve" in delta
    assert b"bob" not in delta


async def test_planted_a_fence_before_the_last_frames_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = MembersBed()
    bed.feed(bed.join("bob"))
    gateway = bed.hosting("bob")
    flush = bed.owner.send_open
    monkeypatch.setattr(bed.owner, "send_open", lambda: None)
    bed.owner.take([bed.message(), bed.remove("bob")])
    flush()
    assert seqs(gateway.taken()) == ["bob", 1], "the order that the first test forbids"
