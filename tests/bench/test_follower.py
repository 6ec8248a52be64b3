"""A follower of a crowd notices what a socket must not get, and answers pings wherever they stand."""

import pytest

from bench.follower import Follower, Stream

HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def frame(body: bytes, first: int = 0x81) -> bytes:
    return bytes((first, len(body))) + body


def message(seq: int) -> bytes:
    return frame(b'{"type":"message","seq":%d,"payload":{"at":1}}' % seq)


class Written:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def follower(stream: Stream, before: Follower | None = None, resumed: bytes = b"") -> Follower:
    made = Follower(b"", stream, before)
    made.connection_made(Written())  # type: ignore[arg-type]  # it only writes
    made.data_received(HEAD + frame(b'{"type":"subscribed","seq":4,"epoch":9%b}' % resumed))
    return made


@pytest.mark.parametrize("size", [1, 2, 3, 50, 1_000])
async def test_a_ping_between_any_bytes_is_answered(size: int) -> None:
    stream = Stream()
    one = follower(stream)
    data = message(5) + frame(b"now", 0x89) + message(6) + frame(b"", 0x89) + message(7)
    for at in range(0, len(data), size):
        one.data_received(data[at : at + size])
    assert (stream.faults, stream.pings, one.index, one.place) == ([], 2, 3, "9:7")
    assert one.transport.data == b"\x8a\x83\0\0\0\0now\x8a\x80\0\0\0\0"  # type: ignore[attr-defined]


async def test_a_message_that_is_missing_or_repeated_is_a_fault() -> None:
    for wrong in (5, 7):
        stream = Stream()
        one, other = follower(stream), follower(stream)
        one.data_received(message(5) + message(6))
        other.data_received(message(5) + message(wrong))
        assert stream.faults


async def test_one_that_comes_back_gets_what_it_missed() -> None:
    stream = Stream()
    one, lost = follower(stream), follower(stream)
    one.data_received(message(5) + message(6) + message(7))
    lost.data_received(message(5) + message(6)[:9])
    assert lost.place == "9:5"
    back = follower(stream, lost, b',"resumed":true')
    back.data_received(message(6) + message(7) + frame(b'{"type":"caught_up","seq":7}'))
    one.data_received(message(8))
    back.data_received(message(8))
    assert (stream.faults, back.index, back.replaying) == ([], 4, False)
