"""Link messages about members: fences in a topic's stream, questions about members and memberships."""

from typing import Any

from headgate.core.wire.link_struct import LinkStruct
from headgate.core.wire.rights import Caller


class Fence(LinkStruct, tag=23):
    """From here on somebody may do less in the topic: what follows is only for subscriptions authorised again.

    `user_id` is whom it concerns, "" for everybody. With `ended` his subscriptions end (`forbidden`) and nothing is
    asked. `fence` is the number of this fence in the topic, from 1 on.
    """

    topic_id: str
    epoch: int
    fence: int
    user_id: str = ""
    ended: bool = False


class Authorize(LinkStruct, tag=21):
    """Asks whether a live subscription may go on with its user's present rights. Answer: Authorized or Refused.

    `member` says that the caller was a member when he was last authorised: one who was removed since is refused.
    """

    req: int
    topic_id: str
    epoch: int
    caller: Caller
    member: bool = False


class Authorized(LinkStruct, tag=22):
    """It may. `fence` is the topic's newest fence, `member` whether the caller is a member now.

    `presence` is whether he may know who is there.
    """

    req: int
    fence: int = 0
    member: bool = False
    presence: bool = True


class TopicSettings(LinkStruct, tag=24):
    """The effective settings of a topic that the gateway hosts, or its `permissions`, have changed."""

    topic_id: str
    epoch: int
    settings: dict[str, Any]
    permissions: str = ""


class Member(LinkStruct):
    """A member of a topic; `joined_at` is Unix milliseconds."""

    user_id: str
    role: str
    joined_seq: int
    joined_at: int


class AskMember(LinkStruct, tag=42):
    """Asks for one membership of a topic. Answer: MemberAnswer or Refused."""

    req: int
    topic_id: str
    caller: Caller
    user_id: str


class MemberAnswer(LinkStruct, tag=43):
    """Answer to AskMember; `member` is None for one who is no member."""

    req: int
    epoch: int
    member: Member | None


class AskMembers(LinkStruct, tag=44):
    """Asks for the members of a topic above the user id `after`, ascending. Answer: MembersAnswer or Refused."""

    req: int
    topic_id: str
    caller: Caller
    after: str
    limit: int


class MembersAnswer(LinkStruct, tag=45):
    """Answer to AskMembers; `count` is that of all members."""

    req: int
    epoch: int
    count: int
    members: list[Member]


class AskMemberships(LinkStruct, tag=46):
    """Asks the owner of a user's shard for the user's topics above the topic id `after`, ascending.

    Answer: MembershipsAnswer or Refused.
    """

    req: int
    user_id: str
    after: str
    limit: int


class UserMembership(LinkStruct):
    """A membership as the user's shard knows it; the topic's owner may be ahead."""

    topic_id: str
    epoch: int
    role: str
    joined_seq: int
    joined_n: int
    joined_at: int


class MembershipsAnswer(LinkStruct, tag=47):
    """Answer to AskMemberships; `count` is that of all of the user's memberships."""

    req: int
    count: int
    memberships: list[UserMembership]


MemberRequest = Authorize | AskMember | AskMembers | AskMemberships
MembersReply = Authorized | MemberAnswer | MembersAnswer | MembershipsAnswer
MembersPush = Fence | TopicSettings  # of a topic's owner, to a gateway
