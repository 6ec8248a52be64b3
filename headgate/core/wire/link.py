"""Link version 2: the messages between a gateway or ingest (the client) and a dispatcher.

A link carries batches: one WebSocket message is the msgpack array of one or more of these structs, in order. Requests
have a `req`, chosen by the client and unique on its link; the answer repeats it and comes **in band**: everything that
was sent before it concerns the time before the answer, everything after it the time after. A client that reads
`Subscribed(seq=n)` will therefore get every message from n+1 on, and none below it, without asking again.
"""

from typing import Any, Final

from headgate.core.wire import (
    link_acks,
    link_dead_letters,
    link_deliveries,
    link_direct,
    link_ephemeral,
    link_events,
    link_groups,
    link_hello,
    link_inbox,
    link_members,
    link_messages,
    link_presence,
    link_stats,
    link_users,
)
from headgate.core.wire.link_struct import LinkStruct
from headgate.core.wire.position import Position
from headgate.core.wire.rights import Caller
from headgate.core.wire.verdict import Verdict

VERSION_LOW: Final = 1
VERSION_HIGH: Final = 2  # 2: members, fences, users, revocations, rates, presence
PAGE_BYTES: Final = 256 * 1024  # one page of frames: a few milliseconds of either end's loop
PAGE_COUNT: Final = 1_000


class AttachTopic(LinkStruct):
    """A topic the gateway hosts: its `epoch`, `cursor` (the last seq it has; 0 for an ephemeral one), subscribers.

    `fence` is the topic's newest fence that the gateway knows. If the owner knows a newer one, it sends that first.
    """

    topic_id: str
    epoch: int
    cursor: int
    count: int
    fence: int = 0


class Attach(LinkStruct, tag=10):
    """The gateway announces what it hosts of a shard, in chunks; `last` on the final one, which may be empty.

    At the `first` chunk the owner forgets this gateway's subscriptions in the shard. It sends the messages above each
    cursor and then live ones, `Ended` for topics that no longer exist, and answers `last` with Attached.
    """

    shard: int
    first: bool
    last: bool
    topics: list[AttachTopic]


class Attached(LinkStruct, tag=11):
    """The owner has read all chunks. `epoch` is its claim's."""

    shard: int
    epoch: int


class AskSubscribe(LinkStruct, tag=12):
    """One more subscription on this gateway. Answer: Subscribed or Refused.

    `position` is the client's, as `headgate.core.wire.position.Position` (None: live). With `create` an unknown topic
    is created if the caller may do so. `presence` is 1 where the client gets the first `presence` frame and 2 where it
    gets what changes too, 0 also where the gateway watches the topic's presence already (`link_presence`).
    With `group` it is a member of a consumer group, which is called `member` (`link_groups`); `position` is then where
    a group that is new begins.
    """

    req: int
    topic_id: str
    caller: Caller
    position: Position | None = None
    create: bool = False
    presence: int = 0
    group: str = ""
    member: str = ""


class Subscribed(LinkStruct, tag=13):
    """The subscription exists: it begins above `cursor`; live messages are above `seq`.

    `first_seq` is the oldest seq kept (0 in an ephemeral topic). `resumed` is None where no position was given. A
    `cursor` above the position that was asked for, with reason `expired`, is a gap from position+1 to `cursor`.
    `settings` are the topic's effective settings.
    `fence` is the topic's newest fence; `member` is whether the caller is a member. `users` is how many different users
    there are, the caller included; -1 where presence is off or not for him, None from an owner that does not count.
    `group` is the one that was joined, and `cursor` then where it is. `heat` is as in `link_inbox.TopicHeat`.
    """

    req: int
    topic_id: str
    epoch: int
    seq: int
    first_seq: int
    cursor: int
    count: int
    resumed: bool | None
    reason: str | None
    settings: dict[str, Any]
    fence: int = 0
    member: bool = False
    users: int | None = None
    group: str = ""
    heat: str = "direct"


class Leave(LinkStruct, tag=14):
    """`count` subscriptions of this gateway to the topic ended. No answer."""

    topic_id: str
    epoch: int
    count: int = 1


