"""The JSON bodies of answers, as types (docs/protocol.md, section 2). Handlers write them; the vectors check them."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.runtime.api.server_frames import MessageFrame
from headgate.runtime.api.value_types import (
    AttachmentItem,
    ClientMsgIdText,
    Count,
    DeviceIdText,
    Epoch,
    MessageIdText,
    NameText,
    NextPage,
    PermissionsName,
    PresentUser,
    RoleName,
    Seq,
    Timestamp,
    TopicIdText,
    UserIdText,
    Version,
)


class ProblemDetails(msgspec.Struct, omit_defaults=True):
    """A refusal (RFC 9457). `code` is one of the protocol's; further members may follow."""

    type: str
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    code: str
    retryable: bool


class CreatedTopic(msgspec.Struct):
    """A topic as the answer to its creation shows it; `settings` are those in effect."""

    topic_id: TopicIdText
    name: NameText
    permissions: PermissionsName
    owner_id: UserIdText
    created_at: Timestamp
    settings: dict[str, Any]
    epoch: Epoch


class TopicDetails(CreatedTopic, kw_only=True):
    """A topic. `subscriber_count` counts subscriptions; `seq` is the newest message, 0 for none."""

    subscriber_count: Count
    member_count: Count
    seq: Seq
    mode: Literal["direct", "inbox"]


class TopicStatsAnswer(msgspec.Struct):
    """What happened to a topic's messages since it was made, as far as gateways and ingests have reported.

    `latency_ms_avg` is over all deliveries, from the record's append time to the write; 0 without one.
    """

    published: Count
    delivered: Count
    failed: Count
    rejected: Count
    dead_lettered: Count
    retried: Count
    queue_length: Count
    subscriber_count: Count
    latency_ms_avg: Annotated[float, Meta(ge=0)]


class TopicFlushedAnswer(msgspec.Struct):
    """So many gateways were told to write what the topic's strategy holds."""

    topic_id: TopicIdText
    gateways: Count


class TopicPage(msgspec.Struct):
    """Topics that the caller may see, ascending by id."""

    topics: list[TopicDetails]
    next_page: NextPage


class PublishAnswer(msgspec.Struct, omit_defaults=True):
    """A message was accepted. `delivered_to` counts subscriptions, on the basis that is named."""

    message_id: MessageIdText
    client_msg_id: ClientMsgIdText
    topic_id: TopicIdText
    delivered_to: Count
    delivered_to_basis: Literal["registry", "delivered", "unknown"]
    dropped: bool | Literal["backpressure"]
    duplicate: bool | UnsetType = UNSET
    seq: Seq | UnsetType = UNSET
    epoch: Epoch | UnsetType = UNSET


class BatchAnswer(msgspec.Struct):
    """One result an item, in order: the publish answer or the problem, each with its `status`."""

    results: list[dict[str, Any]]


class HistoryAnswer(msgspec.Struct):
    """A page of messages, ascending in `seq`; `first_seq` and `last_seq` are of all that the topic keeps."""

    messages: list[MessageFrame]
    epoch: Epoch
    first_seq: Seq
    last_seq: Seq
    complete: bool


class MessageEdition(msgspec.Struct, omit_defaults=True):
    """A payload that a message has or had; null after a redaction."""

    version: Version
    payload: Any
    edited_at: Timestamp | UnsetType | None = UNSET


class MessageAnswerBody(MessageFrame, tag="message", kw_only=True):
    """A message as it is now. `versions` where they were asked for; `event_seq` where this request edited it."""

    versions: list[MessageEdition] | UnsetType = UNSET
    event_seq: Seq | UnsetType = UNSET


class MembershipAnswer(msgspec.Struct):
    """A membership; `joined_seq` is the topic's `seq` when the user joined."""

    topic_id: TopicIdText
    user_id: UserIdText
    role: RoleName
    joined_seq: Seq
    joined_at: Timestamp


class MemberItem(msgspec.Struct):
    """A member in a list."""

    user_id: UserIdText
    role: RoleName
    joined_seq: Seq
    joined_at: Timestamp


class MemberPage(msgspec.Struct):
    """Members, ascending by user id; `count` is that of all."""

    members: list[MemberItem]
    count: Count
    next_page: NextPage


class SubscriberPage(msgspec.Struct):
    """Users who follow a topic; `count` is that of all, the list is empty in mode `count`."""

    subscribers: list[PresentUser]
    count: Count
    next_page: NextPage


