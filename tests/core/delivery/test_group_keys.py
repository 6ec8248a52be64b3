"""Keys of messages, and who gets which."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headgate.core.delivery.group_keys import hash_of, key_in, member_of
from headgate.core.publish.body import PublishBody, frame_tail, read_publish
from headgate.core.wire.frames import frame_again, message_frame

ID = bytes(16)


def frame(body: PublishBody, publisher: str = 'a"\\b') -> bytes:
    return message_frame("t", 7, 9, frame_tail(ID, publisher, body))


def members(*names: str) -> list[tuple[int, str]]:
    return [(hash_of(name.encode()), name) for name in names]


@given(st.text(min_size=1, max_size=256).filter(lambda text: text.isprintable()))
def test_the_key_is_found_whatever_it_is(key: str) -> None:
    body = read_publish(json.dumps({"key": key, "payload": {"key": "other"}}, ensure_ascii=False).encode(), 9_999)
    assert json.loads(key_in(frame_again(frame(body), 2))) == key
    assert json.loads(frame(body))["key"] == key


def test_a_message_without_a_key_has_its_id() -> None:
    body = read_publish(b'{"payload":{"message_id":"x","key":"y"}}', 999)
    assert key_in(frame(body)) == b'"00000000-0000-0000-0000-000000000000"'
    assert key_in(b'{"type":"message"}') == b""


def test_nobody_is_a_member() -> None:
    assert member_of(hash_of(b"k"), []) is None


def test_keys_are_spread_and_only_those_of_who_goes_move() -> None:
    three, two = members("a", "b", "c"), members("a", "c")
    keys = [hash_of(b"%d" % n) for n in range(3_000)]
    shares = Counter(member_of(key, three) for key in keys)
    assert all(800 < count < 1_200 for count in shares.values()), shares
    for key in keys:
        before = member_of(key, three)
        assert member_of(key, reversed(three)) == before
        if before != "b":
            assert member_of(key, two) == before
