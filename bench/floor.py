"""The floor under the engine: one uvloop protocol that joins what came and hands it to every socket; nothing else.

python -m bench.floor PORT LINK_PORT
"""

import asyncio
import base64
import gc
import sys
from collections.abc import Callable
from hashlib import sha1

import uvloop

from headgate.core.client.framing import text_header
from headgate.core.wire.link import Messages
from headgate.core.wire.linkcodec import decode_batch

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
writers: dict[asyncio.Protocol, object] = {}
pending: list[bytes] = []
newest: list[bytes] = []  # one message


def flush() -> None:
    data = b"".join(pending)
    pending.clear()
    for write in list(writers.values()):
        write(data)  # type: ignore[operator]


class Socket(asyncio.Protocol):
    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self in writers:
            return
        key = next(line for line in data.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(sha1(key.split(b":")[1].strip() + GUID).digest())
        told = [b'{"type":"subscribed","epoch":1,"seq":0}']
        if b"&from=" in data[: data.find(b"\r\n")]:  # it has missed the newest
            told += [*newest, b'{"type":"caught_up"}']
        write = self.transport.write  # type: ignore[attr-defined]
        write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + b"".join([text_header(len(f)) + f for f in told])
        )
        writers[self] = write

    def connection_lost(self, exc: Exception | None) -> None:
        writers.pop(self, None)


class Link(asyncio.Protocol):
    """Reads batches, length before batch, and hands each of their messages to `take`."""

    def __init__(self, take: Callable[[Messages], None]) -> None:
        self.buffer = b""
        self.take = take

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= 4 and len(self.buffer) >= 4 + int.from_bytes(self.buffer[:4], "big"):
            end = 4 + int.from_bytes(self.buffer[:4], "big")
            messages, self.buffer = decode_batch(self.buffer[4:end]), self.buffer[end:]
            for message in messages:
                assert isinstance(message, Messages)
                self.take(message)


def link_to(take: Callable[[Messages], None]) -> Callable[[], Link]:
    """Returns a factory of links whose messages `take` gets."""
    return lambda: Link(take)


def push(message: Messages) -> None:
    if not pending:
        asyncio.get_running_loop().call_soon(flush)
    newest[:] = message.frames[-1:]
    for frame in message.frames:
        pending.extend((text_header(len(frame)), frame))


async def serve() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Socket, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await loop.create_server(link_to(push), "127.0.0.1", int(sys.argv[2]))
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
