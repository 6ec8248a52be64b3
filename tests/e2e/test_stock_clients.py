"""Clients that know nothing of Headgate work against the protocol page: `websockets`, npm's `eventsource`, `curl -N`.

Nothing here reconnects, resumes or filters for them but what the client itself does; `websockets` has no resume of its
own, so its test does what section 3 of the page says: subscribe again from the last seq.
"""

import asyncio
import json
import shutil
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.harness import SECRET, Role, Stage, token, until
from tests.e2e.stock import CutPath, Told

TOPIC: Final = "stock.room"
OTHERS: Final = (
    160  # sessions that keep a drain going for 8 s (20 a second at least are told), so that a client comes back
)
SPREAD_S: Final = 8
WAIT_S: Final = 30.0


class Publisher:
    """Publishes 1, 2, 3 ... to the topic until each is answered 200, whatever happens to the server meanwhile."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self.sent = 0
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=5, trust_env=False)

    async def __aenter__(self) -> "Publisher":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def publish(self, count: int, pause_s: float = 0.01) -> None:
        """Publishes `count` more."""
        for _ in range(count):
            self.sent += 1
            body = {"payload": {"n": self.sent}, "client_msg_id": f"n-{self.sent}"}
            while not await self._took(body):
                await asyncio.sleep(0.2)
            await asyncio.sleep(pause_s)

    async def _took(self, body: dict[str, Any]) -> bool:
        try:
            answer = await self._http.post(f"/api/v1/topics/{TOPIC}/publish", json=body)
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 503, 504), answer.text
        return answer.status_code == 200


def _numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [message["payload"]["n"] for message in messages]


def _once_in_order(messages: list[dict[str, Any]], upto: int) -> None:
    assert _numbers(messages) == list(range(1, upto + 1)), "each message once, in order"
    assert [message["seq"] for message in messages] == list(range(1, upto + 1)), "seq is dense"


async def test_eventsource_resumes_by_itself_after_a_cut_in_mid_stream(stage: Stage) -> None:
    dev = stage.dev().start()
    await dev.ready()
    async with CutPath(dev.port) as path, Publisher(dev.url) as publisher:
        await publisher.publish(20)
        url = f"http://127.0.0.1:{path.port}/api/v1/topics/{TOPIC}/subscribe?from=earliest"
        async with await Told.event_source(url) as client:
            await until("the replay came", lambda: len(client.of("message")) == 20, WAIT_S)
            going_on = asyncio.create_task(publisher.publish(300))
            await until("it is in mid-stream", lambda: len(client.of("message")) > 60, WAIT_S)
            assert path.cut() == 1
            await going_on
            await until("it has them all", lambda: len(client.of("message")) >= publisher.sent, WAIT_S)
            _once_in_order([line["data"] for line in client.of("message")], publisher.sent)
            assert len(client.of("open")) == 2
            assert [line["data"].get("resumed") for line in client.of("subscribed")] == [None, True]
            assert all(line["state"] == 0 for line in client.of("error")), "never CLOSED: it does not give up"


@pytest.mark.parametrize("moment", ["live", "last:0", "caught_up", "drain"])
async def test_eventsource_that_has_heard_nothing_yet_loses_nothing(stage: Stage, moment: str) -> None:
    dev = stage.dev(data=True, drain__spread_s=0.1).start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        path = await stack.enter_async_context(CutPath(dev.port))
        publisher = await stack.enter_async_context(Publisher(dev.url))
        await _create(dev.url)
        begin = {"live": "live", "drain": "live", "caught_up": "earliest"}.get(moment, moment)
        url = f"http://127.0.0.1:{path.port}/sse/subscribe?topic_id={TOPIC}&from={begin}"
        client = await stack.enter_async_context(await Told.event_source(url))
        last = "subscribed" if begin == "live" else "caught_up"
        await until("the stream stands", lambda: len(client.of(last)) == 1, WAIT_S)
        if moment == "drain":
            dev.sigterm()
            assert await dev.ended(WAIT_S) == 0
            dev.start()
            await dev.ready()
        else:
            assert path.cut() == 1
        await publisher.publish(3)
        await until("it has them all", lambda: len(client.of("message")) >= 3, WAIT_S)
        _once_in_order([line["data"] for line in client.of("message")], 3)


async def _create(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        answer = await http.post("/api/v1/topics", json={"topic_id": TOPIC, "name": TOPIC})
        assert answer.status_code == 201, answer.text


async def test_eventsource_resumes_by_itself_after_a_draining_gateway_refused_it(stage: Stage) -> None:
    dev = stage.dev(data=True, drain__spread_s=SPREAD_S).start()
    await dev.ready()
    async with AsyncExitStack() as stack:
        path = await stack.enter_async_context(CutPath(dev.port))
        publisher = await stack.enter_async_context(Publisher(dev.url))
        await publisher.publish(20)
        url = f"http://127.0.0.1:{path.port}/sse/subscribe?topic_id={TOPIC}&from=earliest"
        client = await stack.enter_async_context(await Told.event_source(url))
        await until("the replay came", lambda: len(client.of("message")) == 20, WAIT_S)
        for _ in range(OTHERS):
            await stack.enter_async_context(connect(f"ws://127.0.0.1:{dev.port}/ws/subscribe", proxy=None))
        going_on = asyncio.create_task(publisher.publish(100, pause_s=0.02))
        dev.sigterm()
        assert await dev.ended(WAIT_S) == 0
        refusals = [answer for answer in path.answers if _is_refusal(bytes(answer))]
        assert refusals, "while draining, a new stream is 200 with `event: disconnect`, then its end"
        dev.start()
        await dev.ready()
        await going_on
        await until("it has them all", lambda: len(client.of("message")) >= publisher.sent, WAIT_S)
        _once_in_order([line["data"] for line in client.of("message")], publisher.sent)
        told = [line["data"] for line in client.of("disconnect")]
        assert len(told) >= 2, "once in the stream, once instead of a stream"
        assert {frame["code"] for frame in told} == {4601}
        assert all(line["state"] == 0 for line in client.of("error")), "never CLOSED: it does not give up"


def _is_refusal(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200 ") and b"retry: " in body and b"event: disconnect" in body[:200]


async def test_websockets_follows_the_page_and_resumes_by_position_after_a_cut(stage: Stage) -> None:
    dev = stage.dev(auth__secret=SECRET).start()
    await dev.ready()
    headers = {"Authorization": f"Bearer {token('ann', service=True)}"}
    got: list[dict[str, Any]] = []
    async with CutPath(dev.port) as path, Publisher(dev.url, headers) as publisher:
        await publisher.publish(20)
        following = asyncio.create_task(_follow(f"ws://127.0.0.1:{path.port}/ws/subscribe", headers, got, 320))
        await until("the replay came", lambda: len(got) == 20, WAIT_S)
        going_on = asyncio.create_task(publisher.publish(300))
        await until("it is in mid-stream", lambda: len(got) > 60, WAIT_S)
        assert path.cut() == 1
        await going_on
        assert await asyncio.wait_for(following, WAIT_S) == 2, "connections"
    _once_in_order(got, publisher.sent)


async def _follow(url: str, headers: dict[str, str], got: list[dict[str, Any]], upto: int) -> int:
    """Subscribes as section 3 says, from the last seq when it comes back; returns how often it connected."""
    connections, epoch = 0, 0
    async for socket in connect(url, additional_headers=headers, proxy=None):
        connections += 1
        position = {"epoch": epoch, "seq": got[-1]["seq"]} if got else "earliest"
        try:
            epoch = await _open(socket, position)
            while len(got) < upto:
                frame = json.loads(await socket.recv())
                got += [frame] if frame["type"] == "message" else []
        except ConnectionClosed:
            continue
        break
    return connections


async def _open(socket: ClientConnection, position: object) -> int:
    assert json.loads(await socket.recv())["type"] == "welcome"
    await socket.send(json.dumps({"type": "subscribe", "id": 1, "topic_id": TOPIC, "from": position}))
    frame = json.loads(await socket.recv())
    assert frame["type"] == "subscribed"
    assert frame["id"] == 1
    assert frame.get("resumed") is (None if position == "earliest" else True)
    epoch: int = frame["epoch"]
    return epoch


async def test_curl_reads_a_stream_and_publishes(stage: Stage) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl on this machine")
    dev = stage.dev().start()
    await dev.ready()
    async with await Told.run(curl, "-sN", f"{dev.url}/sse/subscribe?topic_id={TOPIC}") as listening:
        await until("the stream is open", lambda: "event: subscribed" in listening.lines, WAIT_S)
        await _curl_publishes(curl, dev, '{"payload":{"text":"hello"}}')
        await until("the message came", lambda: any('"text":"hello"' in line for line in listening.lines), WAIT_S)
    blocks = [block.split("\n") for block in "\n".join(listening.lines).split("\n\n")]
    event = next(block for block in blocks if any('"text":"hello"' in line for line in block))
    assert not [line for line in event if line.startswith("event:")], "messages have the default event name"
    frame = json.loads(next(line for line in event if line.startswith("data:")).removeprefix("data:"))
    assert (frame["type"], frame["topic_id"], frame["seq"], frame["payload"]) == (
        "message",
        TOPIC,
        1,
        {"text": "hello"},
    )
    last_event_id = next(line for line in event if line.startswith("id:")).removeprefix("id:").strip()
    await _curl_publishes(curl, dev, '{"payload":{"text":"again"}}')
    resume = ("-H", f"Last-Event-ID: {last_event_id}", f"{dev.url}/sse/subscribe?topic_id={TOPIC}")
    async with await Told.run(curl, "-sN", *resume) as resumed:
        await until("what followed came", lambda: any('"text":"again"' in line for line in resumed.lines), WAIT_S)
        assert not any('"text":"hello"' in line for line in resumed.lines), "what it had is not repeated"


async def _curl_publishes(curl: str, dev: Role, body: str) -> None:
    url = f"{dev.url}/api/v1/topics/{TOPIC}/publish"
    async with await Told.run(curl, "-s", "-H", "Content-Type: application/json", "-d", body, url) as publishing:
        await until("curl is answered", lambda: publishing.done, WAIT_S)
        answer = json.loads("".join(publishing.lines))
    assert answer["topic_id"] == TOPIC
