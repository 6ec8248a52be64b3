"""The values that frames, requests and answers share, as types with their bounds (docs/protocol.md, section 0)."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.core.wire.ids import MAX_INTEGER

_TEXT_KEY: Final = r"^[\x20-\x7e]{1,128}$"

TopicIdText = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$", description="Id of a topic.")]
UserIdText = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 bytes of printable UTF-8.")]
DeviceIdText = Annotated[str, Meta(pattern=_TEXT_KEY, description="1 to 128 characters of printable ASCII.")]
ClientMsgIdText = Annotated[
    str, Meta(pattern=_TEXT_KEY, description="Makes a publish safe to repeat: 1 to 128 characters of printable ASCII.")
]
MessageKeyText = Annotated[
    str,
    Meta(
        min_length=1, max_length=256, description="Messages of one key go to one member of a consumer group, in order."
    ),
]
MessageIdText = Annotated[
    str, Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="UUID text, lower case.")
]
NameText = Annotated[str, Meta(min_length=1, max_length=256, description="For people; need not be unique.")]
Timestamp = Annotated[
    str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", description="RFC 3339, UTC, three decimals.")
]
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Milliseconds = Annotated[int, Meta(ge=0, le=MAX_INTEGER, description="Milliseconds.")]
UnixMilliseconds = Annotated[int, Meta(ge=0, le=MAX_INTEGER, description="Milliseconds since 1970, UTC.")]
Seq = Annotated[int, Meta(ge=0, le=MAX_INTEGER, description="Number of a message in its topic and epoch.")]
Epoch = Annotated[int, Meta(ge=1, le=MAX_INTEGER, description="Compare it for equality only.")]
Version = Annotated[int, Meta(ge=1, le=MAX_INTEGER, description="Of a message; 1 until it is edited.")]
ReactionName = Annotated[str, Meta(min_length=1, max_length=32, description="Without control characters.")]
NextPage = Annotated[str | None, Meta(description="The `page` of the next request; null on the last page.")]
ProfileName = Literal["durable", "ephemeral"]
PermissionsName = Literal["PUBLIC", "PRIVATE", "PUBLISH_ONLY", "SUBSCRIBE_ONLY"]
RoleName = Literal["owner", "admin", "member", "publisher", "subscriber"]
PresenceState = Literal["online", "away"]


class AttachmentItem(msgspec.Struct, omit_defaults=True):
    """A reference to a file that is kept elsewhere."""

    url: str
    name: str | UnsetType | None = UNSET
    content_type: str | UnsetType | None = UNSET
    size: Count | UnsetType | None = UNSET


class PresentUser(msgspec.Struct):
    """A user who follows a topic; `connections` counts all of his on every gateway."""

    user_id: UserIdText
    connections: Annotated[int, Meta(ge=1)]
    since: Timestamp
    state: PresenceState
