"""A question to several gateways is answered once: with all answers, or with what came in time."""

import asyncio

import pytest

from dispatcher import user_questions
from dispatcher.user_questions import UserAnswer, UserQuestions
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_users import EndSubscriptions, SubscriptionsEnded
from tests.dispatcher.members_bed import Far


class Asked:
    """A question to gateways, and what it ended with."""

    def __init__(self, questions: UserQuestions, *gateways: Far) -> None:
        self.ends: list[tuple[list[int], bool]] = []
        questions.ask(gateways, lambda req: EndSubscriptions(req, "ann", "a"), self.done)

    def done(self, answers: list[UserAnswer], complete: bool) -> None:
        self.ends.append(([answer.count for answer in answers if isinstance(answer, SubscriptionsEnded)], complete))


async def test_it_is_over_with_the_last_answer() -> None:
    questions, one, two = UserQuestions(), Far(), Far()
    asked = Asked(questions, one, two)
    (req,) = {getattr(message, "req", 0) for message in one.sent + two.sent}
    questions.answered(two, SubscriptionsEnded(req, 2))
    questions.answered(two, SubscriptionsEnded(req, 9))  # a second answer counts for nothing
    questions.answered(Far(), SubscriptionsEnded(req, 9))
    questions.answered(one, SubscriptionsEnded(req + 1, 9))
    assert asked.ends == []
    questions.answered(one, SubscriptionsEnded(req, 3))
    assert asked.ends == [([2, 3], True)] and len(questions) == 0
    questions.answered(one, SubscriptionsEnded(req, 3))
    assert len(asked.ends) == 1


async def test_nobody_to_ask_is_answered_at_once() -> None:
    assert Asked(UserQuestions()).ends == [([], True)]


async def test_a_gateway_that_does_not_answer_is_not_waited_for_longer_than_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_questions, "ANSWER_S", 0.05)
    questions, one, two = UserQuestions(), Far(), Far()
    asked = Asked(questions, one, two)
    questions.answered(one, SubscriptionsEnded(1, 1))
    async with asyncio.timeout(5):
        while not asked.ends:
            await asyncio.sleep(0.01)
    assert asked.ends == [([1], False)] and len(questions) == 0
    questions.answered(two, SubscriptionsEnded(1, 1))
    assert len(asked.ends) == 1


@pytest.mark.parametrize("order", ["leaves last", "leaves first"])
async def test_a_gateway_that_leaves_is_not_waited_for_and_the_answer_says_so(order: str) -> None:
    questions, one, two = UserQuestions(), Far(), Far()
    asked, other = Asked(questions, one, two), Asked(questions, one)
    if order == "leaves first":
        questions.left(two)
    questions.answered(one, SubscriptionsEnded(1, 1))
    questions.left(two)
    assert asked.ends == [([1], False)] and other.ends == []
    questions.answered(one, SubscriptionsEnded(2, 7))
    assert other.ends == [([7], True)]


async def test_open_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_questions, "MAX_OPEN", 2)
    questions, one = UserQuestions(), Far()
    asked = [Asked(questions, one) for _ in range(2)]
    with pytest.raises(Refusal) as refused:
        Asked(questions, one)
    assert refused.value.code == "not_ready" and len(one.sent) == 2
    questions.answered(one, SubscriptionsEnded(1, 0))
    asked.append(Asked(questions, one))
    assert asked[0].ends == [([0], True)]
    questions.left(one)
