"""Requests that change one message: their bodies and names, and the tails of the frames that tell of the changes."""

import re
from typing import Final, NamedTuple

import msgspec

from headgate.core.publish.body import read_members
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER, id_text
from headgate.core.wire.message_changes import NAME_CHARACTERS

_NUMBER: Final = re.compile(rb"[1-9][0-9]{0,15}")
_NOT_IN_NAMES: Final = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")  # U+FFFD stands in a path where it was not UTF-8
_encode = msgspec.json.Encoder().encode


class Edit(NamedTuple):
    """An edit: the new payload as compacted JSON text, and the version that it replaces."""

    payload: bytes
    version: int


def read_edit(raw: bytes, max_bytes: int) -> Edit:
    """Reads the body of an edit, whose payload has at most `max_bytes` bytes.

    Raises Refusal: `bad_request` naming the member, `invalid_payload` without a payload, `too_large`.
    """
    members = read_members(raw)
    payload = members.get("payload")
    if payload is None:
        raise Refusal("invalid_payload", "the body needs a member payload: any JSON")
    if len(payload) > max_bytes:
        raise Refusal("too_large", f"the payload has {len(payload)} bytes; at most {max_bytes} are taken")
    version = members.get("version", b"")
    if _NUMBER.fullmatch(version) is None or int(version) > MAX_INTEGER:
        raise Refusal("bad_request", "version must be the message's present version: an integer from 1")
    return Edit(payload, int(version))


def check_reaction(name: object) -> str:
    """Returns the name of a reaction. Raises Refusal `bad_request`."""
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARACTERS or _NOT_IN_NAMES.search(name):
        detail = f"the name of a reaction is 1 to {NAME_CHARACTERS} characters without control characters"
        raise Refusal("bad_request", detail)
    return name


def edit_tail(event_id: bytes, publisher_id: str, target_seq: int, edit: Edit) -> bytes:
    """Returns the tail of an edit's frame: it has the new payload, and the version that the message has with it."""
    about = b',"kind":"edit","target_seq":%d,"version":%d}' % (target_seq, edit.version + 1)
    return _head(event_id, publisher_id, edit.payload) + about


def redact_tail(event_id: bytes, publisher_id: str, target_seq: int) -> bytes:
    """Returns the tail of a redaction's frame."""
    return _head(event_id, publisher_id, b"null") + b',"kind":"redact","target_seq":%d}' % target_seq


def reaction_tail(event_id: bytes, publisher_id: str, target_seq: int, name: str, *, removed: bool) -> bytes:
    """Returns the tail of a reaction's frame; `removed` when it is taken back."""
    about = b',"kind":"reaction","target_seq":%d,"name":%b' % (target_seq, _encode(name))
    return _head(event_id, publisher_id, b"null") + about + (b',"removed":true}' if removed else b"}")


def _head(event_id: bytes, publisher_id: str, payload: bytes) -> bytes:
    return b'"message_id":"%b","publisher_id":%b,"payload":%b' % (
        id_text(event_id).encode(),
        _encode(publisher_id),
        payload,
    )
