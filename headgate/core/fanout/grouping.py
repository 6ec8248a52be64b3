"""All members of consumer groups on a gateway: what their owners sent, what their clients answer."""

from functools import partial
from typing import Final

from headgate.core.client import outbound
from headgate.core.client.inbound import Ack, Nack
from headgate.core.client.outbound import FrameId
from headgate.core.fanout.group_member import GroupMember, MemberTools
from headgate.core.fanout.pending_subscribe import PendingSubscribe
from headgate.core.fanout.ports import Upstream
from headgate.core.fanout.session import Subscription
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Answer, Request, Subscribed
from headgate.core.wire.link_groups import (
    GroupAck,
    GroupAcked,
    GroupJoined,
    GroupMessages,
    GroupNack,
    JoinGroup,
    LeaveGroup,
)
from headgate.core.wire.link_messages import Amended

MAX_WAITING: Final = 256  # frames of a member that wait for an owner


class Grouping:
    """The members of one gateway, by topic and name."""

    def __init__(self, upstream: Upstream, tools: MemberTools) -> None:
        self._upstream = upstream
        self._tools = tools
        self._members: dict[tuple[str, str], GroupMember] = {}
        self._lost: dict[GroupMember, None] = {}  # the owner has to hear of them again

    def __len__(self) -> int:
        return len(self._members)

    # The beginning and the end

    def begin(self, subscription: Subscription, pending: PendingSubscribe, answer: Subscribed) -> None:
        """Takes a member that was granted."""
        member = GroupMember(subscription, pending.subscribe.group, answer.cursor, self._tools)
        subscription.acknowledge(member)
        self._members[member.key] = member

    def end(self, member: GroupMember) -> None:
        """A member is about to end: the others of the group get what it has in hand."""
        if self._members.get(member.key) is member:
            del self._members[member.key]
        self._lost.pop(member, None)
        feed = member.subscription.feed
        self._upstream.send(feed.shard, LeaveGroup(feed.topic_id, feed.epoch, member.group, member.name))

    # The owner

    def receive(self, message: GroupMessages) -> None:
        """Takes messages for a member."""
        member = self._members.get((message.topic_id, message.member))
        if member is not None and member.group == message.group:
            member.receive(message)

    def amend(self, message: Amended) -> None:
        """A message was redacted: it is blanked where it is held."""
        for member in self._members.values() if message.redacted else ():
            if member.subscription.feed.topic_id == message.topic_id:
                member.blank(message.seq)

    def attach(self, shard: int) -> None:
        """Announces the members of a shard's topics to its new owner."""
        for member in list(self._members.values()):
            if member.subscription.feed.shard == shard:
                self._join(member)

    def look(self) -> None:
        """Announces again whom the owner did not take; called about once a second."""
        for member in list(self._lost):
            if self._upstream.linked(member.subscription.feed.shard):
                self._join(member)

    # The client

    def ack(self, member: GroupMember, command: Ack, frame_id: FrameId) -> None:
        """Takes an acknowledgement; with an id it is answered once the log has it. Raises Refusal `not_ready`."""
        seqs = member.acknowledge(command.seq)
        if frame_id is not None and len(member.unanswered) >= MAX_WAITING:
            self._ack(member, seqs, None)
            detail = "the owner of the topic is away; the acknowledgement counts"
            raise Refusal("not_ready", detail, retry_after_ms=1_000)
        if seqs or frame_id is not None:  # what was acknowledged without an id may not be in the log yet
            self._ack(member, seqs or list(member.done), frame_id)

    def nack(self, member: GroupMember, command: Nack, frame_id: FrameId) -> None:
        """Takes a refusal of one message in hand. Raises Refusal `not_found`."""
        seq = command.seq
        if member.refuse(seq):
            feed = member.subscription.feed
            place = feed.topic_id, feed.epoch, member.group, member.name

            def build(req: int) -> Request:
                return GroupNack(req, *place, seq, command.reason)

            self._upstream.request(feed.shard, build, partial(self._answered, member, [], None))
        elif seq > member.newest:
            raise Refusal("not_found", f"message {seq} of {command.topic_id} was not sent to this subscription")
        if frame_id is not None:
            member.subscription.session.emit(outbound.ok(frame_id))

    # Private

    def _ack(self, member: GroupMember, seqs: list[int], frame_id: FrameId) -> None:
        feed = member.subscription.feed
        place = feed.topic_id, feed.epoch, member.group, member.name

        def build(req: int) -> Request:
            return GroupAck(req, *place, seqs, frame_id is not None)

        self._upstream.request(feed.shard, build, partial(self._answered, member, seqs, frame_id))

    def _answered(self, member: GroupMember, seqs: list[int], frame_id: FrameId, answer: Answer) -> None:
        if isinstance(answer, GroupAcked):
            member.confirmed(seqs)
            if frame_id is not None:
                member.subscription.session.emit(outbound.ok(frame_id))
        elif not member.subscription.is_over:
            if frame_id is not None:
                member.unanswered.append((seqs, frame_id))
            self._lost[member] = None

    def _join(self, member: GroupMember) -> None:
        feed, done = member.subscription.feed, sorted(member.done)
        place = feed.topic_id, feed.epoch, member.group, member.name

        def build(req: int) -> Request:
            return JoinGroup(req, *place, member.holds(), done, member.begin)

        self._lost.pop(member, None)
        self._upstream.request(feed.shard, build, partial(self._joined, member, done))

    def _joined(self, member: GroupMember, done: list[int], answer: Answer) -> None:
        if member.subscription.is_over:
            return
        if not isinstance(answer, GroupJoined):
            self._lost[member] = None
            return
        member.confirmed(done)
        unanswered, member.unanswered = member.unanswered, []
        for seqs, frame_id in unanswered:
            self._ack(member, seqs, frame_id)
