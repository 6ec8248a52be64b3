"""Bodies of control records: read as written, defaults left out, and nothing else is read."""

import json

import pytest

from headgate.core.wire.control import (
    BODY_BYTES,
    Config,
    Control,
    CreateTopic,
    DeleteTopic,
    Probe,
    decode_body,
    encode_body,
)
from headgate.core.wire.errors import CorruptRecord


@pytest.mark.parametrize(
    ("control", "text"),
    [
        (Config("c", 1, 4, 2), {"op": "config", "cluster_id": "c", "generation": 1, "shards": 4, "shard": 2}),
        (
            CreateTopic("t", "T", "PUBLIC", "ana", {"rate_limit": {"per_s": 1}}),
            {
                "op": "create",
                "topic_id": "t",
                "name": "T",
                "permissions": "PUBLIC",
                "owner_id": "ana",
                "settings": {"rate_limit": {"per_s": 1}},
            },
        ),
        (DeleteTopic("t"), {"op": "delete", "topic_id": "t"}),
        (Probe(), {"op": "probe"}),
    ],
)
def test_a_body_is_json_and_is_read_as_written(control: Control, text: dict[str, object]) -> None:
    body = encode_body(control)
    assert json.loads(body) == text
    assert decode_body(body) == control


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"op":"other"}',
        b'{"op":"delete"}',
        b'{"op":"delete","topic_id":7}',
        b'{"op":"\xff"}',
        b"[" * 5_000,
    ],
)
def test_another_body_is_a_corrupt_record(body: bytes) -> None:
    with pytest.raises(CorruptRecord):
        decode_body(body)


def test_a_body_is_bounded() -> None:
    head, tail = b'{"op":"delete","topic_id":"', b'"}'
    fits = head + b"x" * (BODY_BYTES - len(head) - len(tail)) + tail
    assert isinstance(decode_body(fits), DeleteTopic)
    with pytest.raises(CorruptRecord, match=str(BODY_BYTES + 1)):
        decode_body(fits + b" ")
