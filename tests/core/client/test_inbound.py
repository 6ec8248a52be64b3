"""What a client's frame means, on values, and how many of them."""

from typing import Any

import msgspec
import pytest

from headgate.core.client.inbound import (
    MAX_ID_BYTES,
    NO_REASON,
    Ack,
    Allowance,
    Auth,
    BadFrame,
    MarkRead,
    Nack,
    Ping,
    RequestPresence,
    Subscribe,
    Unsubscribe,
    command,
    open_envelope,
    subscribe_from_query,
)
from headgate.core.client.limits import Limits
from headgate.core.wire.errors import Refusal
from headgate.core.wire.position import Position


def read(**frame: Any) -> Any:
    return command(open_envelope(msgspec.json.encode(frame)))


@pytest.mark.parametrize("data", [b"", b"{", b"5", b"[]", b"{}", b'{"type":null}', b'{"type":1}', b"\xff", b"[" * 9999])
def test_no_object_with_a_type_is_a_bad_frame(data: bytes) -> None:
    with pytest.raises(BadFrame):
        open_envelope(data)


@pytest.mark.parametrize("odd", ["1e999", '"\\ud800"', "[-1e999]", '{"a":"\\udc00"}'])
def test_a_value_that_the_decoder_refuses_harms_only_its_own_member(odd: str) -> None:
    frame = f'{{"type": "subscribe", "topic_id": "a", "x": {odd}}}'
    assert command(open_envelope(frame.encode())) == Subscribe("a", None, True)
    for member, code in (("id", "bad_request"), ("topic_id", "invalid_topic_id"), ("from", "bad_request")):
        with pytest.raises(Refusal) as refused:
            command(open_envelope(b'{"type":"subscribe","topic_id":"b","%b":%b}' % (member.encode(), odd.encode())))
        assert refused.value.code == code
    ping = command(open_envelope(b'{"type":"ping","t":%b}' % odd.encode()))
    assert isinstance(ping, Ping) and msgspec.json.encode(ping.t) == odd.encode()
    for bad in (b'{"type":%b}', b'{"x":%b}', b"[%b]", b'{"type":"ping","x":%b', b'{"type":"ping","x":%b,"y":"\xff"}'):
        with pytest.raises(BadFrame):
            open_envelope(bad % odd.encode())


