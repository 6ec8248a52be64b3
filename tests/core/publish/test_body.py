"""Reading a publish: what is taken, what is named when it is refused, and the bytes of the frame's tail."""

import json
from math import inf, isinf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.publish.body import (
    PublishBody,
    frame_tail,
    read_item,
    read_object,
    read_publish,
    read_topic_id,
)
from headgate.core.wire.errors import Refusal
from headgate.core.wire.frames import message_frame
from headgate.core.wire.ids import id_text
from tests.core.json_texts import STRINGS, VALUES, compacted, depth_of, is_json, spaced

LIMIT = 65_536
ID = bytes(range(16))


def refused(raw: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_publish(raw, LIMIT)
    return caught.value


def test_the_payload_is_compacted_and_not_parsed() -> None:
    raw = b'{ "priority": "LOW", "payload" : { "b":1e5 , "a": [ 1 ] }, "client_msg_id": "c", "else": {"x": []} }'
    assert read_publish(raw, LIMIT) == PublishBody(b'{"b":1e5,"a":[1]}', "c", True, b"")
    assert read_publish(b'{"payload":null,"priority":null,"client_msg_id":null}', LIMIT) == PublishBody(
        b"null", None, False, b""
    )


@pytest.mark.parametrize(
    ("member", "detail"),
    [
        ('"client_msg_id": 1', "client_msg_id: Expected"),
        ('"client_msg_id": "\\u00e9"', "client_msg_id must be"),
        ('"client_msg_id": "a\\nb"', "client_msg_id must be"),
        ('"priority": "HIGH"', "priority: Invalid"),
        ('"priority": 1', "priority: Expected"),
        ('"parent_message_id": "no"', "parent_message_id must be"),
        ('"parent_version": 0', "parent_version: Expected"),
        ('"attachments": 1', "attachments: Expected"),
        ('"attachments": [{}]', "attachments[0]: Object missing required field `url`"),
        ('"attachments": [{"url": "u", "size": -1}]', "attachments[0].size: Expected"),
        ('"attachments": [1]', "attachments[0]: Expected"),
        ('"attachments": [{"url": "javascript:alert(1)"}]', "attachments[0].url: Expected"),
        ('"attachments": [{"url": "JaVaScRiPt:1"}]', "attachments[0].url: Expected"),
        ('"attachments": [{"url": "java\\tscript:1"}]', "attachments[0].url: Expected"),
        ('"attachments": [{"url": " javascript:1"}]', "attachments[0].url: Expected"),
        ('"attachments": [{"url": "\\u0001javascript:1"}]', "attachments[0].url: Expected"),
        ('"attachments": [{"url": "data:text/html,x"}]', "attachments[0].url: Expected"),
        ('"attachments": [{"url": "file:///etc/passwd"}]', "attachments[0].url: Expected"),
        ('"attachments": [{"url": "https://x/a b"}]', "attachments[0].url: Expected"),
        ('"attachments": [{"url": "u\\n"}]', "attachments[0].url: Expected"),
    ],
)
def test_a_wrong_member_is_named(member: str, detail: str) -> None:
    for payload in ("1", '"\\ud800"'):  # also where msgspec cannot read the body
        refusal = refused(f'{{"payload": {payload}, {member}}}'.encode())
        assert refusal.code == "bad_request"
        assert refusal.detail.startswith(detail)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"1", b'"\\ud800"', b"\xff", b'{"payload":1}}', b'{"payload":tru}'])
def test_what_is_no_object_is_a_bad_request(raw: bytes) -> None:
    assert refused(raw).code == "bad_request"


def test_without_a_payload() -> None:
    for raw in (b"{}", b'{"client_msg_id":"c"}', b'{"x":"\\ud800"}'):
        assert refused(raw).code == "invalid_payload"


def test_the_body_is_nested_64_deep_at_most() -> None:
    assert read_publish(b'{"payload":' + b"[" * 63 + b"]" * 63 + b"}", LIMIT)
    for depth in (64, 500, 50_000):
        assert "deeper than 64" in refused(b'{"payload":' + b"[" * depth + b"]" * depth + b"}").detail
    assert "deeper than 64" in refused(b'{"payload":1,"x":' + b"[" * 64 + b"]" * 64 + b"}").detail


def test_size_is_that_of_the_text_without_whitespace() -> None:
    fits = b'"' + b"x" * (LIMIT - 2) + b'"'
    assert read_publish(b'{"payload":   ' + fits + b"  }", LIMIT).payload == fits
    assert refused(b'{"payload":"x' + fits[1:] + b"}").code == "too_large"
    attached = b',"attachments":[{"url":"u"}]}'
    assert refused(b'{"payload":' + fits + attached).code == "too_large"


def test_the_tail_completes_a_frame() -> None:
    raw = (
        b'{"payload":{"a": "\\ud800"},"parent_message_id":"' + id_text(ID).encode() + b'","parent_version":3,'
        b'"attachments":[{"name":"n","url":"u","content_type":"t/x","size":5,"secret":1}]}'
    )
    frame = message_frame("t", 7, 9, frame_tail(ID, 'q"é', read_publish(raw, LIMIT)))
    assert json.loads(frame) == {
        "type": "message",
        "topic_id": "t",
        "seq": 7,
        "ts": 9,
        "message_id": id_text(ID),
        "publisher_id": 'q"é',
        "payload": {"a": "\ud800"},
        "parent_message_id": id_text(ID),
        "parent_version": 3,
        "attachments": [{"url": "u", "name": "n", "content_type": "t/x", "size": 5}],
    }
    assert frame_tail(ID, "u", PublishBody(b"1", None, False, b"")) == (
        b'"message_id":"%b","publisher_id":"u","payload":1}' % id_text(ID).encode()
    )


