"""SSE streams and plain HTTP through uvicorn on loopback, over a bare socket: every byte as it is."""

import asyncio
import json
from typing import Any

import pytest

from headgate.core.client.limits import Limits
from headgate.runtime.links.port import AnswerLost
from tests.integration.gateway_twin import Gateway, gateway, until
from tests.integration.http_twin import rest_of


class Client:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, gate: Gateway) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", gate.server.port))

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: Any) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(5):
            raw = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = [line.split(": ", 1) for line in raw[1:] if line]
        return int(raw[0].split(" ")[1]), {name.lower(): value for name, value in fields}

    async def event(self) -> dict[str, Any]:
        """Reads the next event; comments count as events of their own."""
        async with asyncio.timeout(5):
            raw = (await self.reader.readuntil(b"\n\n")).decode()[:-2]
        found: dict[str, Any] = {}
        for line in raw.split("\n"):
            name, _, value = line.partition(":")
            found[name or "comment"] = value.removeprefix(" ")
        if "data" in found:
            found["data"] = json.loads(found["data"])
        return found

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        status, headers = await self.head()
        async with asyncio.timeout(5):
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return status, headers, json.loads(body) if body else None

    async def rest(self) -> bytes:
        rest = await rest_of(self.reader)
        self.close()
        return rest

    def close(self) -> None:
        self.writer.close()


async def stream(gate: Gateway, path: str, events: int = 4, **headers: Any) -> tuple[Client, list[dict[str, Any]]]:
    client = await Client.to(gate)
    client.ask(path, **headers)
    status, found = await client.head()
    assert status == 200 and found["content-type"].startswith("text/event-stream")
    assert (found["cache-control"], found["x-accel-buffering"]) == ("no-store, no-transform", "no")
    return client, [await client.event() for _ in range(events)]


async def test_a_stream_begins_with_welcome_and_carries_messages_by_default_name() -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        client, (retry, welcome, subscribed, presence) = await stream(gate, "/api/v1/topics/a/subscribe?user=bob")
        assert 1_000 <= int(retry["retry"]) <= 3_000
        assert [e["event"] for e in (welcome, subscribed, presence)] == ["welcome", "subscribed", "presence"]
        assert welcome["data"]["user_id"] == "bob" and subscribed["id"] == f"{topic.epoch}:0"
        gate.owners.publish("a", "é", 2)
        first, second = await client.event(), await client.event()
        assert (first["id"], first["data"]["payload"], "event" in first) == (f"{topic.epoch}:1", "é", False)
        assert second["id"] == f"{topic.epoch}:2"
        client.close()
        await until(lambda: topic.count == 0)


@pytest.mark.parametrize("path", ["/sse/subscribe?topic_id=a&", "/api/v1/topics/%61/subscribe?"])
@pytest.mark.parametrize("by", ["header", "query"])
async def test_last_event_id_resumes_and_wins_over_from(path: str, by: str) -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        gate.owners.publish("a", 1, 2, 3, 4)
        event_id = f"{topic.epoch}:2"
        headers = {"Last_Event_ID": event_id} if by == "header" else {}
        query = "" if by == "header" else f"&last_event_id={event_id}"
        client, events = await stream(gate, f"{path}from=earliest&presence=false{query}", 6, **headers)
        assert events[2]["data"]["resumed"] is True
        assert [e["data"]["seq"] for e in events[3:5]] == [3, 4]
        assert events[5]["event"] == "caught_up" and "id" not in events[5]
        client.close()


async def test_a_gap_carries_the_id_of_its_end() -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        gate.owners.publish("a", *range(10))
        gate.owners.forget("a", 6)
        client, events = await stream(gate, f"/sse/subscribe?topic_id=a&presence=false&last_event_id={topic.epoch}:2")
        assert (events[3]["event"], events[3]["id"]) == ("gap", f"{topic.epoch}:5")
        assert (events[3]["data"]["from_seq"], events[3]["data"]["to_seq"]) == (3, 5)
        client.close()


async def test_an_ephemeral_topic_has_no_ids() -> None:
    async with gateway() as gate:
        gate.owners.create("a", settings={"profile": "ephemeral"})
        client, _ = await stream(gate, "/sse/subscribe?topic_id=a")
        gate.owners.publish("a", 1)
        event = await client.event()
        assert event["data"]["payload"] == 1 and set(event) == {"data"}
        client.close()


