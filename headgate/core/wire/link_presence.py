"""Link messages about presence and typing: a topic's owner knows its users on all gateways. All of it is soft state.

A gateway announces the users of the topics that it hosts to a shard's new owner (AttachPresence) and then who changed
(PresenceChanged). What it says of a user is absolute, so that a message more or less does no harm.
"""

from headgate.core.wire.link_struct import LinkStruct
from headgate.core.wire.rights import Caller


class UserPresence(LinkStruct):
    """A user of a topic: his connections that follow it, since when (Unix milliseconds), whether all are away.

    From a gateway they are those of that gateway, and 0 says that there are none any longer; from the owner they are
    those of all gateways.
    """

    user_id: str
    connections: int
    since: int
    away: bool = False


class TopicUsers(LinkStruct):
    """Users of one topic on a gateway. With `whole` the owner first forgets all others of this gateway in the topic.

    With `watch` the gateway is told what changes (PresenceState, then PresenceMoved) while it hosts the topic.
    """

    topic_id: str
    epoch: int
    users: list[UserPresence]
    watch: bool = False
    whole: bool = False


class AttachPresence(LinkStruct, tag=90):
    """The gateway announces the users of all its topics of a shard, in chunks; `last` on the final one.

    Who was known of this gateway, and is announced by no chunk, is forgotten at the `last`. No answer.
    """

    shard: int
    first: bool
    last: bool
    topics: list[TopicUsers]


class PresenceChanged(LinkStruct, tag=91):
    """Users of topics of one shard came, went, or have other connections or another state. No answer."""

    shard: int
    topics: list[TopicUsers]


class PresenceState(LinkStruct, tag=92):
    """The owner tells a watching gateway how a topic's presence is: the setting, the count, the users that are listed.

    `users` is empty in mode `count` and holds at most `limits.subscribers_listed`; `count` is that of all.
    """

    topic_id: str
    epoch: int
    mode: str
    count: int
    users: list[UserPresence]


class PresenceMoved(LinkStruct, tag=93):
    """What changed since the PresenceState or PresenceMoved before: users listed anew or otherwise, users not listed.

    In mode `count` there is only the count.
    """

    topic_id: str
    epoch: int
    count: int
    users: list[UserPresence]
    left: list[str]


class AskPresence(LinkStruct, tag=94):
    """Asks for the listed users of a topic above the user id `after`, ascending, and for the count.

    Answer: PresenceAnswer or Refused.
    """

    req: int
    topic_id: str
    caller: Caller
    after: str
    limit: int


class PresenceAnswer(LinkStruct, tag=95):
    """Answer to AskPresence; nobody is listed in mode `count`, and in mode `none` the count is 0 too."""

    req: int
    count: int
    users: list[UserPresence]


class Typing(LinkStruct, tag=96):
    """A user types in a topic that he follows. Answer: TypingTaken or Refused."""

    req: int
    topic_id: str
    epoch: int
    caller: Caller


class TypingTaken(LinkStruct, tag=97):
    """Answer to Typing, also where it was merged with an earlier one."""

    req: int


class Typed(LinkStruct, tag=98):
    """The owner tells the gateways that host a topic who types in it. No answer."""

    topic_id: str
    epoch: int
    user_id: str


PresenceAnnouncement = AttachPresence | PresenceChanged  # of a gateway, to the owner of a topic's shard
PresenceRequest = AskPresence | Typing
PresenceReply = PresenceAnswer | TypingTaken
PresencePush = PresenceState | PresenceMoved | Typed  # of a topic's owner, to a gateway