def test_the_topic_of_a_batch_item() -> None:
    assert read_topic_id(b'{"payload":[1],"topic_id":"t"}') == "t"
    assert read_topic_id(b'{"payload":"\\ud800","topic_id":"t"}') == "t"
    for raw in (
        b"{}",
        b'{"topic_id":null}',
        b'{"topic_id":5}',
        b"[]",
        b"{",
        b"\xff",
        b'{"payload":"\\ud800","topic_id":5}',
    ):
        with pytest.raises(Refusal, match="bad_request"):
            read_topic_id(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"topic_id":"t","payload":[1, 2]}',
        b'{"payload":{"a": 1},"topic_id":"t","client_msg_id":"c","key":"k","priority":"LOW","parent_version":2}',
        b'{"topic_id":"t\\u00e9","topic_id":"two","payload":"\xc3\xa9","attachments":[{"url":"/a"}]}',
        b'{"topic_id":"t","payload":"\\ud800"}',
        b'{"topic_id":"t","payload":1,"priority":"HIGH"}',
        b'{"topic_id":"t"}',
        b'{"topic_id":5,"payload":1}',
        b'{"topic_id":null,"payload":1}',
        b'{"payload":1}',
        b'{"topic_id":"t","payload":"\xff"}',
        b'{"topic_id":"t","payload":' + b"[" * 64 + b"]" * 64 + b"}",
        b'{"topic_id":"t","payload":"' + b"x" * 200 + b'"}',
        b'["topic_id"]',
        b"",
    ],
)
def test_an_item_is_read_in_one_pass_as_in_two(raw: bytes) -> None:
    found = read_item(raw, LIMIT)
    try:
        apart = read_publish(raw, LIMIT), read_topic_id(raw)
    except Refusal:
        assert found is None  # then the two say what is wrong
    else:
        assert found == apart or (found is None and b"ud800" in raw)


def test_other_bodies_are_objects() -> None:
    assert read_object(b' {"a": [1]} ') == {"a": [1]}
    for raw in (b"[]", b"", b"{", b'"\xff"', b"[" * 100):
        with pytest.raises(Refusal, match="bad_request"):
            read_object(raw)


@pytest.mark.parametrize("value", [b"1e400", b'"\\ud800"', b"-1e999", b'[["\\udfff"]]', b"1" * 400])
def test_a_value_that_cannot_be_held_makes_no_other_member_unreadable(value: bytes) -> None:
    found = read_object(b'{"name": "n", "x": %b, "\\ud800": 1, "settings": {"burst": %b, "per_s": 1}}' % (value, value))
    assert (found["name"], found["settings"]["per_s"]) == ("n", 1)
    assert found["x"] == found["settings"]["burst"]
    (held,) = found["x"][0] if isinstance(found["x"], list) else (found["x"],)
    assert isinstance(held, float) and isinf(held)
    with pytest.raises(Refusal, match="not JSON"):
        read_object(b'{"name": "n", "x": %b' % value)
    with pytest.raises(Refusal, match="must be a JSON object"):
        read_object(b"[%b]" % value if value.startswith(b'"') else b'["\\ud800"]')


def test_beside_a_value_that_cannot_be_held_the_others_are_what_they_are() -> None:
    rest = (
        b'"n": 5, "m": -9007199254740991, "f": 0.5, "t": "\\ud83d\\ude00\\u00e9\\"", "b": [true, null], "m2": {"a": {}}'
    )
    assert read_object(b'{"x": "a\\uDC00", %b}' % rest) == read_object(b'{"x": 1e400, %b}' % rest)
    assert read_object(b'{"x": 1e400, %b}' % rest) == {"x": inf} | read_object(b"{%b}" % rest)
    for constant in (b"NaN", b"Infinity", b"01", b'"\n"', b"'a'"):
        with pytest.raises(Refusal, match="not JSON"):
            read_object(b'{"x": 1e400, "y": %b}' % constant)


@given(st.lists(st.tuples(STRINGS | st.just('"payload"') | st.just('"pa\\u0079load"'), VALUES), max_size=5), st.data())
def test_a_publish_is_read_as_a_slow_reader_does(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    text = "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"
    written = spaced(text, data.draw(st.randoms(use_true_random=False)))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(written) - 1))
        written = written[:at] + written[at + 1 :]
    raw = written.encode()
    try:
        carried = read_publish(raw, LIMIT).payload.decode()
    except Refusal as refusal:
        if not is_json(raw) or not isinstance(json.loads(raw), dict) or depth_of(written) > 64:
            assert refusal.code == "bad_request"
        else:
            assert refusal.code == "invalid_payload" and "payload" not in json.loads(raw)
    else:
        assert is_json(raw)
        assert json.loads(carried) == json.loads(raw)["payload"]
        assert carried == compacted(carried) and carried in compacted(written)


def test_a_byte_order_mark_is_named() -> None:
    for mark in (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"):
        assert "byte order mark" in refused(mark + b'{"payload":1}').detail
        with pytest.raises(Refusal, match="byte order mark"):
            read_object(mark + b"{}")
        with pytest.raises(Refusal, match="byte order mark"):
            read_topic_id(mark + b'{"topic_id":"t"}')
