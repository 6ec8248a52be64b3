"""Sends the messages of replayed dead letters, each to the one subscription that had given it up.

The owner sends the message once. For a retry it is read again, as it is then: nothing is kept here but its number.
"""

from functools import partial
from typing import Final

from headgate.core.delivery.ack_window import Failure
from headgate.core.delivery.replays import REPLAYS, Replays
from headgate.core.fanout.ack_events import AckEvents
from headgate.core.fanout.give_ups import GiveUps
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.subscription_acks import AckTools, SubscriptionAcks
from headgate.core.wire.frames import replayed_frame
from headgate.core.wire.link import Answer, Fetch, Page, Request
from headgate.core.wire.link_dead_letters import LetterDone, Redeliver, WantReplays

NOT_KEPT: Final = "retention"  # why a replay is a dead letter again: its message is kept no longer


class Replaying:
    """The replays of all subscriptions of a gateway."""

    def __init__(self, upstream: Upstream, give_ups: GiveUps, tools: AckTools, events: AckEvents) -> None:
        self._upstream = upstream
        self._give_ups = give_ups
        self._tools = tools
        self._events = events
        self._fetching: set[tuple[SubscriptionAcks, int]] = set()
        self._active: dict[SubscriptionAcks, None] = {}

    def want(self, acks: SubscriptionAcks) -> None:
        """Tells the topic's owner that the receiver of replays is here."""
        feed = acks.subscription.feed
        self._upstream.send(feed.shard, WantReplays(feed.topic_id, feed.epoch, acks.receiver))

    def take(self, acks: SubscriptionAcks, message: Redeliver) -> None:
        """Takes a message that is replayed. It is written now, or read again when the socket takes it."""
        replays = acks.replays
        if replays is None:
            replays = acks.replays = Replays(acks.window.policy)
        if replays.is_done(message.id):
            self._done(acks, message.id)  # the owner has not read it
            return
        replays.add(message.seq, message.id)
        if message.seq in replays:
            self._active[acks] = None
            self._write(acks, replays, message.seq, message.frame)

    def ack(self, acks: SubscriptionAcks, seq: int) -> bool:
        """Takes an acknowledgement; true where a message that is replayed has this number."""
        replays = acks.replays
        if replays is None or seq not in replays:
            return False
        attempts, letter_id = replays.attempts(seq), replays.ack(seq)
        if letter_id is not None:
            self._events.acked_replay(acks, seq, attempts)
            self._done(acks, letter_id)
            self._make_room(acks, replays)
        return True

    def given_up(self, acks: SubscriptionAcks, seq: int) -> None:
        """It is a dead letter again."""
        replays = acks.replays
        if replays is not None:
            replays.remove(seq)
            self._make_room(acks, replays)

    def visit(self, acks: SubscriptionAcks) -> None:
        """Does what is due for one subscription: what was not acknowledged, and what waits for its retry."""
        replays = acks.replays
        if replays is None:
            return
        now = self._tools.clock()
        for failure in replays.visit(now, self._tools.draw):
            self._events.failed(acks, failure, failure.attempts)
            if failure.given_up:
                self._give_ups.ask(acks, failure)
        if acks.may_write:
            for seq in replays.ready(now):
                self._fetch(acks, seq)

    def look(self) -> None:
        """Sends what could not be written when it was due; called about once a second.

        Who has none left asks once more: the owner sends a bounded number, and nobody was turned away where the
        subscriber acknowledged faster than they came.
        """
        for acks in list(self._active):
            if acks.replays:
                self.visit(acks)
            else:
                del self._active[acks]
                self.want(acks)

    def forget(self, acks: SubscriptionAcks) -> None:
        """The subscription ended: the owner sends what was not acknowledged to the next one."""
        self._active.pop(acks, None)

    def _write(self, acks: SubscriptionAcks, replays: Replays, seq: int, frame: bytes) -> None:
        if not acks.may_write:
            return
        attempt = replays.send(seq, self._tools.clock(), self._tools.draw)
        if attempt:
            self._events.replayed(acks, seq, frame, attempt)
            session, feed = acks.subscription.session, acks.subscription.feed
            session.put(session.framing.messages(feed.epoch, seq, [replayed_frame(frame, attempt)]))

    def _fetch(self, acks: SubscriptionAcks, seq: int) -> None:
        feed = acks.subscription.feed
        if (acks, seq) in self._fetching or not self._upstream.linked(feed.shard):
            return
        self._fetching.add((acks, seq))

        def build(req: int) -> Request:
            return Fetch(req, feed.topic_id, feed.epoch, seq - 1, 1)

        self._upstream.request(feed.shard, build, partial(self._fetched, acks, seq))

    def _fetched(self, acks: SubscriptionAcks, seq: int, answer: Answer) -> None:
        self._fetching.discard((acks, seq))
        replays = acks.replays
        if not isinstance(answer, Page) or acks.subscription.is_over or replays is None or seq not in replays:
            return
        if answer.frames and answer.seq == seq:
            self._write(acks, replays, seq, answer.frames[0])
            acks.replan()
        elif answer.first_seq > seq:
            self._give_ups.ask(
                acks, Failure(seq, replays.attempts(seq), "the message is kept no longer", True), NOT_KEPT
            )

    def _done(self, acks: SubscriptionAcks, letter_id: str) -> None:
        feed = acks.subscription.feed
        self._upstream.send(feed.shard, LetterDone(feed.topic_id, feed.epoch, letter_id))

    def _make_room(self, acks: SubscriptionAcks, replays: Replays) -> None:
        if replays.turned_away and len(replays) <= REPLAYS // 2:
            replays.turned_away = False
            self.want(acks)
