"""Requests that change one message: their bodies and names."""

import re
from typing import Final, NamedTuple

from headgate.core.publish.body import read_members
from headgate.core.wire.errors import Refusal
from headgate.core.wire.ids import MAX_INTEGER
from headgate.core.wire.message_changes import NAME_CHARACTERS, is_reaction_name

_NUMBER: Final = re.compile(rb"[1-9][0-9]{0,15}")


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
    if not isinstance(name, str) or not is_reaction_name(name):
        detail = f"the name of a reaction is 1 to {NAME_CHARACTERS} characters without control characters"
        raise Refusal("bad_request", detail)
    return name
