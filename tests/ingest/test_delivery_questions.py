"""ingest.delivery_questions: owners are told before, asked afterwards; whatever they do, a publish is not held up."""

import pytest

from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_deliveries import AskDelivered, ExpectDeliveries
from ingest.admission import Publish
from ingest.delivery_questions import EXPECT_S, SLACK_S
from tests.ingest.parts import Parts, play, publish


def test_each_topic_s_owner_is_told_once_and_asked_for_each_message() -> None:
    async def scene(parts: Parts) -> None:
        t, u = await parts.topic("t"), await parts.topic("u")
        publishes: list[Publish | Refusal] = [publish(t, b"1"), publish(u, b"2"), publish(t, b"3")]
        publishes.append(Refusal("bad_request", "an item of the batch"))
        await parts.deliveries.expect(publishes)
        assert [len(ask.ids) for ask in parts.asked(ExpectDeliveries)] == [2, 1]
        parts.owner.delivered = 4
        for one in publishes[:3]:
            assert isinstance(one, Publish) and one.is_counted
            assert await parts.deliveries.count(one, 0.25) == 4
        assert [ask.wait_ms for ask in parts.asked(AskDelivered)] == [250] * 3
        parts.deliveries.forget(publishes)
        assert not parts.owner.expected

    play(scene)


@pytest.mark.parametrize("away", [True, False])
def test_without_an_owner_nobody_can_say(away: bool) -> None:
    async def scene(parts: Parts) -> None:
        one = publish(await parts.topic("t"))
        parts.directory.up, parts.directory.mute = not away, not away
        begun = parts.clock.now()
        await parts.deliveries.expect([one])
        assert parts.clock.now() - begun == (0 if away else pytest.approx(EXPECT_S))
        assert not one.is_counted
        assert await parts.deliveries.count(one, 5) is None
        parts.deliveries.forget([one])
        assert parts.asked(AskDelivered) == []

    play(scene)


def test_an_owner_that_stops_answering_or_does_not_know_the_message() -> None:
    async def scene(parts: Parts) -> None:
        one = publish(await parts.topic("t"))
        await parts.deliveries.expect([one])
        parts.owner.expected.clear()
        assert await parts.deliveries.count(one, 1) is None
        parts.directory.mute = True
        begun = parts.clock.now()
        assert await parts.deliveries.count(one, 1) is None
        assert parts.clock.now() - begun == pytest.approx(1 + SLACK_S)
        parts.directory.up = False
        assert await parts.deliveries.count(one, 1) is None

    play(scene)
