"""Asks the topics' owners to write dead letters, until each is written: only then may a cursor pass the message."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

from headgate.core.delivery.ack_window import Failure
from headgate.core.delivery.dead_letter_record import NO_ATTEMPTS_LEFT
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.subscription_acks import SubscriptionAcks
from headgate.core.wire.link import Answer, Request
from headgate.core.wire.link_dead_letters import GivenUp, GiveUp

ASKED_AGAIN: Final = 2_000  # a second, and those of one subscription: 20 ms of the gateway's loop


class GiveUps:
    """The questions of all subscriptions; `written` is called with each that the log has.

    What is refused is asked again at a bounded rate: while the log is away every window may fill with such messages.
    """

    def __init__(self, upstream: Upstream, written: Callable[[SubscriptionAcks, int], None]) -> None:
        self._upstream = upstream
        self._written = written
        self._asked: set[tuple[SubscriptionAcks, int]] = set()
        self._refused: OrderedDict[SubscriptionAcks, None] = OrderedDict()

    def ask(self, acks: SubscriptionAcks, failure: Failure, reason: str = NO_ATTEMPTS_LEFT) -> None:
        """Asks for one dead letter, unless that was done and is not answered yet."""
        question = (acks, failure.seq)
        if question in self._asked:
            return
        self._asked.add(question)
        feed = acks.subscription.feed

        def build(req: int) -> Request:
            return GiveUp(
                req, feed.topic_id, feed.epoch, failure.seq, acks.receiver, failure.attempts, reason, failure.error
            )

        self._upstream.request(feed.shard, build, partial(self._answered, acks, failure.seq))

    def ask_all(self, acks: SubscriptionAcks) -> int:
        """Asks for all dead letters that a subscription waits for; returns their number."""
        replayed = [] if acks.replays is None else acks.replays.giving_up()
        waiting = [*acks.window.giving_up(), *replayed]
        for failure in waiting:
            self.ask(acks, failure)
        return len(waiting)

    def look(self) -> None:
        """Asks again for what was refused, those first that wait longest; called about once a second."""
        room = ASKED_AGAIN
        for _ in range(len(self._refused)):
            acks, _ = self._refused.popitem(last=False)
            if not self._upstream.linked(acks.subscription.feed.shard):
                self._refused[acks] = None
                continue
            room -= self.ask_all(acks)
            if room <= 0:
                return

    def forget(self, acks: SubscriptionAcks) -> None:
        """The subscription ended: the next one of the device asks again."""
        self._refused.pop(acks, None)

    def _answered(self, acks: SubscriptionAcks, seq: int, answer: Answer) -> None:
        self._asked.discard((acks, seq))
        if isinstance(answer, GivenUp):
            self._written(acks, seq)
        elif not acks.subscription.is_over:
            self._refused[acks] = None