REFUSED = [
    ("/api/v1/topics/b/subscribe", 404, "topic_not_found"),
    ("/api/v1/topics/b/subscribe?from=never", 404, "topic_not_found"),
    ("/api/v1/topics/a/subscribe?from=never", 400, "bad_request"),
    ("/api/v1/topics/a/subscribe?last_event_id=5", 400, "bad_request"),
    ("/api/v1/topics/a/subscribe?last_event_id=last:5", 400, "bad_request"),
    ("/api/v1/topics/a/subscribe?ack=true", 400, "bad_request"),
    ("/api/v1/topics/a%2Fb/subscribe", 400, "invalid_topic_id"),
    ("/sse/subscribe", 400, "bad_request"),
    ("/sse/subscribe?topic_id=a&topic_id=a", 400, "bad_request"),
    ("/nothing", 404, "not_found"),
    ("/ws/subscribe", 426, "bad_request"),
    ("/connect?topic_id=a", 426, "bad_request"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "status", "code"), REFUSED)
async def test_what_does_not_heal_is_a_status(method: str, path: str, status: int, code: str) -> None:
    if method == "HEAD" and status == 426:
        status, code = 405, "method_not_allowed"
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        client.ask(path, method)
        got, headers = await client.head()
        assert (got, headers["content-type"]) == (status, "application/problem+json")
        if method == "HEAD":
            client.ask(path, "HEAD", Connection="close")
            assert await client.rest() == b"" or got in (404, 405)
        else:
            body = json.loads(await client.reader.readexactly(int(headers["content-length"])))
            assert (body["code"], body["status"]) == (code, status)
        assert gate.owners.topics["a"].count == 0
        client.close()


async def test_head_of_a_stream_tells_what_get_would_and_follows_nothing() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        client.ask("/api/v1/topics/a/subscribe", "HEAD")
        status, headers = await client.head()
        assert status == 200 and headers["content-type"].startswith("text/event-stream")
        assert await client.rest() == b"" and gate.owners.topics["a"].count == 0
        client.close()


@pytest.mark.parametrize(
    ("path", "allow"),
    [("/api/v1/topics/a/subscribe", "DELETE, GET, HEAD"), ("/sse/subscribe", "GET, HEAD"), ("/ws/subscribe", "GET")],
)
async def test_a_wrong_method_names_the_right_ones(path: str, allow: str) -> None:
    async with gateway() as gate:
        client = await Client.to(gate)
        client.ask(path, "POST", b"{}")
        status, headers, body = await client.answer()
        assert (status, headers["allow"], body["code"]) == (405, allow, "method_not_allowed")
        client.close()


async def test_one_connection_serves_requests_and_then_a_stream() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        for _ in range(3):
            client.ask("/nothing")
            assert (await client.answer())[0] == 404
        client.ask("/api/v1/topics/a/subscribe", "DELETE", b'{"connection_id":"x"}')
        assert (await client.answer())[2] == {"success": True, "ended": 0}
        client.writer.write(b"GET /sse/subscribe?topic_id=a HTTP/1.1\r\nHo")
        await asyncio.sleep(0.01)
        client.writer.write(b"st: localhost\r\n\r\n")
        assert (await client.head())[0] == 200
        for _ in range(4):
            await client.event()
        gate.owners.publish("a", 1)
        assert (await client.event())["data"]["payload"] == 1
        client.close()


async def test_a_request_sent_ahead_waits_for_its_turn() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client = await Client.to(gate)
        client.ask("/one")
        await client.writer.drain()
        client.ask("/sse/subscribe?topic_id=a")
        assert (await client.answer())[0] == 404
        assert (await client.head())[0] == 200
        client.close()


async def test_delete_without_the_users_owner_ends_those_here_and_says_that_others_may_be_left() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        mine, _ = await stream(gate, "/sse/subscribe?topic_id=a&user=bob")
        gate.owners.up = False
        client = await Client.to(gate)
        client.ask("/api/v1/topics/a/subscribe?user=bob", "DELETE")
        status, headers, problem = await client.answer()
        assert (status, problem["code"]) == (503, "not_ready") and headers["retry-after"]
        assert (await mine.event())["data"]["reason"] == "ended"
        mine.close()
        gate.owners.up = True
        client.ask("/api/v1/topics/a/subscribe?user=bob", "DELETE")
        assert (await client.answer())[::2] == (200, {"success": True, "ended": 0})
        client.close()


