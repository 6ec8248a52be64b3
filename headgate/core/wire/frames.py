"""The message frame: the client's JSON built from a record's tail, once for all transports; knows no transport."""


def message_frame(topic_id: str, seq: int, ts: int, tail: bytes) -> bytes:
    """Returns the frame of a durable message. `tail` runs from `"message_id"` to the closing brace (PROTOCOL 4).

    A topic id needs no escaping: its alphabet has no quote and no backslash.
    """
    return b'{"type":"message","topic_id":"%b","seq":%d,"ts":%d,%b' % (topic_id.encode(), seq, ts, tail)


def volatile_frame(topic_id: str, ts: int, tail: bytes) -> bytes:
    """Returns the frame of an ephemeral message: it has no seq."""
    return b'{"type":"message","topic_id":"%b","ts":%d,%b' % (topic_id.encode(), ts, tail)
