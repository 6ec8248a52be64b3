"""Hints: connected members are told of new messages where they are, once a second, and of what they read elsewhere."""

import asyncio
from typing import Any

import pytest

from dispatcher import inbox_hints
from headgate.core.inbox import pending_hints
from headgate.core.wire.inbox_record import HeadEntry, MembershipRecord
from headgate.core.wire.link_inbox import HINT_TOPICS, HintTopic, UserHint, UserHints, UserRead
from headgate.core.wire.rights import ANYBODY
from headgate.runtime.system import SystemRng
from tests.dispatcher.bed import until
from tests.dispatcher.user_inbox_bed import InboxBed, inbox_bed, mark


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints come within some milliseconds, and again after 50."""
    monkeypatch.setattr(inbox_hints, "TICK_S", 0.002)
    monkeypatch.setattr(inbox_hints, "JITTER_S", 0.001)
    monkeypatch.setattr(pending_hints, "BETWEEN_S", 0.05)


async def hints(bed: InboxBed, at: int = 0) -> list[UserHint]:
    """The hints of the next message to a gateway."""
    gateway = bed.gateways[at]
    await until(lambda: gateway.sent)
    message: Any = gateway.sent.pop(0)
    assert isinstance(message, UserHints)
    return message.users


async def quiet(bed: InboxBed) -> None:
    await asyncio.sleep(0.03)
    assert [gateway.taken() for gateway in bed.gateways] == [[], []]


async def test_connected_members_are_told_at_every_gateway_where_they_are() -> None:
    async with inbox_bed([["ann", "bob"], ["ann", "eve"]]) as bed:
        await bed.joined("ann", "t")
        await bed.joined("eve", "u")
        await bed.joined("away", "t")
        await bed.moved("t", 3)
        assert await hints(bed) == await hints(bed, 1) == [UserHint("ann", [HintTopic("t", 3, 3)])]
        await quiet(bed)
        await bed.moved("u", 1)
        assert await hints(bed, 1) == [UserHint("eve", [HintTopic("u", 1, 1)])]
        await quiet(bed)


async def test_those_who_gave_no_name_are_told_nothing_and_others_are() -> None:
    async with inbox_bed([[ANYBODY], []]) as bed:
        await bed.joined(ANYBODY, "t", "u")
        await bed.joined("ann", "u")
        await bed.moved("t", 3)
        await quiet(bed)
        bed.change(1, ann=1)
        await bed.moved("t", 4)
        await bed.moved("u", 1)
        assert await hints(bed, 1) == [UserHint("ann", [HintTopic("u", 1, 1)])]
        await quiet(bed)


async def test_events_late_bundles_and_heads_that_are_gone_are_no_news() -> None:
    async with inbox_bed([["ann"], []]) as bed:
        await bed.joined("ann", "t")
        await bed.moved("t", 3)
        await hints(bed)
        await asyncio.sleep(0.1)
        await bed.moved("t", 5, 3)
        await bed.moved("t", 2)
        await bed.moved("t", 5, 3)
        await bed.heads(HeadEntry("t", 7, 6, 6, gone=True))
        await quiet(bed)


async def test_what_was_read_or_left_meanwhile_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_hints, "JITTER_S", 1.0)  # all of it: later than what follows, on a busy machine too
    monkeypatch.setattr(SystemRng, "random", lambda _: 1.0)
    async with inbox_bed([["ann"], []]) as bed:
        await bed.joined("ann", "t", "u", "v")
        for topic in "tuv":
            await bed.moved(topic, 3)
        await bed.marked(mark(3))
        await bed.wrote("ann", MembershipRecord("u", 7, 9))
        assert isinstance(bed.gateways[0].sent.pop(0), UserRead)
        assert await hints(bed) == [UserHint("ann", [HintTopic("v", 3, 3)])]


async def test_a_user_is_told_once_in_a_while_of_the_newest_topics_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_hints, "JITTER_S", 0.0)
    async with inbox_bed([["ann"], []]) as bed:
        topics = [f"t{n:03}" for n in range(HINT_TOPICS + 2)]
        await bed.joined("ann", *topics)
        begun = asyncio.get_running_loop().time()
        await bed.heads(*[HeadEntry(topic, 7, 1, 1) for topic in topics])
        ((first,), (second,)) = await hints(bed), await hints(bed)
        assert asyncio.get_running_loop().time() - begun >= 0.05
        assert [topic.topic_id for topic in first.topics] == topics[:1:-1]
        assert [topic.topic_id for topic in second.topics] == topics[1::-1]


async def test_of_a_large_topic_only_the_connected_are_looked_at_and_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_hints, "SLICE_USERS", 10)
    users = [f"u{n}" for n in range(25)]
    async with inbox_bed([users, ["guest"]]) as bed:
        for user in [*users[:20], *[f"away{n}" for n in range(100)]]:
            await bed.joined(user, "t")
        await bed.moved("t", 1)
        told: set[str] = set()
        while len(told) < 20:
            told |= {hint.user_id for hint in await hints(bed)}
        assert told == set(users[:20])
        await quiet(bed)


async def test_a_full_link_an_old_one_and_a_user_who_has_gone_are_told_nothing() -> None:
    async with inbox_bed([["ann", "bob"], ["ann"]]) as bed:
        await bed.joined("ann", "t")
        await bed.joined("bob", "u")
        bed.gateways[0].congested, bed.gateways[1].version = True, 1
        await bed.moved("t", 1)
        await bed.marked(mark(1))
        await quiet(bed)
        bed.gateways[0].congested = False
        bed.change(0, bob=0)
        await bed.moved("u", 1)
        await quiet(bed)
        bed.side.left(bed.gateways[0])
        await bed.moved("t", 2)
        await quiet(bed)


async def test_what_a_user_has_read_is_told_to_his_own_gateways_once() -> None:
    async with inbox_bed([["ann", "bob"], ["ann"]]) as bed:
        await bed.joined("ann", "t", seq=1, n=1)
        await bed.heads(HeadEntry("t", 7, 9, 9))
        await asyncio.sleep(0.02)
        bed.gateways[0].taken(), bed.gateways[1].taken()
        await bed.marked(mark(5), mark(5, "bob"))
        expected = [UserRead("ann", "t", 5, 4)]
        assert bed.gateways[0].taken() == bed.gateways[1].taken() == expected, "bob is no member"
        await bed.marked(mark(5), mark(4))
        assert bed.gateways[0].taken() == []


async def test_nobody_is_told_of_what_was_there_before_the_owner_had_read_the_log() -> None:
    async with inbox_bed([["ann"], []], whole=False) as bed:
        await bed.joined("ann", "t")
        await bed.moved("t", 3)
        bed.owner.caught_up.set()
        await until(lambda: bed.owner.inbox.is_complete)
        await quiet(bed)
        await bed.moved("t", 4)
        assert await hints(bed) == [UserHint("ann", [HintTopic("t", 4, 4)])]


async def test_a_fault_ends_one_tick_and_not_the_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    async with inbox_bed([["ann"], []]) as bed:
        await bed.joined("ann", "t")
        with monkeypatch.context() as patch:
            patch.setattr(bed.owner.inbox.users.memberships.members, "of", lambda topic: 1 / 0)
            await bed.moved("t", 1)
            await quiet(bed)
        await bed.moved("t", 2)
        assert await hints(bed) == [UserHint("ann", [HintTopic("t", 2, 2)])]


async def test_topics_that_moved_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_hints, "MAX_MOVED", 2)
    async with inbox_bed([["ann"], []]) as bed:
        await bed.joined("ann", "a", "b", "c")
        await bed.heads(*[HeadEntry(topic, 7, 1, 1) for topic in "abc"])
        (hint,) = await hints(bed)
        assert [topic.topic_id for topic in hint.topics] == ["b", "a"]
        await quiet(bed)
        await bed.moved("c", 2)
        assert await hints(bed) == [UserHint("ann", [HintTopic("c", 2, 2)])]