@pytest.mark.parametrize("how", ["silent", "lost"])
async def test_delete_that_the_users_owner_may_have_carried_out_is_504(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app._ANSWER_S", 0.05)
    async with gateway() as gate:
        gate.owners.create("a")

        def ask(*_: Any) -> "asyncio.Future[Any]":
            future = asyncio.get_running_loop().create_future()
            if how == "lost":
                future.set_exception(AnswerLost("not_ready", "the link was lost"))
            return future

        monkeypatch.setattr(gate.owners, "ask", ask)
        client = await Client.to(gate)
        client.ask("/api/v1/topics/a/subscribe?user=bob", "DELETE")
        status, _, problem = await client.answer()
        assert (status, problem["code"]) == (504, "outcome_unknown")
        client.close()


async def test_delete_with_a_key_that_is_none_ends_nothing() -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        mine, _ = await stream(gate, "/sse/subscribe?topic_id=a&user=bob")
        client = await Client.to(gate)
        client.ask("/api/v1/topics/a/subscribe?user=bob", "DELETE", Idempotency_Key="")
        status, _, problem = await client.answer()
        assert (status, problem["code"], topic.count) == (400, "bad_request", 1)
        client.close()
        mine.close()


async def test_delete_ends_the_callers_own_streams() -> None:
    async with gateway() as gate:
        topic = gate.owners.create("a")
        mine, _ = await stream(gate, "/sse/subscribe?topic_id=a&user=bob")
        other, _ = await stream(gate, "/sse/subscribe?topic_id=a&user=eve")
        client = await Client.to(gate)
        client.ask("/api/v1/topics/a/subscribe?user=bob", "DELETE")
        assert (await client.answer())[::2] == (200, {"success": True, "ended": 1})
        event = await mine.event()
        assert (event["event"], event["data"]["reason"]) == ("unsubscribed", "ended")
        assert await mine.rest() == b"" and topic.count == 1
        client.ask("/api/v1/topics/x/subscribe", "DELETE")
        assert (await client.answer())[0] == 404
        client.close()
        other.close()


async def test_what_heals_by_waiting_is_a_stream_that_ends() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        gate.owners.go()
        client = await Client.to(gate)
        client.ask("/sse/subscribe?topic_id=a")
        await until(lambda: gate.service.hub.session_count == 1)
        gate.forward(31)
        assert (await client.head())[0] == 200
        text = (await client.rest()).decode()
        assert text.startswith("retry: ") and "event: disconnect\n" in text and '"reconnect":true' in text
        gate.owners.come()
        live, _ = await stream(gate, "/sse/subscribe?topic_id=a")
        await gate.service.drain(0.0)
        assert '"code":4601' in (await live.rest()).decode()
        late = await Client.to(gate)
        late.ask("/sse/subscribe?topic_id=a")
        assert (await late.head())[0] == 200
        text = (await late.rest()).decode()
        assert text.startswith("retry: ") and "event: disconnect\n" in text
        assert gate.owners.topics["a"].count == 0


async def test_comments_keep_a_stream_open() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client, _ = await stream(gate, "/sse/subscribe?topic_id=a")
        gate.forward(46)
        assert [await client.event() for _ in range(3)] == [{"comment": ""}] * 3
        client.close()


async def test_a_deleted_topic_ends_the_stream_and_the_next_is_404() -> None:
    async with gateway() as gate:
        gate.owners.create("a")
        client, _ = await stream(gate, "/sse/subscribe?topic_id=a")
        gate.owners.delete("a")
        assert '"reason":"deleted"' in (await client.rest()).decode()
        client.close()


async def test_a_head_has_ten_seconds() -> None:
    async with gateway() as gate:
        slow, silent = await Client.to(gate), await Client.to(gate)
        slow.writer.write(b"GET /sse/subscribe?topic_id=a HTTP/1.1\r\nX: ")
        await until(lambda: gate.waiting_heads == 2 and gate.half_heads == 1)
        gate.forward(11)
        status, _, body = await slow.answer()
        assert (status, body["code"]) == (408, "request_timeout")
        assert await silent.rest() == b""
        slow.close()
        silent.close()


async def test_garbage_and_heads_too_large_are_refused() -> None:
    async with gateway(limits=Limits(head_bytes=2_000)) as gate:
        for data, status in ((b"\x16\x03\x01\x02", 400), (b"GET / HTTP/1.1\r\n" + b"x" * 3_000, 431)):
            client = await Client.to(gate)
            client.writer.write(data)
            assert (await client.head())[0] == status
            client.close()


@pytest.mark.parametrize("path", ["/api/v1/topics/a/subscribe", "/nothing"])
async def test_pages_of_allowed_origins_may_read(path: str) -> None:
    async with gateway(origins=("loopback",)) as gate:
        client = await Client.to(gate)
        client.ask(path, "OPTIONS", Origin="http://localhost:3000", Access_Control_Request_Method="GET")
        status, headers, _ = await client.answer()
        if path != "/nothing":
            assert (status, headers["access-control-allow-origin"]) == (204, "http://localhost:3000")
        client.ask("/api/v1/topics/b/subscribe", Origin="http://localhost:3000")
        status, headers, _ = await client.answer()
        assert (status, headers["access-control-allow-origin"]) == (404, "http://localhost:3000")
        other = await Client.to(gate)
        other.ask("/api/v1/topics/b/subscribe", Origin="http://evil.example")
        status, headers, _ = await other.answer()
        assert status == 403 and "access-control-allow-origin" not in headers
        client.close()
        other.close()
