"""The message frame: the client's JSON, built once from a record's tail for all transports."""

import re
from typing import Final

import msgspec

from headgate.core.wire.timestamps import rfc3339

_ID: Final = b'"message_id":"'
_PUBLISHER: Final = re.compile(
    rb'\{"type":"message","topic_id":"[^"]*","seq":\d+,"ts":\d+,"message_id":"[^"]*",'
    rb'"publisher_id":("(?:[^"\\]|\\.)*")'
)


def message_id_in(frame: bytes) -> str | None:
    """Returns the `message_id` of a frame or tail, None where it has none.

    It is not parsed: a payload may hold JSON that no parser of ours takes. All before the id is the server's.
    """
    at = frame.find(_ID) + len(_ID)
    return None if at < len(_ID) else frame[at : frame.index(b'"', at)].decode()


def publisher_in(frame: bytes) -> str:
    """Returns who published a durable message, "" where its frame does not say so in the place where we write it.

    The frame is not parsed: all before the payload is the server's.
    """
    found = _PUBLISHER.match(frame)
    try:
        return "" if found is None else msgspec.json.decode(found[1], type=str)
    except msgspec.DecodeError:  # a record written by hand
        return ""


def message_frame(topic_id: str, seq: int, ts: int, tail: bytes) -> bytes:
    """Returns the frame of a durable message. `tail` begins at `"message_id"` and has the closing brace.

    `ts` is in Unix milliseconds. A topic id needs no escaping: it has no quote and no backslash.
    """
    return b'{"type":"message","topic_id":"%b","seq":%d,"ts":%d,%b' % (topic_id.encode(), seq, ts, tail)


def ephemeral_frame(topic_id: str, ts: int, tail: bytes) -> bytes:
    """Returns the frame of an ephemeral message: it has no seq."""
    return b'{"type":"message","topic_id":"%b","ts":%d,%b' % (topic_id.encode(), ts, tail)


def frame_again(frame: bytes, attempt: int) -> bytes:
    """Returns the frame of a message for the delivery number `attempt` to one subscriber; a first one is as it was."""
    return b'%b,"attempt":%d}' % (frame[:-1], attempt) if attempt > 1 else frame


def replayed_frame(frame: bytes, attempt: int) -> bytes:
    """Returns the frame of a message that is replayed from its dead letter: it says also that it comes first."""
    return b'%b,"attempt":%d}' % (frame[:-1], attempt)


def edit_frame(topic_id: str, seq: int, ts: int, tail: bytes) -> bytes:
    """Returns the frame of an edit, which says when it was made: `edited_at` is its `ts` as text."""
    edited_at = rfc3339(ts).encode()
    return b'{"type":"message","topic_id":"%b","seq":%d,"ts":%d,"edited_at":"%b",%b' % (
        topic_id.encode(),
        seq,
        ts,
        edited_at,
        tail,
    )
