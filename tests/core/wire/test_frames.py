"""The message frame is the client's JSON: head and tail make one object."""

import json

from headgate.core.wire.frames import (
    edit_frame,
    ephemeral_frame,
    frame_again,
    message_frame,
    message_id_in,
    publisher_in,
    replayed_frame,
)

TAIL = b'"message_id":"m","publisher_id":"u","payload":[1]}'
TEXT = "2023-11-14T22:13:20.007Z"
REST = {"message_id": "m", "publisher_id": "u", "payload": [1]}


def test_a_durable_message_has_seq_and_time() -> None:
    frame = message_frame("a.b:c-d_e", 7, 9, TAIL)
    assert json.loads(frame) == {"type": "message", "topic_id": "a.b:c-d_e", "seq": 7, "ts": 9, **REST}


def test_the_id_of_a_message_is_found_whatever_its_payload_holds() -> None:
    odd = b'"message_id":"m-1","payload":{"message_id":"no","n":1e999,"s":"\\ud800"}}'
    for frame in (message_frame("t", 7, 9, odd), ephemeral_frame("t", 9, odd), edit_frame("t", 7, 9, odd), odd):
        assert message_id_in(frame) == "m-1"
    assert message_id_in(b"{}") is None


def test_the_publisher_is_read_where_the_server_wrote_it_and_nowhere_else() -> None:
    def frame(tail: bytes) -> bytes:
        return message_frame("t", 7, 9, tail)

    assert publisher_in(frame(b'"message_id":"m","publisher_id":"a\\"b","payload":{"n":1e999,"s":"\\ud800"}}')) == 'a"b'
    inner = b'{"message_id":"x","publisher_id":"eve"}'
    assert publisher_in(frame(b'"message_id":"m","payload":%b}' % inner)) == ""
    assert publisher_in(frame(b'"message_id":"m","publisher_id":"\\ud800","payload":1}')) == ""
    assert publisher_in(b"{}") == ""


def test_an_ephemeral_message_has_no_seq() -> None:
    assert json.loads(ephemeral_frame("t", 9, TAIL)) == {"type": "message", "topic_id": "t", "ts": 9, **REST}


def test_the_seq_comes_before_everything_that_a_publisher_wrote() -> None:
    frame = message_frame("t", 7, 9, TAIL)
    assert frame.index(b'"seq":7') < frame.index(TAIL)


def test_the_frame_of_an_edit_says_when_it_was_made() -> None:
    frame = edit_frame("t", 7, 1_700_000_000_007, TAIL)
    assert json.loads(frame) == {**json.loads(message_frame("t", 7, 1_700_000_000_007, TAIL)), "edited_at": TEXT}
    assert frame.endswith(TAIL)


def test_a_frame_that_is_sent_again_says_which_delivery_it_is() -> None:
    frame = message_frame("t", 7, 9, TAIL)
    assert frame_again(frame, 1) is frame
    assert json.loads(frame_again(frame, 2)) == json.loads(frame) | {"attempt": 2}
    assert json.loads(replayed_frame(frame, 1)) == json.loads(frame) | {"attempt": 1}