class Fetch(LinkStruct, tag=15):
    """Frames above `after_seq`, for one parked session. Answer: Page or Refused."""

    req: int
    topic_id: str
    epoch: int
    after_seq: int
    max_count: int = PAGE_COUNT
    max_bytes: int = PAGE_BYTES


class Page(LinkStruct, tag=16):
    """Frames with consecutive seqs from `seq` on; `first_seq` is the oldest kept now.

    `seq` above `after_seq`+1 means that the messages between are no longer kept. No frames: nothing above `after_seq`.
    """

    req: int
    topic_id: str
    epoch: int
    first_seq: int
    seq: int
    ts: list[int]
    frames: list[bytes]


class Messages(LinkStruct, tag=17):
    """Live messages of a durable topic, once a gateway: consecutive seqs from `seq` on; `ts` are their append times.

    `traces` are the `traceparent` of the traced ones among them, by seq.
    """

    topic_id: str
    epoch: int
    seq: int
    ts: list[int]
    frames: list[bytes]
    traces: dict[int, bytes] | None = None


class EphemeralMessages(LinkStruct, tag=18):
    """Live messages of an ephemeral topic; `ts` are the owner's times."""

    topic_id: str
    epoch: int
    ts: list[int]
    frames: list[bytes]


class Ended(LinkStruct, tag=19):
    """The topic's subscriptions on this gateway have ended; `reason` is `deleted`."""

    topic_id: str
    epoch: int
    reason: str


class Changed(LinkStruct, tag=20):
    """The topic has changed: an ingest drops it from its cache; with `user_id` only the role of that user."""

    topic_id: str
    user_id: str = ""


class AskTopic(LinkStruct, tag=30):
    """Asks for one topic as the caller may see it. Answer: TopicAnswer or Refused."""

    req: int
    topic_id: str
    caller: Caller


class TopicInfo(LinkStruct):
    """A topic as its owner describes it; `settings` are effective, `created_at` Unix milliseconds."""

    topic_id: str
    epoch: int
    seq: int
    name: str
    permissions: str
    owner_id: str
    created_at: int
    subscriber_count: int
    member_count: int
    mode: str
    settings: dict[str, Any]
    version: int = 0

    @property
    def profile(self) -> str:
        """The setting `profile`: `durable` or `ephemeral`."""
        profile: str = self.settings.get("profile", "durable")
        return profile

    @property
    def is_ephemeral(self) -> bool:
        """Whether the topic's messages never touch the log."""
        return self.settings.get("profile") == "ephemeral"


class TopicAnswer(LinkStruct, tag=31):
    """Answer to AskTopic; `role` is that of the caller, "" for one who is no member.

    `logic` is the meaning of control records in the topic's shard (`headgate.core.wire.control.LOGIC`).
    """

    req: int
    info: TopicInfo
    role: str = ""
    logic: int = 1


class AskTopics(LinkStruct, tag=32):
    """Asks one shard for the topics the caller may see: ids that begin with `prefix`, above `after`, ascending."""

    req: int
    shard: int
    caller: Caller
    prefix: str
    after: str
    limit: int


class TopicsAnswer(LinkStruct, tag=33):
    """Answer to AskTopics."""

    req: int
    topics: list[TopicInfo]


class AskCount(LinkStruct, tag=34):
    """Asks how many subscriptions each topic of one shard has now. Answer: Counts, in the same order."""

    req: int
    shard: int
    topic_ids: list[str]


class Counts(LinkStruct, tag=35):
    """Answer to AskCount."""

    req: int
    counts: list[int]


class AskVerdict(LinkStruct, tag=36):
    """Asks for the verdicts about a record; answered once the owner has applied it. Answer: Verdicts or Refused.

    The answer lists the record's verdicts: one for a message or control record, one an item for a bundle.
    """

    req: int
    shard: int
    offset: int


class Verdicts(LinkStruct, tag=37):
    """Answer to AskVerdict."""

    req: int
    verdicts: list[Verdict]


