"""Every frame that a client may send over a WebSocket, as a type (docs/protocol.md, section 3).

`headgate.core.client.inbound` reads them; the AsyncAPI document is made from these types.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.runtime.api.value_types import DeviceIdText, PresenceState, TopicIdText

FrameIdValue = Annotated[str | int, Meta(description="The direct answer echoes it.")]


class ClientFrameType(msgspec.Struct, tag_field="type", omit_defaults=True, kw_only=True):
    """A frame of a client."""

    id: FrameIdValue | UnsetType = UNSET


class AuthFrame(ClientFrameType, tag="auth", kw_only=True):
    """The first frame of a WebSocket that was opened without a credential."""

    token: str


class RefreshFrame(ClientFrameType, tag="refresh", kw_only=True):
    """Replaces the token of the connection; the user stays the same. Answer: `refreshed`."""

    token: str


class SubscribeFrame(ClientFrameType, tag="subscribe", kw_only=True, rename={"from_": "from"}):
    """Follows a topic. Answer: `subscribed` or `error`."""

    topic_id: TopicIdText
    from_: (
        Annotated[
            Literal["live", "earliest", "cursor"] | dict[str, int],
            Meta(
                description=(
                    "Where delivery begins: an object is {seq}, {epoch, seq}, {ts} or {last}; `cursor` is where the "
                    "device's cursor is."
                ),
                extra_json_schema={"default": "live"},
            ),
        ]
        | UnsetType
    ) = UNSET
    presence: (
        Annotated[
            bool, Meta(description="true: `presence` and `presence_diff`; false: neither; left out: `presence` once.")
        ]
        | UnsetType
    ) = UNSET
    device_id: DeviceIdText | UnsetType = UNSET
    ack: (
        Annotated[bool, Meta(description="Messages are acknowledged with `ack`; what is not comes again.")] | UnsetType
    ) = UNSET
    group: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=128,
                description="A consumer group, whose members share the messages; needs `ack`.",
            ),
        ]
        | UnsetType
    ) = UNSET


class UnsubscribeFrame(ClientFrameType, tag="unsubscribe", kw_only=True):
    """Follows a topic no longer. Answer: `unsubscribed`."""

    topic_id: TopicIdText


class AckFrame(ClientFrameType, tag="ack", kw_only=True):
    """All messages up to `seq` are acknowledged. With an `id` the answer is `ok`, once the cursor is in the log."""

    topic_id: TopicIdText
    seq: Annotated[int, Meta(ge=0)]


class NackFrame(ClientFrameType, tag="nack", kw_only=True):
    """One message in flight could not be used: it comes again after the topic's retry delay."""

    topic_id: TopicIdText
    seq: Annotated[int, Meta(ge=0)]
    reason: str | UnsetType = UNSET


class ReadFrame(ClientFrameType, tag="read", kw_only=True):
    """The user has read the topic up to `seq`. With an `id` the answer is `ok`, once the mark is in the log."""

    topic_id: TopicIdText
    seq: Annotated[int, Meta(ge=0)]


class PresenceFrame(ClientFrameType, tag="presence", kw_only=True):
    """Asks who follows a topic. Answer: `presence`."""

    topic_id: TopicIdText


class TypingFrame(ClientFrameType, tag="typing", kw_only=True):
    """Tells the others that this user types; passed on at most once a second, never stored."""

    topic_id: TopicIdText


class StatusFrame(ClientFrameType, tag="status", kw_only=True):
    """What presence lists say of this connection."""

    state: PresenceState


class PingFrame(ClientFrameType, tag="ping", kw_only=True):
    """Answered by `pong` with the same `t`."""

    t: Any | UnsetType = UNSET


CLIENT_FRAMES = (
    AuthFrame,
    RefreshFrame,
    SubscribeFrame,
    UnsubscribeFrame,
    AckFrame,
    NackFrame,
    ReadFrame,
    PresenceFrame,
    TypingFrame,
    StatusFrame,
    PingFrame,
)
