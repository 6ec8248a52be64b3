"""The frames of an open WebSocket on a transport that is a value; the rules of RFC 6455 are held against `websockets`
in tests/integration/test_gateway_frames.py."""

import asyncio
import json

import pytest
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Frame, Opcode

from gateway.websocket import FrameReader
from headgate.core.client.limits import Limits
from tests.gateway.bed import UPGRADE, Bed, Wire, request


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def opened(bed: Bed) -> Wire:
    """An open WebSocket whose `welcome` is read."""
    wire = bed.asked(request("GET", "/connect", *UPGRADE))
    wire.written = b""
    return wire


def pings(count: int) -> bytes:
    return b"".join(masked(Opcode.TEXT, json.dumps({"type": "ping", "t": n}).encode()) for n in range(count))


def close_code(wire: Wire) -> int | None:
    at = wire.written.rfind(b"\x88")
    return None if at < 0 else int.from_bytes(wire.written[at + 2 : at + 4], "big")


def test_a_reader_is_idle_only_between_messages() -> None:
    reader = FrameReader(100)
    whole = masked(Opcode.TEXT, b"{}")
    assert reader.idle
    assert list(reader.feed(whole[:1])) == [] and not reader.idle
    (frame,) = reader.feed(whole[1:])
    assert reader.message(frame) == b"{}" and reader.idle
    (frame,) = reader.feed(masked(Opcode.TEXT, b"{", fin=False))
    assert reader.message(frame) is None and not reader.idle
    assert list(reader.feed(b"\x80")) == []
    (frame,) = reader.feed(masked(Opcode.CONT, b"}")[1:])
    assert reader.message(frame) == b"{}" and reader.idle


def test_fragments_together_have_at_most_the_size_of_a_message() -> None:
    for more, fits in ((b"x" * 40, True), (b"x" * 41, False)):
        reader = FrameReader(100)
        (frame,) = reader.feed(masked(Opcode.BINARY, b"x" * 60, fin=False))
        assert reader.message(frame) is None
        (frame,) = reader.feed(masked(Opcode.CONT, more))
        if fits:
            assert reader.message(frame) == b"x" * 100
        else:
            with pytest.raises(PayloadTooBig):
                reader.message(frame)


def test_only_text_must_be_utf_8() -> None:
    reader = FrameReader(100)
    (frame,) = reader.feed(masked(Opcode.BINARY, b"\xff"))
    assert reader.message(frame) == b"\xff"
    (frame,) = reader.feed(masked(Opcode.TEXT, b"\xff"))
    with pytest.raises(UnicodeDecodeError):
        reader.message(frame)


def test_fragments_come_in_their_order() -> None:
    for first, second in ((Opcode.CONT, None), (Opcode.TEXT, Opcode.TEXT)):
        reader = FrameReader(100)
        (frame,) = reader.feed(masked(first, b"{", fin=False))
        if second is not None:
            assert reader.message(frame) is None
            (frame,) = reader.feed(masked(second, b"}"))
        with pytest.raises(ProtocolError):
            reader.message(frame)


def test_a_goodbye_is_answered_with_its_own_bytes_but_not_amid_a_message() -> None:
    reader = FrameReader(100)
    (goodbye,) = reader.feed(masked(Opcode.CLOSE, b"\x03\xe8bye"))
    assert reader.goodbye(goodbye) == b"\x88\x05\x03\xe8bye"
    (frame,) = reader.feed(masked(Opcode.TEXT, b"{", fin=False))
    assert reader.message(frame) is None
    with pytest.raises(ProtocolError):
        reader.goodbye(goodbye)


async def test_a_quiet_connection_has_no_reader() -> None:
    bed = Bed()
    wire = opened(bed)
    data = pings(1)
    wire.say(data[:5])
    assert wire.protocol._reader is not None
    wire.say(data[5:])
    assert b'"pong"' in wire.written and wire.protocol._reader is None


async def test_a_large_read_is_parsed_256_frames_at_a_time_and_nothing_is_lost() -> None:
    bed = Bed(limits=Limits(control_burst=10_000))
    wire = opened(bed)
    wire.say(pings(600))
    counts = []
    for _ in range(4):
        counts.append((wire.written.count(b'"pong"'), wire.reads))
        await asyncio.sleep(0)
    assert counts == [(256, False), (512, False), (600, True), (600, True)]
    assert wire.protocol._reader is None


async def test_exactly_256_frames_leave_nothing_behind() -> None:
    bed = Bed(limits=Limits(control_burst=10_000))
    wire = opened(bed)
    wire.say(pings(256))
    await asyncio.sleep(0)
    assert wire.written.count(b'"pong"') == 256 and wire.reads and wire.protocol._reader is None


async def test_a_connection_that_ended_meanwhile_is_not_parsed_on() -> None:
    bed = Bed(limits=Limits(control_burst=10_000))
    wire = opened(bed)
    wire.say(pings(600))
    wire.goes()
    await asyncio.sleep(0)
    assert wire.written.count(b'"pong"') == 256
    other = opened(bed)
    other.protocol.shut()
    other.say(pings(1))
    assert other.written == b""


async def test_the_newest_of_several_pings_is_answered_before_the_message_behind_them() -> None:
    wire = opened(Bed())
    wire.say(masked(Opcode.PING, b"1") + masked(Opcode.PING, b"2") + pings(1) + masked(Opcode.PONG, b"3"))
    assert wire.written.startswith(b"\x8a\x012\x81") and wire.written.count(b"\x8a") == 1
    wire.written = b""
    wire.say(masked(Opcode.PING, b"4"))
    assert wire.written == b"\x8a\x014"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02{}", 1002),
        (masked(Opcode.TEXT, b"\xff"), 1007),
        (masked(Opcode.TEXT, b"x" * 1_001), 1009),
        (masked(Opcode.PONG, b"") * 4, 1008),
        (masked(Opcode.TEXT, b"", fin=False) + masked(Opcode.CONT, b"", fin=False) * 3, 1008),
        (pings(4), None),
    ],
)
async def test_a_broken_rule_ends_the_connection_with_its_code(data: bytes, code: int | None) -> None:
    bed = Bed(limits=Limits(frame_bytes=1_000, frames_burst=3, frames_per_s=0.001))
    wire = opened(bed)
    wire.say(data + pings(1))
    assert close_code(wire) == code
    assert bed.hub.session_count == (1 if code is None else 0)
    assert wire.ends == ([] if code is None else ["eof"])
    assert wire.written.count(b"\x88") == (0 if code is None else 1), "nothing behind it is parsed"


async def test_a_goodbye_is_answered_and_nothing_behind_it() -> None:
    bed = Bed()
    wire = opened(bed)
    wire.say(masked(Opcode.CLOSE, b"\x03\xe8") + pings(1))
    assert wire.written == b"\x88\x02\x03\xe8" and wire.ends == ["eof"] and bed.hub.session_count == 0


@pytest.mark.parametrize("data", [masked(Opcode.TEXT, b"\xff"), masked(Opcode.CLOSE, b"\x03\xe8"), pings(1)])
async def test_the_handshake_is_answered_before_the_frames_that_came_with_it(data: bytes) -> None:
    """The client has no token and waits for nothing: its frames stand in the same segment as its handshake."""
    wire = Bed(mode="jwt").asked(request("GET", "/connect", *UPGRADE) + data)
    assert wire.written.startswith(b"HTTP/1.1 101 ")
    assert close_code(wire) is not None
