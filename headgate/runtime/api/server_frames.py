"""Every frame of a WebSocket and every event of an SSE stream, as a type (docs/protocol.md, sections 4 and 5).

`headgate.core.client.outbound` and `headgate.core.wire.frames` write them; the AsyncAPI document is made from these
types, and the vectors check each frame that a server sends against it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.core.delivery.lifecycle_events import Event
from headgate.runtime.api.value_types import (
    AttachmentItem,
    Count,
    Epoch,
    MessageIdText,
    MessageKeyText,
    Milliseconds,
    PresenceState,
    PresentUser,
    ProfileName,
    ReactionName,
    Seq,
    Timestamp,
    TopicIdText,
    UnixMilliseconds,
    UserIdText,
    Version,
)

EchoedId = Annotated[str | int, Meta(description="Of the frame that this one answers.")]


class ServerFrameType(msgspec.Struct, tag_field="type", omit_defaults=True, kw_only=True):
    """A frame of the server."""

    id: EchoedId | UnsetType = UNSET


class Heartbeat(msgspec.Struct):
    """How often the server pings, and after what silence a connection is dead."""

    interval_ms: Milliseconds
    timeout_ms: Milliseconds


class WelcomeFrame(ServerFrameType, tag="welcome", kw_only=True):
    """The first frame of a connection."""

    connection_id: Annotated[str, Meta(min_length=1, max_length=64)]
    user_id: UserIdText
    server_time: UnixMilliseconds
    reconnect_jitter: Annotated[
        float, Meta(ge=0, le=1, description="The part of its first window that this client waits before it comes back.")
    ]
    heartbeat: Heartbeat
    limits: dict[str, int | float]


class SubscribedFrame(ServerFrameType, tag="subscribed", kw_only=True):
    """The topic is followed from here on; no message of it comes before this frame."""

    topic_id: TopicIdText
    profile: ProfileName
    epoch: Epoch
    seq: Annotated[int, Meta(ge=0, description="The newest message.")]
    first_seq: Annotated[int, Meta(ge=1, description="The oldest message kept; durable topics.")] | UnsetType = UNSET
    subscriber_count: Count
    resumed: bool | UnsetType = UNSET
    reason: Literal["expired", "epoch_changed", "ephemeral", "ahead", "no_cursor"] | UnsetType = UNSET
    group: Annotated[str, Meta(description="The consumer group that was joined.")] | UnsetType = UNSET


class MessageFrame(ServerFrameType, tag="message", kw_only=True):
    """A message of a topic as it is now, or (`kind`) an event that changed one. Ephemeral messages have no `seq`."""

    topic_id: TopicIdText
    seq: Seq | UnsetType = UNSET
    ts: UnixMilliseconds
    message_id: MessageIdText
    publisher_id: UserIdText
    key: MessageKeyText | UnsetType = UNSET
    payload: Any
    kind: Literal["edit", "redact", "reaction"] | UnsetType = UNSET
    target_seq: Annotated[int, Meta(ge=1, description="The message that an event changed.")] | UnsetType = UNSET
    version: Version | UnsetType = UNSET
    edited_at: Timestamp | UnsetType = UNSET
    redacted: bool | UnsetType = UNSET
    reactions: Annotated[dict[str, int], Meta(description="How many users reacted, by name.")] | UnsetType = UNSET
    name: ReactionName | UnsetType = UNSET
    removed: Annotated[bool, Meta(description="The reaction was taken back.")] | UnsetType = UNSET
    parent_message_id: MessageIdText | UnsetType = UNSET
    parent_version: Version | UnsetType = UNSET
    attachments: list[AttachmentItem] | UnsetType = UNSET
    attempt: Annotated[int, Meta(ge=1, description="How often it was delivered; from 2 on.")] | UnsetType = UNSET


class CaughtUpFrame(ServerFrameType, tag="caught_up", kw_only=True):
    """Replay is over; what follows is live."""

    topic_id: TopicIdText
    seq: Seq


class GapFrame(ServerFrameType, tag="gap", kw_only=True):
    """Messages that this subscription does not get; of an ephemeral topic only their number is known."""

    topic_id: TopicIdText
    from_seq: Seq | UnsetType = UNSET
    to_seq: Seq | UnsetType = UNSET
    count: Annotated[int, Meta(ge=1)]
    reason: Literal["slow_consumer", "retention", "shed"]
    recoverable: bool


class UnsubscribedFrame(ServerFrameType, tag="unsubscribed", kw_only=True):
    """The subscription is over."""

    topic_id: TopicIdText
    reason: Literal["requested", "ended", "deleted", "forbidden", "replaced"]


class PresenceAnswerFrame(ServerFrameType, tag="presence", kw_only=True):
    """Who follows the topic; `count` counts users, the list is empty in mode `count`."""

    topic_id: TopicIdText
    subscribers: list[PresentUser]
    count: Count


class ChangedUser(msgspec.Struct):
    """A user in a `presence_diff`."""

    user_id: UserIdText
    state: PresenceState


class PresenceDiffFrame(ServerFrameType, tag="presence_diff", kw_only=True):
    """Who came, went or changed since the last frame about presence; at most one a second and topic."""

    topic_id: TopicIdText
    joined: list[ChangedUser]
    left: list[ChangedUser]
    changed: list[ChangedUser]
    count: Count


class TypingNotice(ServerFrameType, tag="typing", kw_only=True):
    """Another user types."""

    topic_id: TopicIdText
    user_id: UserIdText


class ReadNotice(ServerFrameType, tag="read", kw_only=True):
    """A user has read the topic: this user on another session (`unread`), or a reader of this user's messages."""

    topic_id: TopicIdText
    user_id: UserIdText
    seq: Annotated[int, Meta(ge=0)]
    unread: Annotated[int, Meta(ge=0, description="Only of the user's own reading.")] | UnsetType = UNSET


