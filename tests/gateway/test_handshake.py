"""The handshake beside its headers, which tests/integration/test_gateway_frames.py holds against `websockets`."""

import pytest

from gateway.handshake import accept, check, subprotocols, tokens
from gateway.head import Head, HeadRefused, read_head
from headgate.runtime.http.origins import Origins
from tests.gateway.bed import UPGRADE, request


def handshake(*fields: str, upgrade: tuple[str, ...] = UPGRADE) -> Head:
    return read_head(request("GET", "/connect", *upgrade, *fields))


def answer_of(head: Head, busy: str | None = None) -> bytes:
    with pytest.raises(HeadRefused) as refused:
        check(head, Origins(), busy)
    return refused.value.answer


def test_a_page_of_the_same_origin_may_connect_and_a_foreign_one_may_not() -> None:
    check(handshake("Origin: http://localhost"), Origins(), None)
    check(handshake("Origin: http://evil.example"), Origins(("http://evil.example",)), None)
    assert answer_of(handshake("Origin: http://evil.example")).startswith(b"HTTP/1.1 403 ")


def test_what_is_wrong_for_good_is_told_before_a_full_gateway() -> None:
    full = "this gateway is full"
    assert answer_of(handshake(upgrade=()), full).startswith(b"HTTP/1.1 426 ")
    assert answer_of(handshake(upgrade=(*UPGRADE[:3], "Sec-WebSocket-Key: short")), full).startswith(b"HTTP/1.1 400 ")
    assert answer_of(handshake("Origin: http://evil.example"), full).startswith(b"HTTP/1.1 403 ")
    answer = answer_of(handshake(), full)
    assert answer.startswith(b"HTTP/1.1 503 ") and full.encode() in answer


@pytest.mark.parametrize("missing", range(3))
def test_a_426_names_the_protocol_and_the_version(missing: int) -> None:
    answer = answer_of(handshake(upgrade=UPGRADE[:missing] + UPGRADE[missing + 1 :])).lower()
    assert answer.startswith(b"http/1.1 426 ")
    assert b"\r\nupgrade: websocket\r\n" in answer and b"\r\nsec-websocket-version: 13\r\n" in answer


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        ("headgate.v1", True),
        ("bearer.abc, headgate.v1", True),
        ("headgate.v2", False),
        ("bearer.abc", False),
        ("", False),
    ],
)
def test_only_our_subprotocol_is_selected_and_only_when_offered(offered: str, selected: bool) -> None:
    answer = accept(handshake(f"Sec-WebSocket-Protocol: {offered}"))
    assert (b"\r\nSec-WebSocket-Protocol: headgate.v1\r\n" in answer) is selected
    assert b"bearer" not in answer and answer.endswith(b"\r\n\r\n")


def test_lists_of_names_lose_blanks_and_empty_places() -> None:
    assert subprotocols(handshake("Sec-WebSocket-Protocol: One , ,two")) == ["One", "two"]
    assert tokens(" Upgrade,, Keep-Alive ") == ["upgrade", "keep-alive"]
