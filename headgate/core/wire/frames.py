"""The message frame: the client's JSON, built once from a record's tail for all transports."""

from datetime import UTC, datetime


def message_frame(topic_id: str, seq: int, ts: int, tail: bytes) -> bytes:
    """Returns the frame of a durable message. `tail` begins at `"message_id"` and has the closing brace.

    `ts` is in Unix milliseconds. A topic id needs no escaping: it has no quote and no backslash.
    """
    return b'{"type":"message","topic_id":"%b","seq":%d,"ts":%d,%b' % (topic_id.encode(), seq, ts, tail)


def ephemeral_frame(topic_id: str, ts: int, tail: bytes) -> bytes:
    """Returns the frame of an ephemeral message: it has no seq."""
    return b'{"type":"message","topic_id":"%b","ts":%d,%b' % (topic_id.encode(), ts, tail)


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


def rfc3339(unix_ms: int) -> str:
    """Returns Unix milliseconds as RFC 3339 UTC with three decimals."""
    seconds, ms = divmod(unix_ms, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