class NewsOfTopic(msgspec.Struct):
    """A topic with new messages; `unread` counts those above the read mark."""

    topic_id: TopicIdText
    head_seq: Annotated[int, Meta(ge=0)]
    unread: Count


class InboxNotice(ServerFrameType, tag="inbox", kw_only=True):
    """New messages in topics that this connection does not follow: a hint to pull, at most one a second."""

    topics: Annotated[list[NewsOfTopic], Meta(min_length=1, max_length=100)]


class ErrorFrame(ServerFrameType, tag="error", kw_only=True):
    """A frame was refused; the connection stays."""

    topic_id: str | UnsetType = UNSET
    code: str
    message: str
    retryable: bool
    retry_after_ms: Milliseconds | UnsetType = UNSET


class TokenExpiringFrame(ServerFrameType, tag="token_expiring", kw_only=True):
    """A `refresh` keeps the connection."""

    in_ms: Milliseconds


class DisconnectFrame(ServerFrameType, tag="disconnect", kw_only=True):
    """The last frame before the close."""

    code: Annotated[int, Meta(ge=4400, le=4699)]
    reason: str
    reconnect: bool
    retry_after_ms: Milliseconds | UnsetType = UNSET


class RefreshedFrame(ServerFrameType, tag="refreshed", kw_only=True):
    """Answers `refresh`."""


class PongFrame(ServerFrameType, tag="pong", kw_only=True):
    """Answers `ping`."""

    t: Any | UnsetType = UNSET


class OkFrame(ServerFrameType, tag="ok", kw_only=True):
    """Answers a frame with an `id` that has no other answer."""


class LifecycleGap(msgspec.Struct, tag_field="event", tag="gap"):
    """Lifecycle events are missing here."""

    reason: Annotated[
        Literal["slow", "overloaded", "owner"],
        Meta(description="This client reads too slowly; there were too many to pass on; a topic's owner changed."),
    ]
    count: Annotated[int | None, Meta(description="How many, of all that this server watches; null: unknown.")]


SERVER_FRAMES = (
    WelcomeFrame,
    SubscribedFrame,
    MessageFrame,
    CaughtUpFrame,
    GapFrame,
    UnsubscribedFrame,
    PresenceAnswerFrame,
    PresenceDiffFrame,
    TypingNotice,
    ReadNotice,
    InboxNotice,
    ErrorFrame,
    TokenExpiringFrame,
    DisconnectFrame,
    RefreshedFrame,
    PongFrame,
    OkFrame,
)
SSE_EVENTS = (
    WelcomeFrame,
    SubscribedFrame,
    MessageFrame,
    CaughtUpFrame,
    GapFrame,
    PresenceAnswerFrame,
    UnsubscribedFrame,
    DisconnectFrame,
)
LIFECYCLE_EVENTS = (Event, LifecycleGap, DisconnectFrame)
