"""Questions that this node asks gateways about a user: each waits a bounded time for the answers of all it asks."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from dispatcher.shard import Destination
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link_acks import ReplaceSubscription, SubscriptionReplaced
from headgate.core.wire.link_users import AskConnections, ConnectionsAnswer, EndSubscriptions, SubscriptionsEnded

ANSWER_S: Final = 2.0
MAX_OPEN: Final = 10_000  # questions without all answers: about 10 MB

UserQuestion = EndSubscriptions | AskConnections | ReplaceSubscription
UserAnswer = SubscriptionsEnded | ConnectionsAnswer | SubscriptionReplaced
Done = Callable[[list[UserAnswer], bool], None]


class _Question:
    def __init__(self, missing: set[Destination], done: Done, timer: asyncio.TimerHandle) -> None:
        self.missing = missing
        self.done = done
        self.timer = timer
        self.answers: list[UserAnswer] = []
        self.lost = False  # a gateway is gone: nobody knows what it would have answered


class UserQuestions:
    """The open questions of one node, of all its shards."""

    def __init__(self) -> None:
        self._open: dict[int, _Question] = {}
        self._next_req = 1

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, gateways: Iterable[Destination], build: Callable[[int], UserQuestion], done: Done) -> None:
        """Asks the gateways. Calls `done` once, with the answers and whether all of them answered in time.

        Raises Refusal `not_ready` when too many questions are open.
        """
        missing = set(gateways)
        if not missing:
            done([], True)
            return
        if len(self._open) >= MAX_OPEN:
            raise Refusal("not_ready", "too many questions to gateways are open", retry_after_ms=1_000)
        req = self._next_req
        self._next_req += 1
        timer = asyncio.get_running_loop().call_later(ANSWER_S, self._end, req)
        self._open[req] = _Question(missing, done, timer)
        question = build(req)
        for gateway in missing.copy():
            gateway.send(question)

    def answered(self, gateway: Destination, answer: UserAnswer) -> None:
        """Takes an answer; one that is late, or was not asked for, is dropped."""
        question = self._open.get(answer.req)
        if question is None or gateway not in question.missing:
            return
        question.missing.discard(gateway)
        question.answers.append(answer)
        if not question.missing:
            self._end(answer.req)

    def left(self, gateway: Destination) -> None:
        """A gateway has closed its link: nobody waits for it any longer."""
        for req, question in list(self._open.items()):
            if gateway in question.missing:
                question.missing.discard(gateway)
                question.lost = True
                if not question.missing:
                    self._end(req)

    def _end(self, req: int) -> None:
        question = self._open.pop(req)
        question.timer.cancel()
        question.done(question.answers, not question.missing and not question.lost)
