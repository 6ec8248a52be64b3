"""Asks the topics' owners to write dead letters, until each is written: only then may a cursor pass the message."""

from collections.abc import Callable
from functools import partial

from headgate.core.delivery.ack_window import Failure
from headgate.core.delivery.dead_letter_record import NO_ATTEMPTS_LEFT
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.subscription_acks import SubscriptionAcks
from headgate.core.wire.link import Answer, Request
from headgate.core.wire.link_dead_letters import GivenUp, GiveUp


class GiveUps:
    """The questions of all subscriptions; `written` is called with each that the log has."""

    def __init__(self, upstream: Upstream, written: Callable[[SubscriptionAcks, int], None]) -> None:
        self._upstream = upstream
        self._written = written
        self._asked: set[tuple[SubscriptionAcks, int]] = set()
        self._refused: dict[SubscriptionAcks, None] = {}

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

    def ask_all(self, acks: SubscriptionAcks) -> None:
        """Asks for all dead letters that a subscription waits for."""
        replayed = [] if acks.replays is None else acks.replays.giving_up()
        for failure in [*acks.window.giving_up(), *replayed]:
            self.ask(acks, failure)

    def look(self) -> None:
        """Asks again for what was refused; called about once a second."""
        refused, self._refused = self._refused, {}
        for acks in refused:
            if self._upstream.linked(acks.subscription.feed.shard):
                self.ask_all(acks)
            else:
                self._refused[acks] = None

    def forget(self, acks: SubscriptionAcks) -> None:
        """The subscription ended: the next one of the device asks again."""
        self._refused.pop(acks, None)

    def _answered(self, acks: SubscriptionAcks, seq: int, answer: Answer) -> None:
        self._asked.discard((acks, seq))
        if isinstance(answer, GivenUp):
            self._written(acks, seq)
        elif not acks.subscription.is_over:
            self._refused[acks] = None
