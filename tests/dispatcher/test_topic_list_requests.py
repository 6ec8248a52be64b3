"""dispatcher.topic_list_requests: a list that looks at very many hidden topics gives way, and comes to an end."""

import asyncio
from collections.abc import Iterator

import pytest

from dispatcher import answering
from dispatcher.topic_list_requests import SLICE_TOPICS
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link
from tests.dispatcher.bed import until
from tests.dispatcher.test_waiting_for_history import ANN, Far, Scene


def hidden_topics(count: int) -> Scene:
    """The topic `t`, which everybody may see, and others before it that nobody but bob may see."""
    scene = Scene(1)
    for n in range(count):
        topic_id = f"h{n:05d}"
        scene.owner.topics.add(topic_id, n)
        scene.owner.rows[topic_id.encode()] = Row(topic_id, n, 0, "n", "PRIVATE", "bob", 0, {})
    return scene


async def test_a_list_of_topics_that_are_hidden_gives_way_and_comes_to_an_end() -> None:
    scene = hidden_topics(3_500)
    scene.api.handle(scene.far, link.AskTopics(1, 0, ANN, "", "", 10))
    assert scene.far.sent == [], "the first step did not come to the end"
    await until(lambda: scene.far.sent)
    answer = scene.far.answer()
    assert isinstance(answer, link.TopicsAnswer)
    assert [info.topic_id for info in answer.topics] == ["t"]


async def test_of_many_long_lists_one_makes_a_step_in_a_loop_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, steps = hidden_topics(2 * SLICE_TOPICS), list[str]()
    above = scene.owner.topics.above

    def counted(after: str, prefix: str) -> Iterator[str]:
        steps.append(after)
        return above(after, prefix)

    monkeypatch.setattr(scene.owner.topics, "above", counted)
    for req in range(20):
        scene.api.handle(scene.far, link.AskTopics(req, 0, ANN, "", "", 10))
    assert len(steps) == 20
    for turn in range(1, 6):
        await asyncio.sleep(0)
        assert len(steps) == 20 + turn
    await until(lambda: len(scene.far.sent) == 20)


async def test_a_list_that_nobody_waits_for_any_longer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "ANSWER_S", -1.0)
    scene = hidden_topics(2 * SLICE_TOPICS)
    scene.api.handle(scene.far, link.AskTopics(1, 0, ANN, "", "", 10))
    await until(lambda: scene.far.sent)
    answer = scene.far.answer()
    assert isinstance(answer, link.Refused) and answer.code == "overloaded"


async def test_long_lists_end_with_the_link_and_with_the_shard() -> None:
    scene, gone = hidden_topics(2 * SLICE_TOPICS), Far()
    for peer in (gone, scene.far):
        scene.api.handle(peer, link.AskTopics(1, 0, ANN, "", "", 10))
    gone.open = False
    scene.api.close()
    assert gone.sent == []
    answer = scene.far.answer()
    assert isinstance(answer, link.Refused) and answer.code == "not_ready"
