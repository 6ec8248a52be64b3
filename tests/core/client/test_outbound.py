"""Names and members of every frame that is not a message, to the letter of docs/protocol.md, section 4."""

import json
from typing import Any

import msgspec
import pytest

from headgate.core.client import outbound
from headgate.core.client.framing import ClientFrame
from headgate.core.client.limits import Limits
from headgate.core.wire.errors import Refusal
from headgate.core.wire.link import Subscribed


def members(frame: ClientFrame) -> dict[str, Any]:
    found = json.loads(frame.data)
    assert frame.name == found["type"] and b"\n" not in frame.data
    return {name: value for name, value in found.items() if name != "type"}


def granted(profile: str, resumed: bool | None = None, reason: str | None = None) -> Subscribed:
    return Subscribed(1, "a", 7, 9, 2, 5, 3, resumed, reason, {"profile": profile})


def test_welcome() -> None:
    frame = members(outbound.welcome("c", "bob", 5, 0.0, outbound.welcome_end(Limits(), 30.0), "x"))
    named = {"id", "connection_id", "user_id", "server_time", "reconnect_jitter", "heartbeat", "limits"}
    assert set(frame) == named and frame["reconnect_jitter"] == 0
    assert frame["heartbeat"] == {"interval_ms": 30_000, "timeout_ms": 60_000} and isinstance(frame["limits"], dict)


def test_subscribed() -> None:
    durable = members(outbound.subscribed(granted("durable"), "a", None))
    assert durable == {
        "topic_id": "a", "profile": "durable", "epoch": 7, "seq": 9, "first_seq": 2, "subscriber_count": 3
    }  # fmt: skip
    assert members(outbound.subscribed(granted("durable", True), "a", 4)) == durable | {"id": 4, "resumed": True}
    old = members(outbound.subscribed(granted("durable", False, "expired"), "a", None))
    assert old == durable | {"resumed": False, "reason": "expired"}
    assert "first_seq" not in members(outbound.subscribed(granted("ephemeral"), "a", None))


def test_gap() -> None:
    frame = outbound.gap("a", 7, 3, 5, reason="retention", recoverable=False)
    expected = {"topic_id": "a", "from_seq": 3, "to_seq": 5, "count": 3}
    assert members(frame) == expected | {"reason": "retention", "recoverable": False}
    assert frame.mark == "7:5"
    volatile = outbound.volatile_gap("a", 4, "slow_consumer")
    assert volatile.mark == "" and members(volatile)["count"] == 4 and "to_seq" not in members(volatile)


def test_the_small_ones() -> None:
    assert members(outbound.caught_up("a", 5)) == {"topic_id": "a", "seq": 5}
    assert members(outbound.unsubscribed("a", "deleted")) == {"topic_id": "a", "reason": "deleted"}
    assert members(outbound.presence("a", 2)) == {"topic_id": "a", "subscribers": [], "count": 2}
    assert members(outbound.read("a", "bob", 5, 0)) == {"topic_id": "a", "user_id": "bob", "seq": 5, "unread": 0}
    assert members(outbound.read("a", "bob", 5, None)) == {"topic_id": "a", "user_id": "bob", "seq": 5}
    assert members(outbound.inbox([{"topic_id": "a"}])) == {"topics": [{"topic_id": "a"}]}
    assert members(outbound.token_expiring(9)) == {"in_ms": 9}
    assert members(outbound.refreshed(1)) == {"id": 1}
    assert members(outbound.pong(None, msgspec.UNSET)) == {}
    assert members(outbound.pong("i", {"a": 1})) == {"id": "i", "t": {"a": 1}}


def test_error() -> None:
    refusal = Refusal("rate_limited", "slower", retry_after_ms=1_000)
    expected = {"id": 1, "topic_id": "a", "code": "rate_limited", "message": "slower", "retryable": True}
    assert members(outbound.error(refusal, 1, "a")) == expected | {"retry_after_ms": 1_000}
    assert members(outbound.error(Refusal("forbidden", "no"))) == {
        "code": "forbidden", "message": "no", "retryable": False
    }  # fmt: skip


@pytest.mark.parametrize("code", outbound.CLOSE_REASONS)
def test_disconnect_says_whether_to_come_back(code: int) -> None:
    frame = members(outbound.disconnect(code))
    assert frame == {"code": code, "reason": outbound.CLOSE_REASONS[code], "reconnect": code >= 4500}
    assert members(outbound.disconnect(code, retry_after_ms=5))["retry_after_ms"] == 5


def test_subscribed_carries_the_place_behind_which_delivery_begins() -> None:
    assert outbound.subscribed(granted("durable"), "a", None).mark == "7:5"
    assert outbound.subscribed(granted("durable", False, "expired"), "a", None).mark == "7:5"
    assert outbound.subscribed(granted("ephemeral"), "a", None).mark == ""
