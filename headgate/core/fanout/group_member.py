"""A member of a consumer group: a subscription that is never in step. The topic's owner sends what is for it alone.

The gateway only passes on: messages to the socket, acknowledgements and refusals to the owner.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from headgate.core.client import outbound
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.feed import Piece
from headgate.core.fanout.ports import GatewayMetrics
from headgate.core.fanout.session import Subscription
from headgate.core.fanout.topic_counts import GatewayCounts
from headgate.core.wire.amended_frames import is_edit_of, redacted_frame
from headgate.core.wire.link_groups import GroupMessages

MAX_DONE: Final = 4_096  # acknowledged messages that no owner has confirmed; beyond it the oldest may come again

_EDIT: Final = b',"kind":"edit",'  # a payload may hold it as well


class MemberTools(NamedTuple):
    """What all members of a gateway share; `wall_ms` returns the time of the call in Unix milliseconds."""

    metrics: GatewayMetrics
    counts: GatewayCounts
    wall_ms: Callable[[], int]


class GroupMember:
    """What a member has in hand, in the order of writing; `headgate.core.fanout.ports.Acks`.

    `done` are messages that were acknowledged and not confirmed by an owner, `unanswered` are frames with an id that
    wait for one, with what they acknowledged. `is_joined` is False while a new owner has not heard of it.
    """

    __slots__ = (
        "_held",
        "_tools",
        "begin",
        "done",
        "group",
        "in_hand",
        "is_joined",
        "newest",
        "subscription",
        "unanswered",
    )

    def __init__(self, subscription: Subscription, group: str, begin: int, tools: MemberTools) -> None:
        self.subscription = subscription
        self.group = group
        self.begin = begin
        self.in_hand: dict[int, None] = {}
        self.done: dict[int, None] = {}
        self.unanswered: list[tuple[list[int], FrameId]] = []
        self.is_joined = True
        self.newest = 0
        self._held: list[GroupMessages] = []
        self._tools = tools

    @property
    def name(self) -> str:
        """What the owner calls it."""
        return self.subscription.session.connection_id

    @property
    def key(self) -> tuple[str, str]:
        """The topic and the name."""
        return self.subscription.feed.topic_id, self.name

    def holds(self) -> list[int]:
        """Returns the messages that the owner sent and that are not acknowledged, ascending."""
        return sorted({*self.in_hand, *(seq for message in self._held for seq in message.seqs)})

    # As a subscription out of step

    place = -1
    is_plain = False

    def may_send(self) -> bool:
        """Writes what was held; nothing of the feed is ever sent."""
        while self._held and self._may_write:
            self._write(self._held.pop(0))
        return False

    def take(self, piece: Piece) -> list[bytes]:
        """Takes nothing of the feed."""
        return []

    def take_back(self, seq: int) -> None:
        """Nothing of the feed was written to it."""

    def lose(self, seq: int) -> None:
        """What the feed has lost was not for it."""

    # Messages and answers

    def receive(self, message: GroupMessages) -> None:
        """Writes messages, or holds them while the socket is full or its user's right is not certain."""
        if self._held or not self._may_write:
            self._held.append(message)  # at most what the owner lets a member have in hand
        else:
            self._write(message)

    def blank(self, seq: int) -> None:
        """A message was redacted: it and its edits are blanked where they are held."""
        for message in self._held:
            for at, frame in enumerate(message.frames):
                if message.seqs[at] == seq or (_EDIT in frame and is_edit_of(frame, seq)):
                    message.frames[at] = redacted_frame(frame)

    def acknowledge(self, seq: int) -> list[int]:
        """Returns what an acknowledgement is for: the message, and those with a lower number written before it."""
        if seq not in self.in_hand:
            return []
        found = []
        for each in self.in_hand:
            if each <= seq:
                found.append(each)
            if each == seq:
                break
        for each in found:
            del self.in_hand[each]
            self.done[each] = None
        while len(self.done) > MAX_DONE:
            del self.done[next(iter(self.done))]
        return found

    def refuse(self, seq: int) -> bool:
        """Returns whether a message was in hand; it is not any longer."""
        if seq not in self.in_hand:
            return False
        del self.in_hand[seq]
        return True

    def confirmed(self, seqs: list[int]) -> None:
        """The owner has these acknowledgements."""
        for seq in seqs:
            self.done.pop(seq, None)

    @property
    def _may_write(self) -> bool:
        subscription, session = self.subscription, self.subscription.session
        return not (subscription.is_over or subscription.is_fenced or session.paused or session.closed)

    def _write(self, message: GroupMessages) -> None:
        feed, session = self.subscription.feed, self.subscription.session
        if message.lost[1]:
            first, last = message.lost
            self._tools.metrics.gap("retention", last - first + 1, missed=True)
            session.emit(outbound.gap(feed.topic_id, feed.epoch, first, last, reason="retention", recoverable=False))
        if message.frames:
            for seq in message.seqs:
                self.in_hand.pop(seq, None)
                self.in_hand[seq] = None
                self.done.pop(seq, None)
            self.newest = max(self.newest, *message.seqs)
            self._count(message)
            session.put(session.framing.messages(feed.epoch, message.seqs[0], message.frames))
        if message.caught_up or message.is_empty:
            session.emit(outbound.caught_up(feed.topic_id, message.caught_up))

    def _count(self, message: GroupMessages) -> None:
        feed, wall_ms = self.subscription.feed, self._tools.wall_ms()
        self._tools.metrics.delivered(feed.profile, len(message.frames), max((wall_ms - message.ts[0]) / 1000, 0.0))
        if message.again:
            self._tools.metrics.redelivered(message.again)
        self._tools.counts.delivered(feed, message.ts[message.again :], 1, wall_ms)
        if feed.counts is not None:
            for seq in message.seqs:
                feed.counts.wrote(seq, seq)
