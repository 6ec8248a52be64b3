"""One socket that follows a topic, and the bytes that all sockets of a topic in a process got.

A socket must get these very bytes, from the message behind its `subscribed` on. Pings are answered. A socket that was
lost may come back with its place: it must then get what it missed, and `caught_up`.
"""

import asyncio
import time
from collections import Counter
from typing import Final

import msgspec

from tests.e2e.harness import token

PING: Final = 0x89
_decoder: Final = msgspec.json.Decoder()


class Stream:
    """What a topic's sockets get, from the first one's `subscribed` on, message by message."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.first_seq = 0
        self.ends: list[int] = []  # where each message ends
        self.due: list[float] = []
        self.last: list[float] = []  # when the last socket had it
        self.late: Counter[int] = Counter()  # deliveries by whole milliseconds
        self.waiting: list[Follower] = []  # they begin behind a message that nobody has yet
        self.faults: list[str] = []
        self.pings = 0

    def extend(self, data: bytes) -> None:
        """Takes bytes that no socket got before."""
        self.bytes += data
        begin = self.ends[-1] if self.ends else 0
        while (found := frame_in(self.bytes, begin)) is not None:
            body, begin = found
            try:
                frame = _decoder.decode(body)
            except msgspec.DecodeError:  # a close frame
                frame = {}
            if frame.get("type") != "message" or frame["seq"] != self.first_seq + len(self.ends):
                self.faults.append(f"message {self.first_seq + len(self.ends)} was expected: {body[:200]!r}")
            self.ends.append(begin)
            self.due.append(frame.get("payload", {}).get("at", 0.0))
            self.last.append(0.0)
        waiting, self.waiting = self.waiting, []
        for follower in waiting:
            follower.resolve()

    def clear(self) -> None:
        """Forgets the latencies so far."""
        self.late.clear()
        self.last = [0.0] * len(self.last)


class Follower(asyncio.Protocol):
    """One socket. `position` is how far it has come in the stream, -1 while its place there is not known."""

    __slots__ = (
        "begun", "epoch", "following", "index", "kept", "lost", "lost_at", "position", "replaying", "request", "seq",
        "stream", "transport",
    )  # fmt: skip

    def __init__(self, request: bytes, stream: Stream, before: "Follower | None" = None) -> None:
        """With `before` it goes on where that one was lost."""
        self.request = request
        self.stream = stream
        self.following: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun = self.lost = False
        self.lost_at = 0.0
        self.replaying = before is not None
        self.position = -1
        self.index = 0  # of the next message
        self.kept = b""
        self.seq = self.epoch = 0
        if before is not None:  # a message that came in part comes again
            self.index, self.epoch = before.index, before.epoch
            self.position = stream.ends[self.index - 1] if self.index else 0

    @property
    def place(self) -> str:
        """Returns `epoch:seq` of the last message that it has."""
        return f"{self.epoch}:{self.stream.first_seq + self.index - 1 if self.position >= 0 else self.seq}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost, self.lost_at = True, time.monotonic()
        if not self.following.done():
            self.following.set_exception(ConnectionError(f"{error}: {self.kept[-300:]!r}"))

    def data_received(self, data: bytes) -> None:
        if self.begun and self.position >= 0:
            self._sort(data)
            return
        self.kept += data
        if not self.begun:
            self._begin()
        if self.begun:
            self.resolve()

    def _begin(self) -> None:
        """Reads the answer and the frames up to `subscribed`."""
        head, separator, rest = self.kept.partition(b"\r\n\r\n")
        if not separator:
            return
        at = 0
        while (found := frame_in(rest, at)) is not None:
            body, at = found
            if b'"type":"subscribed"' in body:
                frame = _decoder.decode(body)
                self.seq, self.epoch, self.kept, self.begun = frame["seq"], frame["epoch"], rest[at:], True
                if self.replaying and not frame.get("resumed"):
                    self.stream.faults.append(f"not resumed: {body[:300]!r}")
                self.following.set_result(None)
                return
            if b'"type":"welcome"' not in body:
                self.stream.faults.append(f"`subscribed` was expected: {head[:20]!r} {body[:300]!r}")

    def resolve(self) -> None:
        """Finds its place in the stream, or waits; more may come while it does."""
        stream = self.stream
        if self.position < 0:
            stream.first_seq = stream.first_seq or self.seq + 1
            at = self.seq + 1 - stream.first_seq
            if not 0 <= at <= len(stream.ends):
                if at < 0:
                    stream.faults.append(f"subscribed at {self.seq}, before {stream.first_seq}")
                stream.waiting.append(self)
                return
            self.position, self.index = (stream.ends[at - 1] if at else 0), at
        data, self.kept = self.kept, b""
        self._sort(data)

    def _sort(self, data: bytes) -> None:
        """Takes the bytes of messages; what else may be between them is looked at frame by frame."""
        if not (self.kept or self.replaying or PING in data):  # payloads are ASCII; in a length it costs a look
            self._take(data)
            return
        begun = self.stream.ends[self.index - 1] if self.index else 0
        part = bytes(self.stream.bytes[begun : self.position])
        data, at, messages = part + self.kept + data, 0, []
        while (found := frame_in(data, at)) is not None:
            body, end = found
            if data[at] == PING:
                self.stream.pings += 1
                self.transport.write(b"\x8a%c\0\0\0\0%b" % (0x80 | len(body), body))  # type: ignore[attr-defined]
            elif self.replaying and b'"type":"caught_up"' in body:
                self.replaying = False
            else:
                messages.append(data[at:end])
            at = end
        if messages:
            self.kept = b""
            self._take(b"".join(messages)[len(part) :])
            self.kept = data[at:]
        else:
            self.kept = data[at:][len(part) :] if at == 0 else data[at:]

    def _take(self, data: bytes) -> None:
        stream, at = self.stream, self.position
        known = len(stream.bytes) - at
        if not stream.bytes.startswith(data if known >= len(data) else data[:known], at):
            stream.faults.append(f"other bytes behind message {stream.first_seq + self.index - 1}: {data[:200]!r}")
        if known < len(data):
            stream.extend(data[known:])
        self.position = end = at + len(data)
        ends, index = stream.ends, self.index
        if index < len(ends) and ends[index] <= end:
            now = time.time()
            while index < len(ends) and ends[index] <= end:
                stream.late[int((now - stream.due[index]) * 1_000)] += 1
                stream.last[index] = now
                index += 1
            self.index = index


def frame_in(data: bytes | bytearray, at: int) -> tuple[bytes, int] | None:
    """Returns the payload of the frame that begins at a place and where it ends; None for one that is not whole."""
    if len(data) < at + 2:
        return None
    size, begin = data[at + 1] & 0x7F, at + 2
    if size >= 126:
        begin += 2 if size == 126 else 8
        if len(data) < begin:
            return None
        size = int.from_bytes(data[at + 2 : begin], "big")
    return (bytes(data[begin : begin + size]), begin + size) if len(data) >= begin + size else None


def request(topic: str, user: str, place: str = "") -> bytes:
    """Returns a handshake; with a place, `epoch:seq`, of one that comes back."""
    query = f"topic_id={topic}&presence=false" + (f"&from={place}" if place else "")
    return (
        f"GET /ws/subscribe?{query} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token(user, service=True)}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()
