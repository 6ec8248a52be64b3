"""Framing against `websockets`' own serializer and the grammar of SSE."""

import pytest
from websockets.frames import Close, Frame, Opcode

from headgate.core.client.framing import SSE, WEBSOCKET, ClientFrame, close_frame, retry


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_text_frame_is_what_websockets_would_write(size: int) -> None:
    data = b"x" * size
    expected = Frame(Opcode.TEXT, data).serialize(mask=False)
    assert WEBSOCKET.messages(1, 1, [data]) == expected
    assert WEBSOCKET.control(ClientFrame("pong", data)) == expected
    assert WEBSOCKET.messages(1, 1, [data, b"y"]) == expected + b"\x81\x01y"


@pytest.mark.parametrize("reason", ["", "slow consumer", "é" * 100])
def test_a_close_frame_fits_a_control_frame(reason: str) -> None:
    raw = close_frame(4508, reason)
    assert raw[0] == 0x88 and raw[1] == len(raw) - 2 <= 125
    found = Close.parse(raw[2:])
    assert found.code == 4508 and reason.startswith(found.reason)


def test_heartbeats() -> None:
    assert WEBSOCKET.heartbeat == Frame(Opcode.PING, b"").serialize(mask=False)
    assert SSE.heartbeat == b":\n\n"


def test_sse_messages_have_the_default_name_and_an_id() -> None:
    assert SSE.messages(7, 3, [b"{}", b"[]"]) == b"id: 7:3\ndata: {}\n\nid: 7:4\ndata: []\n\n"
    assert SSE.messages(7, 0, [b"{}"]) == b"data: {}\n\n"


def test_other_sse_frames_are_named_and_only_a_marked_one_has_an_id() -> None:
    assert SSE.control(ClientFrame("welcome", b"{}")) == b"event: welcome\ndata: {}\n\n"
    assert SSE.control(ClientFrame("gap", b"{}", "7:9")) == b"id: 7:9\nevent: gap\ndata: {}\n\n"
    assert retry(1_500) == b"retry: 1500\n\n"
