"""A process of raw sockets notices what a socket must not get, answers pings, and comes back where it was."""

import os
import socket
from collections.abc import Iterator
from typing import ClassVar

import jwt
import pytest

from bench.raw_sockets import Opening, RawSockets, frame_in

SECRET = "a-secret-of-at-least-thirty-two-bytes"
HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def frame(body: bytes, first: int = 0x81) -> bytes:
    size = bytes((len(body),)) if len(body) < 126 else b"\x7e" + len(body).to_bytes(2)
    return bytes((first,)) + size + body


def message(seq: int) -> bytes:
    return frame(b'{"type":"message","seq":%d,"payload":{"at":1}}' % seq)


class Pair:
    """A socket of the process and the gateway's end of it."""

    made: ClassVar[list["Pair"]] = []

    def __init__(self, sockets: RawSockets, had: int = -1) -> None:
        self.end, mine = socket.socketpair()
        self.made.append(self)
        mine.setblocking(False)
        self.descriptor = mine.detach()
        self._sockets = sockets
        sockets.opening[self.descriptor] = Opening(0.0, had)
        sockets.epoll.register(self.descriptor, 1)

    def gets(self, *data: bytes) -> None:
        for part in data:
            self.end.sendall(part)
            self._sockets._turn(0)

    def follows(self, more: bytes = b"") -> "Pair":
        self.gets(HEAD + frame(b'{"type":"welcome"}'), frame(b'{"type":"subscribed","seq":4,"epoch":9%b}' % more))
        return self


@pytest.fixture
def sockets() -> Iterator[RawSockets]:
    made = RawSockets("127.0.0", "t", SECRET, 1 << 40)
    yield made
    made.epoll.close()
    for pair in Pair.made:
        pair.end.close()
    for descriptor in {pair.descriptor for pair in Pair.made}:
        if descriptor in made.opening or made.had[descriptor] >= 0:
            os.close(descriptor)  # one that was lost is closed
    Pair.made.clear()


@pytest.mark.parametrize("size", [1, 3, 60, 1_000])
def test_messages_and_pings_are_taken_in_any_pieces(sockets: RawSockets, size: int) -> None:
    pair = Pair(sockets).follows()
    data = message(5) + frame(b"now", 0x89) + message(6) + frame(b"", 0x89)
    pair.gets(*(data[at : at + size] for at in range(0, len(data), size)))
    assert (sockets.faults, sockets.pings, sockets.counts) == ([], 2, [1, 1])
    assert pair.end.recv(100) == b"\x8a\x83\0\0\0\0now" + b"\x8a\x80\0\0\0\0"
    assert sockets.wait(6, 0.0)["count"] == 1


def test_every_socket_must_have_a_message(sockets: RawSockets) -> None:
    first, second = Pair(sockets).follows(), Pair(sockets).follows()
    first.gets(message(5))
    assert sockets.wait(5, 0.0)["faults"] == ["[1] of 2 sockets had message 5"]
    sockets.faults.clear()
    second.gets(message(5))
    found = sockets.wait(5, 0.0)
    assert (found["count"], found["faults"]) == (2, [])


@pytest.mark.parametrize("data", [message(6), message(4), frame(b'{"type":"gap"}')])
def test_what_is_not_the_next_message_is_a_fault(sockets: RawSockets, data: bytes) -> None:
    Pair(sockets).follows().gets(data)
    assert len(sockets.faults) == 1


def test_a_message_that_comes_twice_or_with_other_bytes_is_a_fault(sockets: RawSockets) -> None:
    first, second = Pair(sockets).follows(), Pair(sockets).follows()
    first.gets(message(5), message(6))
    second.gets(message(5), message(5))
    assert sockets.faults[0].startswith("other bytes as message 6")


def test_a_lost_socket_comes_back_behind_what_it_had(sockets: RawSockets) -> None:
    first, second = Pair(sockets).follows(), Pair(sockets).follows()
    first.gets(message(5))
    second.gets(message(5), frame(b'{"type":"disconnect"}'))
    second.end.close()
    sockets._turn(0)
    assert (sockets.open_count, [had for _, had in sockets.lost]) == (1, [1])
    assert b"&from=9:5 " in sockets._request(1)
    first.gets(message(6))
    back = Pair(sockets, had=1).follows(b',"resumed":true')
    back.gets(message(6) + frame(b'{"type":"caught_up"}'))
    assert (sockets.faults, sockets.counts, sockets.open_count) == ([], [2, 2], 2)


def test_a_socket_that_is_not_resumed_is_a_fault(sockets: RawSockets) -> None:
    Pair(sockets, had=0).follows(b',"resumed":false')
    assert sockets.faults[0].startswith("not resumed")


def test_each_socket_is_a_user_of_its_own(sockets: RawSockets) -> None:
    claims = []
    for _ in range(2):
        bearer = sockets._request(-1).partition(b"Bearer ")[2].partition(b"\r\n")[0]
        claims.append(jwt.decode(bearer, SECRET, algorithms=["HS256"]))
    assert [each["sub"] for each in claims] == ["127.0.0-1", "127.0.0-2"]
    assert b"&from=" not in sockets._request(-1)


def test_a_frame_is_whole_or_none() -> None:
    long = frame(b"x" * 300)
    assert frame_in(long + b"more", 0) == long
    assert [frame_in(long[:size], 0) for size in (0, 1, 2, 3, 100)] == [None] * 5
