"""Message frames as they are now: with the payload of the newest edit, with reactions, or without any content.

A frame is cut into its members and put together anew; this happens only to messages that were changed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from headgate.core.wire.message_changes import NO_PAYLOAD
from headgate.core.wire.payload import compact, hide_escapes, members, show_escapes
from headgate.core.wire.timestamps import rfc3339

_EDIT: Final = b'"edit"'
_REDACT: Final = b'"redact"'
_KIND: Final = b',"kind":"'
_HEAD: Final = re.compile(rb'\{"type":"message","topic_id":"[^"]*"(?:,"seq":\d+)?,"ts":\d+')
_decoder: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class MessageState(NamedTuple):
    """What was done to a message so far. `edited_at` is Unix milliseconds; `reactions` counts users by name.

    `payload` is that of the newest edit, None where `version` is 1.
    """

    version: int = 1
    payload: bytes | None = None
    edited_at: int = 0
    redacted: bool = False
    reactions: Mapping[str, int] = {}


def frame_members(frame: bytes) -> dict[str, bytes]:
    """Returns the members of a frame as JSON text, in their order.

    Of a frame whose tail is no JSON, from a record that some producer wrote by hand, those that we wrote before it.
    """
    try:
        return _members(frame)
    except (ValueError, RecursionError):
        head = _HEAD.match(frame)
        return {} if head is None else _members(head[0] + b"}")


def _members(frame: bytes) -> dict[str, bytes]:
    try:
        return {name: bytes(text) for name, text in _decoder.decode(frame).items()}
    except msgspec.DecodeError:  # a lone surrogate escape, which the payload may hold
        pass
    try:
        return {name: show_escapes(bytes(text)) for name, text in _decoder.decode(hide_escapes(frame)).items()}
    except ValueError:  # a name holds it too, in a record that some producer wrote by hand
        compact(frame)
        return members(frame)


def payload_in(frame: bytes) -> bytes:
    """Returns the payload of a frame as JSON text."""
    return frame_members(frame).get("payload", NO_PAYLOAD)


def amended_frame(frame: bytes, state: MessageState) -> bytes:
    """Returns the frame of a message as it is now. `frame` is the one that was built from its record."""
    if state.redacted:
        return redacted_frame(frame)
    found = frame_members(frame)
    if state.payload is not None:
        found["payload"] = state.payload
        found["version"] = b"%d" % state.version
        found["edited_at"] = b'"%b"' % rfc3339(state.edited_at).encode()
    if state.reactions:
        found["reactions"] = _encode(dict(sorted(state.reactions.items())))
    return _joined(found)


def redacted_frame(frame: bytes) -> bytes:
    """Returns the frame without content: of a message, or of one of its edits. Whatever named it stays."""
    found = frame_members(frame)
    found.pop("attachments", None)
    if "kind" not in found:
        for name in ("reactions", "edited_at", "version"):
            found.pop(name, None)
    found["payload"] = NO_PAYLOAD
    found["redacted"] = b"true"
    return _joined(found)


def targets_of(frames: Iterable[bytes]) -> dict[int, bool]:
    """Returns the messages that events among frames changed, by seq: whether they were redacted."""
    targets: dict[int, bool] = {}
    for frame in frames:
        if _KIND not in frame:
            continue
        found = frame_members(frame)
        if "kind" in found and found.get("target_seq", b"").isdigit():  # a payload may hold the mark as well
            seq = int(found["target_seq"])
            targets[seq] = targets.get(seq, False) or found["kind"] == _REDACT
    return targets


def amend(frames: list[bytes], first: int, seq: int, frame: bytes, *, redacted: bool) -> int:
    """Replaces what a list of frames holds of message `seq`; `first` is the seq of the first of them.

    `redacted`: blanks the message's edits too, and with an empty `frame` the message itself. Returns by how many bytes
    the frames have grown.
    """
    grown = 0
    at = seq - first
    if 0 <= at < len(frames):
        grown += _replace(frames, at, frame or redacted_frame(frames[at]))
    if redacted:
        mark = b',"kind":"edit","target_seq":%d,' % seq
        for later in range(max(at + 1, 0), len(frames)):
            if mark in frames[later] and is_edit_of(frames[later], seq):  # a payload may hold the mark as well
                grown += _replace(frames, later, redacted_frame(frames[later]))
    return grown


def _replace(frames: list[bytes], at: int, frame: bytes) -> int:
    grown = len(frame) - len(frames[at])
    frames[at] = frame
    return grown


def is_edit_of(frame: bytes, seq: int) -> bool:
    """Returns whether a frame is that of an edit of message `seq`."""
    found = frame_members(frame)
    return found.get("kind") == _EDIT and found.get("target_seq") == b"%d" % seq


def _joined(found: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b"%b:%b" % (_encode(name), text) for name, text in found.items())
