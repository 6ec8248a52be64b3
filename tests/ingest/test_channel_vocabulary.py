"""ingest.channel_vocabulary: bodies and frames keep what a client wrote, whatever it is."""

import json
from typing import Any

import pytest

from headgate.core.publish.body import read_publish
from headgate.core.publish.change_request import Edit, read_edit
from headgate.core.wire.errors import Refusal
from headgate.core.wire.frames import message_frame
from ingest.channel_vocabulary import channel_message, edit_body, flag, named, publish_body, read_body, string

PAYLOADS = ['{"b":1e5,"a":[1,123456789012345678901234567890]}', '"\\ud800 alone"', '"\\\\ud800"', "null", '"\u00e9"']


def frame(payload: str, rest: str = "", publisher: str = "ana") -> bytes:
    tail = f'"message_id":"m","publisher_id":{json.dumps(publisher)},"payload":{payload}{rest}}}'
    return message_frame("t", 7, 1_767_225_600_123, tail.encode())


@pytest.mark.parametrize("payload", PAYLOADS)
def test_content_is_carried_as_it_was_written(payload: str) -> None:
    members = read_body(f'{{ "content": {payload}, "channel_id":"t", "version": 3, "extra": 1 }}'.encode())
    assert read_publish(publish_body(members), 1_000).payload == payload.encode()
    assert read_edit(edit_body(members), 1_000) == Edit(payload.encode(), 3)
    assert f'"content":{payload},"parent' in channel_message(frame(payload)).decode()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("publisher", ["ana", 'a"\\ud800', "\u00e9"])
def test_a_message_has_the_names_of_the_vocabulary(payload: str, publisher: str) -> None:
    message = json.loads(channel_message(frame(payload, publisher=publisher)))
    assert message == {
        "message_id": "m",
        "channel_id": "t",
        "author_id": publisher,
        "content": json.loads(payload),
        "parent_message_id": None,
        "attachments": [],
        "created_at": "2026-01-01T00:00:00.123Z",
        "edited_at": None,
        "tombstone": False,
        "seq_no": 7,
    }


def test_what_was_done_to_a_message_is_shown() -> None:
    rest = (
        ',"parent_message_id":"p","attachments":[{"url":"u"}],"version":2,"edited_at":"2026-01-02T00:00:00.000Z"'
        ',"reactions":{"x":1}'
    )
    message = json.loads(channel_message(frame("1", rest)))
    assert (message["parent_message_id"], message["attachments"]) == ("p", [{"url": "u"}])
    assert (message["edited_at"], message["tombstone"]) == ("2026-01-02T00:00:00.000Z", False)
    assert json.loads(channel_message(frame("null", ',"redacted":true')))["tombstone"] is True


@pytest.mark.parametrize(
    ("asked", "named_so"),
    [
        (lambda: string({}, "channel_id"), "channel_id"),
        (lambda: string({"channel_id": b"1"}, "channel_id"), "channel_id"),
        (lambda: string({"channel_id": b'"\\ud800"'}, "channel_id"), "channel_id"),
        (lambda: flag({"remove": b"1"}, "remove"), "remove"),
        (lambda: flag({"remove": b"null"}, "remove"), "remove"),
        (lambda: read(publish_body({"channel_id": b'"t"'}), read_publish), "content"),
        (lambda: read(edit_body({"version": b"1"}), read_edit), "content"),
        (lambda: read(edit_body({"version": b"0", "content": b"1"}), read_edit), "version"),
        (lambda: read_body(b"[]"), "object"),
    ],
)
def test_what_is_wrong_is_named(asked: Any, named_so: str) -> None:
    with pytest.raises(Refusal) as caught:
        asked()
    assert named_so in caught.value.detail


def read(body: bytes, reader: Any) -> None:
    with named():
        reader(body, 1_000)


def test_a_flag_is_false_unless_it_is_given() -> None:
    assert not flag({}, "remove")
    assert flag({"remove": b"true"}, "remove")