@pytest.mark.parametrize(
    "frame_id", ["", "x" * MAX_ID_BYTES, "\u00e9" * (MAX_ID_BYTES // 2), 0, -(2**63), 2**64 - 1, 2**53 + 1]
)
def test_an_id_within_its_bound_is_kept_as_it_is(frame_id: str | int) -> None:
    frame = open_envelope(msgspec.json.encode({"type": "ping", "id": frame_id}))
    assert (frame.id, type(frame.id), frame.bad_id) == (frame_id, type(frame_id), False)


def test_an_id_above_its_bound_is_not_kept() -> None:
    frame = open_envelope(msgspec.json.encode({"type": "ack", "topic_id": "a", "seq": 1, "id": "x" * 60_000}))
    assert (frame.id, frame.bad_id) == (None, True)


def test_good_frames() -> None:
    assert read(type="auth", token="t") == Auth("t")
    assert read(type="subscribe", topic_id="a") == Subscribe("a", None, True)
    assert read(type="subscribe", topic_id="a", **{"from": {"seq": 5}}) == Subscribe("a", Position("seq", -1, 5), True)
    assert read(type="subscribe", topic_id="a", presence=False, ack=False, device_id="d") == Subscribe(
        "a", None, False, "d"
    )
    assert read(type="unsubscribe", topic_id="a", more=1) == Unsubscribe("a")
    assert read(type="presence", topic_id="a") == RequestPresence("a")
    assert read(type="read", topic_id="a", seq=2**53 - 1) == MarkRead("a", 2**53 - 1)
    assert read(type="ping", t=None) == Ping(None) and read(type="ping") == Ping(msgspec.UNSET)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "x"}, "unknown_type"),
        ({"type": "x", "id": []}, "unknown_type"),
        ({"type": "ping", "id": True}, "bad_request"),
        ({"type": "ping", "id": {}}, "bad_request"),
        ({"type": "ping", "id": "x" * (MAX_ID_BYTES + 1)}, "bad_request"),
        ({"type": "ping", "id": "\u00e9" * (MAX_ID_BYTES // 2 + 1)}, "bad_request"),
        ({"type": "ping", "id": 2**64}, "bad_request"),
        ({"type": "ping", "id": -(2**63) - 1}, "bad_request"),
        ({"type": "auth"}, "bad_request"),
        ({"type": "refresh", "token": 5}, "bad_request"),
        ({"type": "subscribe"}, "bad_request"),
        ({"type": "subscribe", "topic_id": None}, "invalid_topic_id"),
        ({"type": "subscribe", "topic_id": "a", "from": "cursors"}, "bad_request"),
        ({"type": "subscribe", "topic_id": "a", "from": None}, "bad_request"),
        ({"type": "subscribe", "topic_id": "a", "from": {"seq": 1.5}}, "bad_request"),
        ({"type": "subscribe", "topic_id": "a", "presence": "false"}, "bad_request"),
        ({"type": "subscribe", "topic_id": "a", "ack": 0}, "bad_request"),
        ({"type": "subscribe", "topic_id": "a", "device_id": "é"}, "bad_request"),
        ({"type": "ack", "topic_id": "a", "seq": -1}, "bad_request"),
        ({"type": "ack", "topic_id": "a", "seq": True}, "bad_request"),
        ({"type": "ack", "seq": 0}, "bad_request"),
        ({"type": "read", "topic_id": "a"}, "bad_request"),
        ({"type": "read", "topic_id": "a", "seq": 2**53}, "bad_request"),
        ({"type": "read", "topic_id": "/", "seq": 1}, "invalid_topic_id"),
        ({"type": "nack", "topic_id": "a", "seq": "1"}, "bad_request"),
        ({"type": "typing"}, "bad_request"),
        ({"type": "status"}, "bad_request"),
        ({"type": "status", "state": "busy"}, "bad_request"),
        ({"type": "status", "state": ["away"]}, "bad_request"),
    ],
)
def test_bad_frames(frame: dict[str, Any], code: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(**frame)
    assert refused.value.code == code


def test_an_error_names_the_topic_only_where_it_could_be_one() -> None:
    assert open_envelope(b'{"type":"x","topic_id":"/"}').topic_id == "/"
    assert open_envelope(b'{"type":"x","topic_id":5}').topic_id is None
    assert open_envelope(b'{"type":"x","topic_id":"%b"}' % (b"a" * 129)).topic_id is None


def test_acknowledgements() -> None:
    assert read(type="ack", topic_id="a", seq=0) == Ack("a", 0)
    assert read(type="nack", topic_id="a", seq=7, reason="busy") == Nack("a", 7, "busy")
    assert read(type="nack", topic_id="a", seq=7, reason=None) == Nack("a", 7, NO_REASON)
    wanted = read(type="subscribe", topic_id="a", ack=True)
    assert isinstance(wanted, Subscribe)
    assert (wanted.ack, wanted.needs_cursor, wanted.position) == (True, True, None)
    wanted = subscribe_from_query("a", {"from": "cursor", "ack": "false"})
    assert (wanted.ack, wanted.needs_cursor) == (False, True)
    assert not subscribe_from_query("a", {"from": "earliest"}).needs_cursor


def test_queries() -> None:
    assert subscribe_from_query("a", {}) == Subscribe("a", None, True)
    query = {"from": "7:5", "presence": "false", "ack": "false", "device_id": "d"}
    assert subscribe_from_query("a", query) == Subscribe("a", Position("seq", 7, 5), False, "d")
    for bad in ({"from": ""}, {"ack": "1"}, {"presence": "1"}, {"presence": ""}, {"device_id": ""}):
        with pytest.raises(Refusal) as refused:
            subscribe_from_query("a", bad)
        assert refused.value.code == "bad_request"


def test_ten_a_second_with_a_burst_of_150() -> None:
    limits, bucket = Limits(), Allowance(0.0, Limits())
    assert [bucket.take(0.0, limits) for _ in range(151)] == [True] * 150 + [False]
    assert [bucket.take(1.0, limits) for _ in range(11)] == [True] * 10 + [False]
    assert sum(bucket.take(100.0, limits) for _ in range(200)) == 150


def test_an_excess_that_goes_on_for_ten_seconds() -> None:
    limits = Limits(control_burst=1, control_per_s=1)
    bucket, now = Allowance(0.0, limits), 0.0
    ended = []
    for _ in range(25):  # two a second: one of them too many
        now += 0.5
        if not bucket.take(now, limits):
            ended.append((now, bucket.exhausted(now, limits)))
    assert next(at for at, over in ended if over) - ended[0][0] >= 10
    bucket = Allowance(0.0, limits)
    for at in (0.0, 20.0, 40.0):  # each a new excess
        assert bucket.take(at, limits) and not bucket.take(at + 0.1, limits)
        assert not bucket.exhausted(at + 0.1, limits)
