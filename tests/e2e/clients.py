"""Clients of the protocol page: a publisher over HTTP, the stock `websockets` client, a reader of SSE.

They record what they see and judge nothing (`ledger.py` does); none of them uses code of the servers.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.e2e.http import Http, HttpAnswer, NoAnswer

BACK_OFF_S: Final = (0.05, 0.4)
_encode = msgspec.json.encode


class Seen(NamedTuple):
    """One message as a subscriber got it; `at` is the monotonic second."""

    epoch: int
    seq: int
    payload: bytes
    message_id: str
    publisher_id: str
    at: float


class Answer(NamedTuple):
    """An HTTP answer: status, decoded body, seconds it took."""

    status: int
    body: Any
    took_s: float


class _Frame(msgspec.Struct):
    type: str
    topic_id: str = ""
    seq: int = 0
    epoch: int = 0
    payload: msgspec.Raw = msgspec.Raw(b"")
    message_id: str = ""
    publisher_id: str = ""


_frame = msgspec.json.Decoder(_Frame)


class Publisher:
    """One user of the HTTP surface."""

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 30.0) -> None:
        self.url = url
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = Http(url, headers, timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def call(self, method: str, path: str, body: object = None, **query: object) -> Answer:
        """Does one request. Raises NoAnswer or TimeoutError when there is no answer."""
        return await self._call(method, path, body, {name: str(value) for name, value in query.items()}, {})

    async def call_once(self, method: str, path: str, key: str, body: object = None) -> Answer:
        """Does one request with an Idempotency-Key. Raises what `call` raises."""
        return await self._call(method, path, body, {}, {"Idempotency-Key": key})

    async def _call(
        self, method: str, path: str, body: object, query: dict[str, str], headers: dict[str, str]
    ) -> Answer:
        started = time.monotonic()
        content = None if body is None else body if isinstance(body, bytes) else _encode(body)
        answer = await self._http.request(method, path, content, query, headers)
        return Answer(
            answer.status, msgspec.json.decode(answer.body) if answer.body else None, time.monotonic() - started
        )

    async def create(self, topic_id: str, **body: object) -> Answer:
        """Creates a topic."""
        return await self.call("POST", "/api/v1/topics", {"name": topic_id, "topic_id": topic_id, **body})

    async def create_all(self, topics: Sequence[str], at_once: int = 16) -> None:
        """Creates topics and insists on 201."""
        gate = asyncio.Semaphore(at_once)

        async def one(topic_id: str) -> None:
            async with gate:
                answer = await self.create(topic_id)
                assert answer.status == 201, f"create {topic_id}: {answer}"

        await asyncio.gather(*map(one, topics))

    async def publish(
        self, topic_id: str, payload: object, client_msg_id: str | None = None, **query: object
    ) -> Answer:
        """Publishes one message."""
        body = {"payload": payload} | ({} if client_msg_id is None else {"client_msg_id": client_msg_id})
        return await self.call("POST", f"/api/v1/topics/{topic_id}/publish", body, **query)

    async def batch(self, items: Sequence[dict[str, object]]) -> list[dict[str, Any]]:
        """Publishes a batch over any topics; returns its results. Raises AssertionError for a refused batch."""
        answer = await self.call("POST", "/api/v1/publish/batch", list(items))
        assert answer.status == 200, f"a batch: {answer}"
        results: list[dict[str, Any]] = answer.body["results"]
        assert len(results) == len(items), "one result an item"
        return results

    async def history(self, topic_id: str) -> list[dict[str, Any]]:
        """Returns the whole history of a topic, waiting until it is complete."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + 60
        while True:
            after = found[-1]["seq"] if found else 0
            answer = await self.call("GET", f"/api/v1/topics/{topic_id}/messages", after_seq=after, limit=1000)
            if answer.status == 503 or (answer.status == 200 and not answer.body["complete"]):
                assert time.monotonic() < deadline, f"history of {topic_id} is not complete after 60 s: {answer}"
                await asyncio.sleep(0.1)
                continue
            assert answer.status == 200, f"history of {topic_id}: {answer}"
            found += answer.body["messages"]
            if not answer.body["messages"] or found[-1]["seq"] >= answer.body["last_seq"]:
                return found


