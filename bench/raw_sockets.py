"""A process with very many WebSockets of one topic, in as little memory as can be: no event loop, no library.

    python -I -S bench/raw_sockets.py           JSON lines in, one out for each

A socket is a file descriptor and a number: how many messages it had. Each frame that comes is compared with the frame
that the first socket of this process got at that place, so every message is checked, once and in order. It answers
pings whenever it waits. bench/slo/million.py starts these processes.
"""

import base64
import contextlib
import errno
import hmac
import json
import os
import select
import socket
import sys
import time
from array import array

WAVE = 100  # connects under way
WAIT_S = 0.5
CONNECT_S = 20.0
BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>: the port is chosen with the connect, so that every gateway has all of them
SOURCES = 4  # addresses: from one with 14,000 connections to a gateway the kernel searches long for a free port
READ_BYTES = 1 << 16
IN = select.EPOLLIN


class Opening:
    """A socket that does not follow yet: its bytes, since when it wants to, and what it had before (-1: it is new)."""

    __slots__ = ("begun", "data", "had", "since")

    def __init__(self, since: float, had: int) -> None:
        self.data, self.since, self.had, self.begun = b"", since, had, time.monotonic()


class RawSockets:
    """All sockets of the process, and the messages that they got."""

    def __init__(self, network: str, topic: str, secret: str, expires_at: int) -> None:
        """`network` is the first three numbers of its addresses."""
        self.network, self.topic, self.secret, self.expires_at = network, topic, secret.encode(), expires_at
        self.epoll = select.epoll()
        self.had = array("l", [-1]) * (1 << 15)  # messages by descriptor; -1: it does not follow yet
        self.frames: list[bytes] = []
        self.arrived: list[float] = []  # when the last socket had each
        self.counts: list[int] = []  # sockets that had each
        self.opening: dict[int, Opening] = {}
        self.rest: dict[int, bytes] = {}  # a frame that came in part
        self.lost: list[tuple[float, int]] = []  # when, and how many messages it had
        self.open_count = self.made = self.pings = 0
        self.epoch = self.first_seq = 0
        self.took: list[float] = []
        self.faults: list[str] = []

    def open(self, count: int, ports: list[int]) -> dict[str, object]:
        """Opens so many sockets, to the ports in turn; returns how many follow, the seconds, and what ended it."""
        begun = time.monotonic()
        stopped = self._connect_all([(ports[n % len(ports)], -1, begun) for n in range(count)])
        return {"open": self.open_count, "seconds": time.monotonic() - begun, "stopped": stopped, **self._faults()}

    def back(self, ports: list[int]) -> dict[str, object]:
        """Lets those that were lost come back where they were; returns the seconds since each was lost."""
        lost, self.lost, self.took = self.lost, [], []
        stopped = self._connect_all([(ports[n % len(ports)], had, at) for n, (at, had) in enumerate(lost)])
        took = sorted(self.took) or [0.0]
        p95 = took[int(0.95 * (len(took) - 1))]
        return {
            "open": self.open_count,
            "back": len(self.took),
            "p95_s": p95,
            "most_s": took[-1],
            "stopped": stopped,
            **self._faults(),
        }

    def wait(self, seq: int, timeout_s: float) -> dict[str, object]:
        """Waits until every socket had message `seq`; returns when the last had it, and how many had it."""
        deadline, n = time.monotonic() + timeout_s, seq - self.first_seq
        while self.open_count and (len(self.counts) <= n or self.counts[n] < self.open_count):
            if time.monotonic() > deadline:
                self.faults.append(f"{self.counts[n : n + 1]} of {self.open_count} sockets had message {seq}")
                break
            self._turn(WAIT_S)
        there = 0 <= n < len(self.counts)
        at, count = (self.arrived[n], self.counts[n]) if there else (0.0, 0)
        return {"at": at, "count": count, **self.state()}

    def state(self) -> dict[str, object]:
        """Returns how many sockets follow, and how many were lost and have not come back."""
        return {"open": self.open_count, "lost": len(self.lost), **self._faults()}

    def serve(self) -> None:
        """Does what the lines on standard input say, and looks after the sockets meanwhile."""
        self.epoll.register(0, IN)
        buffer = b""
        while True:
            for descriptor, _ in self.epoll.poll(-1, 4_096):
                if descriptor:
                    self._event(descriptor)
                    continue
                data = os.read(0, READ_BYTES)
                if not data:
                    return
                buffer += data
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                self._answer(line)

    def _answer(self, line: bytes) -> None:
        name, *arguments = json.loads(line)
        self.epoll.unregister(0)
        found = getattr(self, name)(*arguments)
        self.epoll.register(0, IN)
        os.write(1, json.dumps(found).encode() + b"\n")

    def _faults(self) -> dict[str, object]:
        return {"faults": self.faults[:3]}

    def _turn(self, timeout_s: float) -> None:
        for descriptor, _ in self.epoll.poll(timeout_s, 4_096):
            self._event(descriptor)

    def _connect_all(self, targets: list[tuple[int, int, float]]) -> str:
        """Connects one after the other, WAVE at a time; returns why it ended before the last, or nothing."""
        stopped = ""
        for port, had, since in targets:
            try:
                self._connect(port, had, since)
            except OSError as error:
                stopped = errno.errorcode.get(error.errno or 0, repr(error))
                break
            while len(self.opening) >= WAVE:
                self._turn(WAIT_S)
                self._check_opening()
            self._turn(0)
        while self.opening:
            self._turn(WAIT_S)
            self._check_opening()
        return stopped

    def _check_opening(self) -> None:
        now = time.monotonic()
        for descriptor in [number for number, opening in self.opening.items() if now - opening.begun > CONNECT_S]:
            self.faults.append(f"no answer to a connect in {CONNECT_S:g} s: {self.opening[descriptor].data!r}")
            self._close(descriptor)

    def _connect(self, port: int, had: int, since: float) -> None:
        made = socket.socket()
        try:
            made.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
            made.bind((f"{self.network}.{2 + self.made % SOURCES}", 0))
            made.settimeout(CONNECT_S)
            made.connect(("127.0.0.1", port))
            made.sendall(self._request(had))
            made.setblocking(False)
        except OSError:
            made.close()
            raise
        descriptor = made.detach()
        self.opening[descriptor] = Opening(since, had)
        self.epoll.register(descriptor, IN)

    def _request(self, had: int) -> bytes:
        self.made += 1
        place = f"&from={self.epoch}:{self.first_seq + had - 1}" if had >= 0 else ""
        return (
            f"GET /ws/subscribe?topic_id={self.topic}&presence=false{place} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {self._token()}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        ).encode()

    def _token(self) -> str:
        """Signs a token (RFC 7519, HS256) of a user of its own."""
        claims = {"sub": f"{self.network}-{self.made}", "headgate": {"service": True}, "exp": self.expires_at}
        signed = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        return (signed + b"." + _base64(hmac.digest(self.secret, signed, "sha256"))).decode()

    def _event(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(descriptor)
        elif descriptor in self.opening:
            self._open_frames(descriptor, data)
        else:
            self._frames(descriptor, self.rest.pop(descriptor, b"") + data)

    def _open_frames(self, descriptor: int, data: bytes) -> None:
        """Reads the answer and the frames up to `subscribed`."""
        opening = self.opening[descriptor]
        opening.data += data
        head, separator, rest = opening.data.partition(b"\r\n\r\n")
        at = 0
        while separator and (frame := frame_in(rest, at)) is not None:
            at += len(frame)
            if b'"type":"subscribed"' in frame:
                self._subscribed(descriptor, frame, rest[at:])
                return
            if b'"type":"welcome"' not in frame:
                self.faults.append(f"`subscribed` was expected: {head[:20]!r} {frame[:200]!r}")

    def _subscribed(self, descriptor: int, frame: bytes, rest: bytes) -> None:
        opening = self.opening.pop(descriptor)
        answer = json.loads(frame[frame.index(b"{") :])
        self.epoch, self.first_seq = answer["epoch"], self.first_seq or answer["seq"] + 1
        if opening.had >= 0 and not answer.get("resumed"):
            self.faults.append(f"not resumed: {frame[:200]!r}")
        self.had[descriptor] = opening.had if opening.had >= 0 else answer["seq"] + 1 - self.first_seq
        self.open_count += 1
        self.took.append(time.monotonic() - opening.since)
        if rest:
            self._frames(descriptor, rest)

    def _frames(self, descriptor: int, data: bytes) -> None:
        at = 0
        while (frame := frame_in(data, at)) is not None:
            at += len(frame)
            kind = frame[0]
            if kind == 0x89:
                self.pings += 1
                with contextlib.suppress(OSError):  # a socket that is being closed
                    os.write(descriptor, b"\x8a%c\0\0\0\0%b" % (0x80 | (len(frame) - 2), frame[2:]))
            elif kind == 0x88:
                self._close(descriptor)
                return
            elif b'"type":"message"' in frame:
                self._message(descriptor, frame)
            elif b'"type":"caught_up"' not in frame and b'"type":"disconnect"' not in frame:
                self.faults.append(f"a message was expected: {frame[:200]!r}")
        if at < len(data):
            self.rest[descriptor] = data[at:]

    def _message(self, descriptor: int, frame: bytes) -> None:
        n = self.had[descriptor]
        if n == len(self.frames):
            seq = json.loads(frame[frame.index(b"{") :])["seq"]
            if seq != self.first_seq + n:
                self.faults.append(f"message {self.first_seq + n} was expected: {frame[:200]!r}")
            self.frames.append(frame)
            self.arrived.append(0.0)
            self.counts.append(0)
        elif self.frames[n] != frame:
            self.faults.append(f"other bytes as message {self.first_seq + n}: {frame[:200]!r}")
        self.arrived[n] = time.time()
        self.counts[n] += 1
        self.had[descriptor] = n + 1

    def _close(self, descriptor: int) -> None:
        if self.opening.pop(descriptor, None) is None:
            self.open_count -= 1
            self.lost.append((time.monotonic(), self.had[descriptor]))
        else:
            self.faults.append("a gateway closed a socket that was opening")
        self.had[descriptor] = -1
        self.rest.pop(descriptor, None)
        os.close(descriptor)  # and epoll forgets it


def frame_in(data: bytes, at: int) -> bytes | None:
    """Returns the frame that begins at a place; None for one that is not whole."""
    if len(data) < at + 2:
        return None
    size, begin = data[at + 1] & 0x7F, at + 2
    if size >= 126:
        begin += 2 if size == 126 else 8
        size = int.from_bytes(data[at + 2 : begin], "big")
    return data[at : begin + size] if len(data) >= begin + size else None


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


if __name__ == "__main__":
    RawSockets(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])).serve()
