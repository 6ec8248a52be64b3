"""The JSON bodies of requests, as types (docs/protocol.md, section 2). Their readers are in ingest and in core."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.core.wire.ids import MAX_INTEGER
from headgate.runtime.api.value_types import (
    AttachmentItem,
    ClientMsgIdText,
    DeviceIdText,
    MessageIdText,
    MessageKeyText,
    NameText,
    PermissionsName,
    ReactionName,
    RoleName,
    Seq,
    TopicIdText,
    UserIdText,
    Version,
)
from headgate.runtime.token_claims import MAX_JTI

SettingsChange = Annotated[
    dict[str, Any], Meta(description="Settings of the topic by name; null restores a default. Unknown names are 400.")
]


class TopicRequest(msgspec.Struct, omit_defaults=True):
    """A new topic."""

    name: NameText
    topic_id: TopicIdText | UnsetType = UNSET
    permissions: PermissionsName | UnsetType = UNSET
    settings: SettingsChange | UnsetType | None = UNSET


class TopicChangeRequest(msgspec.Struct, omit_defaults=True):
    """What changes; what is left out stays."""

    name: NameText | UnsetType = UNSET
    permissions: PermissionsName | UnsetType = UNSET
    settings: SettingsChange | UnsetType = UNSET


class PublishRequest(msgspec.Struct, omit_defaults=True):
    """One message; `payload` is any JSON of at most 65,536 bytes, without the whitespace between tokens."""

    payload: Any
    client_msg_id: ClientMsgIdText | UnsetType | None = UNSET
    key: MessageKeyText | UnsetType | None = UNSET
    priority: Literal["NORMAL", "LOW"] | UnsetType | None = UNSET
    parent_message_id: MessageIdText | UnsetType | None = UNSET
    parent_version: Version | UnsetType | None = UNSET
    attachments: Annotated[list[AttachmentItem], Meta(max_length=10)] | UnsetType | None = UNSET


class RoutedPublishRequest(PublishRequest, kw_only=True):
    """One message of a batch to several topics."""

    topic_id: TopicIdText


PublishBatch = Annotated[list[PublishRequest], Meta(max_length=1_000)]
RoutedPublishBatch = Annotated[list[RoutedPublishRequest], Meta(max_length=1_000)]


class MemberRequest(msgspec.Struct, omit_defaults=True):
    """A role in the topic; `member` where it is left out."""

    role: RoleName | UnsetType = UNSET


class EndSubscriptionsRequest(msgspec.Struct, omit_defaults=True):
    """With `connection_id` only that connection's subscription ends."""

    connection_id: str | UnsetType = UNSET


class TicketRequest(msgspec.Struct, omit_defaults=True):
    """`topic_ids` and `ttl_s` (seconds) are for the kind `stream`."""

    kind: Literal["once", "stream"] | UnsetType = UNSET
    topic_ids: Annotated[list[TopicIdText], Meta(min_length=1, max_length=128)] | UnsetType = UNSET
    ttl_s: Annotated[float, Meta(gt=0, le=3_600)] | UnsetType = UNSET


class RevocationRequest(msgspec.Struct, omit_defaults=True):
    """Names either `user_id` or `jti`; tokens issued before `not_before` are void."""

    user_id: UserIdText | UnsetType | None = UNSET
    jti: Annotated[str, Meta(min_length=1, max_length=MAX_JTI)] | UnsetType | None = UNSET
    not_before: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] | UnsetType | None = UNSET


class EditRequest(msgspec.Struct):
    """A new payload for the message that is at `version`."""

    payload: Any
    version: Version


class DirectRequest(msgspec.Struct):
    """The other user of a private talk."""

    user_id: UserIdText


class SendMessageRequest(msgspec.Struct, omit_defaults=True):
    """A publish in the channel vocabulary."""

    channel_id: TopicIdText
    content: Any
    client_msg_id: ClientMsgIdText | UnsetType | None = UNSET
    priority: Literal["NORMAL", "LOW"] | UnsetType | None = UNSET
    parent_message_id: MessageIdText | UnsetType | None = UNSET
    parent_version: Version | UnsetType | None = UNSET
    attachments: Annotated[list[AttachmentItem], Meta(max_length=10)] | UnsetType | None = UNSET


class EditMessageRequest(msgspec.Struct):
    """An edit in the channel vocabulary; the id alone names the message."""

    message_id: MessageIdText
    content: Any
    version: Version


class DeleteMessageRequest(msgspec.Struct):
    """A redaction in the channel vocabulary."""

    message_id: MessageIdText


class ReactRequest(msgspec.Struct, omit_defaults=True):
    """A reaction in the channel vocabulary; `remove` takes it back."""

    message_id: MessageIdText
    reaction: ReactionName
    remove: bool | UnsetType = UNSET


AckKind = Annotated[
    Literal["delivered", "read"],
    Meta(description="`delivered` where it is left out: for the device, not for the user."),
]


class InboxAckRequest(msgspec.Struct, omit_defaults=True):
    """The device has got the topic up to `seq`, or the user has read it; above the head it is the head."""

    topic_id: TopicIdText
    seq: Seq
    device_id: DeviceIdText | UnsetType | None = UNSET
    kind: AckKind | UnsetType = UNSET


class AckMessageRequest(msgspec.Struct, omit_defaults=True):
    """The device has got a message and those before it, or the user has read them; in the channel vocabulary."""

    message_id: MessageIdText
    device_id: DeviceIdText | UnsetType | None = UNSET
    kind: AckKind | UnsetType = UNSET