class AskHistory(LinkStruct, tag=38):
    """Asks for a page of history; the fields are the query's (docs/protocol.md, section 2), -1 where not given.

    `kinds` is `message` where events are left out, `parent_id` the message whose replies are wanted, b"" for any. Of
    such a page the seqs do not follow each other.
    """

    req: int
    topic_id: str
    caller: Caller
    after_seq: int
    before_seq: int
    since_ts: int
    limit: int
    kinds: str = ""
    parent_id: bytes = b""


class HistoryPage(LinkStruct, tag=39):
    """Answer to AskHistory: frames ascending in seq; `first_seq` and `last_seq` are of all that the topic keeps.

    `edge` is for a page with `kinds` or `parent_id` that ended at a bound of the owner before its limit: the seq up to
    which it looked. Ask for the rest with `after_seq` = `edge`, or, where the newest were asked for, with `before_seq`
    = `edge` (these frames come before). 0: the page is whole.
    """

    req: int
    epoch: int
    first_seq: int
    last_seq: int
    complete: bool
    frames: list[bytes]
    edge: int = 0


class Refused(LinkStruct, tag=50):
    """A request was refused with one of the protocol's codes; `extra` are further members of the answer.

    A dispatcher that does not own the shard answers `not_ready`: the client reads its owner map and asks again.
    """

    req: int
    code: str
    detail: str
    extra: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it


FromOwner = link_users.FromOwner | link_acks.CursorQuestion
FromAnyDispatcher = link_users.FromAnyDispatcher | link_stats.Numbered
Request = (
    AskSubscribe | Fetch | AskTopic | AskTopics | AskCount | AskVerdict | AskHistory | link_ephemeral.Relay
    | link_members.MemberRequest | link_messages.MessageRequest | link_presence.PresenceRequest | link_users.UserRequest
    | link_direct.DirectRequest | link_deliveries.DeliveryRequest
    | link_acks.CursorRequest | link_dead_letters.DeadLetterRequest | link_stats.StatsRequest
    | link_groups.GroupRequest | link_inbox.InboxRequest
)  # fmt: skip
Answer = (
    Subscribed | Page | TopicAnswer | TopicsAnswer | Counts | Verdicts | HistoryPage | link_ephemeral.Relayed | Refused
    | link_members.MembersReply | link_messages.MessageReply | link_presence.PresenceReply | link_users.UserReply
    | link_direct.DirectReply | link_deliveries.DeliveryReply
    | link_acks.CursorReply | link_dead_letters.DeadLetterReply | link_stats.StatsReply | link_groups.GroupReply
    | link_inbox.InboxReply
)  # fmt: skip
Message = (
    Request | Answer | link_hello.Greeting | Attach | Attached | Leave | Messages | EphemeralMessages
    | Ended | Changed | FromOwner | FromAnyDispatcher
    | link_members.MembersPush | link_messages.MessagePush | link_users.UserAnnouncement | link_users.Throttled
    | link_presence.PresenceAnnouncement | link_presence.PresencePush
    | link_deliveries.DeliveryPush | link_dead_letters.DeadLetterNews | link_dead_letters.DeadLetterPush
    | link_acks.CursorAnnouncement | link_acks.SubscriptionReplaced
    | link_events.EventAnnouncement
    | link_stats.StatsReport | link_stats.StatsPush
    | link_groups.GroupAnnouncement | link_groups.GroupPush
    | link_inbox.InboxReport | link_inbox.InboxPush | link_inbox.InboxNews
)  # fmt: skip
SinceVersion2 = (
    link_members.AskMember | link_members.AskMembers | link_members.AskMemberships
    | link_messages.AskMessage | link_users.UserAnnouncement | link_users.UserRequest | link_users.UserReply
    | link_presence.PresenceAnnouncement | link_presence.PresenceRequest
    | link_direct.DirectRequest | link_deliveries.DeliveryRequest | link_deliveries.ForgetDeliveries
    | link_acks.CursorRequest | link_acks.CursorAnnouncement
    | link_dead_letters.DeadLetterRequest | link_dead_letters.DeadLetterNews
    | link_events.EventAnnouncement
    | link_stats.StatsRequest | link_stats.StatsReport
    | link_groups.GroupRequest | link_groups.GroupAnnouncement
    | link_inbox.InboxRequest | link_inbox.InboxReport
)  # fmt: skip
