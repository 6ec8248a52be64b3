"""WebSocket streams through uvicorn on loopback, with a stock client."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from headgate.core.client.limits import Limits
from tests.integration.gateway_twin import Gateway, frames_of, gateway, until


async def follow(gate: Gateway, query: str, skip: int = 3) -> ClientConnection:
    socket = await connect(gate.ws(f"/ws/subscribe?{query}"), max_queue=None)
    await frames_of(socket, skip)
    return socket


async def say(socket: ClientConnection, **frame: Any) -> dict[str, Any]:
    await socket.send(json.dumps(frame))
    return (await frames_of(socket, 1))[0]


async def closing(socket: ClientConnection) -> tuple[int, list[dict[str, Any]]]:
    frames = []
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionClosed):
            while True:
                frames.append(json.loads(await socket.recv()))
    assert socket.close_code is not None
    return socket.close_code, frames


async def test_a_subscriber_gets_what_is_published() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        async with connect(gate.ws("/ws/subscribe?topic_id=a&user=bob")) as socket:
            welcome, subscribed, presence = await frames_of(socket, 3)
            gate.owners.publish("a", 1, {"b": 2})
            messages = await frames_of(socket, 2)
        assert welcome["type"] == "welcome" and welcome["user_id"] == "bob" and len(welcome["connection_id"]) <= 64
        assert welcome["heartbeat"] == {"interval_ms": 30_000, "timeout_ms": 60_000}
        assert welcome["limits"]["topics"] == 128
        epoch = gate.owners.topics["a"].epoch
        expected = {"type": "subscribed", "topic_id": "a", "profile": "durable", "epoch": epoch, "seq": 0}
        assert subscribed == expected | {"first_seq": 1, "subscriber_count": 1}
        assert presence == {"type": "presence", "topic_id": "a", "subscribers": [], "count": 1}
        assert [(m["seq"], m["payload"]) for m in messages] == [(1, 1), (2, {"b": 2})]
        await until(lambda: gate.owners.topics["a"].count == 0)
        assert gate.service.hub.session_count == 0 and gate.service.hub.feeds == {}


async def test_frames_of_one_topic_are_one_piece_of_bytes_for_every_socket() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        sockets = [await follow(gate, "topic_id=a") for _ in range(20)]
        gate.owners.publish("a", *range(50))
        for socket in sockets:
            assert [m["seq"] for m in await frames_of(socket, 50)] == list(range(1, 51))
            await socket.close()
        assert gate.numbers.deliveries == {"durable": 1_000}
        assert gate.numbers.links == 50


async def test_several_topics_on_one_connection_keep_each_its_order() -> None:
    async with gateway() as gate:
        for topic in "abc":
            gate.owners.create(topic)
        socket = await follow(gate, "topic_id=a&topic_id=b&topic_id=c", 7)
        for n in range(1, 101):
            for topic in "abc":
                gate.owners.publish(topic, n)
        seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        for message in await frames_of(socket, 300):
            seen[message["topic_id"]].append(message["payload"])
        assert seen == {topic: list(range(1, 101)) for topic in "abc"}
        await socket.close()


@pytest.mark.parametrize("form", ["earliest", "last:40", "seq:10", "ts:1", "EPOCH:10"])
async def test_replay_meets_live_without_a_hole_or_a_repeat(form: str) -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        gate.owners.publish("a", *range(50))
        socket = await connect(gate.ws(f"/ws/subscribe?topic_id=a&from={form.replace('EPOCH', str(topic.epoch))}"))
        for n in range(50):
            gate.owners.publish("a", n)
        frames = await frames_of(socket, 3)
        first = 1 if form in ("earliest", "ts:1") else 11
        frames += await frames_of(socket, 50 - first + 1 + 1 + 50)
        messages = [f["seq"] for f in frames if f["type"] == "message"]
        assert messages == list(range(first, 101))
        (caught_up,) = [f for f in frames if f["type"] == "caught_up"]
        assert caught_up["seq"] >= 50
        assert frames[1].get("resumed") is (True if form.startswith(("seq", "EPOCH")) else None)
        await socket.close()


async def test_a_replay_longer_than_a_page_comes_whole() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        gate.owners.publish("a", *range(5_000))
        socket = await connect(gate.ws("/ws/subscribe?topic_id=a&from=earliest"))
        frames = await frames_of(socket, 3 + 5_000 + 1)
        assert [f["seq"] for f in frames if f["type"] == "message"] == list(range(1, 5_001))
        assert frames[-1] == {"type": "caught_up", "topic_id": "a", "seq": 5_000}
        await socket.close()


async def test_a_position_too_old_is_a_gap_and_what_is_left() -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        gate.owners.publish("a", *range(10))
        gate.owners.forget("a", 6)
        socket = await connect(gate.ws(f"/ws/subscribe?topic_id=a&from={topic.epoch}:2"))
        _, subscribed, _, gap, *messages, caught_up = await frames_of(socket, 10)
        assert (subscribed["resumed"], subscribed["reason"], subscribed["first_seq"]) == (False, "expired", 6)
        expected = {"type": "gap", "topic_id": "a", "from_seq": 3, "to_seq": 5, "count": 3}
        assert gap == expected | {"reason": "retention", "recoverable": False}
        assert [m["seq"] for m in messages] == [6, 7, 8, 9, 10] and caught_up["type"] == "caught_up"
        await socket.close()


@pytest.mark.parametrize(("position", "reason", "replayed"), [("1:3", "epoch_changed", 3), ("seq:9", "ahead", 0)])
async def test_a_position_that_does_not_fit_is_said(position: str, reason: str, replayed: int) -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        gate.owners.publish("a", 1, 2, 3)
        socket = await connect(gate.ws(f"/ws/subscribe?topic_id=a&from={position}"))
        _, subscribed, _, *messages = await frames_of(socket, 3 + replayed + 1)
        assert (subscribed["resumed"], subscribed["reason"]) == (False, reason)
        assert [m["type"] for m in messages] == ["message"] * replayed + ["caught_up"]
        await socket.close()


async def test_an_ephemeral_topic_has_no_seq_and_no_replay() -> None:
    async with gateway() as gate:
        gate.owners.create("a", settings={"profile": "ephemeral", "presence": "none"})
        socket = await connect(gate.ws("/ws/subscribe?topic_id=a&from=last:5"))
        _, subscribed, caught_up = await frames_of(socket, 3)
        assert "resumed" not in subscribed and caught_up["type"] == "caught_up", "no place was named"
        await socket.close()
        socket = await connect(gate.ws("/ws/subscribe?topic_id=a&from=seq:5"))
        _, subscribed, caught_up = await frames_of(socket, 3)
        assert subscribed["profile"] == "ephemeral" and "first_seq" not in subscribed
        assert (subscribed["resumed"], subscribed["reason"], caught_up["type"]) == (False, "ephemeral", "caught_up")
        gate.owners.publish("a", "x")
        (message,) = await frames_of(socket, 1)
        assert message["payload"] == "x" and "seq" not in message
        await socket.close()


async def test_subscribe_and_unsubscribe_by_frame() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        socket = await follow(gate, "", 1)
        assert (await say(socket, type="subscribe", topic_id="a", presence=False, id=7))["id"] == 7
        again = await say(socket, type="subscribe", topic_id="a", id="x")
        assert (again["type"], again["code"], again["id"], again["topic_id"]) == (
            "error",
            "already_subscribed",
            "x",
            "a",
        )
        gone = await say(socket, type="unsubscribe", topic_id="a")
        assert gone == {"type": "unsubscribed", "topic_id": "a", "reason": "requested"}
        assert gate.owners.topics["a"].count == 0
        assert (await say(socket, type="unsubscribe", topic_id="a"))["code"] == "not_found"
        assert (await say(socket, type="subscribe", topic_id="a"))["type"] == "subscribed"
        await socket.close()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "nonsense"}, "unknown_type"),
    ({"type": "publish", "topic_id": "a", "payload": 1}, "unknown_type"),
    ({"type": "ack", "topic_id": "a", "seq": 1}, "not_found"),
    ({"type": "read", "topic_id": "a", "seq": 1}, "not_found"),
    ({"type": "read", "topic_id": "a", "seq": True}, "bad_request"),
    ({"type": "ack", "topic_id": "a"}, "bad_request"),
    ({"type": "ack", "topic_id": "a", "seq": "1"}, "bad_request"),
    ({"type": "nack", "topic_id": "a", "seq": 1, "reason": 5}, "bad_request"),
    ({"type": "typing"}, "bad_request"),
    ({"type": "subscribe"}, "bad_request"),
    ({"type": "subscribe", "topic_id": "/"}, "invalid_topic_id"),
    ({"type": "subscribe", "topic_id": 5}, "invalid_topic_id"),
    ({"type": "subscribe", "topic_id": "b"}, "topic_not_found"),
    ({"type": "subscribe", "topic_id": "a", "from": "cursors"}, "bad_request"),
    ({"type": "subscribe", "topic_id": "a", "from": {"seq": -1}}, "bad_request"),
    ({"type": "subscribe", "topic_id": "a", "ack": 1}, "bad_request"),
    ({"type": "subscribe", "topic_id": "a", "presence": "true"}, "bad_request"),
    ({"type": "subscribe", "topic_id": "a", "device_id": ""}, "bad_request"),
    ({"type": "ping", "id": 1.5}, "bad_request"),
    ({"type": "presence", "topic_id": "a"}, "not_found"),
    ({"type": "nack", "topic_id": "a", "seq": 1}, "not_found"),
]


async def test_what_is_wrong_is_an_error_and_the_connection_stays() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        socket = await follow(gate, "", 1)
        for frame, code in BAD:
            answer = await say(socket, **({"id": 3} | frame))
            assert (answer["type"], answer["code"], answer["retryable"]) == ("error", code, False), frame
            assert answer.get("id") == (3 if frame.get("id") is None else None) and answer["message"]
        assert await say(socket, type="ping", t=[1], id="p") == {"type": "pong", "id": "p", "t": [1]}
        await socket.send(b'{"type":"ping"}')
        assert await frames_of(socket, 1) == [{"type": "pong"}]
        await socket.close()


@pytest.mark.parametrize("data", ["no", "[]", '{"type":5}', "{}", b"\xff", "[" * 60_000])
async def test_no_frame_of_ours_ends_with_4400(data: str | bytes) -> None:
    async with gateway() as gate:
        socket = await follow(gate, "", 1)
        await socket.send(data)
        code, frames = await closing(socket)
        expected = {"type": "disconnect", "code": 4400, "reason": "bad frame", "reconnect": False}
        assert code == 4400 and frames == [expected]


async def test_topics_of_the_query_are_answered_in_order() -> None:
    async with gateway() as gate:
        for topic in "ab":
            gate.owners.create(topic)
        socket = await follow(gate, "topic_id=a&topic_id=x&topic_id=~&topic_id=a&topic_id=b&presence=false", 1)
        frames = await frames_of(socket, 5)
        assert [(f["type"], f.get("code")) for f in frames] == [
            ("subscribed", None),
            ("error", "topic_not_found"),
            ("error", "invalid_topic_id"),
            ("error", "already_subscribed"),
            ("subscribed", None),
        ]
        await socket.close()


async def test_topics_of_a_connection_are_limited() -> None:
    async with gateway(limits=Limits(topics=2), auto_create=True) as gate:
        socket = await follow(gate, "topic_id=a&topic_id=b&topic_id=c&presence=false", 1)
        assert [f.get("code") for f in await frames_of(socket, 3)] == [None, None, "limit_reached"]
        await socket.close()


async def test_a_flood_of_control_frames_is_not_obeyed() -> None:
    async with gateway(limits=Limits(control_burst=5, control_per_s=0.001)) as gate:
        socket = await follow(gate, "", 1)
        for _ in range(5):
            assert (await say(socket, type="ping"))["type"] == "pong"
        assert (await say(socket, type="ping"))["code"] == "rate_limited"
        for _ in range(19):
            gate.clock.ahead += 0.5
            assert (await say(socket, type="ping"))["code"] == "rate_limited"
        gate.clock.ahead += 0.6
        await socket.send('{"type":"ping"}')
        code, _ = await closing(socket)
        assert code == 4503


async def test_a_deleted_topic_ends_its_subscriptions() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        socket = await follow(gate, "topic_id=a")
        gate.owners.publish("a", 1)
        gate.owners.delete("a")
        message, ended = await frames_of(socket, 2)
        assert message["type"] == "message"
        assert ended == {"type": "unsubscribed", "topic_id": "a", "reason": "deleted"}
        gate.owners.create("a")
        assert (await say(socket, type="subscribe", topic_id="a"))["epoch"] == gate.owners.topics["a"].epoch
        await socket.close()


async def test_a_subscribe_while_the_owner_is_away_is_answered_when_it_is_back() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        gate.owners.go()
        socket = await follow(gate, "topic_id=a", 1)
        assert (await say(socket, type="ping"))["type"] == "pong"
        gate.owners.come()
        assert (await frames_of(socket, 2))[0]["type"] == "subscribed"
        await socket.close()


async def test_a_subscribe_is_held_for_thirty_seconds() -> None:
    async with gateway() as gate:
        gate.owners.go()
        gate.owners.shards = 0
        socket = await follow(gate, "topic_id=a", 1)
        gate.forward(29)
        assert (await say(socket, type="ping"))["type"] == "pong"
        gate.forward(2)
        (error,) = await frames_of(socket, 1)
        assert (error["code"], error["retryable"], error["topic_id"]) == ("not_ready", True, "a")
        await socket.close()


async def test_live_subscriptions_see_nothing_of_a_change_of_owner() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        socket = await follow(gate, "topic_id=a")
        gate.owners.publish("a", 1)
        gate.owners.go()
        gate.owners.publish("a", 2, 3)
        gate.owners.come()
        gate.owners.publish("a", 4)
        assert [m["seq"] for m in await frames_of(socket, 4)] == [1, 2, 3, 4]
        await socket.close()


async def test_a_hole_is_filled_before_the_feed_goes_on() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        socket = await follow(gate, "topic_id=a")
        gate.owners.publish("a", 1)
        gate.owners.lose = True
        gate.owners.publish("a", 2, 3)
        gate.owners.lose = False
        gate.owners.publish("a", 4)
        assert [m["seq"] for m in await frames_of(socket, 4)] == [1, 2, 3, 4]
        await socket.close()


async def test_a_session_that_goes_while_its_subscribe_is_held_leaves_nothing() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        gate.owners.go()
        socket = await follow(gate, "topic_id=a", 1)
        await socket.close()
        await until(lambda: gate.service.hub.session_count == 0)
        gate.owners.come()
        assert gate.owners.topics["a"].count == 0 and gate.service.hub.feeds == {}


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    async with gateway() as gate:
        with pytest.raises(InvalidStatus) as refused:
            await connect(gate.ws(), additional_headers={"Origin": origin})
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body or b"")["code"] == "forbidden"
        await (await connect(gate.ws(), additional_headers={"Origin": f"http://{gate.address}"})).close()


async def test_a_drain_tells_every_session_and_takes_no_more() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        sockets = [await follow(gate, "topic_id=a") for _ in range(10)]
        async with asyncio.timeout(5):
            await gate.service.drain(0.2)
        for socket in sockets:
            code, (frame,) = await closing(socket)
            assert code == 4601 and (frame["code"], frame["reconnect"]) == (4601, True)
            assert 0 <= frame["retry_after_ms"] < 1_000
        with pytest.raises(InvalidStatus) as refused:
            await connect(gate.ws())
        assert refused.value.response.status_code == 503 and refused.value.response.headers["Retry-After"]
        assert gate.owners.topics["a"].count == 0


async def test_heartbeats_and_death() -> None:
    async with gateway() as gate:
        socket = await follow(gate, "", 1)
        gate.forward(59)
        assert (await say(socket, type="ping"))["type"] == "pong"
        gate.forward(58)
        assert gate.service.hub.session_count == 1
        gate.forward(4)
        code, (frame,) = await closing(socket)
        assert code == frame["code"] == 4602
