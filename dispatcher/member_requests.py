"""Requests about members, about the memberships of a shard's users, and about the rights of live subscriptions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from dispatcher.shard import Destination, ShardOwner
from headgate.core.inbox.memberships import UserTopic
from headgate.core.sequencer.members import Membership
from headgate.core.sequencer.rows import Row
from headgate.core.wire import link_members, rights
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import topic_key
from headgate.core.wire.linkcodec import refused_with
from headgate.core.wire.member_roles import Role
from headgate.core.wire.rights import Caller

PAGE_MEMBERS: Final = 1_000  # of one answer: about a millisecond
RETRY_MS: Final = 1_000


class MemberRequests:
    """Answers them for one shard. `handlers` are by the type of the request; each raises Refusal."""

    def __init__(self, owner: ShardOwner) -> None:
        self._owner = owner
        self.handlers: Mapping[type, Callable[..., None]] = {
            link_members.Authorize: self._authorize,
            link_members.AskMember: self._member,
            link_members.AskMembers: self._members,
            link_members.AskMemberships: self._memberships,
        }

    def _row(self, topic_id: str) -> Row:
        row = self._owner.rows.get(topic_key(topic_id))
        if row is None:
            raise rights.unknown_topic(topic_id)
        return row

    def _role(self, caller: Caller, row: Row) -> Role | None:
        return self._owner.shard.role(topic_key(row.topic_id), row, caller.user_id)

    def _authorize(self, peer: Destination, ask: link_members.Authorize) -> None:
        row = self._row(ask.topic_id)
        if row.epoch != ask.epoch:
            raise rights.unknown_topic(ask.topic_id)
        role = self._role(ask.caller, row)
        rights.require(rights.may_subscribe(ask.caller, row, role), ask.caller, row, role, "subscribe to")
        if ask.member and role is None:
            raise Refusal("forbidden", f"{ask.caller.user_id} is no longer a member of topic {row.topic_id}")
        self._owner.send_open()
        presence = rights.may_know_presence(ask.caller, row, role)
        peer.send(link_members.Authorized(ask.req, row.fence, role is not None, presence))

    def _member(self, peer: Destination, ask: link_members.AskMember) -> None:
        row = self._row(ask.topic_id)
        if ask.user_id == ask.caller.user_id:
            role = self._role(ask.caller, row)
            rights.require(rights.may_inspect(ask.caller, row, role), ask.caller, row, role, "see the members of")
        else:
            self._require_admin(ask.caller, row)
        found = self._owner.shard.membership(topic_key(row.topic_id), row, ask.user_id)
        member = None if found is None else _member(ask.user_id, found)
        peer.send(link_members.MemberAnswer(ask.req, row.epoch, member))

    def _members(self, peer: Destination, ask: link_members.AskMembers) -> None:
        row = self._row(ask.topic_id)
        self._require_admin(ask.caller, row)
        key, shard = topic_key(row.topic_id), self._owner.shard
        limit = min(max(ask.limit, 0), PAGE_MEMBERS)
        page = [_member(user_id, found) for user_id, found in shard.members_above(key, row, ask.after, limit)]
        peer.send(link_members.MembersAnswer(ask.req, row.epoch, shard.member_count(key), page))

    def _memberships(self, peer: Destination, ask: link_members.AskMemberships) -> None:
        inbox = self._owner.inbox
        if not inbox.is_complete:
            if not inbox.hold(partial(self._later, peer, ask)):
                raise Refusal("not_ready", "too many wait for this shard's inbox log", retry_after_ms=RETRY_MS)
            return
        limit = min(max(ask.limit, 0), PAGE_MEMBERS)
        page = [_membership(*found) for found in inbox.users.topics_of(ask.user_id, ask.after, limit)]
        peer.send(link_members.MembershipsAnswer(ask.req, inbox.users.count(ask.user_id), page))

    def _later(self, peer: Destination, ask: link_members.AskMemberships) -> None:
        """Answers a question that waited, unless its link or the shard has gone."""
        if not peer.open:
            return
        if self._owner.closed:
            refusal = Refusal("not_ready", f"shard {self._owner.number} was given up")
            peer.send(refused_with(ask.req, refusal))
        else:
            self._memberships(peer, ask)

    def _require_admin(self, caller: Caller, row: Row) -> None:
        role = self._role(caller, row)
        rights.require(rights.may_administer(caller, row, role), caller, row, role, "see the members of")


def _member(user_id: str, found: Membership) -> link_members.Member:
    return link_members.Member(user_id, found.role, found.joined_seq, found.joined_at)


def _membership(topic_id: str, topic: UserTopic) -> link_members.UserMembership:
    return link_members.UserMembership(
        topic_id, topic.epoch, topic.role, topic.joined_seq, topic.joined_n, topic.joined_at
    )
