"""The floor under many small topics: batches over HTTP to the sockets that follow their topics; nothing else.

python -m bench.small_floor PORT [LINK_PORT]

One uvloop process. A batch is parsed, each item becomes one frame, and each socket gets one write a loop turn. There is
no log, no number but a counter, no check, no limit. On LINK_PORT batches of the link come, with frames that are whole.
"""

import asyncio
import base64
import gc
import sys
from collections.abc import Callable
from hashlib import sha1
from urllib.parse import parse_qs, urlsplit

import msgspec
import uvloop

from bench.floor import link_to
from headgate.core.client.framing import text_header
from headgate.core.wire.link import Messages

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Item(msgspec.Struct):
    topic_id: str
    payload: msgspec.Raw


decode = msgspec.json.Decoder(list[Item]).decode
topics: dict[str, list["Connection"]] = {}
seqs: dict[str, int] = {}
dirty: dict["Connection", list[bytes]] = {}


def flush() -> None:
    for connection, frames in dirty.items():
        connection.write(b"".join(frames))
    dirty.clear()


def publish(body: bytes) -> bytes:
    if not dirty:
        asyncio.get_running_loop().call_soon(flush)
    results = []
    for item in decode(body):
        seq = seqs[item.topic_id] = seqs.get(item.topic_id, 0) + 1
        frame = b'{"type":"message","topic_id":"%b","seq":%d,"payload":%b}' % (
            item.topic_id.encode(),
            seq,
            bytes(item.payload),
        )
        data = text_header(len(frame)) + frame
        for connection in topics.get(item.topic_id, ()):
            dirty.setdefault(connection, []).append(data)
        results.append(b'{"status":200,"seq":%d}' % seq)
    return b'{"results":[%b]}' % b",".join(results)


def push(messages: Messages) -> None:
    if not dirty:
        asyncio.get_running_loop().call_soon(flush)
    for frame in messages.frames:
        data = text_header(len(frame)) + frame
        for connection in topics.get(messages.topic_id, ()):
            dirty.setdefault(connection, []).append(data)


class Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write: Callable[[bytes], None] = transport.write  # type: ignore[attr-defined]
        self.buffer = b""
        self.follows: list[str] = []

    def connection_lost(self, exc: Exception | None) -> None:
        for topic in self.follows:
            topics[topic].remove(self)
        dirty.pop(self, None)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end]
        if head.startswith(b"GET"):
            self.buffer = b""
            self.subscribe(head)
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        size = int(lengths[0].split(b":")[1])
        if len(self.buffer) >= end + 4 + size:
            body, self.buffer = self.buffer[end + 4 : end + 4 + size], b""
            answer = publish(body)
            self.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))

    def subscribe(self, head: bytes) -> None:
        key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(sha1(key.split(b":")[1].strip() + GUID).digest())
        told = []
        self.follows = parse_qs(urlsplit(head.split(b" ")[1].decode()).query)["topic_id"]
        for topic in self.follows:
            topics.setdefault(topic, []).append(self)
            told.append(b'{"type":"subscribed","seq":%d}' % seqs.get(topic, 0))
        self.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + b"".join(text_header(len(f)) + f for f in told)
        )


async def serve() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Connection, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    if sys.argv[2:]:
        await loop.create_server(link_to(push), "127.0.0.1", int(sys.argv[2]))
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
