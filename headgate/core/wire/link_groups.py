"""Link messages about consumer groups: the owner of a topic shares its messages among the members of a group.

A member is one subscription of a gateway, named by its connection. It joins with `link.AskSubscribe` (`group`,
`member`) and is announced to a new owner by JoinGroup. How far a group has come is a cursor in the inbox log of the
topic's own shard, of a user that nobody can be (`group_user`). Everything else is soft.
"""

from typing import Final

from headgate.core.wire.link_struct import LinkStruct

GROUP_WINDOW: Final = 1_024  # numbers that a group is ahead of its cursor, whatever its members are
MEMBER_WINDOW: Final = 256  # messages that a member has in hand
MEMBER_BYTES: Final = 1024 * 1024  # of the same; one message more may be on top
GROUP_DEVICE: Final = "\x01"  # the device of a group's cursor; no device of a client has it


class JoinGroup(LinkStruct, tag=150):
    """The gateway announces a member to a new owner. Answer: GroupJoined or Refused.

    `held` are the messages in its hand, `done` those that it acknowledged and the owner before did not confirm; both
    at most about MEMBER_WINDOW. `begin` is the cursor that the group had when the member joined.
    """

    req: int
    topic_id: str
    epoch: int
    group: str
    member: str
    held: list[int]
    done: list[int]
    begin: int


class GroupJoined(LinkStruct, tag=151):
    """Answer to JoinGroup: the owner sends the member its messages, and does not send those that it holds."""

    req: int


class GroupMessages(LinkStruct, tag=152):
    """Messages for one member: `seqs` ascend but for what comes again, `again` are how many of them do.

    `frames` are as the client gets them, with their `attempt`. `lost` is (from, to) of messages that the topic keeps no
    longer, (0, 0) for none; the gap comes before the frames. `caught_up` above 0: what the group had to make up for
    when this member joined is handed out up to this number; that comes behind the frames. `is_empty`: the same, and
    the topic has no message.
    """

    topic_id: str
    epoch: int
    group: str
    member: str
    seqs: list[int]
    ts: list[int]
    frames: list[bytes]
    again: int = 0
    lost: tuple[int, int] = (0, 0)
    caught_up: int = 0
    is_empty: bool = False


class GroupAck(LinkStruct, tag=153):
    """A member acknowledged these. Answer: Refused or GroupAcked, with `stored` once the log has the cursor."""

    req: int
    topic_id: str
    epoch: int
    group: str
    member: str
    seqs: list[int]
    stored: bool = False


class GroupAcked(LinkStruct, tag=154):
    """Answer to GroupAck and GroupNack."""

    req: int


class GroupNack(LinkStruct, tag=155):
    """A member refused a message. Answer: GroupAcked or Refused."""

    req: int
    topic_id: str
    epoch: int
    group: str
    member: str
    seq: int
    reason: str


class LeaveGroup(LinkStruct, tag=156):
    """A member is gone: the others get what it held. No answer. Its `link.Leave` is a message of its own."""

    topic_id: str
    epoch: int
    group: str
    member: str


def group_user(group: str) -> str:
    """Returns whose a group's cursor is; no user's id begins so."""
    return GROUP_DEVICE + group


GroupRequest = JoinGroup | GroupAck | GroupNack
GroupReply = GroupJoined | GroupAcked
GroupAnnouncement = LeaveGroup  # of a gateway, to the topic's owner
GroupPush = GroupMessages  # of the topic's owner, to a gateway