class DeadLetterItem(msgspec.Struct, omit_defaults=True):
    """A delivery that was given up after `attempts`. For a consumer group `user_id` and `device_id` are null.

    `message_id` is null where the message was no longer kept then. `last_error` is what the receiver said last.
    """

    id: MessageIdText
    topic_id: TopicIdText
    epoch: Epoch
    seq: Seq
    message_id: MessageIdText | None
    user_id: UserIdText | None
    device_id: DeviceIdText | None
    attempts: Count
    reason: str
    last_error: str
    at: Timestamp
    group: str | UnsetType = UNSET


class DeadLetterPage(msgspec.Struct):
    """Dead letters that are not being replayed, ascending by id."""

    dead_letters: list[DeadLetterItem]
    next_page: NextPage


class DeadLetterDetails(DeadLetterItem, kw_only=True):
    """A dead letter; `message` is its message as it is now, null where it is no longer kept."""

    replaying: bool
    message: MessageFrame | None


class ReplayedLetter(msgspec.Struct):
    """A dead letter whose message is delivered again."""

    id: MessageIdText
    topic_id: TopicIdText


class SubscriptionItem(msgspec.Struct):
    """A live subscription of a connection."""

    subscription_id: str
    topic_id: TopicIdText
    subscribed_at: Timestamp


class ConnectionItem(msgspec.Struct):
    """A live connection."""

    connection_id: str
    user_id: UserIdText
    device_id: DeviceIdText
    connected_at: Timestamp
    last_heartbeat: Timestamp
    gateway: str
    transport: Literal["websocket", "sse"]
    subscriptions: list[SubscriptionItem]


class ConnectionList(msgspec.Struct):
    """The live connections of a user; not `complete` where a gateway did not answer in time."""

    connections: list[ConnectionItem]
    complete: bool


class TopTopic(msgspec.Struct):
    """A topic, and how many it has."""

    topic_id: TopicIdText
    count: Count


class FrequentTopicItem(TopTopic):
    """A topic, and how many it had in the last hour; the true number may be above it by up to `error`."""

    error: Count


class TopUser(msgspec.Struct):
    """A user, and how many messages are unread in the user's inbox."""

    user_id: UserIdText
    count: Count


class TopAnswerBody(msgspec.Struct):
    """The first topics and users, largest first; not `complete` where the owner of a shard did not answer."""

    topic_members: list[TopTopic]
    topic_messages_per_hour: list[FrequentTopicItem]
    topic_failures: list[FrequentTopicItem]
    inbox_backlog: list[TopUser]
    complete: bool


class SubscriptionsEndedAnswer(msgspec.Struct):
    """How many subscriptions ended."""

    success: bool
    ended: Count


class TicketAnswer(msgspec.Struct):
    """A ticket, and how many seconds it is good for."""

    ticket: str
    expires_in: Count


class SentMessage(msgspec.Struct):
    """The answer to `POST /send_message`."""

    message_id: MessageIdText
    timestamp: Timestamp


class ChannelMessage(msgspec.Struct, omit_defaults=True):
    """A message in the channel vocabulary; `tombstone` is true after a redaction."""

    message_id: MessageIdText
    channel_id: TopicIdText
    author_id: UserIdText
    content: Any
    parent_message_id: MessageIdText | None
    attachments: list[AttachmentItem]
    created_at: Timestamp
    edited_at: Timestamp | None
    tombstone: bool
    seq_no: Seq


class ChannelPage(msgspec.Struct):
    """Messages of a channel, oldest first."""

    messages: list[ChannelMessage]
    next_page: NextPage


class InboxItem(msgspec.Struct):
    """A topic of the caller. `cursor_seq` is where the device is, `read_seq` what the user has read.

    `unread` counts messages above `read_seq`; edits, redactions and reactions do not count.
    """

    topic_id: TopicIdText
    epoch: Epoch
    mode: Literal["direct", "inbox"]
    head_seq: Seq
    cursor_seq: Seq
    read_seq: Seq
    unread: Count


class InboxPage(msgspec.Struct):
    """Topics of the caller, ascending by id; a page may have fewer than `limit`."""

    topics: list[InboxItem]
    next_page: NextPage


class MissedMessagesAnswer(msgspec.Struct):
    """Messages above the device's cursors, topic after topic, by their oldest; with `more` there are others."""

    messages: list[MessageFrame]
    more: bool