class Subscriber:
    """A WebSocket client that resumes by (epoch, seq) wherever it can connect; `urls` are tried in turn."""

    def __init__(
        self, name: str, urls: Sequence[str], topics: Sequence[str], *,
        token: str | None = None, start: object = "live", on_message: Callable[[str, Seen], None] | None = None,
        keep_whole: bool = False,
    ) -> None:  # fmt: skip
        """`keep_whole`: the messages are kept in `whole` too, with all that their frames have."""
        self.name = name
        self.topics = tuple(topics)
        self.messages: dict[str, list[Seen]] = {topic: [] for topic in topics}
        self.frames: list[dict[str, Any]] = []  # all but messages
        self.whole: dict[str, list[dict[str, Any]]] = {topic: [] for topic in topics}
        self._keep_whole = keep_whole
        self.closes: list[int | None] = []
        self.connections = 0
        self._urls = [url.replace("http", "ws", 1) + "/ws/subscribe" for url in urls]
        self._at = 0
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._start = start
        self._cursors: dict[str, tuple[int, int]] = {}
        self._granted: set[str] = set()
        self._on_message = on_message
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"subscriber-{self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def connected(self) -> bool:
        """Whether every topic is subscribed on the present connection."""
        if self._task is not None and self._task.done():
            self._task.result()
        return len(self._granted) == len(self.topics)

    @property
    def count(self) -> int:
        """Messages seen."""
        return sum(map(len, self.messages.values()))

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Returns the frames of one type."""
        return [frame for frame in self.frames if frame["type"] == kind]

    async def _run(self) -> None:
        while True:
            url = self._urls[self._at % len(self._urls)]
            try:
                async with connect(url, additional_headers=self._headers, compression=None, max_size=None) as socket:
                    self.connections += 1
                    self._socket = socket
                    for topic in self.topics:
                        await self.ask(topic)
                    async for text in socket:
                        self._take(text.encode() if isinstance(text, str) else text)
                self.closes.append(socket.close_code)
            except ConnectionClosed as error:
                self.closes.append(error.rcvd.code if error.rcvd else 1006)
            except (OSError, InvalidHandshake, TimeoutError):
                self.closes.append(None)
            self._granted.clear()
            self._at += 1
            await asyncio.sleep(random.uniform(*BACK_OFF_S))

    async def ask(self, topic: str) -> None:
        """Subscribes to a topic on the present connection, from where it is; the next one asks for every topic."""
        if self._socket is not None:
            wish = {"type": "subscribe", "topic_id": topic, "from": self._from(topic)}
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(_encode(wish).decode())

    def _from(self, topic: str) -> object:
        if topic not in self._cursors:
            return self._start
        epoch, seq = self._cursors[topic]
        return {"epoch": epoch, "seq": seq}

    def _take(self, text: bytes) -> None:
        frame = _frame.decode(text)
        if frame.type == "message":
            epoch, _ = self._cursors[frame.topic_id]
            seen = Seen(epoch, frame.seq, bytes(frame.payload), frame.message_id, frame.publisher_id, time.monotonic())
            self.messages[frame.topic_id].append(seen)
            if self._keep_whole:
                self.whole[frame.topic_id].append(msgspec.json.decode(text))
            self._cursors[frame.topic_id] = (epoch, frame.seq)
            if self._on_message is not None:
                self._on_message(frame.topic_id, seen)
            return
        self.frames.append(msgspec.json.decode(text))
        if frame.type == "subscribed":
            self._granted.add(frame.topic_id)
            if self._start == "live" and frame.topic_id not in self._cursors:
                self._cursors[frame.topic_id] = (frame.epoch, frame.seq)
            else:
                self._cursors[frame.topic_id] = (frame.epoch, self._cursors.get(frame.topic_id, (0, 0))[1])


class SseReader:
    """One SSE stream, read as bytes; resumes by Last-Event-ID, but not after `unsubscribed`.

    As the HTML standard says, an event counts, and its id too, when the empty line after it has come. A server that is
    killed may cut an event anywhere, also in the middle of a number.
    """

    def __init__(
        self, url: str, topic_id: str, *, token: str | None = None, user: str = "sse", start: str = "live"
    ) -> None:
        self.topic_id = topic_id
        self.messages: list[Seen] = []
        self.events: list[tuple[str, dict[str, Any]]] = []  # all but messages
        self.subscribed = asyncio.Event()
        self.reason: str | None = None  # of `unsubscribed`
        self._url = url
        self._query = {"topic_id": topic_id, "from": start, "user": user}
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._last_id = ""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"sse-{self.topic_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        async with Http(self._url) as http:
            while self.reason is None:
                headers = self._headers | ({"Last-Event-ID": self._last_id} if self._last_id else {})
                with contextlib.suppress(NoAnswer):
                    async with http.stream("/sse/subscribe", self._query, headers) as (head, reader):
                        await self._read(head, reader)
                await asyncio.sleep(random.uniform(*BACK_OFF_S))

    async def _read(self, head: HttpAnswer, reader: asyncio.StreamReader) -> None:
        if head.status == 503:
            return  # asked again, as by every client of the page
        assert head.status == 200, f"SSE of {self.topic_id}: {head}"
        event, data, last_id = "message", "", self._last_id
        while (line := await reader.readline()).endswith(b"\n"):
            name, _, value = line.decode().rstrip("\n").partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                event = value
            elif name == "data":
                data = f"{data}\n{value}" if data else value
            elif name == "id":
                last_id = value
            elif line == b"\n":
                self._last_id = last_id
                if data:
                    self._take(event, data.encode())
                event, data = "message", ""

    def _take(self, event: str, data: bytes) -> None:
        if event != "message":
            self.events.append((event, msgspec.json.decode(data)))
            if event == "subscribed":
                self.subscribed.set()
            if event == "unsubscribed":
                self.reason = self.events[-1][1]["reason"]
            return
        frame = _frame.decode(data)
        epoch = int(self._last_id.partition(":")[0])
        self.messages.append(
            Seen(epoch, frame.seq, bytes(frame.payload), frame.message_id, frame.publisher_id, time.monotonic())
        )
