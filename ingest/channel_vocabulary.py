"""The channel vocabulary (docs/protocol.md, section 8): its bodies as those of the API, frames as its messages."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from headgate.core.publish.body import read_members
from headgate.core.wire.errors import Refusal
from headgate.core.wire.payload import hide_escapes, show_escapes
from headgate.core.wire.timestamps import rfc3339

_RENAMED: Final = {"content": "payload"}
_PUBLISHED: Final = ("content", "client_msg_id", "priority", "parent_message_id", "parent_version", "attachments")
_EDITED: Final = ("content", "version")
_encode = msgspec.json.Encoder().encode

Members = dict[str, bytes]  # of a body, each as JSON text


class _Frame(msgspec.Struct):
    """What is read of a message's frame; what a client wrote stays text."""

    topic_id: str
    seq: int
    ts: int
    message_id: str
    publisher_id: msgspec.Raw
    payload: msgspec.Raw
    parent_message_id: str | None = None
    attachments: msgspec.Raw = msgspec.Raw(b"[]")
    edited_at: str | None = None
    redacted: bool = False


_frame = msgspec.json.Decoder(_Frame)


def read_body(raw: bytes) -> Members:
    """Returns the members of a body. Raises Refusal `bad_request`."""
    return read_members(raw)


def string(members: Members, name: str) -> str:
    """Returns a member that must be a string. Raises Refusal `bad_request`."""
    try:
        return msgspec.json.decode(members.get(name, b"null"), type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refusal("bad_request", f"{name} must be a string") from None


def flag(members: Members, name: str) -> bool:
    """Returns a member that is true or false, false where it is missing. Raises Refusal `bad_request`."""
    text = members.get(name, b"false")
    if text not in (b"true", b"false"):
        raise Refusal("bad_request", f"{name} must be true or false")
    return text == b"true"


def publish_body(members: Members) -> bytes:
    """Returns the body of the publish that these members ask for."""
    return _body(members, _PUBLISHED)


def edit_body(members: Members) -> bytes:
    """Returns the body of the edit that these members ask for."""
    return _body(members, _EDITED)


@contextmanager
def named() -> Iterator[None]:
    """Has the refusal of such a body, which has no content, name the member of the request."""
    try:
        yield
    except Refusal as refusal:
        if refusal.code != "invalid_payload":
            raise
        raise Refusal("invalid_payload", "the body needs a member content: any JSON") from None


def channel_message(frame: bytes) -> bytes:
    """Returns the JSON of a message in the channel vocabulary."""
    show: Callable[[msgspec.Raw], bytes] = bytes
    try:
        message = _frame.decode(frame)
    except msgspec.DecodeError:  # it holds a lone surrogate escape, which msgspec refuses
        message, show = _frame.decode(hide_escapes(frame)), _shown
    return (
        b'{"message_id":"%b","channel_id":"%b","author_id":%b,"content":%b,"parent_message_id":%b,"attachments":%b,'
        b'"created_at":"%b","edited_at":%b,"tombstone":%b,"seq_no":%d}'
    ) % (
        message.message_id.encode(),
        message.topic_id.encode(),
        show(message.publisher_id),
        show(message.payload),
        _encode(message.parent_message_id),
        show(message.attachments),
        rfc3339(message.ts).encode(),
        _encode(message.edited_at),
        b"true" if message.redacted else b"false",
        message.seq,
    )


def _body(members: Members, names: tuple[str, ...]) -> bytes:
    given = (b'"%b":%b' % (_RENAMED.get(name, name).encode(), members[name]) for name in names if name in members)
    return b"{%b}" % b",".join(given)


def _shown(text: msgspec.Raw) -> bytes:
    return show_escapes(bytes(text))
